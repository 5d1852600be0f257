//! What a payer says no to, and why.

use wayfare_identity::SignatureError;

use crate::Amount;

/// Why an invoice is not paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayRefusal {
    /// No such agreement.
    #[error("the invoice names an agreement that is not open")]
    UnknownAgreement,
    /// We have closed it.
    #[error("the agreement is closed")]
    Closed,
    /// More than our own meter allows.
    #[error(
        "the invoice asks for {total}; our own meter says {own_cost}, and {allowance} may be outstanding"
    )]
    Inflated {
        /// As invoiced.
        total: Amount,
        /// Our usage at the agreed price.
        own_cost: Amount,
        /// What we trust the provider with.
        allowance: Amount,
    },
    /// Less than was already promised.
    #[error("the invoice asks for {total}, but {promised} is already promised")]
    Stale {
        /// As invoiced.
        total: Amount,
        /// Promised in this agreement.
        promised: Amount,
    },
    /// A lock that a promise already carries.
    #[error(
        "the invoice carries a hashlock that was used before, or another one for the same total"
    )]
    HashlockReused,
    /// More than the user gave this session.
    #[error(
        "the invoice asks for {total}, the session's budget is {budget}: raise the budget or end the session"
    )]
    OverBudget {
        /// As invoiced.
        total: Amount,
        /// As set.
        budget: Amount,
    },
    /// More than the deposit.
    #[error("the channel's promises would reach {wanted}, its deposit is {deposit}: top up {}", wanted.saturating_sub(*deposit))]
    OverDeposit {
        /// The channel's total with this payment.
        wanted: Amount,
        /// What the promises may reach.
        deposit: Amount,
    },
    /// The key's holder does not sign.
    #[error("the promise was not signed: {0}")]
    Signer(String),
    /// An earlier write failed.
    #[error("the ledger failed: nothing is paid until this node is restarted")]
    Stopped,
}

/// Why an agreement is not paid for at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefusal {
    /// It names somebody else.
    #[error("the agreement's {0} is not ours")]
    NotOurs(&'static str),
    /// One of its two signatures is bad.
    #[error("the agreement is not signed by both sides: {0}")]
    Signature(#[from] SignatureError),
    /// Its id is taken by other terms.
    #[error("another agreement has the same id")]
    IdTaken,
    /// It was closed before.
    #[error("the agreement was closed")]
    Closed,
    /// Too many are open.
    #[error("{0} agreements are open: close some first")]
    TooMany(usize),
}

/// Why an outside view of our channel is not taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewRefusal {
    /// Of another channel or chain.
    #[error("the promise is not on our channel")]
    NotOurs,
    /// Not signed by us.
    #[error("the promise is not signed by us: {0}")]
    Signature(#[from] SignatureError),
}
