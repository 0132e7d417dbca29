//! Callers that read their own answers: when they do, and that nobody notices anything but the
//! speed.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/lone.rs"]
mod lone;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/sizes.rs"]
mod sizes;

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use common::{PATIENCE, watched};
use crossbeam_channel::Sender;
use fastrand::Rng;
use lone::{Scene, waits, witnessed};
use measure::{pause, until};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Incoming, Packet, PendingSet, Request, Response,
    Result, Transport,
};
use pairs::{Gate, answer_to, asking, block_on, echo, memory, start, take, tcp, unix_sockets};
use sizes::{seed, sized};

// ---- who reads -------------------------------------------------------------------------------

/// The receiver is not woken for each of them.
#[test]
fn lone_calls_are_read_by_their_caller() {
    for (number, link) in [unix_sockets, tcp, memory].into_iter().enumerate() {
        watched(move || {
            let (ours, theirs) = link();
            let name = format!("read{number}");
            let _server = Connection::builder().handler(echo).open(theirs).unwrap();
            let client = Connection::builder().name(&name).open(ours).unwrap();
            let receiver = format!("{name}:receiver");
            loop {
                let before = waits(&receiver);
                for _ in 0..200 {
                    client.call(asking("x")).unwrap();
                }
                if waits(&receiver) - before < 100 {
                    break;
                }
            }
        });
    }
}

/// Where a handler could be kept waiting, or where the caller must come back in time.
#[test]
fn with_a_handler_or_a_timeout_the_receiver_reads() {
    let settings: [fn() -> (ConnectionBuilder, Request); 3] = [
        || (Connection::builder().handler(echo), asking("x")),
        || (Connection::builder().timeout(Some(PATIENCE)), asking("x")),
        || (Connection::builder(), asking("x").with_timeout(PATIENCE)),
    ];
    for setting in settings {
        watched(move || {
            let (builder, request) = setting();
            let mut scene = Scene::new(builder);
            let last = scene.warm();
            scene.finish(&last);
            scene.ask(request);
            let request = scene.peer.request();
            let reads = || scene.receiver_reads().then_some(());
            until(reads, || "the receiver does not read".to_owned());
            scene.peer.answer(&request, "y");
            assert_eq!(scene.answered().unwrap().payload(), b"y");
        });
    }
}

/// Its owner may be wrong about what the hook frees.
#[test]
fn over_a_transport_that_is_not_ours_the_receiver_reads() {
    watched(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (transport, readers) = witnessed(ours);
        let theirs = Transport::try_from(theirs).unwrap();
        let _server = Connection::builder().handler(echo).open(theirs).unwrap();
        let client = Connection::builder().open(transport).unwrap();
        for _ in 0..500 {
            client.call(asking("x")).unwrap();
        }
        assert!(!readers.include(thread::current().id()));
        client.close().into_result().unwrap();
    });
}

// ---- others ask meanwhile --------------------------------------------------------------------

/// Makes a request and sends what is answered.
type Way = fn(&Connection, Sender<Result<Response>>);

const WAYS: [(&str, Way); 7] = [
    ("call", |connection, tell| {
        tell.send(connection.call(asking("second"))).unwrap();
    }),
    ("call with a timeout", |connection, tell| {
        let request = asking("second").with_timeout(PATIENCE);
        tell.send(connection.call(request)).unwrap();
    }),
    ("submit", |connection, tell| {
        let pending = connection.submit(asking("second")).unwrap();
        tell.send(pending.wait()).unwrap();
    }),
    ("wait for a time", |connection, tell| {
        let pending = connection.try_submit(asking("second")).unwrap();
        tell.send(pending.wait_timeout(PATIENCE).unwrap()).unwrap();
    }),
    ("callback", |connection, tell| {
        let pending = connection.submit(asking("second")).unwrap();
        pending.on_complete(move |answer| tell.send(answer).unwrap());
    }),
    ("set", |connection, tell| {
        let mut set = PendingSet::new();
        set.insert(connection.submit(asking("second")).unwrap());
        tell.send(set.wait_all().remove(0)).unwrap();
    }),
    ("future", |connection, tell| {
        let pending = connection.submit(asking("second")).unwrap();
        tell.send(block_on(pending)).unwrap();
    }),
];

/// In which order the peer answers, and in how many writes.
const ORDERS: [&[&[usize]]; 4] = [&[&[1], &[0]], &[&[0], &[1]], &[&[0, 1]], &[&[1, 0]]];

#[test]
fn others_are_answered_while_a_caller_reads() {
    for (name, way) in WAYS {
        watched(move || {
            let mut scene = Scene::new(Connection::builder().linger(Some(Duration::ZERO)));
            for order in ORDERS {
                let first = scene.hold();
                let (tell, told) = crossbeam_channel::bounded(1);
                let connection = scene.connection.clone();
                start(move || way(&connection, tell));
                let asked = [first, scene.peer.request()];
                for answers in order {
                    let packet =
                        |number: &usize| answer_to(&asked[*number], asked[*number].payload());
                    scene
                        .peer
                        .send(&answers.iter().map(packet).collect::<Vec<Packet>>());
                    // Each without the other, if they come apart.
                    for number in *answers {
                        let answer = if *number == 0 {
                            scene.answered()
                        } else {
                            take(&told)
                        };
                        assert_eq!(
                            answer.unwrap().payload(),
                            asked[*number].payload(),
                            "{name}"
                        );
                    }
                }
            }
        });
    }
}

