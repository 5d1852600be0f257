//! TAI64N: the twelve bytes that make a handshake initiation unrepeatable.
//! It refuses to read a clock: wall time is an argument once, then follows the monotonic `now`.

use std::time::{Duration, Instant, SystemTime};

/// TAI64N label: seconds, then nanoseconds, big endian, so that byte order is time order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(pub(crate) [u8; 12]);

/// 2^62 marks the TAI epoch of 1970; ten is TAI − UTC at that epoch (the convention of every WireGuard peer).
const EPOCH: u64 = (1 << 62) + 10;

/// Nanoseconds are rounded down to a multiple of 2^24 (≈ 16.8 ms), so that initiations do not disclose a precise clock.
const GRAIN: u32 = 1 << 24;

/// Multiples of [`GRAIN`] below one second: ⌊10^9 / 2^24⌋ = 59, the last one at 59 × 2^24 = 989,855,744 ns.
const LAST_GRAIN: u32 = 1_000_000_000 / GRAIN * GRAIN;

impl Timestamp {
    fn new(seconds: u64, nanos: u32) -> Self {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&nanos.to_be_bytes());
        Self(bytes)
    }

    /// The label one grain later. Never reaches a whole-second overflow of `u64` in the life of the sun.
    fn successor(self) -> Self {
        let (head, tail) = self.0.split_at(8);
        let seconds = u64::from_be_bytes(head.try_into().expect("split at 8"));
        let nanos = u32::from_be_bytes(tail.try_into().expect("12 − 8 = 4"));
        if nanos >= LAST_GRAIN {
            Self::new(seconds.saturating_add(1), 0)
        } else {
            Self::new(seconds, nanos + GRAIN)
        }
    }
}

/// Wall time, fixed once and carried forward by the monotonic clock: a stepped system clock cannot make us repeat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WallClock {
    since_unix: Duration,
    at: Instant,
}

impl WallClock {
    pub(crate) fn new(wall: SystemTime, at: Instant) -> Self {
        Self {
            since_unix: wall
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
            at,
        }
    }

    /// The label for `now`, or the successor of `last` if that is later: strictly increasing for one peer.
    pub(crate) fn stamp(&self, now: Instant, last: Option<Timestamp>) -> Timestamp {
        let wall = self
            .since_unix
            .saturating_add(now.saturating_duration_since(self.at));
        let stamp = Timestamp::new(
            EPOCH.saturating_add(wall.as_secs()),
            wall.subsec_nanos() / GRAIN * GRAIN,
        );
        match last {
            Some(last) if last >= stamp => last.successor(),
            Some(_) | None => stamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::instant;

    #[test]
    fn the_unix_epoch_is_ten_past_two_to_the_62() {
        let clock = WallClock::new(SystemTime::UNIX_EPOCH, instant());
        assert_eq!(
            clock.stamp(clock.at, None).0,
            [0x40, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0]
        );
        let later = clock.stamp(clock.at + Duration::from_millis(1_500), None);
        assert_eq!(later.0[..8], [0x40, 0, 0, 0, 0, 0, 0, 0x0b]);
        assert!(
            u32::from_be_bytes([later.0[8], later.0[9], later.0[10], later.0[11]]) <= 500_000_000
        );
    }

    #[test]
    fn stamps_of_one_instant_still_increase() {
        let clock = WallClock::new(
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            instant(),
        );
        let mut last = clock.stamp(clock.at, None);
        for _ in 0..200 {
            let next = clock.stamp(clock.at, Some(last));
            assert!(next > last);
            last = next;
        }
        assert!(u32::from_be_bytes([last.0[8], last.0[9], last.0[10], last.0[11]]) < 1_000_000_000);
    }
}
