//! Which transactions of the peer were seen before.
//! It refuses what is older than it remembers: 1,024 transactions, more than a birthday punch sends in three seconds.

const WORDS: usize = 16;
const WINDOW: u64 = 64 * WORDS as u64;

/// A sliding window, 136 bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Replay {
    newest: u64,
    seen: [u64; WORDS],
}

impl Replay {
    /// Whether `transaction` is seen for the first time; from now on it is not. Zero never is.
    pub(super) fn admit(&mut self, transaction: u64) -> bool {
        if transaction == 0 || self.newest.saturating_sub(transaction) >= WINDOW {
            return false;
        }
        let forward = transaction.saturating_sub(self.newest);
        if forward >= WINDOW {
            self.seen = [0; WORDS];
        } else {
            for step in 1..=forward {
                let (word, bit) = place(self.newest + step);
                self.seen[word] &= !bit;
            }
        }
        self.newest = self.newest.max(transaction);
        let (word, bit) = place(transaction);
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }
}

fn place(transaction: u64) -> (usize, u64) {
    let at = transaction % WINDOW;
    // Below 16: the remainder is below 1,024.
    (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_each_in_any_order_within_the_window() {
        let mut replay = Replay::default();
        assert!(!replay.admit(0));
        for (transaction, is_new) in [
            (5, true),
            (5, false),
            (1, true),
            (1, false),
            (1000, true),
            (6, true),
            (1029, true),
            (5, false),
            (1029, false),
            (9_000_000, true),
            (1029, false),
            (8_999_999, true),
            (u64::MAX, true),
            (u64::MAX, false),
            (u64::MAX - 1, true),
        ] {
            assert_eq!(replay.admit(transaction), is_new, "{transaction}");
        }
    }
}
