//! What the peer says in the session, and which requests there are.

use packetstream::{ChannelId, Flags, Packet, RequestType, Tag};

use super::link::{Script, Sent};

/// What the handler of our end does, by request type.
pub const ECHO: u32 = 0;
pub const REJECT: u32 = 1;
pub const FAIL: u32 = 2;
pub const CALL_BACK: u32 = 3;

/// The channels of our end's requests: most of them, one that the peer refuses, callbacks of
/// handlers, and calls one after the other.
pub const MOST: u64 = 0;
pub const REFUSED: u64 = 5;
pub const CALLBACKS: u64 = 7;
pub const CALLS: u64 = 9;

/// A tag that no request has.
pub const UNUSED: u64 = 99;

/// Nobody answers it: it waits until the end.
pub const UNANSWERED: (u64, u64) = (MOST, 9);
pub const FORGOTTEN: (u64, u64) = (MOST, 10);
pub const CANCELLED: (u64, u64) = (MOST, 11);

/// The two kinds of session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Our end serves until the peer ends it.
    Serving,
    /// Our end closes without a limit, as soon as it has made its first requests.
    Closing,
}

pub fn filler(name: &str, len: usize) -> Vec<u8> {
    name.bytes().cycle().take(len).collect()
}

fn asks(tag: u64, request_type: u32, payload: Vec<u8>) -> Packet {
    asks_on(0, tag, request_type, payload)
}

fn asks_on(channel: u64, tag: u64, request_type: u32, payload: Vec<u8>) -> Packet {
    let request_type = RequestType::from(request_type);
    Packet::request(
        ChannelId::new(channel),
        Tag::new(tag),
        request_type,
        Flags::NONE,
        payload,
    )
}

fn answers(channel: u64, tag: u64, ok: bool, payload: impl Into<Vec<u8>>) -> Packet {
    let (channel, tag) = (ChannelId::new(channel), Tag::new(tag));
    Packet::response(channel, tag, ok, Flags::from(u32::from(ok) * 6), payload).unwrap()
}

/// What the peer says.
pub fn script(course: Course) -> Script {
    use Sent::{Answer, Request};
    let mut script = Script::default();
    let is_serving = course == Course::Serving;
    let mut say = |packet: Packet, needs: &[Sent]| script.say(&packet, needs);
    let ours = |tag| Request(MOST, tag);

    // Each end speaks in turns, which makes the order of all packets the same each time.
    let first_said = match course {
        Course::Serving => Request(CALLS, 0),
        Course::Closing => ours(FORGOTTEN.1),
    };
    say(asks(2, ECHO, filler("small ", 20)), &[first_said]);
    say(answers(MOST, 2, true, "waited for"), &[]);
    say(asks(3, ECHO, filler("long question ", 1100)), &[]);
    say(asks(4, REJECT, Vec::new()), &[]);
    say(asks(5, FAIL, b"please fail".to_vec()), &[]);
    say(answers(MOST, 4, false, "no such thing"), &[ours(4)]);
    say(answers(MOST, 7, true, Vec::new()), &[ours(7)]);
    say(
        answers(MOST, 3, true, filler("long answer ", 700)),
        &[ours(3)],
    );
    let refusal = format!("unknown channel {REFUSED}");
    say(answers(REFUSED, 0, false, refusal), &[Request(REFUSED, 0)]);
    say(answers(MOST, 6, true, "sixth"), &[ours(6)]);
    say(answers(MOST, 5, true, "fifth"), &[ours(5)]);
    // Before it answers, the peer calls back.
    say(asks(6, ECHO, b"what do you mean?".to_vec()), &[ours(8)]);
    say(answers(MOST, 8, true, "eighth"), &[Answer(0, 6)]);
    say(asks_on(3, 0, ECHO, b"on another channel".to_vec()), &[]);
    say(
        answers(MOST, 10, true, "nobody waits for this"),
        &[ours(10)],
    );
    if is_serving {
        say(asks(7, CALL_BACK, b"call me back".to_vec()), &[]);
        say(
            answers(CALLBACKS, 0, true, "called"),
            &[Request(CALLBACKS, 0)],
        );
        // A chain: it calls back, and is called back before it answers.
        say(
            asks(9, CALL_BACK, b"call me back again".to_vec()),
            &[Answer(0, 7)],
        );
        say(
            asks(10, ECHO, b"and I call you".to_vec()),
            &[Request(CALLBACKS, 1)],
        );
        say(answers(CALLBACKS, 1, false, "not now"), &[Answer(0, 10)]);
        say(answers(CALLS, 0, true, "first call"), &[Answer(0, 9)]);
        // It is cancelled by now.
        say(answers(MOST, 11, true, "late"), &[Request(CALLS, 1)]);
        say(
            answers(CALLS, 1, true, filler("long answer to a call ", 1200)),
            &[],
        );
        say(answers(CALLS, 2, false, "no"), &[Request(CALLS, 2)]);
    }
    say(asks(11, ECHO, filler("another long one ", 900)), &[]);
    say(Packet::END_OF_REQUESTS, &[Answer(0, 11)]);
    say(asks(12, ECHO, b"one more".to_vec()), &[]);
    let mut all: Vec<Sent> = [2, 3, 4, 5, 6, 11, 12].map(|tag| Answer(0, tag)).to_vec();
    all.extend([Answer(3, 0), ours(9)]);
    if is_serving {
        all.push(Answer(0, 9));
    }
    say(Packet::END_OF_STREAM, &all);
    script
}
