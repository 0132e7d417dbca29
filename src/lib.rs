//! A bidirectional request/response packet connection over any byte stream: blocking, thread
//! based, symmetric. Both ends make requests and serve them, at once, from any number of threads.
//!
//! Wrap it round stdin and stdout, a child process, an `ssh` command, a pipe, a Unix or TCP
//! socket, or any reader and writer of your own. It speaks the wire protocol of Python's
//! [`cs.packetstream`](https://pypi.org/project/cs.packetstream/20240630/).
//!
//! # Example
//!
//! ```
//! use packetstream::{Connection, Request, Transport};
//!
//! fn main() -> packetstream::Result<()> {
//!     let (ours, theirs) = Transport::pair(); // or a socket, a child, stdin and stdout …
//!
//!     let server = Connection::builder()
//!         .handler(|incoming| Ok(incoming.payload().to_ascii_uppercase()))
//!         .open(theirs)?;
//!     let client = Connection::builder().open(ours)?;
//!
//!     let response = client.call(Request::new(1).with_payload("hello"))?;
//!     assert_eq!(response.payload(), b"HELLO");
//!
//!     client.close().into_result()?;
//!     server.close().into_result()
//! }
//! ```
//!
//! # The layers
//!
//! Octets come in at a [`Transport`], become packets in [`wire`], requests and answers in a
//! [`Connection`], and your own types in [`typed`].
//!
//! | layer | what it is |
//! |---|---|
//! | [`Transport`], [`Connector`] | makers of byte stream pairs: descriptors, stdio, child processes, sockets, memory |
//! | [`wire`] | the codec, usable alone: [`Packet`], [`Decoder`], [`PacketReader`], [`PacketWriter`] |
//! | [`Connection`] | the engine: [`Request`], [`Response`], [`PendingResponse`], [`RequestHandler`] |
//! | [`payload`](mod@payload) | codecs for the fields of a payload: integers, data, text, your own structs |
//! | [`typed`] | requests as types: [`TypedConnection`](typed::TypedConnection), [`Service`](typed::Service), [`Serve`](typed::Serve) |
//!
//! # Threads and blocking
//!
//! An open connection has two threads, `sender` and `receiver`. Handlers run on worker threads
//! ([`handler_threads`](ConnectionBuilder::handler_threads), 4), which are started when there is work
//! for them, and quick ones [where the request was read](RequestHandler#threads); a `callbacks`
//! thread is started for the first [`on_complete`](PendingResponse::on_complete) that has to wait, and
//! a `timer` thread for the first one, or the first `await`, with a time limit.
//!
//! Neither a handler nor the send queue nor a peer that does not read keeps packets from being read
//! for more than a moment, so two ends that flood each other go on. A handler may call back its
//! peer, to any depth: while it waits, its slot serves other requests.
//!
//! What blocks says so in its first sentence: [`call`](Connection::call),
//! [`wait`](PendingResponse::wait), [`close`](OpenGuard::close) and dropping the last guard,
//! [`open`](Connection::open) of an on-demand connection, and [`submit`](Connection::submit) while
//! the limits are reached. Waiting on a thread that has to end the wait is an error
//! ([`Error::WouldDeadlock`]), and a close on a thread of a connection goes on in the background.
//!
//! A request may have a [time limit](Request::with_timeout), which holds however its answer is taken;
//! the connection may have one for all of them ([`timeout`](ConnectionBuilder::timeout)).
//!
//! Packets are gathered for up to a flush grace of 10 ms, but that is cut short as soon as anybody
//! waits, so it costs no call anything.
//!
//! # Closing
//!
//! Guards and pending responses hold a connection open. When the last goes it is closed: it says
//! that no requests follow, finishes what it has accepted, waits for the answers to its own
//! requests, says goodbye and reads until the peer's goodbye, all within a linger time of 5 s.
//! What is not done by then is ended by force. The [`CloseReport`] says what was lost.
//!
//! Whatever ends a connection settles every request that waits. [`Error::outcome`] tells whether
//! the peer may have run it, and [`Error::is_transport`], [`is_peer`](Error::is_peer) and
//! [`is_caller`](Error::is_caller) tell whose fault it was.
//!
//! When the input ends, with a goodbye or without, what had been asked is still answered. So
//! `server < requests > answers` gets every answer.
//!
//! # Limits against a hostile peer
//!
//! | limit | default | setting |
//! |---|---|---|
//! | the length of a packet | 64 MiB | [`max_packet_len`](ConnectionBuilder::max_packet_len) |
//! | memory reserved for a packet that was only announced | 1 MiB, then twice what has come | |
//! | memory of payloads that were written or served, kept for those that are read | 4 times 1 MiB, for 0.2 s unless a write is stuck; 400 times 64 octets | |
//! | integers | 64 bits, 10 octets | |
//! | our unanswered requests | 16,384, 64 MiB | [`max_outstanding_requests`](ConnectionBuilder::max_outstanding_requests), [`max_outstanding_bytes`](ConnectionBuilder::max_outstanding_bytes) |
//! | the peer's unanswered requests, and unsent answers | 32,768, 128 MiB | [`max_inbound_requests`](ConnectionBuilder::max_inbound_requests), [`max_inbound_bytes`](ConnectionBuilder::max_inbound_bytes) |
//! | handlers at once, and threads when they call back | 4, 1,024 | [`handler_threads`](ConnectionBuilder::handler_threads), [`max_handler_threads`](ConnectionBuilder::max_handler_threads) |
//! | the time a close takes | 5 s | [`linger`](ConnectionBuilder::linger) |
//!
//! Over the inbound budget reading pauses, unless this end waits for the peer: then requests are
//! answered `rejecting request: busy`. A peer that floods and does not read its answers for 5 s ends
//! the connection with [`Error::PeerNotReading`].
//!
//! A packet over its limit costs only its own request: the peer's is answered `rejecting request: N
//! bytes are more than the limit of M`, ours fails with [`Error::ResponseTooLong`]; but one of more
//! than 16 times the limit ends the connection. So does a stream that begins with something else, such
//! as a login banner or another protocol, at once and with an error that quotes it
//! ([`Error::NotPacketstream`], [`refuse_text`](ConnectionBuilder::refuse_text)).
//!
//! # Features
//!
//! None is on by default.
//!
//! - `unix` brings in `rustix` for a system call that `std` lacks: descriptors that others have made
//!   non-blocking are waited for with `poll`, and not by trying again.
//!
//! # Logging
//!
//! With the [`log`](https://docs.rs/log) crate: every packet at trace level under
//! `packetstream::wire`, what happens to a connection under `packetstream::connection`. Nothing is
//! ever printed.
//!
//! # Differences from the Python
//!
//! The wire is the same. What users of `cs.packetstream` should know:
//!
//! - **Channels**: any channel may be used in both directions; a Python peer refuses every one but
//!   0, with the literal text `unknown channel %d`.
//! - **Linger**: a close takes at most 5 seconds; the original waits for the peer without limit.
//! - **Grace**: the 10 ms only ever delay packets that nobody waits for; there, every call pays
//!   them at both ends.
//! - **Where decoding runs**: the function given to [`and_then`](PendingResponse::and_then) runs on
//!   the thread that waits for the answer, not on the receiver.
//! - **Limits**: packets of up to 64 MiB, integers of up to 64 bits; the original has none. Our
//!   unanswered requests are limited too.
//! - **Duplicate tags**: a request whose tag is still being served ends the connection with an
//!   error; the original answers it in the place of the first, whose answer it loses.
//! - **Malformed ends**: a request of type 0 that is neither end packet is an error; the original
//!   takes it for the end of the stream, silently.
//! - **Not ok is an `Err`**: [`Error::Rejected`], with flags and payload, in the place of
//!   `(ok, flags, payload)`.
//! - **One owner of a result**: a [`PendingResponse`] is used up by waiting for it.
//!   [`Canceller`] is for others.
//! - **Cancelling** wakes whoever waits, and the late answer is dropped.
//! - **Reopening**: a connection over a given transport opens once; the transport can be had back
//!   for another one. On-demand connections reopen.
//! - **The connector** of an on-demand connection makes a [`Transport`], so reader, writer and
//!   shutdown cannot be mixed up. A single descriptor for both directions works.
//! - **A handler that waits** for the peer lends its place; there, calls back and forth deadlock
//!   at the ninth.
//! - **Handlers**: a panic or an error is answered; a handler can choose the text that the peer
//!   sees with a [`Rejection`].
//! - **Logging** goes to the `log` crate; the original prints progress on the standard output.
//! - **UTF-8**: text answers are UTF-8, always valid.

mod connection;
mod error;
mod home;
mod outcome;
pub mod payload;
mod rejection;
mod sync;
mod transport;
pub mod typed;
pub mod wire;

pub use crate::connection::{
    Canceller, CloseReport, Connection, ConnectionBuilder, ConnectionStats, DEFAULT_FLUSH_GRACE,
    DEFAULT_LINGER, Incoming, OpenGuard, PendingResponse, PendingSet, Request, RequestHandler,
    Responder, Response, TrySubmitError,
};
pub use crate::error::{BoxError, Error, Result};
pub use crate::outcome::Outcome;
pub use crate::rejection::Rejection;
pub use crate::transport::{Connector, Transport};
pub use crate::wire::{
    ChannelId, DEFAULT_MAX_PACKET_LEN, DecodeError, Decoder, Flags, OutOfRange, Packet, PacketKind,
    PacketReader, PacketWriter, RequestType, Tag,
};

/// Compiles and runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
