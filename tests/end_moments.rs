//! Every moment of the end: a request of the peer is being worked on, which calls the peer back,
//! when a guard is closed or dropped, the connection is shut down or aborted, or the peer ends.
//!
//! The table is that of `end_moments/case.rs`. What holds in every row:
//!
//! - what was accepted is answered once, unless the end is forced, and the callbacks that it takes
//!   are still sent while *we* close, from whatever thread;
//! - the end of the requests follows the last of them, and the end of the stream is the last packet;
//! - what closes or serves returns when all that has happened, and not before;
//! - no thread is left.
//!
//! `PACKETSTREAM_TEST_SIZE=large` plays each case many times.
#![cfg(target_os = "linux")]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed expectation of a helper fails its test"
)]

#[path = "end_moments/case.rs"]
mod case;
#[path = "end_moments/clients.rs"]
mod clients;
mod common;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/scripted.rs"]
mod scripted;
#[path = "common/sizes.rs"]
mod sizes;
#[path = "end_moments/story.rs"]
mod story;
#[path = "end_moments/wire.rs"]
mod wire;
#[path = "end_moments/work.rs"]
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use case::{Case, Moment};
use clients::{ENDS, TAKINGS};
use common::watched_for;
use sizes::sized;

/// More than the peer's patience, so that a case tells what it waited for.
const PATIENCE: Duration = Duration::from_secs(45);
/// How many cases may fail before the others are left out.
const SHOWN: usize = 8;

/// Plays all cases of a moment, and names those that fail.
fn all_cases_hold(moment: Moment) {
    let mut failed = Vec::new();
    for case in Case::all(moment) {
        for _ in 0..sized(1, 30) {
            let play = || watched_for(PATIENCE, move || story::play(case));
            if catch_unwind(AssertUnwindSafe(play)).is_err() {
                eprintln!("that was {case:?}");
                failed.push((case.place, case.held));
                break;
            }
        }
        if failed.len() >= SHOWN {
            break;
        }
    }
    assert!(failed.is_empty(), "{moment:?} fails for {failed:?}");
}

#[test]
fn close_of_the_last_guard_lets_accepted_requests_call_back_and_returns_at_the_end() {
    all_cases_hold(Moment::Close);
}

#[test]
fn drop_of_the_last_reference_lets_accepted_requests_call_back() {
    all_cases_hold(Moment::Drop);
}

#[test]
fn shutdown_lets_accepted_requests_call_back_whoever_holds_the_connection_open() {
    all_cases_hold(Moment::Shutdown);
}

#[test]
fn close_in_vain_ends_with_the_linger_time_and_counts_what_is_lost() {
    all_cases_hold(Moment::CloseInVain);
}

#[test]
fn abort_sends_no_end_packets_and_counts_what_is_lost() {
    all_cases_hold(Moment::Abort);
}

#[test]
fn serve_goes_on_after_the_end_of_the_peers_requests() {
    all_cases_hold(Moment::ServePeerFinishes);
}

#[test]
fn serve_returns_with_everything_answered_when_the_peer_has_parted() {
    all_cases_hold(Moment::ServePeerParts);
}

#[test]
fn serve_returns_with_everything_answered_when_the_input_has_ended() {
    all_cases_hold(Moment::ServeInputEnds);
}

#[test]
fn serve_loses_nothing_when_the_answer_and_the_end_come_at_once() {
    all_cases_hold(Moment::ServeAllAtOnce);
}

#[test]
fn serve_tells_that_answers_could_not_be_written() {
    all_cases_hold(Moment::ServeUnread);
}

#[test]
fn connection_ends_by_itself_when_the_peer_has_parted() {
    all_cases_hold(Moment::PeerParts);
}

#[test]
fn close_after_the_peers_end_returns_with_everything_answered() {
    all_cases_hold(Moment::PeerPartsThenClose);
}

#[test]
fn results_of_ours_are_told_whatever_ends_the_connection_and_however_they_are_taken() {
    let mut failed = Vec::new();
    let rows = TAKINGS.map(|taking| ENDS.map(|end| (taking, end)));
    for (number, (taking, end)) in rows.into_iter().flatten().enumerate() {
        for _ in 0..sized(2, 200) {
            let play = || watched_for(PATIENCE, move || clients::play(number, taking, end));
            if catch_unwind(AssertUnwindSafe(play)).is_err() {
                eprintln!("that was {taking:?}, {end:?}");
                failed.push((taking, end));
                break;
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
