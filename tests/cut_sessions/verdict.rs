//! Whether a session that was cut ended as it must.

use std::io::ErrorKind;
use std::time::Duration;

use packetstream::wire::DecodeError;
use packetstream::{CloseReport, Error, Outcome, Packet, PacketKind, Response};

use super::hearing::{Settled, Told};
use super::link::{Cut, Direction, Fault, Manner};
use super::script::{CANCELLED, Course, FORGOTTEN};
use super::session::{Ended, LINGER};
use super::story::{Story, key, packets};

/// The time in which everybody must have been told.
const SOON: Duration = Duration::from_secs(1);

/// What is judged, and what was found.
pub struct Verdict<'a> {
    ended: &'a Ended,
    course: Course,
    manner: Manner,
    story: Story,
    pub faults: Vec<String>,
    /// What came too late, or is not known because something else did: the machine may have been
    /// busy.
    pub late: Option<String>,
}

impl<'a> Verdict<'a> {
    /// Judges a session by the octets that the peer would have given.
    pub fn new(octets: &[u8], course: Course, mut manner: Manner, ended: &'a Ended) -> Self {
        let (given, _) = ended.link.given();
        let mut octets = octets[..given].to_vec();
        if let Some(Cut {
            fault: Fault::Garbage { mask },
            at,
            ..
        }) = manner.cut
            && at < given
        {
            octets[at] ^= mask;
        }
        if ended.link.cut_at().is_none() {
            manner.cut = None;
        }
        let story = Story::new(&octets, &ended.link.sent());
        let faults = ended.troubles.clone();
        let mut verdict = Self {
            ended,
            course,
            manner,
            story,
            faults,
            late: None,
        };
        if verdict.faults.is_empty() {
            verdict.judge();
        }
        verdict
    }

    fn judge(&mut self) {
        for settled in &self.ended.settled {
            self.in_time(settled);
            match &settled.told {
                Told::Answer(answer) => {
                    let answer = answer.as_ref().map(Response::payload);
                    self.waiter(settled, answer);
                }
                // What has failed already may be told as unknown.
                Told::Cancelled(Outcome::Unknown) => {}
                Told::Cancelled(outcome) => self.outcome("cancel", CANCELLED, *outcome),
                Told::EndOfStream(end) => self.end_of_stream(end.as_ref().err()),
                Told::Closed(report) => self.report(settled.name, report),
            }
        }
        self.report("the last close", &self.ended.report);
        self.losses();
        if self.is_whole() {
            self.answers();
        }
        if self.ended.close_took > LINGER + SOON {
            self.late = Some(format!("the last close took {:?}", self.ended.close_took));
        }
    }

    fn check(&mut self, is_right: bool, text: impl FnOnce() -> String) {
        if !is_right {
            self.faults.push(text());
        }
    }

    /// Whether the stream does not seem to have failed.
    fn is_silent(&self) -> bool {
        matches!(
            self.fault_kind(),
            Some((_, Fault::Stall | Fault::Garbage { .. }))
        )
    }

    /// Whether our octets were all taken.
    fn is_whole(&self) -> bool {
        !matches!(self.fault_kind(), Some((Direction::Output, _)))
    }

    fn fault_kind(&self) -> Option<(Direction, Fault)> {
        self.manner.cut.map(|cut| (cut.direction, cut.fault))
    }

    fn in_time(&mut self, settled: &Settled) {
        // Requests fail with the stream, unless it does not seem to have failed.
        let may_wait = self.is_silent() || settled.request.is_none();
        let closed_at = self.ended.closed_at.filter(|_| may_wait);
        let limit = match (self.ended.link.cut_at(), closed_at) {
            (_, Some(closed)) => closed + LINGER + SOON,
            // A session goes on with the damage, as long as it takes.
            (Some(cut), None) if !self.is_silent() => cut + SOON,
            _ => return,
        };
        if settled.at > limit {
            self.late = Some(format!("{} was told too late", settled.name));
        }
    }

