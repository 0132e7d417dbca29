use super::blame::Blame;
use super::*;
use crate::wire::{Field, Flags};

fn io_error() -> Arc<io::Error> {
    Arc::new(io::Error::new(io::ErrorKind::BrokenPipe, "pipe burst"))
}

/// One error of each variant, and of each kind that a variant distinguishes.
fn all() -> Vec<Error> {
    let words = || Arc::<str>::from("words");
    vec![
        Error::Aborted,
        Error::Cancelled(Outcome::NotSent),
        Error::Cancelled(Outcome::Unknown),
        Error::Closed,
        Error::Connect(io_error()),
        Error::Decode(DecodeError::FieldsBeyondEnd { field: Field::Tag }),
        Error::Decode(DecodeError::IntegerTooLarge { field: Field::Tag }),
        Error::Decode(DecodeError::MalformedEndPacket),
        Error::Decode(DecodeError::PacketTooLong { len: 2, limit: 1 }),
        Error::Decode(DecodeError::Truncated {
            received: 1,
            expected: None,
        }),
        Error::DuplicateTag {
            channel: ChannelId::DEFAULT,
            tag: Tag::new(2),
        },
        Error::EndOfInput(None),
        Error::EndOfInput(Some(words())),
        Error::Full,
        Error::LingerExpired,
        Error::NotPacketstream(words()),
        Error::OtherProcess(Outcome::NotSent),
        Error::OtherProcess(Outcome::Unknown),
        Error::Panicked(words()),
        Error::Payload(Arc::from(BoxError::from("what is that?"))),
        Error::PeerClosed,
        Error::PeerNotReading {
            answers: 1,
            octets: 1,
        },
        Error::Read(io_error()),
        Error::Rejected(Rejection::new("no")),
        Error::Rejected(Rejection::new("no request handler")),
        Error::Rejected(Rejection::new("no request handler").with_flags(Flags::from(1))),
        Error::RequestsFinished,
        Error::ResponseTooLong { len: 2, limit: 1 },
        Error::Spawn {
            outcome: Outcome::NotSent,
            source: io_error(),
        },
        Error::Spawn {
            outcome: Outcome::Unknown,
            source: io_error(),
        },
        Error::StillOpen,
        Error::Taken,
        Error::TimedOut(Outcome::NotSent),
        Error::TimedOut(Outcome::Unknown),
        Error::TooLong { len: 2, limit: 1 },
        Error::UnknownResponse {
            channel: ChannelId::DEFAULT,
            tag: Tag::new(2),
            len: 1,
        },
        Error::UnknownRequestType("Type"),
        Error::WouldDeadlock(Outcome::NotSent),
        Error::WouldDeadlock(Outcome::Unknown),
        Error::Write(io_error()),
    ]
}

/// The rule of each variant: what became of the request, who is to blame, and whether another
/// request on the connection would fail too. A new variant does not compile before it has one.
fn rule(error: &Error) -> (Outcome, Option<Blame>, bool) {
    use Blame::{Caller, Peer, Transport};
    use Outcome::{NotRun, NotSent, Unknown};

    match error {
        Error::Aborted | Error::LingerExpired | Error::Panicked(_) | Error::PeerClosed => {
            (Unknown, None, true)
        }
        Error::Cancelled(outcome) | Error::Spawn { outcome, .. } | Error::TimedOut(outcome) => {
            (*outcome, None, false)
        }
        Error::Closed | Error::RequestsFinished => (NotSent, Some(Caller), true),
        Error::Connect(_) => (NotSent, Some(Transport), true),
        Error::Decode(DecodeError::Truncated { .. })
        | Error::EndOfInput(_)
        | Error::Read(_)
        | Error::Write(_) => (Unknown, Some(Transport), true),
        Error::Decode(_)
        | Error::DuplicateTag { .. }
        | Error::NotPacketstream(_)
        | Error::PeerNotReading { .. }
        | Error::UnknownResponse { .. } => (Unknown, Some(Peer), true),
        Error::Full => (NotSent, None, false),
        Error::OtherProcess(outcome) => (*outcome, Some(Caller), true),
        // The connection goes on.
        Error::Payload(_) => (Unknown, Some(Peer), false),
        Error::Rejected(rejection) => {
            let refused = rejection.flags().is_empty() && rejection.payload().len() > 2;
            (if refused { NotRun } else { Unknown }, None, false)
        }
        Error::ResponseTooLong { .. } | Error::StillOpen | Error::Taken => {
            (Unknown, Some(Caller), false)
        }
        Error::TooLong { .. } | Error::UnknownRequestType(_) => (NotSent, Some(Caller), false),
        Error::Unanswered { outcome, cause } => {
            let (_, blame, is_closed) = rule(cause);
            (*outcome, blame, is_closed)
        }
        Error::WouldDeadlock(outcome) => (*outcome, Some(Caller), false),
    }
}

fn assert_rule(error: &Error) {
    let (outcome, blame, is_closed) = rule(error);
    assert_eq!(error.outcome(), outcome, "{error:?}");
    assert_eq!(error.is_closed(), is_closed, "{error:?}");
    let blamed = [error.is_transport(), error.is_peer(), error.is_caller()];
    let expected = [Blame::Transport, Blame::Peer, Blame::Caller].map(|who| blame == Some(who));
    assert_eq!(blamed, expected, "{error:?}");
    assert!(blamed.iter().filter(|is_blamed| **is_blamed).count() <= 1);
}

#[test]
fn outcome_and_blame_of_every_error_are_those_of_its_rule() {
    for error in all() {
        assert_rule(&error);
        let cause = Arc::new(error);
        for outcome in [Outcome::NotSent, Outcome::Unknown] {
            assert_rule(&Error::unanswered(outcome, &cause));
        }
    }
}

/// Every text of an error, down to its first cause.
fn chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect()
}

#[test]
fn chain_of_errors_says_each_cause_once() {
    let cause = Arc::new(Error::Write(io_error()));
    let error = Error::unanswered(Outcome::NotSent, &cause);
    assert_eq!(
        chain(&error),
        [
            "the connection ended before the answer came; the request was not sent",
            "cannot write to the peer",
            "pipe burst"
        ]
    );
    for error in all() {
        let texts = chain(&error);
        for pair in texts.windows(2) {
            assert!(!pair[0].contains(&pair[1]), "{texts:?}");
        }
        let text = &texts[0];
        assert!(!text.ends_with('.') && !text.is_empty(), "{text:?}");
    }
}

#[test]
fn cut_inside_a_packet_is_not_told_as_a_fault_of_the_peer() {
    let cut = DecodeError::Truncated {
        received: 3,
        expected: Some(7),
    };
    assert_eq!(
        chain(&Error::from(cut)),
        [
            "the peer's stream was cut off",
            "the input ends inside a packet, after 3 of its 7 octets"
        ]
    );
}
