//! Whose turn it is: deficit round robin, the newcomers first, those without tokens asleep.
//! It refuses to touch packets.

use super::naps::AWAKE;
use super::{FairQueue, LEAST_QUANTUM, ROUND_MILLIS};

impl FairQueue {
    /// Whose turn it is. Each step takes a session out of its ring or gives it a quantum: at most a packet over a quantum rounds.
    pub(super) fn turn(&mut self, now: u64) -> Option<u32> {
        let turn = self.quantum_now();
        loop {
            let is_fresh = !self.fresh.is_empty();
            let ring = if is_fresh {
                &mut self.fresh
            } else {
                &mut self.round
            };
            let slot = *ring.front()?;
            let flow = &mut self.flows[slot as usize];
            if flow.line.is_empty() {
                // Once more through the round before it counts as fresh again: otherwise a session that sends a quantum at a time
                // would always be served first.
                ring.pop_front();
                if is_fresh {
                    self.round.push_back(slot);
                } else {
                    flow.ringed = false;
                }
                continue;
            }
            flow.bucket.refresh(now, self.quantum.unsigned_abs());
            if !flow.bucket.has_tokens() {
                ring.pop_front();
                flow.ringed = false;
                flow.nap = self.naps.begin(slot, flow.bucket.ready_at());
                self.awake -= 1;
                let flows = &self.flows;
                self.naps.tidy(|slot| flows[slot as usize].nap);
                continue;
            }
            // A quantum of quieter times is no claim in a crowd.
            flow.deficit = flow.deficit.min(turn);
            if flow.deficit <= 0 {
                flow.deficit += turn;
                ring.pop_front();
                self.round.push_back(slot);
                continue;
            }
            return Some(slot);
        }
    }

    /// The quantum, or less where the total rate would make a round of quanta take long.
    pub(super) fn quantum_now(&self) -> i32 {
        let Some(round) = self.total.worth(ROUND_MILLIS) else {
            return self.quantum;
        };
        let share = i32::try_from(round / u64::from(self.awake.max(1))).unwrap_or(i32::MAX);
        share.clamp(LEAST_QUANTUM as i32, self.quantum)
    }

    /// Those that have slept enough take their place at the end of the round.
    pub(super) fn wake(&mut self, now: u64) {
        while let Some((at, slot)) = self.naps.due(now) {
            if self.flows[slot as usize].nap == at {
                self.naps.cut_short();
                self.rouse(slot);
            }
        }
    }

    pub(super) fn rouse(&mut self, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        flow.nap = AWAKE;
        self.awake += 1;
        if !flow.ringed {
            flow.ringed = true;
            self.round.push_back(slot);
        }
    }
}
