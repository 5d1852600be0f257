//! Why a Hermes does not start, why it stopped, and why a ledger could not be audited.

use wayfare_api::ServeError;
use wayfare_identity::Address;
use wayfare_payment::{ChainError, LedgerError, RecordError};

/// Why a Hermes does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A record in the ledger cannot be understood, or is another Hermes'.
    #[error("{0}; run `check`, then restore the newest backup")]
    Record(#[from] RecordError),
    /// The chain does not answer, or does not know this Hermes.
    #[error("{0}")]
    Chain(#[from] ChainError),
    /// Promises signed with this key would be worthless.
    #[error(
        "the vault has {registered} as operator of Hermes {hermes}, the key at hand is {ours}: use the registered key, or rotate \
         the operator first"
    )]
    WrongOperator {
        /// The Hermes.
        hermes: Address,
        /// As registered.
        registered: Address,
        /// At hand.
        ours: Address,
    },
    /// The listener is unusable.
    #[error("the address to listen on is unusable: {0}")]
    Listener(#[from] std::io::Error),
}

/// Why a Hermes stopped.
#[derive(Debug, thiserror::Error)]
pub enum HermesError {
    /// A write failed. What the disk holds is unknown: start again, which reads it.
    #[error("the Hermes stopped because its ledger failed: {0}; mend the cause and start it again")]
    Ledger(LedgerError),
    /// The network service broke down.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// It is not running any more.
    #[error("the Hermes is not running")]
    Stopped,
}

/// Why a ledger could not be audited.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A record cannot be understood.
    #[error(transparent)]
    Record(#[from] RecordError),
}
