//! The invoice: what a provider says a session has cost so far, and the lock that the next promise shall carry.

use serde::{Deserialize, Serialize};

use crate::{AgreementId, Amount, Hashlock};

/// A demand for payment. Unsigned: it only reaches the consumer over the session's authenticated stream, and the consumer pays no
/// more than its own meter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// The session.
    pub agreement: AgreementId,
    /// Everything owed within the session so far.
    pub total: Amount,
    /// Lock for the promise that answers this invoice.
    pub hashlock: Hashlock,
}