    /// Whether this may be the cause of what failed.
    fn is_cause(&self, error: &Error) -> bool {
        let story = &self.story;
        match (error.cause(), self.fault_kind()) {
            (Error::PeerClosed, _) => story.has_goodbye,
            (_, Some((Direction::Input, Fault::End | Fault::Fail | Fault::Stall)))
                if story.has_goodbye =>
            {
                false
            }
            (Error::EndOfInput(None), Some((Direction::Input, Fault::End))) => {
                story.between_packets
            }
            (
                Error::Decode(DecodeError::Truncated { .. }),
                Some((Direction::Input, Fault::End)),
            ) => !story.between_packets,
            (Error::Read(error), Some((Direction::Input, Fault::Fail))) => {
                error.kind() == ErrorKind::ConnectionReset
            }
            (Error::Write(error), Some((Direction::Output, Fault::Fail))) => {
                error.kind() == ErrorKind::BrokenPipe
            }
            (Error::Write(error), Some((Direction::Output, Fault::End))) => {
                error.kind() == ErrorKind::WriteZero
            }
            // The two directions of a process that is gone end at once.
            (Error::EndOfInput(None), Some((Direction::Output, Fault::End | Fault::Fail))) => {
                self.manner.ends_both && story.between_packets
            }
            (
                Error::Decode(DecodeError::Truncated { .. }),
                Some((Direction::Output, Fault::End | Fault::Fail)),
            ) => self.manner.ends_both && !story.between_packets,
            (Error::LingerExpired, Some((_, Fault::Stall | Fault::Garbage { .. }))) => {
                self.ended.closed_at.is_some()
            }
            (Error::Decode(error), Some((_, Fault::Garbage { .. }))) => {
                story.broken == Some(*error)
            }
            // The first packet's length, tag and flags: damaged, they are those of an answer to
            // nothing.
            (Error::NotPacketstream(_), Some((Direction::Input, Fault::Garbage { .. }))) => {
                self.manner.cut.is_some_and(|cut| cut.at < 3)
            }
            (Error::DuplicateTag { channel, tag }, Some((_, Fault::Garbage { .. }))) => {
                let same = |packet: &&Packet| {
                    packet.is_request() && key(packet) == (channel.get(), tag.get())
                };
                story.given.iter().filter(same).count() > 1
            }
            _ => false,
        }
    }

    /// An end in order has no cause.
    fn may_end_in_order(&self) -> bool {
        match self.fault_kind() {
            None => true,
            Some((Direction::Input, Fault::End)) => self.story.between_packets,
            Some((Direction::Output, Fault::End | Fault::Fail)) => false,
            Some(_) => self.story.has_goodbye,
        }
    }

    /// The answers that the peer gave to a request of ours.
    fn given_answers(&self, request: (u64, u64)) -> impl Iterator<Item = &Packet> {
        let is_answer = move |packet: &&Packet| packet.is_response() && key(packet) == request;
        self.story.given.iter().filter(is_answer)
    }

    fn waiter(&mut self, settled: &Settled, answer: Result<&[u8], &Error>) {
        let (name, request) = (settled.name, settled.request.unwrap_or_default());
        let is_given = |packet: &Packet| match answer {
            Ok(payload) => packet.is_ok() == Some(true) && packet.payload() == payload,
            Err(Error::Rejected(rejection)) => {
                packet.is_ok() == Some(false) && packet.payload() == rejection.payload()
            }
            Err(_) => false,
        };
        if self.given_answers(request).any(is_given) {
            return;
        }
        let Err(error) = answer else {
            return self.faults.push(format!(
                "{name} {request:?}: an answer that nobody gave: {answer:?}"
            ));
        };
        let must_have = self.given_answers(request).next().is_some() && self.answers_are_certain();
        self.check(!must_have, || {
            format!("{name} {request:?}: was answered, and told {error:?}")
        });
        self.outcome(name, request, error.outcome());
        let is_refused = error.outcome() == Outcome::NotSent
            && matches!(error.cause(), Error::Closed | Error::RequestsFinished);
        let is_right = is_refused || self.is_cause(error);
        self.check(is_right, || {
            format!("{name} {request:?}: the cause cannot be {error:?}")
        });
        self.check(error.is_closed(), || {
            format!("{name} {request:?}: not closed by {error:?}")
        });
    }

