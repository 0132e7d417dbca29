//! The state machine against the protocol, without threads or streams.
