//! Deadlines: when a machine wants to be called again, and why. Nothing here reads a clock.

use std::time::{Duration, Instant};

/// When a machine wants its `handle_timeout`, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// The reason.
    pub why: Why,
}

/// Why a payment machine wants to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Something is owed and was not invoiced for a while.
    InvoiceDue,
    /// The consumer has not answered an invoice.
    InvoiceUnanswered,
    /// The last invoice of an ended session stayed unpaid.
    LastInvoiceUnpaid,
    /// The Hermes has not answered a request.
    IssueUnanswered,
    /// A refused or failed request is tried again.
    IssueRetry,
    /// The Hermes has not acknowledged a preimage.
    RevealUnacknowledged,
    /// The oldest unsettled promise has waited long enough.
    SettleByAge,
    /// A settlement is tried, or the chain read, again.
    SettleRetry,
    /// A transaction is looked for, or looked after.
    TransactionDue,
}

/// The earlier of two deadlines.
pub(crate) fn earlier(a: Option<Deadline>, b: Option<Deadline>) -> Option<Deadline> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// How long to wait before try number `attempts + 1`: `base` doubled with each failure, at most `most`.
pub(crate) fn backoff(base: Duration, attempts: u32, most: Duration) -> Duration {
    base.saturating_mul(1 << attempts.min(16)).min(most)
}
