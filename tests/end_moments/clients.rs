//! The other half of the table: nothing was accepted from the peer, and somebody takes a result of
//! ours when the end comes, in each way in which a result can be taken.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use packetstream::{BoxError, Connection, Error, OpenGuard, Packet, PendingResponse, PendingSet};

use super::measure::assert_no_thread_is_named;
use super::pairs::{answer_to, block_on, take};
use super::scripted::{Peer, ask, spawn};
use super::story::{LINGER, assert_nothing_lost};
use super::wire::{Wire, await_that};
use super::work::told;

/// How the result is taken. All but the first three ask once more when they have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// By the thread that closes, when it has.
    Afterwards,
    Waiting,
    InPieces,
    Set,
    Callback,
    Future,
    Decode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Close,
    Shutdown,
    Drop,
    CloseInVain,
    PeerParts,
    InputEnds,
    /// The answer and both end packets of the peer in one write.
    AllAtOnce,
}

pub const TAKINGS: [Taking; 7] = [
    Taking::Afterwards,
    Taking::Waiting,
    Taking::InPieces,
    Taking::Set,
    Taking::Callback,
    Taking::Future,
    Taking::Decode,
];

pub const ENDS: [End; 7] = [
    End::Close,
    End::Shutdown,
    End::Drop,
    End::CloseInVain,
    End::PeerParts,
    End::InputEnds,
    End::AllAtOnce,
];

impl Taking {
    fn asks_again(self) -> bool {
        matches!(self, Self::Callback | Self::Future | Self::Decode)
    }

    /// Takes the result, or gives it back for later.
    fn begin(
        self,
        pending: PendingResponse,
        connection: Connection,
        tell: Sender<String>,
    ) -> Option<PendingResponse> {
        // A test that has failed needs to hear nothing.
        let say = move |tell: &Sender<String>, text: String| drop(tell.send(text));
        let again = move |connection: &Connection| told(&connection.call(ask("again")));
        match self {
            Self::Afterwards => return Some(pending),
            Self::Waiting => drop(spawn("waits", move || say(&tell, told(&pending.wait())))),
            Self::InPieces => drop(spawn("waits", move || {
                let mut pending = pending;
                loop {
                    match pending.wait_timeout(Duration::from_millis(1)) {
                        Ok(result) => return say(&tell, told(&result)),
                        Err(unanswered) => pending = unanswered,
                    }
                }
            })),
            Self::Set => drop(spawn("waits", move || {
                let (_, result) = PendingSet::from_iter([pending]).next().unwrap();
                say(&tell, told(&result));
            })),
            Self::Callback => pending.on_complete(move |result| {
                say(&tell, told(&result));
                say(&tell, again(&connection));
            }),
            Self::Future => drop(spawn("awaits", move || {
                let result = block_on(pending);
                say(&tell, told(&result));
                say(&tell, again(&connection));
            })),
            Self::Decode => drop(spawn("decodes", move || {
                let saying = tell.clone();
                let decoded = pending.and_then(move |response| {
                    say(&saying, told(&Ok(response)));
                    say(&saying, again(&connection));
                    Ok::<_, BoxError>(())
                });
                if let Err(error) = decoded.wait() {
                    // The decode function has not run.
                    say(&tell, told(&Err(error)));
                    say(&tell, "not-sent".to_owned());
                }
            })),
        }
        None
    }
}

struct Story {
    taking: Taking,
    connection: Connection,
    wire: Wire,
    question: Packet,
    later: Option<PendingResponse>,
    told: Receiver<String>,
}

pub fn play(number: usize, taking: Taking, end: End) {
    let name = format!("c{number}:");
    let linger = match end {
        End::CloseInVain => Duration::from_millis(60),
        _ => LINGER,
    };
    let builder = Connection::builder().name(&name).linger(Some(linger));
    let (guard, peer) = Peer::open(builder);
    let connection = Connection::clone(&guard);
    let mut wire = Wire::new(peer);
    let (tell, told) = crossbeam_channel::unbounded();
    let pending = guard.submit(ask("question")).unwrap();
    let later = taking.begin(pending, connection.clone(), tell);
    let mut story = Story {
        taking,
        connection,
        question: wire.request("question"),
        wire,
        later,
        told,
    };
    match end {
        End::Close => story.we_close(guard, OpenGuard::close),
        End::Shutdown => story.we_close(guard, |guard| guard.shutdown(Some(LINGER))),
        End::Drop => story.guard_is_dropped(guard),
        End::CloseInVain => story.in_vain(guard),
        End::PeerParts | End::InputEnds | End::AllAtOnce => story.peer_ends(guard, end),
    }
    let error = story.connection.call(ask("after the end")).unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    story.wire.read_to_end();
    if end != End::CloseInVain {
        story.wire.assert_orderly();
    }
    drop(story);
    assert_no_thread_is_named(&name);
}

