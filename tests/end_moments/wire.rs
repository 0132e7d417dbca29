//! What we have put on the wire, and the rules that it keeps.

use std::time::{Duration, Instant};

use packetstream::{Packet, PacketKind};

use super::pairs::answer_to;
use super::scripted::Peer;

/// The peer at the far end, with a record of all that it was sent.
pub struct Wire {
    peer: Peer,
    record: Vec<Packet>,
    asked: Vec<u64>,
}

impl Wire {
    pub fn new(peer: Peer) -> Self {
        Self {
            peer,
            record: Vec::new(),
            asked: Vec::new(),
        }
    }

    pub fn ask(&mut self, tag: u64, payload: &str) {
        self.asked.push(tag);
        self.peer.request(tag, payload);
    }

    pub fn answer(&mut self, request: &Packet, payload: &str) {
        self.peer.answer(0, request.tag().get(), payload);
    }

    pub fn send(&mut self, packets: &[Packet]) {
        let bytes: Vec<u8> = packets.iter().flat_map(Packet::transcribe).collect();
        self.peer.send(bytes);
    }

    pub fn part(&mut self) {
        self.peer.goodbye();
    }

    pub fn end_input(&self) {
        self.peer.close_write();
    }

    /// What is written to the peer from now on fails.
    pub fn stop_reading(&self) {
        self.peer.close_read();
    }

    /// Reads until a request with this payload has come.
    pub fn request(&mut self, payload: &str) -> Packet {
        self.until(&format!("the request {payload:?}"), |packet| {
            matches!(packet.kind(), PacketKind::Request(_))
                && packet.payload() == payload.as_bytes()
        })
    }

    /// Reads until the response to this tag has come; its payload, marked if it is not ok.
    pub fn response(&mut self, tag: u64) -> String {
        let packet = self.until(&format!("the response to {tag}"), |packet| {
            packet.is_response() && packet.tag().get() == tag
        });
        text_of(&packet)
    }

    /// Finds the packet among those that have come, or waits for it.
    fn until(&mut self, what: &str, is_it: impl Fn(&Packet) -> bool) -> Packet {
        if let Some(packet) = self.record.iter().find(|packet| is_it(packet)) {
            return packet.clone();
        }
        loop {
            let Some(packet) = self.peer.packet_or_end() else {
                panic!("{what} did not come before the end of {}", self.told())
            };
            self.record.push(packet.clone());
            if is_it(&packet) {
                return packet;
            }
            assert_ne!(
                packet,
                Packet::END_OF_STREAM,
                "{what} did not come before the end of the stream in {}",
                self.told()
            );
        }
    }

    /// Reads until this packet has come.
    pub fn read_to(&mut self, last: &Packet) {
        self.until(&last.to_string(), |packet| packet == last);
    }

    /// Reads until our `END_OF_STREAM`.
    pub fn read_to_end_of_stream(&mut self) {
        self.read_to(&Packet::END_OF_STREAM);
    }

    /// The same, and answers the requests that come, if anybody still reads that.
    pub fn answer_all_to_end_of_stream(&mut self, payload: &str) {
        while !self.has_ended() {
            let packet = self.peer.next_packet();
            if matches!(packet.kind(), PacketKind::Request(_)) {
                let answer = answer_to(&packet, payload);
                drop(self.peer.try_send(answer.transcribe()));
            }
            self.record.push(packet);
        }
    }

    pub fn read_to_end(&mut self) {
        while let Some(packet) = self.peer.packet_or_end() {
            self.record.push(packet);
        }
    }

    pub fn has_ended(&self) -> bool {
        self.record.contains(&Packet::END_OF_STREAM)
    }

    /// The rules of every orderly end, once the transport has ended.
    pub fn assert_orderly(&self) {
        let told = self.told();
        for tag in &self.asked {
            let answers = self
                .record
                .iter()
                .filter(|packet| packet.is_response() && packet.tag().get() == *tag);
            assert_eq!(answers.count(), 1, "answers to {tag} in {told}");
        }
        let responses = self.record.iter().filter(|packet| packet.is_response());
        assert_eq!(responses.count(), self.asked.len(), "responses in {told}");
        let position = |end: &Packet| self.record.iter().position(|packet| packet == end);
        let number = |end: &Packet| self.record.iter().filter(|packet| *packet == end).count();
        for end in [Packet::END_OF_REQUESTS, Packet::END_OF_STREAM] {
            assert_eq!(number(&end), 1, "{end} in {told}");
        }
        let last = self.record.len() - 1;
        assert_eq!(position(&Packet::END_OF_STREAM), Some(last), "{told}");
        let last_request = self
            .record
            .iter()
            .rposition(|packet| matches!(packet.kind(), PacketKind::Request(_)));
        assert!(
            last_request < position(&Packet::END_OF_REQUESTS),
            "a request after the end of the requests in {told}"
        );
        self.assert_tags_are_new();
    }

    /// A tag is never used twice.
    fn assert_tags_are_new(&self) {
        let requests = self
            .record
            .iter()
            .filter(|packet| matches!(packet.kind(), PacketKind::Request(_)));
        let tags: Vec<_> = requests.map(|packet| packet.tag().get()).collect();
        assert!(tags.is_sorted_by(|one, next| one < next), "{}", self.told());
    }

    /// The rules of a forced end with requests unanswered.
    pub fn assert_cut(&self) {
        assert!(!self.has_ended(), "{}", self.told());
    }

    pub fn assert_no_end_packets(&self) {
        self.assert_cut();
        let told = self.told();
        assert!(!self.record.contains(&Packet::END_OF_REQUESTS), "{told}");
    }

    fn told(&self) -> String {
        let packets: Vec<_> = self.record.iter().map(ToString::to_string).collect();
        format!("{packets:#?}")
    }
}

fn text_of(response: &Packet) -> String {
    let text = String::from_utf8_lossy(response.payload());
    match response.kind() {
        PacketKind::Response { ok: true, .. } => text.into_owned(),
        _ => format!("not ok: {text}"),
    }
}

/// Looks until it is so; fails after a while.
pub fn await_that(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !is_so() {
        assert!(Instant::now() < deadline, "it is not so that {what}");
        std::thread::yield_now();
    }
}
