//! Sessions that sleep until they have tokens, soonest first.
//! It refuses to know who still sleeps: the owner keeps each session's hour and compares.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Not asleep.
pub(super) const AWAKE: u64 = u64::MAX;
/// Naps end on the millisecond, so that a thousand sleepers cost a thousand wake-ups a second at most and not one each.
const GRID: u64 = 1_000_000;

/// One entry for each sleeper and, until they are due or too many, those of naps that were cut short.
#[derive(Debug, Default)]
pub(super) struct Naps {
    queue: BinaryHeap<Reverse<(u64, u32)>>,
    sleepers: usize,
}

impl Naps {
    /// Puts a session to sleep until `at` or a little later; returns when.
    pub(super) fn begin(&mut self, slot: u32, at: u64) -> u64 {
        let at = at.div_ceil(GRID).saturating_mul(GRID).min(AWAKE - 1);
        self.queue.push(Reverse((at, slot)));
        self.sleepers += 1;
        at
    }

    /// A session is awake; its entry becomes void, if it is still there.
    pub(super) fn cut_short(&mut self) {
        self.sleepers -= 1;
    }

    /// The next whose hour has come, void entries included.
    pub(super) fn due(&mut self, now: u64) -> Option<(u64, u32)> {
        let Reverse((at, _)) = self.queue.peek()?;
        if *at > now {
            return None;
        }
        self.queue.pop().map(|Reverse(entry)| entry)
    }

    /// When the first is due, void entries included.
    pub(super) fn first(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// Drops the void entries once they outnumber the sleepers. `hour` is when a session wakes.
    pub(super) fn tidy(&mut self, hour: impl Fn(u32) -> u64) {
        if self.queue.len() > 2 * self.sleepers + 64 {
            self.queue.retain(|Reverse((at, slot))| hour(*slot) == *at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleepers_wake_in_order_on_the_millisecond() {
        let mut naps = Naps::default();
        assert_eq!(naps.begin(1, 5_000_001), 6_000_000);
        assert_eq!(naps.begin(2, 4_000_000), 4_000_000);
        assert_eq!(naps.first(), Some(4_000_000));
        assert_eq!(naps.due(3_999_999), None);
        assert_eq!(naps.due(9_000_000), Some((4_000_000, 2)));
        assert_eq!(naps.due(9_000_000), Some((6_000_000, 1)));
        assert_eq!(naps.due(u64::MAX), None);
    }

    #[test]
    fn void_entries_do_not_pile_up() {
        let mut naps = Naps::default();
        for n in 0..10_000 {
            let hour = naps.begin(7, n * GRID);
            naps.tidy(|_| hour);
            naps.cut_short();
            assert!(naps.queue.len() <= 67, "{}", naps.queue.len());
        }
    }
}
