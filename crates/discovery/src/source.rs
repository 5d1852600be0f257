//! The port to where proposals come from, and its simplest implementation. It refuses to trust a source: what it yields must be
//! verified by whoever asked.

use std::fmt::Debug;
use std::future::ready;

use wayfare_payment::PortFuture;

use crate::{Query, SignedProposal};

/// Somewhere to ask for proposals.
pub trait ProposalSource: Debug + Send + Sync {
    /// Proposals that fit the query, the source's best first. They are not verified.
    fn find<'a>(
        &'a self,
        query: &'a Query,
    ) -> PortFuture<'a, Result<Vec<SignedProposal>, SourceError>>;
}

/// Why a source has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nobody answers; another source or another time may do.
    #[error("the proposal source {source_name} cannot be reached: {cause}")]
    Unreachable {
        /// Which one.
        source_name: String,
        /// Why.
        cause: String,
    },
    /// It answers, but not what it should.
    #[error("the proposal source {source_name} answers nonsense: {cause}")]
    Misbehaved {
        /// Which one.
        source_name: String,
        /// What is wrong.
        cause: String,
    },
    /// It refuses this query.
    #[error("the proposal source {source_name} refuses the query: {cause}")]
    Refused {
        /// Which one.
        source_name: String,
        /// Why.
        cause: String,
    },
}

/// A fixed list, for embedders who know their providers, and for tests. It knows no time, so it keeps what has expired.
#[derive(Debug, Clone, Default)]
pub struct StaticSource(Vec<SignedProposal>);

impl StaticSource {
    /// These proposals, the best first.
    #[must_use]
    pub fn new(proposals: Vec<SignedProposal>) -> Self {
        Self(proposals)
    }
}

impl ProposalSource for StaticSource {
    fn find<'a>(
        &'a self,
        query: &'a Query,
    ) -> PortFuture<'a, Result<Vec<SignedProposal>, SourceError>> {
        let (skip, limit) = query.page();
        let fitting = self.0.iter().filter(|signed| query.matches(&signed.offer));
        Box::pin(ready(Ok(fitting.skip(skip).take(limit).cloned().collect())))
    }
}
