//! Promises of the public types that the compiler can check.

use std::fmt::{Debug, Display};
use std::hash::Hash;

use packetstream::typed::{ServiceBuilder, TypedConnection};
use packetstream::wire::Field;
use packetstream::{
    BoxError, ChannelId, CloseReport, Connection, ConnectionBuilder, ConnectionStats, Connector,
    DecodeError, Decoder, Error, Flags, Incoming, OpenGuard, OutOfRange, Outcome, Packet,
    PacketKind, PacketReader, PacketWriter, PendingResponse, PendingSet, Rejection, Request,
    RequestHandler, RequestType, Responder, Response, Tag, Transport, TrySubmitError,
};

fn send<T: Send>() {}
fn sync<T: Sync>() {}
fn debug<T: Debug>() {}
fn clone<T: Clone>() {}
fn unpin<T: Unpin>() {}
fn error<T: std::error::Error + Send + Sync + 'static>() {}
fn shared_error<T: Clone + Display>() {}
fn value<T: Copy + Eq + Hash + Ord + Debug + Display + Send + Sync + Unpin>() {}

macro_rules! each {
    ($check:ident: $($type:ty),+ $(,)?) => {
        $($check::<$type>();)+
    };
}

#[test]
fn what_may_cross_threads_does() {
    each!(send: Connection, ConnectionBuilder, OpenGuard, PendingResponse, PendingResponse<String>,
        PendingSet<Response>, Request, Response, Incoming, Responder, CloseReport,
        ConnectionStats, Transport, Packet, PacketKind, Decoder, Error, Rejection, Outcome,
        DecodeError, OutOfRange, Field, PacketReader<&'static [u8]>, PacketWriter<Vec<u8>>);
    each!(sync: Connection, OpenGuard, Request, Response, Incoming, Error, Rejection, Outcome,
        ConnectionStats, Packet, PacketKind, Decoder, DecodeError, OutOfRange, Field,
        PacketReader<&'static [u8]>, PacketWriter<Vec<u8>>);
}

#[test]
fn a_canceller_may_be_shared() {
    fn shared<T: Send + Sync + Clone + Debug + Unpin>(_: impl Fn(&PendingResponse) -> T) {}
    shared(PendingResponse::canceller);
}

#[test]
fn every_type_can_be_shown_in_a_log() {
    each!(debug: Connection, ConnectionBuilder, OpenGuard, PendingResponse, PendingResponse<String>,
        PendingSet<Response>, Request, Response, Incoming, Responder, CloseReport,
        ConnectionStats, Transport, Packet, PacketKind, Decoder, Error, Rejection, Outcome,
        DecodeError, OutOfRange, Field, PacketReader<&'static [u8]>, PacketWriter<Vec<u8>>);
}

#[test]
fn what_can_be_cloned_is() {
    each!(clone: Connection, OpenGuard, Request, Response, ConnectionStats, Packet, PacketKind,
        Error, Rejection, Outcome, DecodeError, OutOfRange, Field);
}

#[test]
fn nothing_needs_pinning() {
    each!(unpin: Connection, ConnectionBuilder, OpenGuard, PendingResponse, PendingResponse<String>,
        PendingSet<Response>, Request, Response, Incoming, Responder, CloseReport,
        ConnectionStats, Transport, Packet, Decoder, Error, PacketReader<&'static [u8]>,
        PacketWriter<Vec<u8>>);
}

/// It is plain data, whatever it holds on to.
#[test]
fn a_decoder_may_be_used_across_a_panic_that_was_caught() {
    fn unwind_safe<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    unwind_safe::<Decoder>();
}

#[test]
fn numbers_are_plain_values() {
    each!(value: Tag, ChannelId, Flags, RequestType);
}

#[test]
fn errors_are_errors_and_small() {
    each!(error: Error, DecodeError, OutOfRange, Rejection, TrySubmitError);
    each!(shared_error: Error, DecodeError, OutOfRange, Rejection);
    assert!(size_of::<Error>() <= 32);
    assert!(size_of::<packetstream::Result<()>>() <= 32);
}

/// Does not compile if one of them may be dropped without a warning: `builder.open(transport)?;` would
/// close at once.
#[deny(unfulfilled_lint_expectations)]
#[test]
fn what_ends_or_forgets_something_when_dropped_must_be_used() {
    type Typed = TypedConnection<()>;

    macro_rules! each_must_be_used {
        ($($make:expr),+ $(,)?) => {
            $(
                // Never called.
                let _ = || {
                    #[expect(unused_must_use, reason = "it is what is tested")]
                    {
                        $make;
                    }
                };
            )+
        };
    }
    fn make<T>() -> T {
        unreachable!("it is only looked at by the compiler")
    }
    each_must_be_used!(
        make::<OpenGuard>(),
        make::<Typed>(),
        make::<Connection>(),
        make::<ConnectionBuilder>(),
        make::<PendingResponse>(),
        make::<PendingSet>(),
        make::<CloseReport>(),
        make::<Responder>(),
        make::<Transport>(),
        make::<ServiceBuilder<()>>(),
    );
}

#[test]
fn a_pending_response_is_a_future_of_its_result() {
    fn resolves<T, F: Future<Output = packetstream::Result<T>>>() {}
    resolves::<Response, PendingResponse>();
    resolves::<u32, PendingResponse<u32>>();
}

#[test]
fn handlers_and_connectors_can_be_trait_objects() {
    fn handler<H: RequestHandler + ?Sized>() {}
    handler::<dyn RequestHandler>();
    fn connector<C: Connector + ?Sized>() {}
    connector::<dyn Connector>();
}

#[test]
fn closures_infer_their_argument_and_their_answer() {
    let _ = Connection::builder().handler(|incoming| Ok(incoming.payload().to_vec()));
    let _ = Connection::builder().handler(|_| Ok(()));
    let _ = Connection::builder().handler(|incoming| Ok(incoming.flags()));
    let _ = Connection::builder().handler(|_| Err::<(), BoxError>("never".into()));
    let _ = Connection::builder().deferred_handler(|_, responder| responder.respond("later"));
    let _ = Connection::builder().build_on_demand(|| Ok(Transport::pair().0));
}

#[test]
fn whole_numbers_become_request_fields_by_themselves() {
    let request = Request::new(7)
        .with_flags(3)
        .with_channel(ChannelId::new(9))
        .with_label("x");
    assert_eq!(request.request_type(), RequestType::new(7).unwrap());
    assert_eq!(request.flags().bits(), 3);
    assert_eq!(request.channel().get(), 9);
    assert_eq!(request.label(), Some("x"));
    assert!(Flags::new(Flags::MAX.bits() + 1).is_none());
    assert!(RequestType::new(u64::MAX).is_none());
}