    /// Whether what the peer has given must have come to whom it is for.
    fn answers_are_certain(&self) -> bool {
        match self.fault_kind() {
            None | Some((Direction::Input, Fault::End | Fault::Fail | Fault::Stall)) => true,
            // It may have come after the connection was given up.
            Some((Direction::Output, _)) => {
                let (given, at_cut) = self.ended.link.given();
                at_cut.is_none_or(|at_cut| at_cut == given)
            }
            Some((Direction::Input, Fault::Garbage { .. })) => false,
        }
    }

    /// A request of which no octet has left was not sent, another one was.
    fn outcome(&mut self, name: &str, request: (u64, u64), outcome: Outcome) {
        let is_ours = |packet: &&Packet| packet.is_request() && key(packet) == request;
        let is_partly = || {
            // A request that was cut off: its length, tag, word and channel tell which one it is.
            let (tag, channel) = (request.1, request.0);
            let word = if channel == 0 { 2 } else { 3 };
            let mut head = vec![u8::try_from(tag).unwrap(), word];
            head.extend((channel != 0).then(|| u8::try_from(channel).unwrap()));
            let len = self
                .story
                .rest
                .iter()
                .take_while(|octet| **octet >= 0x80)
                .count()
                + 1;
            let rest = self.story.rest.get(len..)?;
            (rest.len() >= head.len()).then(|| rest.starts_with(&head))
        };
        let is_sent = if self.story.sent.iter().any(|packet| is_ours(&packet)) {
            Some(true)
        } else if self.story.rest.is_empty() {
            Some(false)
        } else {
            // If too little is left to tell whose it is, it may be this one's.
            is_partly()
        };
        // While a write is under way nobody knows how much of it leaves, and the end of the input, or
        // a forced end, may settle requests just then. That a write error by itself is told exactly
        // has a test of its own.
        let is_under_way = packets(&[&self.story.rest[..], &self.ended.link.refused()].concat())
            .0
            .iter()
            .any(|packet| is_ours(&packet));
        let is_right = match is_sent {
            _ if is_under_way => outcome != Outcome::NotRun,
            Some(true) => outcome == Outcome::Unknown,
            Some(false) => outcome == Outcome::NotSent,
            None => true,
        };
        let what =
            || format!("{name} {request:?}: {outcome:?}, but whether it was sent: {is_sent:?}");
        if !is_right && self.is_silent() && outcome == Outcome::Unknown {
            // The sender was about to write it when the end was forced, 200 ms after the close: it
            // is not wrong to say that nobody knows, unless it is said each time.
            self.late = Some(what());
            return;
        }
        self.check(is_right, what);
    }

    fn end_of_stream(&mut self, error: Option<&Error>) {
        let is_right = match error {
            // We end it ourselves then. What is told of that has a test of its own.
            _ if self.ended.closed_at.is_some() => true,
            None if !self.is_whole() => true,
            None => self.may_end_in_order() || self.story.has_goodbye,
            Some(error) => self.is_cause(error) && !matches!(error, Error::PeerClosed),
        };
        self.check(is_right, || format!("wait_end_of_stream: told {error:?}"));
    }

    fn report(&mut self, name: &str, report: &CloseReport) {
        if !report.is_last() {
            // Others held it open, so this one has closed nothing.
            return;
        }
        let cause = report.cause();
        let is_right = match cause {
            // Nobody misses our goodbye after an end of the input in order; but an answer, yes.
            None if (self.manner.ends_both && self.story.between_packets)
                || self.story.has_goodbye =>
            {
                self.may_end_in_order() || report.answers_lost() == 0
            }
            None => self.may_end_in_order(),
            Some(error) => {
                self.is_cause(error) && !matches!(error, Error::PeerClosed | Error::EndOfInput(_))
            }
        };
        self.check(is_right, || {
            format!("{name}: the cause cannot be {cause:?}")
        });
        let said = report.peer_said_goodbye();
        self.check(said == self.story.has_goodbye, || {
            format!("{name}: whether the peer said goodbye: {said}")
        });
    }

