//! A token bucket that rounds nothing: its level is kept in byte-nanoseconds, so however often it is looked at, no token is lost.
//! It refuses to look at a clock: time is nanoseconds since some epoch.

/// Nanoseconds in a second, and so the price of one byte.
const SECOND: i64 = 1_000_000_000;
/// Unused tokens are kept this long: the burst after a pause is 1 % of a second's worth, and a timer that is 5 ms late, after a nap of
/// two more, still finds room for all that it missed.
const SAVED: i64 = 10_000_000;
/// Naps end when this much is there: 1 ms worth, since one wake-up for each packet would cost more than the packets.
const GRAIN: i64 = 1_000_000;
/// 100 GB/s: what a bucket saves then, 10^18 byte-nanoseconds, is a ninth of what 63 bits hold.
const MOST: u64 = 100_000_000_000;

/// A rate in bytes a second, from 1 byte to 100 GB. What is counted is the length of the packets offered, without outer headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// So many bytes a second; zero is taken as one, since no rate at all is `None`.
    #[must_use]
    pub const fn bytes_per_second(bytes: u64) -> Self {
        Self(if bytes == 0 {
            1
        } else if bytes > MOST {
            MOST
        } else {
            bytes
        })
    }

    /// So many bits a second.
    #[must_use]
    pub const fn bits_per_second(bits: u64) -> Self {
        Self::bytes_per_second(bits / 8)
    }

    /// Bytes a second.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Tokens of one session or of all. May go into debt by one packet: it is lent whole and paid back before the next.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Bytes a second; zero is no limit.
    rate: u64,
    /// Byte-nanoseconds.
    level: i64,
    /// When that was the level.
    at: u64,
}

impl Bucket {
    pub(super) fn is_limited(&self) -> bool {
        self.rate != 0
    }

    /// A first rate finds the bucket full, a changed one as it is.
    pub(super) fn set_rate(&mut self, rate: Option<Rate>, now: u64) {
        let was_limited = self.is_limited();
        self.refresh(now, 0);
        self.rate = rate.map_or(0, Rate::bytes);
        if !was_limited {
            (self.level, self.at) = (self.full(0), now);
        }
        self.level = self.level.min(self.full(0));
    }

    /// Takes in what has flowed since the last look. `turn`: how many bytes may be saved although it is more than usual, by a session
    /// that has a backlog and waits for others; what its rate allows it to send in its turn must not be lost before its turn comes.
    pub(super) fn refresh(&mut self, now: u64, turn: u32) {
        let passed = now.saturating_sub(self.at);
        if self.rate == 0 || passed == 0 {
            return;
        }
        self.at = now;
        let full = self.full(turn);
        let missing = i128::from(full) - i128::from(self.level);
        let gained = i128::from(self.rate) * i128::from(passed);
        self.level = if gained >= missing {
            full
        } else {
            // Less than what is missing, which fits.
            self.level
                .saturating_add(i64::try_from(gained).unwrap_or(i64::MAX))
        };
    }

    pub(super) fn has_tokens(&self) -> bool {
        self.rate == 0 || self.level > 0
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        if self.rate != 0 {
            let price = i64::try_from(bytes)
                .unwrap_or(i64::MAX)
                .saturating_mul(SECOND);
            self.level = self.level.saturating_sub(price);
        }
    }

    /// How many bytes flow in so many milliseconds, if there is a limit.
    pub(super) fn worth(&self, millis: u64) -> Option<u64> {
        (self.rate != 0).then_some(self.rate / 1_000 * millis)
    }

    /// When a nap has been worth it, as of the last look.
    pub(super) fn ready_at(&self) -> u64 {
        let Ok(rate) = i64::try_from(self.rate) else {
            return self.at;
        };
        let missing = rate.saturating_mul(GRAIN).saturating_sub(self.level);
        if rate == 0 || missing <= 0 {
            return self.at;
        }
        let wait = missing / rate + i64::from(missing % rate != 0);
        self.at.saturating_add(wait.unsigned_abs())
    }

    fn full(&self, turn: u32) -> i64 {
        let rate = i64::try_from(self.rate).unwrap_or(i64::MAX);
        rate.saturating_mul(SAVED).max(i64::from(turn) * SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u64) -> Bucket {
        let mut bucket = Bucket::default();
        bucket.set_rate(Some(Rate::bytes_per_second(rate)), 0);
        bucket
    }

    #[test]
    fn looking_often_loses_no_tokens() {
        // A byte takes 8 µs at this rate; looked at every 7 ns nothing is rounded away.
        let mut bucket = bucket(125_000);
        bucket.spend(10_000);
        let debt = bucket.level;
        for step in 1..=10_000 {
            bucket.refresh(step * 7, 0);
        }
        assert_eq!(bucket.level - debt, 125_000 * 70_000);
    }

    #[test]
    fn a_pause_saves_ten_milliseconds_and_no_more() {
        let mut bucket = bucket(1_000_000);
        bucket.refresh(u64::MAX, 0);
        assert_eq!(bucket.level, 10_000 * SECOND);
        bucket.spend(usize::MAX);
        assert!(!bucket.has_tokens());
    }

    #[test]
    fn who_waits_for_others_saves_a_turn() {
        let mut bucket = bucket(1_000_000);
        bucket.refresh(50_000_000, 65_536);
        assert_eq!(bucket.level, 60_000 * SECOND);
        bucket.refresh(u64::MAX / 2, 65_536);
        assert_eq!(bucket.level, 65_536 * SECOND);
        bucket.refresh(u64::MAX, 0);
        assert_eq!(bucket.level, 10_000 * SECOND, "until nothing waits");
    }

    #[test]
    fn a_nap_ends_when_a_millisecond_is_worth_spending() {
        let mut bucket = bucket(1_000_000);
        assert_eq!(bucket.ready_at(), 0);
        bucket.spend(10_000 + 1_420);
        assert!(!bucket.has_tokens());
        assert_eq!(bucket.ready_at(), (1_420 + 1_000) * 1_000);
        bucket.refresh(bucket.ready_at(), 0);
        assert_eq!(bucket.level, 1_000 * SECOND);
    }

    #[test]
    fn extremes_neither_overflow_nor_wait_for_ever() {
        for rate in [0, 1, u64::MAX] {
            let mut bucket = bucket(rate);
            assert!(bucket.has_tokens(), "{rate}");
            bucket.spend(65_535);
            let ready = bucket.ready_at();
            bucket.refresh(ready, 0);
            assert!(bucket.has_tokens(), "{rate} {ready}");
        }
        assert_eq!(Rate::bits_per_second(8_000).bytes(), 1_000);
    }

    #[test]
    fn a_changed_rate_gives_nothing_away() {
        let mut bucket = bucket(1_000_000);
        bucket.spend(10_000);
        assert!(!bucket.has_tokens());
        bucket.set_rate(Some(Rate::bytes_per_second(2_000_000)), 0);
        assert!(!bucket.has_tokens());
        bucket.set_rate(None, 0);
        assert!(bucket.has_tokens() && !bucket.is_limited());
    }
}
