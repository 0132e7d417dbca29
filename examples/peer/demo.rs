//! `peer demo`: both ends of a connection at once, this program and a child of it.

use std::env;
use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use packetstream::{
    BoxError, Connection, Incoming, PendingSet, Request, RequestHandler, Response, Transport,
};

use crate::requests::{
    self, BYTES, CALL_BACK, ECHO, FAILURE, FLAGS, NOTHING, PAIR, Requests, SIZED, SLEEP, TEXT,
};

/// Plays all rounds against the end that asks, and answers the table of them.
const PLAY: u32 = 10;

const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Some requests of one type.
struct Round {
    name: &'static str,
    request_type: u32,
    payload: &'static str,
    count: u32,
    /// Whether all are sent before the first answer is looked at, or each after the answer to the
    /// one before.
    pipelined: bool,
}

const fn each(name: &'static str, request_type: u32, payload: &'static str, count: u32) -> Round {
    Round {
        name,
        request_type,
        payload,
        count,
        pipelined: false,
    }
}

const fn all(name: &'static str, request_type: u32, payload: &'static str, count: u32) -> Round {
    Round {
        name,
        request_type,
        payload,
        count,
        pipelined: true,
    }
}

const ROUNDS: [Round; 12] = [
    each("reversed", ECHO, "a short payload", 1000),
    each("empty", NOTHING, "", 1000),
    each("flags", FLAGS, "", 1000),
    each("bytes", BYTES, "a short payload", 1000),
    each(
        "text",
        TEXT,
        "\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}",
        1000,
    ),
    each("twice, with length", PAIR, "a short payload", 1000),
    each("always fails", FAILURE, "a short payload", 1000),
    all("20 ms, 4 at a time", SLEEP, "20", 16),
    each("calls back", CALL_BACK, "a short payload", 500),
    all("calls back, pipelined", CALL_BACK, "a short payload", 500),
    each("1 MiB", SIZED, "1048576", 20),
    all("reversed, pipelined", ECHO, "a short payload", 10_000),
];

/// Starts the child, plays the rounds against it, lets it play them against this end, and prints
/// both tables.
pub(crate) fn demo() -> Result<(), BoxError> {
    crate::limit(TIME_LIMIT, || ())?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["demo", "--child"]);
    let guard = Connection::builder()
        .name("parent")
        .request_handler(Requests::default())
        .spawn(command)?;

    println!(
        "{}",
        row(
            "this end calls the child",
            "calls",
            "octets out",
            "octets in",
            "calls/s"
        )
    );
    println!("{}", play(&guard)?);
    println!(
        "{}",
        row(
            "the child calls this end",
            "calls",
            "octets out",
            "octets in",
            "calls/s"
        )
    );
    // While this call waits for its answer, the child makes its own over the same two pipes.
    let answer = guard.call(Request::new(PLAY))?;
    println!("{}", String::from_utf8(answer.into_payload())?);

    let report = guard.close();
    let goodbye = report.peer_said_goodbye();
    report.into_result()?;
    if !goodbye {
        return Err("the child left without a goodbye".into());
    }
    println!("all went well");
    Ok(())
}

/// The other end of [`demo`], on standard input and output.
pub(crate) fn child() -> Result<(), BoxError> {
    crate::limit(TIME_LIMIT, || ())?;
    let requests = Requests::default();
    let handler = move |incoming: Incoming| -> Result<Response, BoxError> {
        if incoming.request_type() == PLAY.into() {
            Ok(play(incoming.connection())?.into())
        } else {
            requests.handle(incoming)
        }
    };
    let guard = Connection::builder()
        .name("child")
        .handler(handler)
        .open(Transport::stdio()?)?;
    Ok(guard.serve().into_result()?)
}

/// Plays all rounds and returns a line for each.
fn play(connection: &Connection) -> Result<String, BoxError> {
    let mut table = String::new();
    for round in &ROUNDS {
        let before = connection.stats();
        let started = Instant::now();
        play_round(connection, round).map_err(|error| format!("{}: {error}", round.name))?;
        let rate = f64::from(round.count) / started.elapsed().as_secs_f64();
        let after = connection.stats();
        let (sent, received) = (
            after.bytes_sent - before.bytes_sent,
            after.bytes_received - before.bytes_received,
        );
        writeln!(
            table,
            "{}",
            row(
                round.name,
                round.count,
                sent,
                received,
                format!("{rate:.0}")
            )
        )?;
    }
    Ok(table)
}

fn play_round(connection: &Connection, round: &Round) -> Result<(), BoxError> {
    let request = || Request::new(round.request_type).with_payload(round.payload);
    let wanted = wanted(&request())?;
    let check = |result: packetstream::Result<Response>| match (&wanted, result) {
        (Some(wanted), Ok(answer)) if *wanted == answer => Ok(()),
        (None, Err(error)) if error.is_rejected() => Ok(()),
        (_, Ok(answer)) => Err(BoxError::from(format!("wrong answer {answer:?}"))),
        (_, Err(error)) => Err(error.into()),
    };
    if round.pipelined {
        let mut pending = PendingSet::new();
        for _ in 0..round.count {
            pending.insert(connection.submit(request())?);
        }
        pending
            .into_iter()
            .try_for_each(|(_, result)| check(result))
    } else {
        (0..round.count).try_for_each(|_| check(connection.call(request())))
    }
}

/// What the answer must be; `None` for a failure.
fn wanted(request: &Request) -> Result<Option<Response>, BoxError> {
    match u32::try_from(request.request_type().get())? {
        FAILURE => Ok(None),
        SLEEP => Ok(Some(request.payload().into())),
        CALL_BACK => {
            requests::answer(&Request::new(ECHO).with_payload(request.payload())).map(Some)
        }
        _ => requests::answer(request).map(Some),
    }
}

fn row(
    name: &str,
    calls: impl std::fmt::Display,
    sent: impl std::fmt::Display,
    received: impl std::fmt::Display,
    rate: impl std::fmt::Display,
) -> String {
    format!("{name:<24}{calls:>8}{sent:>12}{received:>12}{rate:>12}")
}
