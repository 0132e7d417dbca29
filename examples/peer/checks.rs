//! The tests of `peer call`, each a function of the connection to the server under test.

use std::thread;

use packetstream::{Flags, Outcome, PendingSet, Rejection, Request, RequestType};

use crate::arguments::CallOptions;
use crate::client::{Answer, Client, Failure, ensure, flags, not_ok, same};
use crate::requests::{
    BYTES, CALL_BACK, ECHO, FAILURE, FLAGS, NOTHING, PAIR, SIZED, SLEEP, TEXT, TEXT_PREFIX, sized,
};

/// One test.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Client) -> Result<(), Failure>,
}

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        &[$(Check { name: stringify!($name), run: $name }),*]
    };
}

const CHECKS: &[Check] = checks![
    echo,
    echo_with_flags,
    none_is_empty,
    int_is_flags,
    bytes_is_payload,
    str_is_utf8,
    pair_is_both,
    failure,
    unknown_rq_type,
    undecodable_str_request,
    out_of_order,
    call_back,
    call_back_concurrently,
    sizes_down,
    sizes_up_and_down,
    pipelined,
    mixed_from_threads,
    another_channel,
];

/// The tests that the options leave, or what is wrong with the options.
pub(crate) fn select(options: &CallOptions) -> Result<Vec<Check>, String> {
    let known = |name: &String| CHECKS.iter().any(|check| check.name == name);
    if let Some(unknown) = options
        .only
        .iter()
        .chain(&options.skip)
        .find(|name| !known(name))
    {
        let all: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        return Err(format!(
            "there is no test {unknown:?}, only {}",
            all.join(", ")
        ));
    }
    let among = |names: &[String], check: &Check| names.iter().any(|name| name == check.name);
    let wanted = |check: &&Check| {
        (options.only.is_empty() || among(&options.only, check)) && !among(&options.skip, check)
    };
    Ok(CHECKS.iter().filter(wanted).copied().collect())
}

fn echo(client: &Client) -> Result<(), Failure> {
    let every_octet: Vec<u8> = (0..=255).collect();
    let payloads: [&[u8]; 7] = [
        b"abc",
        b"",
        b"\0",
        &every_octet,
        &[0x80; 9],
        &[b'x'; 127],
        &[b'x'; 128],
    ];
    for payload in payloads {
        client.expect(
            Request::new(ECHO).with_payload(payload),
            &Answer::echo(payload),
        )?;
    }
    Ok(())
}

fn echo_with_flags(client: &Client) -> Result<(), Failure> {
    for bits in [0, 1, 2, 3, 0x55, 127, 128, 1 << 31, 1 << 53] {
        let request = Request::new(ECHO)
            .with_flags(flags(bits)?)
            .with_payload(b"flags");
        client.expect(request, &Answer::echo(b"flags"))?;
    }
    Ok(())
}

fn none_is_empty(client: &Client) -> Result<(), Failure> {
    let request = Request::new(NOTHING).with_flags(7).with_payload(b"ignored");
    client.expect(request, &Answer::ok(0, b""))
}

fn int_is_flags(client: &Client) -> Result<(), Failure> {
    let bits = [
        0,
        1,
        2,
        3,
        31,
        32,
        0x55,
        127,
        128,
        4095,
        4096,
        1 << 19,
        1 << 31,
        1 << 32,
    ];
    // An answer has one bit less for flags than a request: the lowest says that it is ok.
    let more_bits = [(1 << 53) + 1, 1 << 59, 1 << 60, Flags::MAX_RESPONSE.bits()];
    for bits in bits.into_iter().chain(more_bits) {
        let flags = flags(bits)?;
        client.expect(
            Request::new(FLAGS).with_flags(flags),
            &Answer::ok(flags, b""),
        )?;
    }
    Ok(())
}

fn bytes_is_payload(client: &Client) -> Result<(), Failure> {
    client.expect(
        Request::new(BYTES).with_payload(b"xyz"),
        &Answer::ok(0, b"bytes:xyz"),
    )?;
    client.expect(Request::new(BYTES), &Answer::ok(0, b"bytes:"))
}

fn str_is_utf8(client: &Client) -> Result<(), Failure> {
    for text in ["", "plain", "h\u{e9} \u{20ac} \u{1f600}"] {
        let request = Request::new(TEXT).with_payload(text);
        client.expect(request, &Answer::ok(0, format!("{TEXT_PREFIX}{text}")))?;
    }
    Ok(())
}

fn pair_is_both(client: &Client) -> Result<(), Failure> {
    client.expect(Request::new(PAIR), &Answer::ok(0, b""))?;
    client.expect(
        Request::new(PAIR).with_payload(b"ab"),
        &Answer::ok(2, b"abab"),
    )?;
    client.expect(
        Request::new(PAIR).with_payload([b'q'; 300]),
        &Answer::ok(300, [b'q'; 600]),
    )
}

fn failure(client: &Client) -> Result<(), Failure> {
    for _ in 0..3 {
        not_ok(&client.call(Request::new(FAILURE).with_payload(b"boom"))?)?;
    }
    // The connection is none the worse for it.
    client.expect(
        Request::new(ECHO).with_payload(b"after"),
        &Answer::echo(b"after"),
    )
}

fn unknown_rq_type(client: &Client) -> Result<(), Failure> {
    for number in [99_u64, 1 << 32, 1 << 62] {
        let request_type =
            RequestType::try_from(number).map_err(|error| Failure::Wrong(error.to_string()))?;
        not_ok(&client.call(Request::new(request_type).with_payload(b"?"))?)?;
    }
    Ok(())
}

