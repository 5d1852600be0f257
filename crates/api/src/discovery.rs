//! The proposal index: signed proposals in and out, opaque to this crate but for their outer shape.
//!
//! Refuses to verify: the index does before it takes one in, and whoever asks does before believing one.

mod client;
mod convert;
mod server;

use std::future::Future;

use wayfare_discovery::{Query, SignedProposal, SignedWithdrawal};

use crate::Refusal;

pub use client::IndexClient;
pub use server::serve;

/// What an index does, in the nouns of `discovery`. Methods are called concurrently, each under a deadline.
pub trait IndexService: Send + Sync + 'static {
    /// How many proposals it holds.
    fn size(&self) -> impl Future<Output = u64> + Send;

    /// Takes in a proposal, once verified.
    fn register(
        &self,
        proposal: SignedProposal,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Takes a proposal out, once the wish is verified.
    fn withdraw(
        &self,
        withdrawal: SignedWithdrawal,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Proposals that match, best first, no more than the query's limit.
    fn query(
        &self,
        query: Query,
    ) -> impl Future<Output = Result<Vec<SignedProposal>, Refusal>> + Send;
}
