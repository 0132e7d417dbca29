//! What the adversary says: packets in order, and everything that can be done to them.

use packetstream::wire::varint;
use packetstream::{ChannelId, Flags, Packet, RequestType, Tag};

/// The limit of a packet in these sessions.
pub const LIMIT: u64 = 4096;

/// Who is under test, and so what the peer has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One that asks and serves.
    Both,
    /// One that only asks, in several ways at once.
    Client,
    /// One that makes one blocking call, whose answer it may read itself.
    LoneCaller,
    Server,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Both, Self::Client, Self::LoneCaller, Self::Server];

    /// How many requests it makes, with the tags from 2 on.
    pub fn asks(self) -> usize {
        match self {
            Self::Both | Self::Client => 4,
            Self::LoneCaller => 1,
            Self::Server => 0,
        }
    }

    /// What a peer says that plays along, each packet by itself.
    pub fn packets(self) -> Vec<Vec<u8>> {
        let answers = [
            answer(3, true, 0, "three"),
            answer(2, false, 0, "two is refused"),
            answer(5, true, 9, ""),
            answer(4, false, 0, "rejecting request: busy"),
        ];
        let requests = [
            request(0, 2, 1, "echo"),
            // Its handler calls back, with tag 6 if this end has asked four times.
            request(0, 3, 2, "call back"),
            request(5, 2, 1, "on another channel"),
            request(0, 4, 3, "fails"),
            request(0, 0x81, 4, "later"),
        ];
        let [first, second, third, fourth] = answers;
        let [echo, back, other, fails, later] = requests;
        let called_back = |tag| answer(tag, true, 0, "called back");
        let packets = match self {
            Self::Both => vec![
                first,
                echo,
                back,
                second,
                called_back(6),
                other,
                third,
                fails,
                later,
                Packet::END_OF_REQUESTS,
                fourth,
                Packet::END_OF_STREAM,
            ],
            Self::Client => vec![
                first,
                second,
                Packet::END_OF_REQUESTS,
                third,
                fourth,
                Packet::END_OF_STREAM,
            ],
            Self::LoneCaller => vec![second, Packet::END_OF_REQUESTS, Packet::END_OF_STREAM],
            Self::Server => vec![
                echo,
                back,
                other,
                called_back(2),
                fails,
                later,
                Packet::END_OF_REQUESTS,
                Packet::END_OF_STREAM,
            ],
        };
        packets.iter().map(Packet::transcribe).collect()
    }
}

pub fn request(channel: u64, tag: u64, kind: u32, payload: &str) -> Packet {
    Packet::request(
        ChannelId::new(channel),
        Tag::new(tag),
        RequestType::from(kind),
        Flags::NONE,
        payload,
    )
}

pub fn answer(tag: u64, ok: bool, flags: u32, payload: &str) -> Packet {
    Packet::response(
        ChannelId::DEFAULT,
        Tag::new(tag),
        ok,
        Flags::from(flags),
        payload,
    )
    .unwrap()
}

/// A stream, and what was done to it.
#[derive(Clone, Debug)]
pub struct Stream {
    pub what: String,
    pub bytes: Vec<u8>,
    /// Where there is a pause.
    pub pause: Option<usize>,
}

impl Stream {
    fn new(what: String, packets: &[Vec<u8>]) -> Self {
        Self {
            what,
            bytes: packets.concat(),
            pause: None,
        }
    }
}

/// The stream cut behind every byte.
pub fn cut_anywhere(role: Role) -> Vec<Stream> {
    let whole = role.packets().concat();
    (0..=whole.len())
        .map(|at| Stream::new(format!("cut at {at}"), &[whole[..at].to_vec()]))
        .collect()
}

/// The stream with a pause behind every byte.
pub fn paused_anywhere(role: Role) -> Vec<Stream> {
    let whole = role.packets().concat();
    (0..whole.len())
        .map(|at| Stream {
            what: format!("paused at {at}"),
            bytes: whole.clone(),
            pause: Some(at),
        })
        .collect()
}

/// Every byte changed in several ways.
pub fn changed_bytes(role: Role) -> Vec<Stream> {
    let whole = role.packets().concat();
    let changes: [fn(u8) -> u8; 7] = [
        |byte| byte ^ 0xff,
        |byte| byte ^ 0x80,
        |byte| byte ^ 1,
        |byte| byte ^ 2,
        |byte| byte.wrapping_add(1),
        |_| 0,
        |_| b'\n',
    ];
    let mut streams = Vec::new();
    for at in 0..whole.len() {
        for (number, change) in changes.iter().enumerate() {
            let mut bytes = whole.clone();
            bytes[at] = change(bytes[at]);
            streams.push(Stream::new(format!("change {number} at {at}"), &[bytes]));
        }
        let mut bytes = whole.clone();
        bytes.remove(at);
        streams.push(Stream::new(format!("without byte {at}"), &[bytes]));
        let mut bytes = whole.clone();
        bytes.insert(at, bytes[at]);
        streams.push(Stream::new(format!("byte {at} twice"), &[bytes]));
    }
    streams
}

