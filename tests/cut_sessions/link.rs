//! A stream in memory whose far end follows a script, and which breaks at a given octet.
//!
//! The peer gives its octets as far as our end has sent what they answer, so that every run of a
//! session is the same up to the cut.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use packetstream::wire::Decoder;
use packetstream::{Packet, PacketKind, Transport};
use parking_lot::{Condvar, Mutex};

/// What our end has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A request: channel and tag.
    Request(u64, u64),
    /// The answer to a request of the peer.
    Answer(u64, u64),
}

/// What the peer says, and what it has to have read before it says so.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub octets: Vec<u8>,
    needs: Vec<(usize, Vec<Sent>)>,
}

impl Script {
    pub fn say(&mut self, packet: &Packet, needs: &[Sent]) {
        self.needs.push((self.octets.len(), needs.to_vec()));
        self.octets.extend(packet.transcribe());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the peer sends.
    Input,
    /// What our end sends.
    Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The input ends; the writer takes no more octets.
    End,
    /// An error: `ECONNRESET`, `EPIPE`.
    Fail,
    /// Nothing happens any more.
    Stall,
    /// The same octet with some bits turned, and then all goes on. Of the input only.
    Garbage { mask: u8 },
}

/// Where the stream breaks: after this many octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub direction: Direction,
    pub fault: Fault,
    pub at: usize,
}

/// How the stream behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    pub cut: Option<Cut>,
    /// The most octets that one read or write moves.
    pub chunk: usize,
    /// Whether a stuck reader or writer can be freed.
    pub has_hook: bool,
    /// Whether the input ends together with the output, as with a process that is gone.
    pub ends_both: bool,
}

/// The peer, as the test sees it.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

struct Shared {
    manner: Manner,
    state: Mutex<State>,
    changed: Condvar,
    tell_cut: Sender<()>,
    cuts: Receiver<()>,
}

struct State {
    script: Arc<Script>,
    /// How many of its needs are met.
    met: usize,
    given: usize,
    given_at_cut: Option<usize>,
    seen: Vec<Sent>,
    decoder: Decoder,
    sent: Vec<u8>,
    refused: Vec<u8>,
    cut_at: Option<Instant>,
    input_over: bool,
    shut: bool,
}

impl Link {
    pub fn new(script: &Arc<Script>, manner: Manner) -> (Self, Transport) {
        let (tell_cut, cuts) = unbounded();
        let link = Self(Arc::new(Shared {
            manner,
            state: Mutex::new(State {
                script: Arc::clone(script),
                met: 0,
                given: 0,
                given_at_cut: None,
                seen: Vec::new(),
                decoder: Decoder::new(),
                sent: Vec::new(),
                refused: Vec::new(),
                cut_at: None,
                input_over: false,
                shut: false,
            }),
            changed: Condvar::new(),
            tell_cut,
            cuts,
        }));
        let mut octets = script.octets.clone();
        if let Some(Cut {
            fault: Fault::Garbage { mask },
            at,
            ..
        }) = manner.cut
        {
            octets[at] ^= mask;
        }
        let reader = LinkReader {
            link: link.clone(),
            octets,
            next: 0,
            end: 0,
        };
        let mut transport = Transport::new(reader, LinkWriter(link.clone()));
        if manner.has_hook {
            let link = link.clone();
            transport = transport.with_shutdown(move || link.shut());
        }
        (link, transport)
    }

    /// Frees whoever is stuck, and ends both directions.
    pub fn shut(&self) {
        self.0.state.lock().shut = true;
        self.0.changed.notify_all();
    }

    /// Everything that our end has sent.
    pub fn sent(&self) -> Vec<u8> {
        self.0.state.lock().sent.clone()
    }

    /// The octets of the write that did not succeed.
    pub fn refused(&self) -> Vec<u8> {
        self.0.state.lock().refused.clone()
    }

    /// How many octets the peer has given, by now and when the stream was cut.
    pub fn given(&self) -> (usize, Option<usize>) {
        let state = self.0.state.lock();
        (state.given, state.given_at_cut)
    }

    /// When our end has met the cut.
    pub fn cut_at(&self) -> Option<Instant> {
        self.0.state.lock().cut_at
    }

