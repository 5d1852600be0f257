//! The Hermes service: a consumer's exchange in, the Hermes' promise and receipt out, the preimage afterwards.
//!
//! Refuses to judge: whether an exchange is good is decided by whoever implements [`HermesService`], and whether an answer is good
//! by whoever asked.

mod client;
mod convert;
mod server;

use std::future::Future;

use wayfare_identity::Address;
use wayfare_payment::{
    Amount, ChannelId, Hashlock, IssueReply, Preimage, SignedIssueRequest, SignedPromise,
};
use wayfare_session::Welcome;

use crate::Refusal;

pub use client::HermesClient;
pub use server::serve;

/// What a Hermes is and asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HermesTerms {
    /// Its name in the vault.
    pub hermes: Address,
    /// Whose signature its promises carry.
    pub operator: Address,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The vault on that chain.
    pub vault: Address,
    /// Its share of each settlement in 1/10,000. For people: the chain rules.
    pub fee_basis_points: u16,
    /// New sessions should rather use another.
    pub draining: bool,
}

/// The answer to a client's first call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// What was agreed.
    pub welcome: Welcome,
    /// What the Hermes is and asks.
    pub terms: HermesTerms,
}

/// What a Hermes knows of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerState {
    /// The consumer's channel.
    pub channel: ChannelId,
    /// Accepted from its promises so far.
    pub promised: Amount,
    /// What its promises may reach: balance and what was collected.
    pub deposit: Amount,
    /// Unix seconds from which it may take its balance.
    pub exit_at: Option<u64>,
}

/// What a Hermes has promised a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderState {
    /// Promised on the channel so far.
    pub promised: Amount,
    /// The newest promise.
    pub last: Option<SignedPromise>,
}

/// What a Hermes does, in domain nouns. Methods are called concurrently, each under a deadline.
pub trait HermesService: Send + Sync + 'static {
    /// What it is and asks.
    fn describe(&self) -> impl Future<Output = HermesTerms> + Send;

    /// Answers an exchange with a durable promise. The same exchange twice gives the same answer, byte for byte. The provider's
    /// signature is the service's to check.
    fn issue(
        &self,
        request: SignedIssueRequest,
    ) -> impl Future<Output = Result<IssueReply, Refusal>> + Send;

    /// Learns the preimage of the last promise on a provider's channel. Repeating it is harmless.
    fn reveal(
        &self,
        channel: ChannelId,
        hashlock: Hashlock,
        preimage: Preimage,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// What it knows of a consumer.
    fn consumer_state(
        &self,
        consumer: Address,
    ) -> impl Future<Output = Result<ConsumerState, Refusal>> + Send;

    /// What it has promised on a provider's channel.
    fn provider_state(
        &self,
        channel: ChannelId,
    ) -> impl Future<Output = Result<ProviderState, Refusal>> + Send;
}
