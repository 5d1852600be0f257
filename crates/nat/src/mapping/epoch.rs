//! Whether a router has forgotten what it granted: its clock tells (RFC 6887 section 8.5). It refuses to read our own clock.

use std::time::Instant;

/// A router's clock, and ours when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) seconds: u32,
    pub(super) at: Instant,
}

impl Epoch {
    /// Whether a router that says `next` has begun anew since: its clock went back, or runs further from ours than a sixteenth
    /// and two seconds.
    pub(super) fn is_broken_by(self, next: Self) -> bool {
        let (was, is) = (u64::from(self.seconds), u64::from(next.seconds));
        if is + 1 < was {
            return true;
        }
        let theirs = is.saturating_sub(was);
        let ours = next.at.saturating_duration_since(self.at).as_secs();
        ours + 2 < theirs - theirs / 16 || theirs + 2 < ours - ours / 16
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_begins_anew_is_noticed() {
        let at = tokio::time::Instant::now().into_std();
        let before = Epoch { seconds: 1_000, at };
        for (elapsed, seconds, broken) in [
            (0, 1_000, false),
            (0, 999, false),
            (0, 998, true),
            (100, 1_100, false),
            (100, 1_093, false),
            (100, 1_080, true),
            (100, 1_108, false),
            (100, 1_120, true),
            (4_000, 3_000, true),
            (4_000, u32::MAX, true),
        ] {
            let next = Epoch {
                seconds,
                at: at + Duration::from_secs(elapsed),
            };
            assert_eq!(before.is_broken_by(next), broken, "{elapsed} s, {seconds}");
        }
    }
}
