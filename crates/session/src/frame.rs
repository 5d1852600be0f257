//! What both sides say to each other while a session lives, over one stream each way.

use serde::{Deserialize, Serialize};
use wayfare_payment::{Amount, Exchange, Invoice, Usage};

use crate::{Refusal, SessionToken};

/// From consumer to provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerFrame {
    /// First frame of every stream: which session this is.
    Attach(SessionToken),
    /// An answer to an invoice.
    Payment(Exchange),
    /// The consumer's own meter.
    Usage(Usage),
    /// Nothing new; proves that the stream lives.
    KeepAlive,
    /// The consumer is done; the provider answers with a last invoice, then closes.
    Close,
}

/// From provider to consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderFrame {
    /// A demand for payment.
    Invoice(Invoice),
    /// Everything up to this total is covered by the Hermes and durable.
    Paid(Amount),
    /// The provider's own meter.
    Usage(Usage),
    /// Whether traffic passes.
    Gate(GateState),
    /// The provider is shutting down: the session ends within the given seconds.
    Draining {
        /// Seconds left.
        seconds: u32,
    },
    /// The session is over.
    Closed(Refusal),
    /// Nothing new; proves that the stream lives.
    KeepAlive,
}

/// The credit gate: closed while more than one chunk is unpaid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GateState {
    /// Traffic passes.
    Open,
    /// Traffic is held until the reason is gone.
    Closed(String),
}
