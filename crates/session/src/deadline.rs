//! Deadlines that say why.

use std::time::Instant;

/// When a machine wants to be called, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// The reason.
    pub why: Why,
}

/// Reasons of a session's deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A timer of the tunnel.
    Tunnel,
    /// A timer of the payments.
    Payment,
    /// The next usage report.
    Report,
    /// The other side has been silent.
    Silence,
    /// A closing session's last invoice is overdue.
    Closing,
}