#[test]
fn calls_go_on_beside_one_that_stays_unanswered() {
    watched(|| {
        let mut scene = Scene::new(Connection::builder().linger(Some(Duration::ZERO)));
        let first = scene.hold();
        let second = scene.connection.submit(asking("second")).unwrap();
        let second_asked = scene.peer.request();
        scene.finish(&first);
        for _ in 0..50 {
            scene.call();
        }
        scene.peer.answer(&second_asked, "late");
        assert_eq!(second.wait().unwrap().payload(), b"late");
        let held = scene.hold();
        scene.finish(&held);
    });
}

#[test]
fn one_that_is_given_up_while_a_caller_reads_disturbs_nobody() {
    watched(|| {
        let mut scene = Scene::new(Connection::builder().linger(Some(Duration::ZERO)));
        let first = scene.hold();
        let pending = scene.connection.submit(asking("x")).unwrap();
        let cancelled = scene.peer.request();
        pending.cancel();
        drop(scene.connection.submit(asking("y")).unwrap());
        let dropped = scene.peer.request();
        scene.peer.answer(&cancelled, "nobody");
        scene.peer.answer(&dropped, "nobody");
        scene.finish(&first);
    });
}

// ---- nobody is woken for nothing -------------------------------------------------------------

/// The most that threads may be woken while there is nothing to do.
const HANDFUL: u64 = 20;

#[test]
fn a_long_call_and_an_idle_connection_wake_nobody() {
    watched(|| {
        let (ours, theirs) = unix_sockets();
        let (gate, handler) = Gate::new();
        let handler = move |incoming: Incoming| match incoming.payload() {
            b"long" => handler(incoming),
            _ => echo(incoming),
        };
        let _server = Connection::builder().handler(handler).open(theirs).unwrap();
        let client = Connection::builder().name("quiet").open(ours).unwrap();
        for is_calling in [true, false, true, false] {
            for _ in 0..200 {
                client.call(asking("short")).unwrap();
            }
            let call = is_calling.then(|| {
                let calling = Connection::clone(&client);
                let call = thread::Builder::new().name("quiet:caller".to_owned());
                let call = call.spawn(move || calling.call(asking("long")));
                gate.arrived();
                call.unwrap()
            });
            let before = waits("quiet:");
            pause(Duration::from_millis(300));
            let woken = waits("quiet:") - before;
            assert!(
                woken <= HANDFUL,
                "{woken} times, while calling: {is_calling}"
            );
            if let Some(call) = call {
                gate.release_one();
                call.join().unwrap().unwrap();
            }
        }
    });
}

// ---- on demand, and from threads of connections ----------------------------------------------

#[test]
fn calls_on_demand_are_answered_each_in_a_life_of_its_own_and_under_one_guard() {
    watched(|| {
        let (keep, kept) = crossbeam_channel::unbounded();
        let connection = Connection::builder().build_on_demand(move || {
            let (ours, theirs) = UnixStream::pair()?;
            let server = Connection::builder().handler(echo);
            let server = server.open(theirs.try_into()?);
            keep.send(server.map_err(std::io::Error::other)?).unwrap();
            Transport::try_from(ours)
        });
        let call = |connection: &Connection, number: u32| {
            let answer = connection.call(asking(number.to_be_bytes())).unwrap();
            assert_eq!(answer.payload(), number.to_be_bytes());
        };
        for _ in 0..2 {
            for number in 0..30 {
                call(&connection, number);
            }
            let guard = connection.open().unwrap();
            for number in 0..300 {
                call(&connection, number);
            }
            for turn in 0..5 {
                let clone = connection.clone();
                let calls = start(move || (turn..turn + 50).for_each(|n| call(&clone, n)));
                calls.join().unwrap();
            }
            guard.close().into_result().unwrap();
            assert!(!connection.is_open());
        }
        drop(kept);
    });
}

