//! What a collector wants done, and whom it does not serve at all.

#[cfg(doc)]
use super::Collector;
use wayfare_identity::SignatureError;

use super::{ExchangeRefusal, ReplyFault};
use crate::{
    AgreementId, Amount, Batch, ChannelId, Hashlock, Invoice, IssueRefusal, IssueRequest, Preimage,
    SettleMaterial, Ticket,
};

/// What the collector wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectorOutput {
    /// Commit this, then call [`Collector::handle_durable`].
    Persist {
        /// To report back.
        ticket: Ticket,
        /// To commit.
        batch: Batch,
    },
    /// Send this to the consumer of the agreement.
    Invoice(Invoice),
    /// Send this to the Hermes; report [`Collector::handle_issued`] or [`Collector::handle_issue_failed`].
    Issue(IssueRequest),
    /// Send this to the Hermes; report [`Collector::handle_revealed`] when it acknowledges.
    Reveal {
        /// Our channel.
        channel: ChannelId,
        /// Of the promise that it opens.
        hashlock: Hashlock,
        /// The secret.
        preimage: Preimage,
    },
    /// The Hermes' durable promises cover an agreement up to this total.
    Paid {
        /// The agreement.
        agreement: AgreementId,
        /// Its covered total.
        total: Amount,
    },
    /// A better promise to settle with; for the `Settler`.
    Settleable(SettleMaterial),
    /// A consumer's payment was not accepted. The invoice stays open.
    Refused {
        /// As the payment names it.
        agreement: AgreementId,
        /// Why.
        why: ExchangeRefusal,
    },
    /// The Hermes will never take a payment of this agreement: it earns nothing more.
    HermesRefused {
        /// The agreement.
        agreement: AgreementId,
        /// As the Hermes says.
        why: IssueRefusal,
    },
    /// The Hermes answered wrongly. Nothing was revealed.
    WrongReply(ReplyFault),
    /// An ended agreement is settled with, or given up.
    Ended {
        /// The agreement.
        agreement: AgreementId,
        /// What it was paid.
        covered: Amount,
        /// What was used and never paid.
        unpaid: Amount,
    },
}

/// Why an agreement is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionRefusal {
    /// It names somebody else.
    #[error("the agreement's {0} is not ours")]
    NotOurs(&'static str),
    /// One of its two signatures is bad.
    #[error("the agreement is not signed by both sides: {0}")]
    Signature(#[from] SignatureError),
    /// Its id is taken by other terms.
    #[error("another agreement has the same id")]
    IdTaken,
    /// The first chunk is nothing, so there would be no proof of funds.
    #[error("the agreement's chunk is zero")]
    NoChunk,
    /// Too many are open.
    #[error("{0} agreements are open")]
    TooMany(usize),
    /// An earlier write failed.
    #[error("the ledger failed: nothing is accepted until this node is restarted")]
    Stopped,
}
