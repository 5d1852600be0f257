//! What waits while there is a crowd: one line for each peer, served in turn.
//! It refuses to exist before the first crowd, and to hold back anything when there is none.

use std::time::Instant;

use wayfare_tunnel::{FairLimits, FairQueue, Pop};

/// The lines of all peers of a lane. Memory: [`FairLimits::CROWD`], shared by the lanes in equal parts.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    lines: Option<FairQueue>,
    /// How many share the memory; 0 is alone, as 1 is.
    lanes: usize,
}

impl Crowd {
    /// That of one of `lanes`.
    pub(crate) fn of_one_in(lanes: usize) -> Self {
        Self { lines: None, lanes }
    }

    /// From now on everything waits, or no longer.
    pub(crate) fn hold(&mut self, hold: bool, now: Instant) {
        if hold {
            let limits = FairLimits {
                total_bytes: FairLimits::CROWD.total_bytes / self.lanes.max(1),
                ..FairLimits::CROWD
            };
            let lines = self
                .lines
                .get_or_insert_with(|| FairQueue::new(limits, now));
            lines.set_blocked(true);
        } else if let Some(lines) = &mut self.lines {
            lines.set_blocked(false);
        }
    }

    /// Whether a packet has to ask before it passes.
    pub(crate) fn is_there(&self) -> bool {
        self.lines.as_ref().is_some_and(|lines| !lines.is_idle())
    }

    /// Whether a packet of this peer may pass; if not, it waits here or is lost.
    pub(crate) fn pass(&mut self, peer: u32, packet: &[u8], now: Instant) -> bool {
        let lines = self.lines.as_mut();
        lines.is_none_or(|lines| lines.admit(peer, packet, now))
    }

    /// The next packet whose turn it is: its peer and its length.
    pub(crate) fn release(&mut self, into: &mut [u8], now: Instant) -> Option<(u32, usize)> {
        match self.lines.as_mut()?.pop_into(now, into) {
            Pop::Packet { slot, len } => Some((slot, len)),
            Pop::Short(_) | Pop::Empty => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use wayfare_transport::Clock;

    use super::*;

    #[test]
    fn nothing_waits_and_nothing_is_there_until_it_is_held() {
        let mut crowd = Crowd::default();
        let now = Clock::now();
        assert!(!crowd.is_there());
        crowd.hold(false, now);
        assert!(crowd.lines.is_none(), "no memory before the first crowd");
        assert!(crowd.pass(3, &[0; 100], now));
        crowd.hold(true, now);
        assert!(crowd.is_there());
        assert!(!crowd.pass(3, &[0; 100], now));
        assert_eq!(crowd.release(&mut [0; 100], now), None, "still held");
        crowd.hold(false, now);
        assert!(
            !crowd.pass(3, &[1; 100], now),
            "it would overtake the first"
        );
        let mut into = [9; 100];
        for number in 0..2 {
            assert_eq!(crowd.release(&mut into, now), Some((3, 100)));
            assert_eq!(into, [number; 100]);
        }
        assert!(!crowd.is_there());
        assert!(crowd.pass(3, &[0; 100], now));
    }

    #[test]
    fn a_turn_is_one_train_and_a_hog_costs_a_newcomer_nothing() {
        let mut crowd = Crowd::default();
        let now = Clock::now();
        crowd.hold(true, now);
        // Two hogs, and more than fits: the rest is theirs to lose.
        for _ in 0..2_000 {
            for hog in 0..2 {
                crowd.pass(hog, &[0; 1_420], now);
            }
        }
        let held = crowd.lines.as_ref().map(FairQueue::backlog);
        assert!(held.is_some_and(|held| held.memory <= 2 << 20), "{held:?}");
        crowd.hold(false, now);
        let mut into = [0; 1_420];
        let mut turn = |crowd: &mut Crowd| crowd.release(&mut into, now).map(|(peer, _)| peer);
        let turns: Vec<_> = (0..180).filter_map(|_| turn(&mut crowd)).collect();
        let trains: Vec<_> = turns.chunk_by(|a, b| a == b).map(<[_]>::len).collect();
        assert_eq!(trains, [45; 4]);
        crowd.pass(7, &[0; 60], now);
        assert_eq!(turn(&mut crowd), Some(7), "the newcomer is first");
    }
}
