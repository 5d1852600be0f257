//! How the command line talks to the daemon of the same machine: a Unix socket that only the same user and root may use.
//!
//! Refuses to decide: [`ControlService`] answers.

mod client;
mod convert;
mod server;
mod socket;

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use wayfare_identity::{Address, B256};
use wayfare_payment::{AgreementId, Amount, Price, Usage};

use crate::Refusal;

pub use client::{ControlClient, Events};
pub use server::serve_unix;

/// What a daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Buys.
    Consumer,
    /// Sells.
    Provider,
    /// Issues promises. Its settlements are collections from consumers.
    Hermes,
}

/// What a daemon is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// What it is.
    pub role: Role,
    /// Its identity.
    pub identity: Address,
    /// Process id.
    pub process: u32,
    /// Unix milliseconds of its start.
    pub started_ms: u64,
    /// Whether it is going down.
    pub draining: bool,
    /// One sentence for people, below 1,024 bytes: what it is doing, or what hinders it and the next step.
    pub summary: String,
    /// Open sessions.
    pub sessions: u32,
    /// Over all sessions since the start.
    pub usage: Usage,
    /// Paid (consumer) or covered by a Hermes (provider) since the start.
    pub paid: Amount,
    /// Promises signed (consumer) or received from a Hermes (provider) since the start.
    pub promises: u64,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Terms are signed, the tunnel is not up yet.
    Opening,
    /// Traffic passes.
    Active,
    /// The credit gate is closed.
    Gated,
    /// The last invoice is being paid.
    Closing,
}

/// The way that a session's packets take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathView {
    /// Whether nobody carries for us.
    pub direct: bool,
    /// What the packets travel in, in a word: `udp`, `quic`, `tls`.
    pub carrier: String,
    /// Its round trip, if it was measured.
    pub rtt: Option<Duration>,
    /// How the search for it went, in a sentence below 256 bytes; empty while it goes on, and where there was none.
    pub outcome: String,
}

/// One open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its agreement.
    pub agreement: AgreementId,
    /// The other side.
    pub peer: Address,
    /// Where it stands.
    pub state: SessionState,
    /// Unix milliseconds of its beginning.
    pub started_ms: u64,
    /// This side's own meter.
    pub usage: Usage,
    /// The price agreed upon.
    pub price: Price,
    /// Invoiced so far.
    pub invoiced: Amount,
    /// Covered by the Hermes so far.
    pub paid: Amount,
    /// The way that its packets take, where it is known.
    pub path: Option<PathView>,
}

/// Open sessions, as many as fit an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionList {
    /// At most 100, oldest first.
    pub sessions: Vec<SessionView>,
    /// How many there are in all.
    pub total: u32,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEvent {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// A stable word for programs, below 64 bytes.
    pub kind: String,
    /// One sentence for people, below 1,024 bytes.
    pub message: String,
    /// The session that it is about.
    pub agreement: Option<AgreementId>,
}

/// What a provider earned at one Hermes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earning {
    /// The Hermes.
    pub hermes: Address,
    /// Promised by it so far.
    pub promised: Amount,
    /// Settled on the chain so far.
    pub settled: Amount,
    /// Whether a settlement is on its way.
    pub settling: bool,
}

/// One settlement, confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettlementView {
    /// The Hermes.
    pub hermes: Address,
    /// The transaction; `None` when somebody else's had already done it.
    pub transaction: Option<B256>,
    /// Settled on the channel afterwards.
    pub total: Amount,
    /// Gas used by our transaction.
    pub gas: u64,
}

/// What a daemon answers to its command line. A consumer refuses what only a provider can do, with
/// [`RefusalCode::Unknown`](crate::RefusalCode::Unknown).
pub trait ControlService: Send + Sync + 'static {
    /// What it is doing.
    fn status(&self) -> impl Future<Output = NodeStatus> + Send;

    /// The open sessions.
    fn sessions(&self) -> impl Future<Output = SessionList> + Send;

    /// What happens from now on. The listener is gone when the channel is closed; slow listeners may miss events.
    fn events(&self) -> impl Future<Output = mpsc::Receiver<NodeEvent>> + Send;

    /// Begins to end all sessions and to stop the daemon.
    fn down(&self) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Accepts no new sessions, ends the open ones after so many seconds. Answers how many are open.
    fn drain(&self, seconds: u32) -> impl Future<Output = Result<u32, Refusal>> + Send;

    /// What was earned, by Hermes.
    fn earnings(&self) -> impl Future<Output = Result<Vec<Earning>, Refusal>> + Send;

    /// Cashes what one Hermes, or every Hermes, has promised. Answers when confirmed.
    fn settle(
        &self,
        hermes: Option<Address>,
    ) -> impl Future<Output = Result<Vec<SettlementView>, Refusal>> + Send;
}