/// Packets dropped, doubled and in any other order.
pub fn changed_packets(role: Role) -> Vec<Stream> {
    let packets = role.packets();
    let mut streams = Vec::new();
    for at in 0..packets.len() {
        let mut without = packets.clone();
        let packet = without.remove(at);
        streams.push(Stream::new(format!("without packet {at}"), &without));
        for to in 0..=without.len() {
            let mut moved = without.clone();
            moved.insert(to, packet.clone());
            streams.push(Stream::new(format!("packet {at} moved to {to}"), &moved));
            let mut doubled = packets.clone();
            doubled.insert(to, packet.clone());
            streams.push(Stream::new(format!("packet {at} again at {to}"), &doubled));
        }
    }
    let mut backward = packets;
    backward.reverse();
    streams.push(Stream::new("backward".to_owned(), &backward));
    streams
}

/// What does not belong there, at every place between packets.
pub fn strange_packets(role: Role) -> Vec<Stream> {
    let packets = role.packets();
    let mut strange: Vec<(String, Vec<u8>)> = vec![
        ("end of requests".into(), vec![3, 1, 2, 0]),
        ("end of stream".into(), vec![3, 0, 2, 0]),
        ("end of requests, twice".into(), [3, 1, 2, 0].repeat(2)),
        ("end of stream, twice".into(), [3, 0, 2, 0].repeat(2)),
        ("both ends".into(), vec![3, 1, 2, 0, 3, 0, 2, 0]),
        (
            "overlong end of requests".into(),
            vec![0x80, 5, 0x80, 1, 0x80, 2, 0],
        ),
        ("end of stream with a payload".into(), vec![4, 0, 2, 0, 7]),
        ("another end".into(), vec![3, 2, 2, 0]),
        ("an end on a channel".into(), vec![4, 0, 3, 1, 0]),
        ("an empty packet".into(), vec![0]),
        ("only a tag".into(), vec![1, 9]),
        (
            "an integer of eleven bytes".into(),
            [&[0x80; 10][..], &[1]].concat(),
        ),
        ("text".into(), b"Connection to host closed.\r\n".to_vec()),
    ];
    for tag in [0, 1, 7, 99, u64::MAX] {
        let packet = answer(tag, true, 0, "asked by nobody");
        strange.push((format!("an answer to tag {tag}"), packet.transcribe()));
    }
    for tag in [0, 1, 2, 7, u64::MAX] {
        let packet = request(0, tag, 1, "one more");
        strange.push((format!("a request with tag {tag}"), packet.transcribe()));
    }
    let lens = [
        LIMIT - 1,
        LIMIT,
        LIMIT + 1,
        16 * LIMIT,
        16 * LIMIT + 1,
        u64::from(u32::MAX),
        1 << 62,
        u64::MAX,
    ];
    for len in lens {
        let mut claim = Vec::new();
        varint::encode(len, &mut claim);
        strange.push((format!("a claim of {len} bytes"), claim.clone()));
        for head in [&[4, 0][..], &[3, 5], &[2, 2, 5]] {
            let what = format!("a claim of {len} bytes and the head {head:?}");
            strange.push((what, [&claim, head].concat()));
        }
    }
    // As long as they say.
    for len in [LIMIT, LIMIT + 1, 3 * LIMIT] {
        for (head, kind) in [
            (&[9, 2, 2][..], "request"),
            (&[4, 1], "answer"),
            (&[99, 1], "stray"),
        ] {
            let mut packet = Vec::new();
            varint::encode(len, &mut packet);
            packet.extend(head);
            packet.resize(
                packet.len() + usize::try_from(len).unwrap() - head.len(),
                b'x',
            );
            strange.push((format!("a whole {kind} of {len} bytes"), packet));
        }
    }
    let mut streams = Vec::new();
    for at in 0..=packets.len() {
        for (what, bytes) in &strange {
            let mut with = packets.clone();
            with.insert(at, bytes.clone());
            streams.push(Stream::new(format!("{what}, at {at}"), &with));
        }
    }
    streams
}
