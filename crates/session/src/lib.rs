//! *One conversation*: the terms of a session, its tunnel, its meter and its payments, composed as pure machines.
//!
//! Refuses to know where bytes come from: sockets, streams, clocks and ledgers belong to whoever drives it.

mod frame;
mod terms;
mod version;

pub use frame::{ConsumerFrame, GateState, ProviderFrame};
pub use terms::{OpenReply, OpenRequest, Refusal, RefusalCode, SessionToken, TunnelNetwork};
pub use version::{Hello, Incompatible, PROTOCOL_MAX, PROTOCOL_MIN, Welcome, negotiate};
