//! Room for packets that wait: each session has its share, and when memory is short, who holds most loses first.
//! It refuses to know turns and rates.

use super::chunks::Chunks;
use super::naps::AWAKE;
use super::{FairQueue, Flow, MAX_SLOTS};

impl FairQueue {
    /// Whether a packet fits its session's share: the fixed one and, when memory is short, as much as the fattest queue has.
    pub(super) fn has_room(&mut self, slot: u32, len: usize) -> bool {
        if slot >= MAX_SLOTS {
            return false;
        }
        let line = self.flows.get(slot as usize).map(|flow| flow.line);
        let line = line.unwrap_or_default();
        let more = Chunks::needed(&line, len);
        let then = u64::from(line.chunks()) + more as u64;
        then <= u64::from(self.session_chunks)
            && (more <= self.chunks.vacant() as usize || u64::from(self.sizes.fattest().1) > then)
    }

    /// Evicts from the fattest queue, oldest first, until the packet fits; `false` when nobody is fatter than we would be.
    pub(super) fn make_room(&mut self, slot: u32, len: usize) -> bool {
        if !self.grow(slot) {
            return false;
        }
        let line = &self.flows[slot as usize].line;
        let more = Chunks::needed(line, len);
        let then = line.chunks() as usize + more;
        // Each turn takes a packet away from somebody.
        while (self.chunks.vacant() as usize) < more {
            let (fattest, size) = self.sizes.fattest();
            if size as usize <= then {
                return false;
            }
            let victim = &mut self.flows[fattest as usize];
            let was = victim.line.chunks();
            let bytes = self.chunks.drop_first(&mut victim.line);
            self.losses.evicted += 1;
            self.left(fattest, was, 1, bytes);
        }
        true
    }

    /// Makes a session known; `false` when its number is beyond the bound.
    pub(super) fn grow(&mut self, slot: u32) -> bool {
        if slot >= MAX_SLOTS {
            return false;
        }
        let known = slot as usize + 1;
        if self.flows.len() < known {
            self.flows.resize_with(known, Flow::new);
            self.sizes.grow(known);
        }
        true
    }

    /// Accounts for packets that have left a queue that held `was` chunks.
    pub(super) fn left(&mut self, slot: u32, was: u32, packets: usize, bytes: usize) {
        let flow = &mut self.flows[slot as usize];
        self.sizes.change(slot, was, flow.line.chunks());
        self.packets -= packets;
        self.bytes -= bytes;
        if flow.line.is_empty() {
            self.busy -= 1;
            if flow.nap == AWAKE {
                self.awake -= 1;
            } else {
                flow.nap = AWAKE;
                self.naps.cut_short();
            }
        }
    }
}