impl Story {
    /// The end of the requests goes out at once, and the answer still comes.
    fn we_close(
        &mut self,
        guard: OpenGuard,
        close: impl FnOnce(OpenGuard) -> packetstream::CloseReport + Send + 'static,
    ) {
        let (ended, closing) = crossbeam_channel::bounded(1);
        spawn("closes", move || drop(ended.send(close(guard))));
        self.wire.read_to(&Packet::END_OF_REQUESTS);
        let connection = self.connection.clone();
        await_that("the close begins", || !connection.is_open());
        assert!(closing.is_empty(), "closed before the answer");
        self.wire.answer(&self.question.clone(), "answer");
        self.wire.read_to_end_of_stream();
        assert!(closing.is_empty(), "closed before the peer's end");
        self.wire.part();
        let report = take(&closing);
        assert!(report.is_last() && !report.in_progress(), "{report:?}");
        assert!(report.peer_said_goodbye(), "{report:?}");
        assert_eq!(report.requests_unknown(), 0, "{report:?}");
        assert_nothing_lost(&report);
        self.assert_told("answer");
    }

    /// The result holds the connection open until it is taken.
    fn guard_is_dropped(&mut self, guard: OpenGuard) {
        let (ended, dropping) = crossbeam_channel::bounded(1);
        spawn("drops", move || {
            drop(guard);
            let _ = ended.send(());
        });
        take(&dropping);
        assert!(self.connection.is_open());
        self.wire.answer(&self.question.clone(), "answer");
        if let Some(pending) = self.later.take() {
            assert_eq!(told(&pending.wait()), "answer");
        }
        // Whether the connection is still open for one more request is a race.
        self.wire.answer_all_to_end_of_stream("more");
        self.wire.part();
        let report = self.connection.wait_closed();
        assert!(report.peer_said_goodbye(), "{report:?}");
        assert_nothing_lost(&report);
        if self.taking != Taking::Afterwards {
            assert_eq!(take(&self.told), "answer");
        }
        if self.taking.asks_again() {
            let again = take(&self.told);
            assert!(["more", "not-sent"].contains(&again.as_str()), "{again}");
        }
    }

    fn in_vain(&mut self, guard: OpenGuard) {
        let report = guard.close();
        let cause = report.cause();
        assert!(matches!(cause, Some(Error::LingerExpired)), "{report:?}");
        assert!(report.is_last(), "{report:?}");
        assert_eq!(report.requests_unknown(), 1, "{report:?}");
        self.assert_told("unknown");
    }

    fn peer_ends(&mut self, guard: OpenGuard, end: End) {
        match end {
            End::InputEnds => self.wire.end_input(),
            End::PeerParts => self.wire.part(),
            _ => self.wire.send(&[
                answer_to(&self.question, "answer"),
                Packet::END_OF_REQUESTS,
                Packet::END_OF_STREAM,
            ]),
        }
        // We part too, and nobody here has closed anything.
        self.wire.answer_all_to_end_of_stream("nobody hears this");
        let report = guard.close();
        assert_nothing_lost(&report);
        assert!(report.is_last(), "{report:?}");
        assert_eq!(report.peer_said_goodbye(), end != End::InputEnds);
        let is_answered = end == End::AllAtOnce;
        let question = if is_answered { "answer" } else { "unknown" };
        if let Some(pending) = self.later.take() {
            assert_eq!(told(&pending.wait()), question);
        } else {
            assert_eq!(take(&self.told), question);
        }
        if self.taking.asks_again() {
            let again = take(&self.told);
            let may_be_sent = is_answered && again == "unknown";
            assert!(may_be_sent || again == "not-sent", "{again}");
        }
    }

    fn assert_told(&mut self, expected: &str) {
        match self.later.take() {
            Some(pending) => assert_eq!(told(&pending.wait()), expected),
            None => assert_eq!(take(&self.told), expected),
        }
        if self.taking.asks_again() {
            assert_eq!(take(&self.told), "not-sent");
        }
    }
}
