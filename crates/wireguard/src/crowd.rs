//! What waits while there is a crowd: one line for each peer, served in turn.
//! It refuses to exist before the first crowd, and to hold back anything when there is none.

use std::time::Instant;

use wayfare_tunnel::{FairLimits, FairQueue, Pop, Verdict};

/// The lines of all peers. Memory: [`FairLimits::CROWD`].
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    lines: Option<FairQueue>,
}

impl Crowd {
    /// From now on everything waits, or no longer.
    pub(crate) fn hold(&mut self, hold: bool, now: Instant) {
        if hold {
            let lines = self
                .lines
                .get_or_insert_with(|| FairQueue::new(FairLimits::CROWD, now));
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
        let Some(lines) = &mut self.lines else {
            return true;
        };
        match lines.offer(peer, packet.len(), now) {
            Verdict::Pass => true,
            Verdict::Queue => {
                // What finds no room after all is counted there.
                lines.push(peer, packet);
                false
            }
            Verdict::Drop => false,
        }
    }

    /// The next packet whose turn it is: its peer and its length.
    pub(crate) fn release(&mut self, into: &mut [u8], now: Instant) -> Option<(u32, usize)> {
        match self.lines.as_mut()?.pop_into(now, into) {
            Pop::Packet { slot, len } => Some((slot, len)),
            Pop::Short(_) | Pop::Empty => None,
        }
    }
}