#[test]
fn handlers_and_callbacks_of_another_connection_call_a_warm_one() {
    watched(|| {
        let (ours, theirs) = unix_sockets();
        let _service = Connection::builder().handler(echo).open(theirs).unwrap();
        let onward = Connection::builder().open(ours).unwrap();
        let relay = Connection::clone(&onward);
        let (ours, theirs) = memory();
        let forward = move |incoming: Incoming| -> Result<Response, BoxError> {
            Ok(relay.call(asking(incoming.into_payload()))?)
        };
        let _relay = Connection::builder().handler(forward).open(theirs).unwrap();
        let client = Connection::builder().open(ours).unwrap();
        for round in 0..50_u32 {
            let payload = round.to_be_bytes();
            for _ in 0..20 {
                onward.call(asking("warm")).unwrap();
            }
            assert_eq!(client.call(asking(payload)).unwrap().payload(), payload);
            let (tell, told) = crossbeam_channel::bounded(1);
            let calling = Connection::clone(&onward);
            client
                .submit(asking(payload))
                .unwrap()
                .on_complete(move |answer| {
                    let answer =
                        answer.and_then(|answer| calling.call(asking(answer.into_payload())));
                    tell.send(answer).unwrap();
                });
            // Beside it, on a thread that may read.
            assert_eq!(onward.call(asking("beside")).unwrap().payload(), b"beside");
            assert_eq!(take(&told).unwrap().payload(), payload);
        }
    });
}

// ---- anything at random ----------------------------------------------------------------------

fn payload(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..8) {
        0 => rng.usize(..100_000),
        1 | 2 => rng.usize(..5000),
        _ => rng.usize(..64),
    };
    let start = rng.u8(..);
    (start..=255).chain(0..start).cycle().take(length).collect()
}

/// A handler that echoes, sometimes after a moment.
fn sometimes_slow(incoming: Incoming) -> Result<Vec<u8>, BoxError> {
    if incoming.request_type().get() == 2 {
        pause(Duration::from_millis(1));
    }
    Ok(incoming.into_payload())
}

/// Asks in some way; panics at an answer that is not its own, and returns the failures that
/// nobody has asked for.
fn ask(connection: &Connection, rng: &mut Rng) -> Vec<packetstream::Error> {
    let mut asked = Vec::new();
    let mut request = |rng: &mut Rng| {
        let octets = payload(rng);
        asked.push(octets.clone());
        let request_type = if rng.u8(..20) == 0 { 2_u32 } else { 1 };
        Request::new(request_type).with_payload(octets)
    };
    let answers: Vec<Result<Response>> = match rng.u8(..12) {
        0..=6 => (0..rng.usize(1..30))
            .map(|_| connection.call(request(rng)))
            .collect(),
        7 => vec![
            connection
                .submit(request(rng))
                .and_then(packetstream::PendingResponse::wait),
        ],
        8 => {
            let time = Duration::from_micros(rng.u64(..2000));
            let answer = connection.call(request(rng).with_timeout(time));
            match answer {
                Err(error) if error.is_timed_out() => Vec::new(),
                answer => vec![answer],
            }
        }
        9 => {
            if let Ok(pending) = connection.submit(request(rng)) {
                pending.cancel();
            }
            Vec::new()
        }
        10 => {
            drop(connection.submit(request(rng)));
            Vec::new()
        }
        _ => {
            let submitted = (0..rng.usize(1..8)).map(|_| connection.submit(request(rng)));
            let set = submitted.collect::<Result<PendingSet<Response>>>();
            set.map_or_else(|error| vec![Err(error)], PendingSet::wait_all)
        }
    };
    let mut failures = Vec::new();
    for (answer, asked) in answers.into_iter().zip(asked) {
        match answer {
            Ok(answer) => assert!(answer.payload() == asked, "an answer of somebody else"),
            Err(error) => failures.push(error),
        }
    }
    failures
}

fn live(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let (ours, theirs) = rng.choice([unix_sockets, tcp, memory]).unwrap()();
    let server = Connection::builder().handler(sometimes_slow);
    let server = server.open(theirs).unwrap();
    let client = Connection::builder().open(ours).unwrap();
    let callers: Vec<_> = (0..rng.u8(1..=3))
        .map(|_| {
            let connection = Connection::clone(&client);
            let mut rng = rng.fork();
            start(move || -> Vec<packetstream::Error> {
                let deeds = rng.u8(1..20);
                (0..deeds)
                    .flat_map(|_| ask(&connection, &mut rng))
                    .collect()
            })
        })
        .collect();
    if rng.bool() {
        pause(Duration::from_micros(rng.u64(..30_000)));
        let end = rng.choice([&client, &server]).unwrap();
        let _ = match rng.u8(..3) {
            1 => end.shutdown(Some(Duration::ZERO)),
            2 => end.shutdown(Some(PATIENCE)),
            _ => end.abort(),
        };
        if rng.bool() {
            drop(client);
        }
        for caller in callers {
            caller.join().unwrap();
        }
    } else {
        for caller in callers {
            let failures = caller.join().unwrap();
            let why = || server.shutdown(Some(Duration::ZERO));
            assert!(failures.is_empty(), "{:?}, {failures:?}", why());
        }
        client.close().into_result().unwrap();
    }
}

#[test]
fn whatever_is_asked_meanwhile_and_however_it_ends_each_gets_its_own_answer() {
    let first = seed();
    for seed in (0..sized(200, 2000) as u64).map(|life| first.wrapping_add(life)) {
        println!("seed {seed}");
        watched(move || live(seed));
    }
}
