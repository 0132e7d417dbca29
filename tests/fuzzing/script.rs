//! A live connection hears any octets, and ends in order all the same.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use packetstream::wire::{ChannelId, Decoder, Flags, Packet, RequestType, Tag, varint};
use packetstream::{Connection, ConnectionBuilder, Incoming, Request, Response, Transport};

use super::sent::check_sent;

/// Far longer than an end takes that the peer's stream has ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first octet says what the connection under test does, the others come from its peer.
pub fn check(octets: &[u8]) {
    let (behaviour, input) = octets.split_first().unwrap_or((&0, &[]));
    let (ours, theirs) = Transport::pair();
    let (mut from_us, mut to_us) = theirs.into_parts();
    let guard = builder(*behaviour).open(ours).unwrap();
    // These have the tags 2 and 3 on channel 0, which the recorded answers name.
    let asked: Vec<_> = (0..behaviour >> 6)
        .map(|number| guard.submit(Request::new(u32::from(number))).unwrap())
        .collect();
    let listener = thread::Builder::new()
        .name("listener".into())
        .spawn(move || {
            let mut sent = Vec::new();
            from_us.read_to_end(&mut sent).map(|_| sent)
        })
        .unwrap();
    for piece in input.chunks(usize::from(behaviour >> 3 & 7) * 11 + 1) {
        if to_us.write_all(piece).is_err() {
            // A violation has ended the connection.
            break;
        }
    }
    drop(to_us);

    let began = Instant::now();
    let received = received(input);
    for (number, pending) in asked.into_iter().enumerate() {
        let key = (ChannelId::DEFAULT, pending.tag());
        let result = pending.wait();
        let was_answered = received
            .iter()
            .any(|packet| packet.is_response() && (packet.channel(), packet.tag()) == key);
        assert!(
            was_answered || !matches!(result, Ok(_) | Err(packetstream::Error::Rejected(_))),
            "request {number} was answered by nobody: {result:?}"
        );
    }
    let connection = Connection::clone(&guard);
    let report = guard.close();
    let report = if report.is_last() {
        report
    } else {
        connection.wait_closed()
    };
    assert!(began.elapsed() < PATIENCE, "{report:?}");
    // It may hold the streams, whose end the listener waits for.
    drop(report);
    let sent = listener.join().unwrap().unwrap();
    check_sent(&sent, &received);
}

fn builder(behaviour: u8) -> ConnectionBuilder {
    let builder = Connection::builder()
        .handler_threads(1)
        .flush_grace(Duration::ZERO)
        .linger(Some(PATIENCE));
    match behaviour & 7 {
        0 => builder,
        1 => builder
            .inline_handler(true)
            .handler(|incoming| Ok(answer(incoming))),
        2 => builder.deferred_handler(|incoming: Incoming, responder| {
            if incoming.payload().len().is_multiple_of(2) {
                responder.respond("even");
            }
        }),
        3 => builder.handler(|_| Err::<(), _>("no".into())),
        4 | 5 => builder.max_handler_threads(3).handler(|incoming| {
            // The peer's script goes on meanwhile; its end is an answer too.
            let _ = incoming.connection().call(Request::new(7));
            Ok(answer(incoming))
        }),
        6 => builder
            .max_inbound_requests(1)
            .max_packet_len(100)
            .handler(|incoming| Ok(answer(incoming))),
        _ => builder.handler(|incoming| Ok(answer(incoming))),
    }
}

fn answer(incoming: Incoming) -> Response {
    Response::from(incoming.into_payload())
}

/// The packets in what the peer says, up to the first violation; and the request whose head comes
/// last, which may be too long and refused before the rest is here.
fn received(mut input: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut rest = input;
    while let Ok(Some(packet)) = Decoder::new().decode(&mut input) {
        let is_end = packet == Packet::END_OF_STREAM;
        packets.push(packet);
        if is_end {
            return packets;
        }
        rest = input;
    }
    packets.extend(request_at(rest));
    packets
}

/// The request whose head stands there, without its payload.
fn request_at(mut octets: &[u8]) -> Option<Packet> {
    let mut next = || {
        let (number, len) = varint::decode(octets).ok()??;
        octets = octets.get(len..)?;
        Some(number)
    };
    let (_len, tag, word) = (next()?, next()?, next()?);
    let channel = if word & 1 == 1 { next()? } else { 0 };
    (word & 2 == 2).then(|| {
        let (channel, tag) = (ChannelId::new(channel), Tag::new(tag));
        Packet::request(channel, tag, RequestType::from(0), Flags::NONE, "")
    })
}
