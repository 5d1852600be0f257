//! The replay window: each counter is accepted once, within 8,192 of the newest.
//! It refuses to be asked before authentication for anything but a cheap early refusal: only [`ReplayWindow::accept`]
//! moves the window, and only authenticated counters may reach it.

/// Counters older than the newest by this much are refused. Wide enough for the reordering of a 64-segment batch per
/// flow across many flows; four times what common userspace cores had when they lost packets to it.
pub(crate) const WINDOW: u64 = 8_192;

const BITS: u64 = u64::BITS as u64;

/// One word more than the window needs: the newest counter's word may be filled with a single bit (RFC 6479).
const WORDS: usize = (WINDOW / BITS + 1) as usize;

/// 129 words of 8 bytes = 1,032 bytes, plus the newest counter.
pub(crate) struct ReplayWindow {
    newest: u64,
    /// Bit `c % 64` of word `(c / 64) % WORDS` is set when counter `c` has been seen.
    words: [u64; WORDS],
    seen_any: bool,
}

impl ReplayWindow {
    pub(crate) fn new() -> Self {
        Self {
            newest: 0,
            words: [0; WORDS],
            seen_any: false,
        }
    }

    /// Whether any counter was accepted.
    pub(crate) fn seen_any(&self) -> bool {
        self.seen_any
    }

    /// Whether `counter` could be accepted. Cheap, changes nothing.
    pub(crate) fn would_accept(&self, counter: u64) -> bool {
        if !self.seen_any || counter > self.newest {
            return true;
        }
        self.newest - counter < WINDOW && self.words[word(counter)] & bit(counter) == 0
    }

    /// Marks an authenticated counter as seen; `None` if it was seen before or is too old, else whether it is the
    /// newest so far.
    pub(crate) fn accept(&mut self, counter: u64) -> Option<bool> {
        if !self.would_accept(counter) {
            return None;
        }
        let is_newest = !self.seen_any || counter > self.newest;
        if is_newest {
            // INVARIANT: words between the old and the new newest are cleared, at most one lap of the ring.
            let from = self.newest / BITS;
            let steps = (counter / BITS - from).min(WORDS as u64);
            for step in 1..=steps {
                self.words[((from + step) % WORDS as u64) as usize] = 0;
            }
            self.newest = counter;
            self.seen_any = true;
        }
        self.words[word(counter)] |= bit(counter);
        Some(is_newest)
    }
}

fn word(counter: u64) -> usize {
    ((counter / BITS) % WORDS as u64) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_counter_once_zero_included() {
        let mut window = ReplayWindow::new();
        assert_eq!(window.accept(0), Some(true));
        assert_eq!(window.accept(0), None);
        assert_eq!(window.accept(5), Some(true));
        assert_eq!(window.accept(3), Some(false));
        assert_eq!(window.accept(3), None);
    }

    #[test]
    fn the_window_is_exactly_8192_wide_at_every_alignment() {
        for newest in (20_000..20_130).chain([u64::MAX - 3]) {
            let mut window = ReplayWindow::new();
            window.accept(newest);
            assert!(window.would_accept(newest - (WINDOW - 1)), "{newest}");
            assert!(!window.would_accept(newest - WINDOW), "{newest}");
            assert_eq!(window.accept(newest - (WINDOW - 1)), Some(false));
            assert_eq!(window.accept(newest - (WINDOW - 1)), None);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_everything_seen(jumps in prop::collection::vec((-9_000_i64..9_000, 0_u8..20), 1..400)) {
            let (mut window, mut seen, mut newest, mut any) = (ReplayWindow::new(), BTreeSet::new(), 0_u64, false);
            for (jump, far) in jumps {
                let reach = if far == 0 { jump * 100 } else { jump };
                let counter = newest.saturating_add_signed(reach);
                let fresh = !seen.contains(&counter) && (!any || counter > newest || newest - counter < WINDOW);
                prop_assert_eq!(window.accept(counter).is_some(), fresh, "counter {} newest {}", counter, newest);
                if fresh {
                    seen.insert(counter);
                    newest = if any { newest.max(counter) } else { counter };
                    any = true;
                }
            }
        }
    }
}
