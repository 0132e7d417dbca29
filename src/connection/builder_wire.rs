//! The settings that say what is accepted of a peer's stream.

use super::builder::ConnectionBuilder;

/// The longest response that answers nothing and does not end the connection, in bytes after the
/// length prefix: a Python peer may answer a request again. To wait for the end of a longer one
/// would be to believe a number that may well be text.
pub(super) const LONGEST_UNOWED_RESPONSE: u64 = 1024 * 1024;

impl ConnectionBuilder {
    /// Sets the length of the longest packet, in bytes after its length prefix, inclusive, for
    /// both directions.
    ///
    /// What is longer is lost by itself, and the connection goes on:
    ///
    /// | longer than the limit | what happens |
    /// |---|---|
    /// | a request of ours | it fails with [`Error::TooLong`](crate::Error::TooLong) and is not sent |
    /// | an answer of our handler | the peer is answered not ok, `the answer of N bytes is longer than the limit of M` |
    /// | a request of the peer | it is answered not ok, `rejecting request: N bytes are more than the limit of M`; its payload is skipped |
    /// | a response of the peer | the request fails with [`Error::ResponseTooLong`](crate::Error::ResponseTooLong); the payload is skipped |
    ///
    /// Nothing is kept of a payload that is skipped, but all of it has to come before what follows
    /// can be read. A packet of more than 16 times the limit ends the connection, with
    /// [`DecodeError::PacketTooLong`](crate::DecodeError::PacketTooLong).
    ///
    /// The default is 64 MiB ([`DEFAULT_MAX_PACKET_LEN`](crate::wire::DEFAULT_MAX_PACKET_LEN)), which bounds what a peer can make us
    /// hold.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::{Connection, Error, Outcome, Request, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let (ours, theirs) = Transport::pair();
    /// let _server = Connection::builder()
    ///     .max_packet_len(100)
    ///     .handler(|incoming| Ok(incoming.into_payload()))
    ///     .open(theirs)?;
    /// let client = Connection::builder().open(ours)?;
    ///
    /// let error = client.call(Request::new(0).with_payload([0; 200])).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "the peer rejected the request: \
    ///      rejecting request: 203 bytes are more than the limit of 100"
    /// );
    /// assert_eq!(error.outcome(), Outcome::NotRun);
    /// assert_eq!(client.call(Request::new(0).with_payload("short"))?.payload(), b"short");
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_packet_len(mut self, octets: u64) -> Self {
        self.max_packet_len = octets;
        self
    }

    /// Sets whether a peer is refused whose stream starts like text, or with a response to no
    /// request, or the start of a TLS record: a shell's error, a login banner, another protocol.
    ///
    /// Such a connection ends at once with
    /// [`Error::NotPacketstream`](crate::Error::NotPacketstream), which quotes the text, and whose
    /// documentation says what is taken for text. With `false`, whatever comes is taken for
    /// packets: it is waited for, served, or dropped if it answers nothing.
    ///
    /// The default is `true`: nothing that this crate or the Python original sends looks so, and
    /// with a line that a shell prints before the server starts, a caller would wait for ever.
    /// `false` is for peers of another make that choose their first tag and flags in another way.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::{Connection, Error, Request, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let banner = Transport::new(&b"220 mail.example.org ready\r\n"[..], std::io::sink());
    /// let error = Connection::builder().open(banner)?.serve().into_result().unwrap_err();
    /// assert!(matches!(error, Error::NotPacketstream(_)));
    /// assert_eq!(
    ///     error.to_string(),
    ///     "peer is not speaking packetstream; it said: \"220 mail.example.org ready\""
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub fn refuse_text(mut self, refuses: bool) -> Self {
        self.refuses_text = refuses;
        self.limits.unowed_response = if refuses {
            LONGEST_UNOWED_RESPONSE
        } else {
            u64::MAX
        };
        self
    }
}
