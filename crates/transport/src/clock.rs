//! The one clock: the only file of the workspace that asks the system what time it is.
//!
//! Everything above receives `now` as an argument. It refuses to sleep or to schedule: deadlines
//! belong to the machines, waiting to the driver that owns them.

#![allow(clippy::disallowed_methods)] // the ban elsewhere exists so that time enters here only

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The process clock. It has no state; all readings are associated functions.
#[derive(Debug, Clone, Copy)]
pub struct Clock;

impl Clock {
    /// Monotonic time, for deadlines and durations.
    ///
    /// Read through tokio so that it agrees with the timers a driver sleeps on, also when a test
    /// has paused the runtime's time. In production it is the system's monotonic clock.
    #[must_use]
    pub fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    /// Wall time, for machines that stamp what they send. Can jump.
    #[must_use]
    pub fn wall() -> SystemTime {
        SystemTime::now()
    }

    /// Wall time in milliseconds since 1970-01-01 UTC, for expiry dates others can read.
    ///
    /// Can jump when the administrator or NTP sets the clock. A clock before 1970 reads as 0, so
    /// that signed, expiring things look not yet expired but never panic.
    #[must_use]
    pub fn unix_ms() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_does_not_go_back_and_wall_time_is_of_this_century() {
        let first = Clock::now();
        assert!(Clock::now() >= first);
        let year_2020_ms = 1_577_836_800_000;
        let year_2200_ms = 7_258_118_400_000;
        assert!((year_2020_ms..year_2200_ms).contains(&Clock::unix_ms()));
    }
}
