//! *What is owed*: amounts, prices, usage, agreements, invoices and promises, and the machines that exchange them.
//!
//! Refuses to know packets, RPC and storage engines. It signs through `identity::Signer`, remembers through [`Ledger`] and looks
//! outside through [`Chain`]; both ports are implemented elsewhere.
//!
//! Five machines, none of which reads a clock, draws a number or touches a socket:
//! [`Payer`] (consumer), [`Collector`] (provider), [`Issuer`] (Hermes), [`Settler`] (provider, towards the chain) and [`Outbox`]
//! (an account's transactions).
//! Each is driven the same way: call `handle_*`, then drain `poll_output`, commit what it wants to persist **in that order**, report
//! `handle_durable`, and call `handle_timeout` at `poll_timeout`.

mod agreement;
mod amount;
mod chain;
mod channel;
mod collector;
mod deadline;
mod durability;
mod exchange;
#[cfg(test)]
#[path = "tests/fixture.rs"]
mod fixture;
mod invoice;
mod issuance;
mod issuer;
mod ledger;
mod outbox;
mod payer;
mod promise;
mod receipt;
mod record;
mod settler;

pub use agreement::{Agreement, AgreementId, SignedAgreement};
pub use amount::{Amount, AmountError, GIB, Price, Usage};
pub use chain::{
    Chain, ChainError, ConsumerAccount, HermesAccount, ProviderAccount, SettleOrder, Settled,
};
pub use channel::ChannelId;
pub use collector::{
    AdmissionRefusal, Collector, CollectorConfig, CollectorOutput, ExchangeRefusal, Gate,
    GateReason, MAX_COLLECTOR_AGREEMENTS, Patience, ReplyFault,
};
pub use deadline::{Deadline, Why};
pub use durability::Ticket;
pub use exchange::{Exchange, ExchangeMessage};
pub use invoice::Invoice;
pub use issuance::{IssueFailure, IssueRefusal, IssueReply, IssueRequest, SignedIssueRequest};
pub use issuer::{
    CheckReport, Collectable, ConsumerView, Depth, Finding, Issuer, IssuerConfig, IssuerOutput,
    RequestId,
};
pub use ledger::{Batch, Entry, Expect, Ledger, LedgerError, PortFuture, Row, Table};
pub use outbox::{
    Block, EnqueueRefusal, Envelope, Errand, EstimateFault, Failure, Fees, Job, JobId, JobState,
    Look, MAX_OPEN_JOBS, Mined, Moot, Outbox, OutboxConfig, OutboxOutput, Purpose, SendFault,
    Unsigned,
};
pub use payer::{
    MAX_PAYER_AGREEMENTS, OpenRefusal, PayRefusal, Payer, PayerConfig, PayerOutput, ViewRefusal,
};
pub use promise::{Hashlock, Preimage, Promise, SignedPromise};
pub use receipt::{Receipt, SignedReceipt};
pub use record::{RecordError, RecordFault};
pub use settler::{SettleMaterial, SettlePolicy, Settler, SettlerOutput};
