//! The port to the ledger outside: what the machines must know of the contracts, and the transactions they ask for.

use std::fmt::Debug;

use wayfare_identity::{Address, B256};

use crate::{Amount, ChannelId, PortFuture, Preimage, SignedPromise};

/// A Hermes as the chain sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HermesAccount {
    /// Whose signature its promises carry.
    pub operator: Address,
    /// Its share of each settlement, in 1/10,000.
    pub fee_basis_points: u16,
    /// Locked against its promises.
    pub collateral: Amount,
    /// Collected from consumers and not yet paid out.
    pub free: Amount,
    /// Whether it has asked for its collateral back, or is closed.
    pub leaving: bool,
}

/// A consumer's account at one Hermes as the chain sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConsumerAccount {
    /// Deposited and not collected, including tokens that still lie at the deposit address.
    pub balance: Amount,
    /// Collected by the Hermes so far.
    pub collected: Amount,
    /// Unix seconds from which the consumer may take the balance; `None` while no exit is pending.
    pub exit_at: Option<u64>,
}

/// A provider's account at one Hermes as the chain sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProviderAccount {
    /// Settled so far.
    pub settled: Amount,
}

/// A request to cash a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleOrder {
    /// The Hermes that promised.
    pub hermes: Address,
    /// Where the tokens shall go.
    pub beneficiary: Address,
    /// The Hermes' promise on the provider's channel.
    pub promise: SignedPromise,
    /// What unlocks it.
    pub preimage: Preimage,
}

/// A confirmed settlement or collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The transaction; `None` when somebody else's transaction had already done it.
    pub transaction: Option<B256>,
    /// The total settled on the channel afterwards.
    pub total: Amount,
    /// Gas used by our transaction.
    pub gas: u64,
}

/// Why the chain did not answer or obey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No answer: try again later.
    #[error("the chain's RPC server does not answer: {0}; check its address and that it runs")]
    Unreachable(String),
    /// The server serves another chain.
    #[error("the RPC server serves chain {found}, expected chain {expected}")]
    WrongChain {
        /// As configured.
        expected: u64,
        /// As served.
        found: u64,
    },
    /// There is no vault (or token) at the configured address.
    #[error("there is no vault at {0}: check the vault's address and the chain")]
    NoContract(Address),
    /// Not registered.
    #[error("{0} is not a registered Hermes")]
    UnknownHermes(Address),
    /// The sender cannot pay for gas.
    #[error("{account} has too little of the chain's native coin to pay for gas: send it some")]
    NoGas {
        /// The sender.
        account: Address,
    },
    /// Servers tell different things of the same block, and only one of them can be right.
    #[error("the chain's RPC servers contradict each other: {0}")]
    Contradiction(String),
    /// Not sent yet: the reason may pass by itself.
    #[error("the transaction is not sent yet: {0}")]
    Waiting(String),
    /// The contract refused, and the state of the chain says that it is right.
    #[error("the vault refused: {0}")]
    Refused(String),
    /// Sent and not confirmed in time: its fate is unknown until the chain is read again.
    #[error("transaction {0} is not confirmed yet")]
    Pending(B256),
}

/// The contracts, seen by one party. Every method reads or writes the real chain; nothing is cached here.
pub trait Chain: Debug + Send + Sync {
    /// Reads a Hermes.
    fn hermes(&self, hermes: Address) -> PortFuture<'_, Result<HermesAccount, ChainError>>;

    /// Reads a consumer's account.
    fn consumer(
        &self,
        consumer: Address,
        hermes: Address,
    ) -> PortFuture<'_, Result<ConsumerAccount, ChainError>>;

    /// Reads a provider's account.
    fn provider(
        &self,
        provider: Address,
        hermes: Address,
    ) -> PortFuture<'_, Result<ProviderAccount, ChainError>>;

    /// Derives the channel of a consumer; pure, no trust in any server.
    fn consumer_channel(&self, consumer: Address, hermes: Address) -> ChannelId;

    /// Cashes a promise of a Hermes for the provider that this port signs for.
    fn settle(&self, order: SettleOrder) -> PortFuture<'_, Result<Settled, ChainError>>;

    /// Collects a consumer's promise for the Hermes.
    fn collect(
        &self,
        consumer: Address,
        order: SettleOrder,
    ) -> PortFuture<'_, Result<Settled, ChainError>>;
}
