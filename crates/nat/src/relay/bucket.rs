//! A bucket of bytes that fills with time. It refuses to lend.

use std::time::Instant;

/// How fast a bucket fills, and how much it holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) per_second: u64,
    pub(super) most: u64,
}

#[derive(Debug)]
pub(super) struct Bucket {
    room: u64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn full(rate: Rate, now: Instant) -> Self {
        Self {
            room: rate.most,
            filled: now,
        }
    }

    pub(super) fn empty(now: Instant) -> Self {
        Self {
            room: 0,
            filled: now,
        }
    }

    /// Whether `bytes` are in it.
    pub(super) fn holds(&mut self, bytes: u64, rate: Rate, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled);
        let grown = u128::from(rate.per_second) * since.as_nanos() / 1_000_000_000;
        if grown > 0 {
            let grown = grown.try_into().unwrap_or(u64::MAX);
            self.room = rate.most.min(self.room.saturating_add(grown));
            self.filled = now;
        }
        bytes <= self.room
    }

    /// Takes `bytes` if they are in it.
    pub(super) fn take(&mut self, bytes: u64, rate: Rate, now: Instant) -> bool {
        let holds = self.holds(bytes, rate, now);
        if holds {
            self.room -= bytes;
        }
        holds
    }

    /// Whether it is as a new one would be: nothing is lost when it is forgotten.
    pub(super) fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.holds(rate.most, rate, now)
    }
}
