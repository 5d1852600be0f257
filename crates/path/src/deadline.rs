//! Deadlines that say why. They refuse to be timers: the driver has the clock.

use std::time::Instant;

/// When a finder wants to be called, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The moment; one that has passed means at once.
    pub at: Instant,
    /// The reason.
    pub why: Why,
}

/// Reasons of a finder's deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Something was changed from outside and is to be acted on.
    Changed,
    /// The next openers or pings of a punching round.
    Punch,
    /// The next step of a birthday punch.
    Birthday,
    /// The next heartbeat of the path in use, or warmth for a fallback.
    Heartbeat,
    /// A heartbeat ought to have been answered by now.
    Overdue,
    /// Time to look for something better than a relay.
    Upgrade,
}
