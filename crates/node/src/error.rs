//! What can go wrong around a node: each names the guilty one, the cause and the next step.

use wayfare_api::ApiError;
use wayfare_host::HostError;
use wayfare_nat::{CallError, DhtError, SwarmError};
use wayfare_path::OfferError;
use wayfare_payment::{Amount, ChainError, LedgerError};
use wayfare_session::{CloseReason, Refusal, RefusalCode};
use wayfare_transport::{BindError, DialError, PumpError, QuicError, TunError};

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
    /// Socket or device failed while packets were carried.
    #[error("{0}; start again")]
    Pump(#[from] PumpError),
    /// QUIC on this side.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// No address of the provider answers.
    #[error(
        "the provider cannot be reached: {0}; choose another one, or check that UDP may leave this network"
    )]
    Dial(#[from] DialError),
    /// The swarm did not start.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// No relay of the provider opened a channel to it.
    #[error("{0}; choose another provider, or check that UDP may leave this network")]
    Call(#[from] CallError),
    /// The peer answered through its relay, but not as itself.
    #[error("the provider's answer through its relay: {0}")]
    Offer(#[from] OfferError),
    /// The provider said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The session ended before or while it was used.
    #[error("the session ended: {0}")]
    Closed(CloseReason),
    /// No source of proposals answers.
    #[error("no source of proposals answers: {0}")]
    NoSource(String),
    /// The distributed table of proposals.
    #[error("the distributed table of proposals: {0}")]
    Table(#[from] DhtError),
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
            Self::Chance(_) | Self::Quic(_) | Self::Swarm(_) => 1,
            Self::Setting(_) | Self::OtherNetwork { .. } => 2,
            Self::Host(HostError::MissingPrivilege { .. }) => 3,
            Self::Tun(TunError::Privilege { .. }) | Self::Bind(BindError::Permission { .. }) => 3,
            Self::Tun(TunError::BadName { .. })
            | Self::Host(HostError::BadName { .. } | HostError::BadConfig { .. })
            | Self::Bind(BindError::NotOurAddress { .. } | BindError::NoIpv6 { .. }) => 2,
            Self::Tun(TunError::NameTaken { .. })
            | Self::Host(HostError::InUse { .. })
            | Self::Bind(BindError::PortInUse { .. }) => 8,
            Self::Host(_) | Self::Tun(_) | Self::Bind(_) | Self::Pump(_) => 1,
            Self::Chain(
                ChainError::Unreachable(_) | ChainError::Contradiction(_) | ChainError::Waiting(_),
            )
            | Self::Dial(_)
            | Self::Call(_)
            | Self::Offer(_)
            | Self::NoProposal
            | Self::NoSource(_)
            | Self::Table(_)
            | Self::Closed(_) => 4,
            Self::Chain(ChainError::NoGas { .. }) | Self::Unfunded { .. } => 5,
            Self::Chain(
                ChainError::WrongChain { .. }
                | ChainError::NoContract(_)
                | ChainError::UnknownHermes(_),
            ) => 2,
            Self::Chain(ChainError::Refused(_)) | Self::Refused(_) => 6,
            Self::Chain(ChainError::Pending(_)) => 4,
            Self::Service { source, .. } => match source {
                ApiError::BadAddress { .. } => 2,
                ApiError::Refused { .. } => 6,
                ApiError::Unreachable { .. }
                | ApiError::Deadline { .. }
                | ApiError::Incompatible { .. }
                | ApiError::Malformed { .. } => 4,
            },
            Self::Ledger(LedgerError::Busy(_)) | Self::Control { .. } => 8,
            Self::Ledger(_) | Self::Record(_) => 7,
        }
    }

    /// What to do about it, in the words of the settings (which are [`crate::Network`]'s fields and the builders').
    #[must_use]
    pub fn next_step(&self) -> String {
        match self {
            Self::Chain(error) => after_chain(error),
            Self::Ledger(error) => after_ledger(error).into(),
            Self::Host(HostError::MissingPrivilege { .. })
            | Self::Tun(TunError::Privilege { .. })
            | Self::Bind(BindError::Permission { .. }) => {
                "run it as root (`sudo …`), or as a service with CAP_NET_ADMIN".into()
            }
            Self::Host(HostError::InUse { .. }) | Self::Tun(TunError::NameTaken { .. }) => {
                "stop the other one, or set `device` to another name".into()
            }
            Self::Tun(TunError::BadName { .. }) => "set `device` to a name like wayfare0".into(),
            Self::Bind(BindError::PortInUse { .. }) => {
                "stop what uses the port, or set `listen` to another one".into()
            }
            Self::Bind(_) => "set `listen` to an address of this computer, or 0.0.0.0".into(),
            Self::Host(_) | Self::Tun(_) | Self::Pump(_) => {
                "`doctor` looks at everything that is needed; nothing was left behind".into()
            }
            Self::Service { what, source } => after_service(what, source),
            Self::Dial(_) | Self::Call(_) | Self::Offer(_) | Self::Closed(_) => {
                "try again, or choose another provider of `proposals`".into()
            }
            Self::Refused(refusal) => match refusal.code {
                RefusalCode::Unfunded | RefusalCode::Unpaid => {
                    "`wayfare topup` tells where to send tokens".into()
                }
                RefusalCode::Incompatible => "update the older side".into(),
                RefusalCode::Terms
                | RefusalCode::Hermes
                | RefusalCode::Signature
                | RefusalCode::Replayed
                | RefusalCode::Full
                | RefusalCode::Draining
                | RefusalCode::Unknown
                | RefusalCode::Internal => "choose another provider of `proposals`".into(),
            },
            Self::NoSource(_) | Self::Table(_) => {
                "set `index_url` to an index that runs, or `bootstrap` to a relay that does".into()
            }
            Self::NoProposal => "`proposals` without filters shows what there is".into(),
            Self::Unfunded { .. } => {
                "`wayfare topup` tells where to send tokens; nothing was spent".into()
            }
            Self::OtherNetwork { .. } => "set `chain_id`, `rpc` and `vault` to that network".into(),
            Self::Setting(_) => "`config show --origin` tells where each value comes from".into(),
            Self::Record(_) => "start the release that wrote it, or put a backup back".into(),
            Self::Control { .. } => {
                "stop the other daemon, or give this one its own `state_dir`".into()
            }
            Self::Chance(_) | Self::Quic(_) | Self::Swarm(_) => {
                "see the log, then start again".into()
            }
        }
    }
}

fn after_chain(error: &ChainError) -> String {
    match error {
        ChainError::Unreachable(_) => "set `rpc` to a JSON-RPC server that runs".into(),
        ChainError::WrongChain { .. } => "set `rpc` and `chain_id` to the same chain".into(),
        ChainError::NoContract(_) => "set `vault` to the vault's address on that chain".into(),
        ChainError::UnknownHermes(_) => {
            "set `hermes` to the id that its operator published (`wayfare-hermes init` prints it)"
                .into()
        }
        ChainError::NoGas { account } => {
            format!("send native coin to {account}, then do the same again")
        }
        ChainError::Refused(_) => {
            "nothing was moved; do it again when the reason has passed".into()
        }
        ChainError::Contradiction(_) => {
            "take the server that lies or lags out of `rpc`, or name another".into()
        }
        ChainError::Waiting(_) => "look again later: it is sent when the reason has passed".into(),
        ChainError::Pending(_) => "look again later: it may still be mined".into(),
    }
}

fn after_ledger(error: &LedgerError) -> &'static str {
    match error {
        LedgerError::Busy(_) => "stop the other process, or give this one its own `state_dir`",
        LedgerError::Corrupt(_) => {
            "keep the directory, what it holds may be money; put a backup back in its place"
        }
        LedgerError::Newer { .. } => "nothing was changed: start the release that wrote it",
        LedgerError::Failed(_) => "check the disk's room and the permissions of `state_dir`",
        LedgerError::Conflict { .. } => "start again: the ledger is read afresh",
    }
}

fn after_service(what: &str, source: &ApiError) -> String {
    let setting = match what {
        "the Hermes" => "hermes_url",
        "the proposal index" => "index_url",
        _ => return "try again, or choose another provider of `proposals`".into(),
    };
    match source {
        ApiError::Refused { .. } => {
            format!("do what it says, or set `{setting}` to another one")
        }
        ApiError::Incompatible { .. } => "update the older side".into(),
        ApiError::BadAddress { .. }
        | ApiError::Unreachable { .. }
        | ApiError::Deadline { .. }
        | ApiError::Malformed { .. } => {
            format!("check `{setting}` and that {what} runs there, or use another")
        }
    }
}