fn undecodable_str_request(client: &Client) -> Result<(), Failure> {
    not_ok(&client.call(Request::new(TEXT).with_payload(b"\xff\xfe"))?)
}

/// The slowest first: the answers must come the other way round.
fn out_of_order(client: &Client) -> Result<(), Failure> {
    let mut order = Vec::new();
    // Only time makes the order, so allow for a machine that stalls.
    for step in [300, 600, 1200] {
        let payloads: Vec<_> = (0..4).rev().map(|n| format!("{}:x", n * step)).collect();
        let mut pending = PendingSet::new();
        for payload in &payloads {
            pending.insert(client.submit(Request::new(SLEEP).with_payload(payload.as_str()))?);
        }
        order.clear();
        for (number, result) in pending {
            same(
                &Answer::of(result)?,
                &Answer::ok(0, payloads[number].as_str()),
            )?;
            order.push(number);
        }
        if order == [3, 2, 1, 0] {
            return Ok(());
        }
    }
    Err(Failure::Wrong(format!("the order is {order:?}")))
}

fn call_back(client: &Client) -> Result<(), Failure> {
    let before = client.calls_back();
    let long = (0..=255).collect::<Vec<u8>>().repeat(10);
    for payload in [b"", &b"call me"[..], &long] {
        client.expect(
            Request::new(CALL_BACK).with_payload(payload),
            &Answer::echo(payload),
        )?;
    }
    let calls = client.calls_back() - before;
    ensure(calls == 3, || {
        format!("the server called back {calls} times")
    })
}

fn call_back_concurrently(client: &Client) -> Result<(), Failure> {
    let before = client.calls_back();
    let payloads: Vec<_> = (0..40).map(|n| format!("cb{n}")).collect();
    let mut pending = PendingSet::new();
    for payload in &payloads {
        pending.insert(client.submit(Request::new(CALL_BACK).with_payload(payload.as_str()))?);
    }
    for (number, result) in pending {
        same(
            &Answer::of(result)?,
            &Answer::echo(payloads[number].as_bytes()),
        )?;
    }
    let calls = client.calls_back() - before;
    ensure(calls == 40, || {
        format!("the server called back {calls} times")
    })
}

fn sizes_down(client: &Client) -> Result<(), Failure> {
    let small = [0, 1, 126, 127, 128, 129, 16_382, 16_383, 16_384];
    let large = [65_535, 65_536, 70_000, 1 << 20, 8 << 20];
    for len in small.into_iter().chain(large) {
        let request = Request::new(SIZED).with_payload(len.to_string());
        client.expect(request, &Answer::ok(0, sized(len)))?;
    }
    Ok(())
}

fn sizes_up_and_down(client: &Client) -> Result<(), Failure> {
    for len in [
        126,
        127,
        128,
        16_383,
        16_384,
        65_536,
        70_000,
        1 << 20,
        8 << 20,
    ] {
        let payload = sized(len);
        let wanted = Answer::echo(&payload);
        client.expect(Request::new(ECHO).with_payload(payload), &wanted)?;
    }
    Ok(())
}

fn pipelined(client: &Client) -> Result<(), Failure> {
    let mut pending = Vec::new();
    for n in 0..1000 {
        let payload = format!("p{n}");
        let request = Request::new(ECHO).with_payload(payload.as_str());
        pending.push((payload, client.submit(request)?));
    }
    for (payload, answer) in pending.into_iter().rev() {
        same(&client.collect(answer)?, &Answer::echo(payload.as_bytes()))?;
    }
    Ok(())
}

fn mixed_from_threads(client: &Client) -> Result<(), Failure> {
    let calls = |thread: u32| -> Result<(), Failure> {
        for n in 0..100 {
            let payload = format!("{thread}.{n}");
            let (request_type, wanted) = match n % 4 {
                0 => (ECHO, Answer::echo(payload.as_bytes())),
                1 => (BYTES, Answer::ok(0, format!("bytes:{payload}"))),
                2 => (
                    PAIR,
                    Answer::ok(flags(payload.len() as u64)?, payload.repeat(2)),
                ),
                _ => (FLAGS, Answer::ok(n, b"")),
            };
            client.expect(
                Request::new(request_type)
                    .with_flags(n)
                    .with_payload(payload),
                &wanted,
            )?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let mut callers = Vec::new();
        for thread in 0..4 {
            let caller = thread::Builder::new().name(format!("caller {thread}"));
            callers.push(caller.spawn_scoped(scope, move || calls(thread))?);
        }
        for caller in callers {
            caller
                .join()
                .map_err(|_| Failure::Wrong("a caller panicked".to_owned()))??;
        }
        Ok(())
    })
}

/// Some implementations serve channel 0 alone. Those must say so as for any other
/// rejection, in these words: the number is not filled in.
fn another_channel(client: &Client) -> Result<(), Failure> {
    let request = Request::new(ECHO).with_channel(5).with_payload(b"five");
    match client.wait(client.submit(request)?)? {
        Err(error) if error.is_rejected() => {
            let payload = error.rejection().map(Rejection::payload);
            let refused =
                payload == Some(&b"unknown channel %d"[..]) && error.outcome() == Outcome::NotRun;
            ensure(refused, || crate::chain(&error))?;
        }
        result => same(&Answer::of(result)?, &Answer::echo(b"five"))?,
    }
    client.expect(
        Request::new(ECHO).with_payload(b"still"),
        &Answer::echo(b"still"),
    )
}
