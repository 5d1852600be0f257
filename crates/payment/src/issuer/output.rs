//! Which Hermes an issuer speaks for, what it wants done and what it can tell.

#[cfg(doc)]
use super::Issuer;
use wayfare_identity::{Address, Domain};

use crate::{Amount, Batch, IssueRefusal, IssueReply, Preimage, SignedPromise, Ticket};

/// Which Hermes this is. Fixed for the machine's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerConfig {
    /// The Hermes' id; its operator's key is the signer's.
    pub hermes: Address,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The vault on that chain.
    pub vault: Address,
    /// What one consumer may have locked: paid to providers who have not revealed yet, above the promise that can be collected.
    ///
    /// A promise of ours never expires, a consumer's deposit may leave after the exit delay. A provider who keeps its preimage back
    /// until its friend the consumer has left, and settles then, takes this much from us; so it has to be small. A payment larger
    /// than this is never accepted: it has to exceed the chunk limits of all sessions that a consumer may have at once.
    pub locked_cap: Amount,
}

impl IssuerConfig {
    /// The EIP-712 domain of receipts.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain {
            chain_id: self.chain_id,
            verifying_contract: self.vault,
        }
    }
}

/// Names one request or preimage that was handed to [`Issuer`]. Counts from 0 and starts again after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What the issuer wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerOutput {
    /// Commit this, then call [`Issuer::handle_durable`]. Strictly in the order of tickets.
    Persist {
        /// To report back.
        ticket: Ticket,
        /// To commit.
        batch: Batch,
    },
    /// Answer a request with a promise.
    Answer {
        /// The request.
        request: RequestId,
        /// The answer.
        reply: IssueReply,
    },
    /// A preimage is taken and durable.
    Acknowledged {
        /// The request.
        request: RequestId,
    },
    /// Answer a request with a refusal.
    Refused {
        /// The request.
        request: RequestId,
        /// Why.
        why: IssueRefusal,
    },
}

/// What a Hermes knows of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerView {
    /// Accepted from it, over all its sessions.
    pub accepted: Amount,
    /// The largest promise seen from it, which helps it to restore a lost ledger.
    pub largest: SignedPromise,
}

/// A consumer's promise that can be collected, with what unlocks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collectable {
    /// Who promised.
    pub consumer: Address,
    /// The largest of its promises whose preimage is known.
    pub promise: SignedPromise,
    /// The preimage.
    pub preimage: Preimage,
}
