//! What can go wrong around a node: each names the guilty one, the cause and the next step.

use wayfare_api::ApiError;
use wayfare_host::HostError;
use wayfare_payment::{Amount, ChainError, LedgerError};
use wayfare_session::{CloseReason, Refusal};
use wayfare_transport::{BindError, DialError, QuicError, TunError};

/// Why a node did not start, connect or go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The system's random generator failed.
    #[error("the system's random generator failed: {0}")]
    Chance(String),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The Hermes or the index.
    #[error("{what}: {source}")]
    Service {
        /// Which one.
        what: &'static str,
        /// Its error.
        source: ApiError,
    },
    /// The ledger on this disk.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A record of the ledger that does not read back.
    #[error("the ledger holds a record that this release does not read: {0}")]
    Record(String),
    /// This computer's network.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The UDP socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The TUN device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// QUIC on this side.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// No address of the provider answers.
    #[error(
        "the provider cannot be reached: {0}; choose another one, or check that UDP may leave this network"
    )]
    Dial(#[from] DialError),
    /// The provider said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The session ended before or while it was used.
    #[error("the session ended: {0}")]
    Closed(CloseReason),
    /// Nothing fits.
    #[error("no proposal fits the query; widen it, or ask another index")]
    NoProposal,
    /// Not enough money.
    #[error(
        "the deposit leaves {spendable} to spend and the first chunk costs {needed}: top up with `wayfare topup`"
    )]
    Unfunded {
        /// What can be promised.
        spendable: Amount,
        /// What is needed.
        needed: Amount,
    },
    /// A proposal of another network.
    #[error("the proposal is for chain {theirs}, this node is on chain {ours}")]
    OtherNetwork {
        /// Ours.
        ours: u64,
        /// The proposal's.
        theirs: u64,
    },
    /// A setting that cannot work.
    #[error("{0}")]
    Setting(String),
    /// The daemon's own control socket.
    #[error("the control socket {path}: {cause}")]
    Control {
        /// Where.
        path: String,
        /// Why.
        cause: String,
    },
}

impl NodeError {
    /// The exit code of a program that ends with this error: 1 other, 2 usage, 3 privilege, 4 unreachable, 5 money, 6 refused,
    /// 7 storage, 8 busy.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Chance(_) | Self::Quic(_) => 1,
            Self::Setting(_) | Self::OtherNetwork { .. } => 2,
            Self::Host(HostError::MissingPrivilege { .. }) => 3,
            Self::Tun(TunError::Privilege { .. }) => 3,
            Self::Tun(TunError::NameTaken { .. }) | Self::Bind(BindError::PortInUse { .. }) => 8,
            Self::Host(_) | Self::Tun(_) | Self::Bind(_) => 1,
            Self::Chain(ChainError::Unreachable(_))
            | Self::Dial(_)
            | Self::NoProposal
            | Self::Closed(_) => 4,
            Self::Chain(ChainError::NoGas { .. }) | Self::Unfunded { .. } => 5,
            Self::Chain(
                ChainError::WrongChain { .. }
                | ChainError::NoContract(_)
                | ChainError::UnknownHermes(_),
            ) => 2,
            Self::Chain(ChainError::Refused(_)) | Self::Refused(_) => 6,
            Self::Chain(ChainError::Pending(_)) => 4,
            Self::Service { source, .. } if source.refusal().is_some() => 6,
            Self::Service { .. } => 4,
            Self::Ledger(LedgerError::Busy(_)) | Self::Control { .. } => 8,
            Self::Ledger(_) | Self::Record(_) => 7,
        }
    }
}
