//! What command lines show: plain, serialisable rows with amounts as decimal text.

use serde::Serialize;
use wayfare_api::control::{Earning, NodeStatus, PathView, Role, SessionView, SettlementView};
use wayfare_discovery::Proposal;
use wayfare_identity::{Address, B256, U256};
use wayfare_payment::Amount;

/// The way that a session's packets take.
#[derive(Debug, Clone, Serialize)]
pub struct PathShown {
    /// `direct`, or `relayed`.
    pub kind: &'static str,
    /// `udp`, `quic` or `tls`.
    pub carrier: String,
    /// Round trip in milliseconds, if it was measured.
    pub rtt_ms: Option<f64>,
    /// How the search for it went, in a sentence.
    pub outcome: String,
}

impl From<&PathView> for PathShown {
    fn from(path: &PathView) -> Self {
        Self {
            kind: if path.direct { "direct" } else { "relayed" },
            carrier: path.carrier.clone(),
            rtt_ms: path.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            outcome: path.outcome.clone(),
        }
    }
}

/// A session.
#[derive(Debug, Clone, Serialize)]
pub struct SessionShown {
    /// The agreement's id.
    pub agreement: U256,
    /// The other side.
    pub peer: Address,
    /// In a word.
    pub state: String,
    /// Bytes from consumer to provider.
    pub up: u64,
    /// Bytes from provider to consumer.
    pub down: u64,
    /// Seconds since the tunnel came up.
    pub seconds: u64,
    /// Paid: covered by the Hermes.
    pub paid: Amount,
    /// The way of its packets, where it is known.
    pub path: Option<PathShown>,
}

impl From<&SessionView> for SessionShown {
    fn from(view: &SessionView) -> Self {
        Self {
            agreement: view.agreement.0,
            peer: view.peer,
            state: format!("{:?}", view.state).to_lowercase(),
            up: view.usage.up,
            down: view.usage.down,
            seconds: view.usage.time.as_secs(),
            paid: view.paid,
            path: view.path.as_ref().map(PathShown::from),
        }
    }
}

/// A daemon.
#[derive(Debug, Clone, Serialize)]
pub struct StatusShown {
    /// `consumer` or `provider`.
    pub role: &'static str,
    /// Whose.
    pub identity: Address,
    /// Process id.
    pub process: u32,
    /// Running sessions.
    pub sessions: u32,
    /// Bytes up, of all running sessions.
    pub up: u64,
    /// Bytes down, of all running sessions.
    pub down: u64,
    /// Paid within the running sessions.
    pub paid: Amount,
    /// Promises signed within the running sessions.
    pub promises: u64,
    /// In a sentence.
    pub summary: String,
    /// The way of a consumer's packets.
    pub path: Option<PathShown>,
}

impl From<NodeStatus> for StatusShown {
    fn from(status: NodeStatus) -> Self {
        Self {
            role: match status.role {
                Role::Consumer => "consumer",
                Role::Provider => "provider",
                Role::Hermes => "hermes",
            },
            identity: status.identity,
            process: status.process,
            sessions: status.sessions,
            up: status.usage.up,
            down: status.usage.down,
            paid: status.paid,
            promises: status.promises,
            summary: status.summary,
            path: None,
        }
    }
}

/// What a provider has earned through one Hermes.
#[derive(Debug, Clone, Serialize)]
pub struct EarningShown {
    /// The Hermes.
    pub hermes: Address,
    /// Promised, ever.
    pub promised: Amount,
    /// Settled, ever.
    pub settled: Amount,
    /// The difference.
    pub unsettled: Amount,
}

impl From<&Earning> for EarningShown {
    fn from(earning: &Earning) -> Self {
        let unsettled = earning.promised.saturating_sub(earning.settled);
        Self {
            hermes: earning.hermes,
            promised: earning.promised,
            settled: earning.settled,
            unsettled,
        }
    }
}

/// A settlement.
#[derive(Debug, Clone, Serialize)]
pub struct SettledShown {
    /// Settled on the channel, ever.
    pub total: Amount,
    /// Our transaction; `None` when somebody else's had done it.
    pub transaction: Option<B256>,
    /// Its gas.
    pub gas: u64,
}

impl From<&SettlementView> for SettledShown {
    fn from(view: &SettlementView) -> Self {
        Self {
            total: view.total,
            transaction: view.transaction,
            gas: view.gas,
        }
    }
}

/// An offer.
#[derive(Debug, Clone, Serialize)]
pub struct ProposalShown {
    /// Whose.
    pub provider: Address,
    /// Country of the exit.
    pub country: String,
    /// Price per gibibyte.
    pub per_gib: Amount,
    /// Price per hour.
    pub per_hour: Amount,
    /// Unix seconds at which the offer ends.
    pub expires_at: u64,
}

impl From<&Proposal> for ProposalShown {
    fn from(proposal: &Proposal) -> Self {
        Self {
            provider: proposal.provider,
            country: proposal.location.country.to_string(),
            per_gib: proposal.price.per_gib,
            per_hour: proposal.price.per_hour,
            expires_at: proposal.expires_at,
        }
    }
}
