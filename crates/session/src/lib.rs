//! *One conversation*: the terms of a session, its tunnel, its meter and its payments, composed as pure machines.
//!
//! Refuses to know where bytes come from: sockets, streams, clocks and ledgers belong to whoever drives it.

mod consumer;
mod deadline;
mod exit;
mod frame;
mod meter;
mod offered;
mod paying;
mod pool;
mod provider;
mod spent;
mod terms;
mod toll;
mod version;

pub use consumer::{
    CloseReason, ConsumerEvent, ConsumerOutput, ConsumerSession, ConsumerSetup, TunnelSetup,
    TunnelStart,
};
pub use deadline::{Deadline, Why};
pub use exit::{AdmissionFacts, AwaitedPayment, Exit, ExitConfig, ExitOutput, Funds, Opened};
pub use frame::{ConsumerFrame, GateState, ProviderFrame};
pub use provider::{ProviderSession, SessionStatus};
pub use terms::{OpenReply, OpenRequest, Refusal, RefusalCode, SessionToken, TunnelNetwork};
pub use toll::{
    Tariff, TollConfig, TollEvent, TollKeeper, TollKeeperOutput, TollOutput, TollPayer, TollReply,
    TollRequest,
};
pub use version::{Hello, Incompatible, PROTOCOL_MAX, PROTOCOL_MIN, Welcome, negotiate};