    /// Is sent something when our end meets the cut.
    pub fn cuts(&self) -> &Receiver<()> {
        &self.0.cuts
    }

    /// How much has gone over the stream: it does not change while nothing happens.
    pub fn progress(&self) -> (usize, usize) {
        let state = self.0.state.lock();
        (state.given, state.sent.len())
    }
}

impl Shared {
    fn cut(&self, direction: Direction) -> Option<Cut> {
        self.manner.cut.filter(|cut| cut.direction == direction)
    }

    fn reach_cut(&self, state: &mut State) {
        if state.cut_at.is_none() {
            state.cut_at = Some(Instant::now());
            state.given_at_cut = Some(state.given);
            let _ = self.tell_cut.send(());
            self.changed.notify_all();
        }
    }

    /// Blocks until octets may be given; returns up to where, or the end or error.
    fn next_input(&self) -> io::Result<Option<usize>> {
        let mut state = self.state.lock();
        loop {
            if state.shut || state.input_over {
                return Ok(None);
            }
            let mut limit = state
                .allowed()
                .min(state.given.saturating_add(self.manner.chunk));
            if let Some(cut) = self.cut(Direction::Input) {
                let is_there = state.given == cut.at;
                match cut.fault {
                    Fault::Garbage { .. } => {
                        if limit > cut.at {
                            self.reach_cut(&mut state);
                        }
                    }
                    _ if !is_there => limit = limit.min(cut.at),
                    Fault::End => {
                        self.reach_cut(&mut state);
                        return Ok(None);
                    }
                    Fault::Fail => {
                        self.reach_cut(&mut state);
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                    Fault::Stall => {
                        self.reach_cut(&mut state);
                        limit = state.given;
                    }
                }
            }
            if limit > state.given {
                state.given = limit;
                return Ok(Some(limit));
            }
            self.changed.wait(&mut state);
        }
    }

    fn output(&self, octets: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        let mut room = self.manner.chunk.min(octets.len());
        if let Some(cut) = self.cut(Direction::Output) {
            room = room.min(cut.at - state.sent.len());
            if room == 0 && !octets.is_empty() {
                self.reach_cut(&mut state);
                state.refused = octets.to_vec();
                state.input_over = self.manner.ends_both && cut.fault != Fault::Stall;
                match cut.fault {
                    Fault::End => return Ok(0),
                    Fault::Stall => self.changed.wait_while(&mut state, |state| !state.shut),
                    Fault::Fail | Fault::Garbage { .. } => {}
                }
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        if state.shut {
            state.refused = octets.to_vec();
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.take(&octets[..room]);
        self.changed.notify_all();
        Ok(room)
    }
}

impl State {
    /// Up to where the peer speaks, after what it has read.
    fn allowed(&mut self) -> usize {
        while let Some((start, needs)) = self.script.needs.get(self.met) {
            if !needs.iter().all(|need| self.seen.contains(need)) {
                return *start;
            }
            self.met += 1;
        }
        self.script.octets.len()
    }

    fn take(&mut self, mut octets: &[u8]) {
        self.sent.extend_from_slice(octets);
        // What does not decode is found when the session is judged.
        while let Ok(Some(packet)) = self.decoder.decode(&mut octets) {
            let (channel, tag) = (packet.channel().get(), packet.tag().get());
            match packet.kind() {
                PacketKind::Request(_) => self.seen.push(Sent::Request(channel, tag)),
                PacketKind::Response { .. } => self.seen.push(Sent::Answer(channel, tag)),
                _ => {}
            }
        }
    }
}

struct LinkReader {
    link: Link,
    octets: Vec<u8>,
    next: usize,
    end: usize,
}

impl BufRead for LinkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.next == self.end {
            match self.link.0.next_input()? {
                Some(end) => self.end = end,
                None => return Ok(&[]),
            }
        }
        Ok(&self.octets[self.next..self.end])
    }

    fn consume(&mut self, amount: usize) {
        self.next += amount;
    }
}

impl Read for LinkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(buffer)?;
        self.consume(len);
        Ok(len)
    }
}

struct LinkWriter(Link);

impl Write for LinkWriter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.0.output(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