    /// The report counts at least those who were told of it, and not more than there are.
    fn losses(&mut self) {
        let told = |outcome: Outcome| {
            let is_lost = |settled: &&Settled| {
                let Told::Answer(Err(error)) = &settled.told else {
                    return false;
                };
                matches!(error, Error::Unanswered { outcome: lost, .. } if *lost == outcome)
            };
            let lost = self.ended.settled.iter().filter(is_lost);
            let (certain, perhaps): (Vec<&Settled>, _) =
                lost.partition(|settled| settled.was_accepted);
            (certain.len() as u64, perhaps.len() as u64)
        };
        let report = &self.ended.report;
        // Nobody is told of the forgotten and the cancelled one.
        let is_answered =
            self.answers_are_certain() && self.given_answers(FORGOTTEN).next().is_some();
        let untold = u64::from(!is_answered) + u64::from(self.course == Course::Serving);
        for (what, counted, (certain, perhaps)) in [
            (
                "not sent",
                report.requests_not_sent(),
                told(Outcome::NotSent),
            ),
            ("unknown", report.requests_unknown(), told(Outcome::Unknown)),
        ] {
            let is_right = (certain..=certain + perhaps + untold).contains(&counted);
            self.check(is_right, || {
                format!(
                    "{counted} requests are counted as {what}, {certain} were told, and {perhaps}"
                )
            });
        }
    }

    /// What the peer has asked is answered once, and the goodbye is last.
    fn answers(&mut self) {
        let is_forced = self.ended.closed_at.is_some();
        let rest = self.story.rest.len();
        self.check(rest == 0 || is_forced, || format!("{rest} octets are left"));
        let mut asked: Vec<(u64, u64)> = self
            .story
            .given
            .iter()
            .filter(|packet| packet.is_request())
            .filter(|packet| matches!(packet.kind(), PacketKind::Request(_)))
            .map(key)
            .collect();
        let mut answered: Vec<(u64, u64)> = self
            .story
            .sent
            .iter()
            .filter(|packet| packet.is_response())
            .map(key)
            .collect();
        asked.sort_unstable();
        answered.sort_unstable();
        let too_many: Vec<_> = answered
            .iter()
            .filter(|answer| {
                let of = |all: &[(u64, u64)]| all.iter().filter(|key| key == answer).count();
                of(&answered) > of(&asked)
            })
            .collect();
        self.check(too_many.is_empty(), || {
            format!("answered too often: {too_many:?}")
        });
        let is_garbled = matches!(self.fault_kind(), Some((_, Fault::Garbage { .. })));
        if !is_forced && !is_garbled {
            self.check(asked == answered, || {
                format!("{asked:?} were asked, {answered:?} answered")
            });
        }
        let goodbyes = |kind| {
            self.story
                .sent
                .iter()
                .filter(|packet| packet.kind() == kind)
                .count()
        };
        let (requests, stream) = (
            goodbyes(PacketKind::EndOfRequests),
            goodbyes(PacketKind::EndOfStream),
        );
        let is_last = self.story.sent.last() == Some(&Packet::END_OF_STREAM);
        let is_right = (stream == 1 && is_last && requests == 1) || (stream == 0 && is_forced);
        self.check(is_right, || {
            format!("{requests} ends of requests, {stream} of the stream; last: {is_last}")
        });
        if stream == 1 {
            let lost = asked.len() - answered.len().min(asked.len());
            self.check(lost == 0 || is_garbled, || format!("{lost} are lost"));
        }
        if !is_garbled {
            self.contents();
        }
    }

    fn contents(&mut self) {
        let refusals = [
            "rejecting request: shutting down",
            "requests no longer allowed",
        ];
        let mut wrong = Vec::new();
        for answer in self.story.sent.iter().filter(|packet| packet.is_response()) {
            let is_question = |packet: &&Packet| packet.is_request() && key(packet) == key(answer);
            let Some(question) = self.story.given.iter().find(is_question) else {
                continue;
            };
            let is_refused = refusals
                .iter()
                .any(|text| answer.payload() == text.as_bytes());
            let kind = question
                .request_type()
                .map_or(0, packetstream::RequestType::get);
            let is_right = match (answer.is_ok(), kind) {
                (Some(true), 1 | 2) => false,
                (Some(true), 3) => !is_refused,
                (Some(true), _) => answer.payload() == question.payload(),
                (_, 1) => is_refused || answer.payload() == b"I will not",
                (_, 2 | 3) => is_refused || answer.payload() == b"exception during handler",
                _ => is_refused,
            };
            if !is_right {
                wrong.push(format!("{question} was answered {answer}"));
            }
        }
        self.faults.extend(wrong);
    }
}
