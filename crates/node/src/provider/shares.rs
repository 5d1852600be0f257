//! Each consumer's share of the line: rates for one and for all, in both directions, and a fair turn for everybody who waits, be it
//! for a rate or because of a crowd. It refuses to look at a packet twice where nothing is limited and nobody waits.

use std::net::IpAddr;
use std::time::Instant;

use wayfare_session::Exit;
use wayfare_tunnel::{FairLimits, FairQueue, IpPacket, Pop, Rate};

use super::Limits;

/// The queues of both directions.
#[derive(Debug)]
pub(crate) struct Shares {
    session: Option<Rate>,
    up: FairQueue,
    down: FairQueue,
}

impl Shares {
    /// Memory is touched when something waits: at most 8 MiB for what goes up, which waits for rates only, and 64 MiB for what goes
    /// down ([`FairLimits::CROWD`]).
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let rate = |bits: Option<u64>| bits.map(Rate::bits_per_second);
        let queue = |memory| {
            let mut queue = FairQueue::new(memory, now);
            queue.set_total_rate(rate(limits.total));
            queue
        };
        let up = FairLimits::default();
        let mut down = FairLimits::CROWD;
        if limits != Limits::default() {
            // At a slow rate a long line is a long wait.
            down.session_bytes = up.session_bytes;
        }
        Self {
            session: rate(limits.session),
            up: queue(up),
            down: queue(down),
        }
    }

    /// In a crowd: whatever comes for consumers waits, until `false`.
    pub(crate) fn hold_down(&mut self, hold: bool) {
        self.down.set_blocked(hold);
    }

    /// A new session has this slot: what the one before it left is forgotten.
    pub(crate) fn open(&mut self, slot: u32) {
        for queue in [&mut self.up, &mut self.down] {
            queue.remove(slot);
            queue.set_rate(slot, self.session);
        }
    }

    /// When something that waits may leave.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let both = [self.up.poll_timeout(), self.down.poll_timeout()];
        both.into_iter().flatten().min()
    }

    /// Whether a packet from a consumer may pass now; if not, it waits here or is lost.
    pub(crate) fn pass_up(&mut self, exit: &Exit, packet: &[u8], now: Instant) -> bool {
        pass(&mut self.up, exit, packet, IpPacket::source, now)
    }

    /// Whether a packet for a consumer may pass now; if not, it waits here or is lost.
    pub(crate) fn pass_down(&mut self, exit: &Exit, packet: &[u8], now: Instant) -> bool {
        pass(&mut self.down, exit, packet, IpPacket::destination, now)
    }

    /// The next packet from a consumer that has waited.
    pub(crate) fn release_up(&mut self, into: &mut [u8], now: Instant) -> Option<usize> {
        release(&mut self.up, into, now)
    }

    /// The next packet for a consumer that has waited.
    pub(crate) fn release_down(&mut self, into: &mut [u8], now: Instant) -> Option<usize> {
        release(&mut self.down, into, now)
    }
}

fn pass<'a>(
    queue: &mut FairQueue,
    exit: &Exit,
    packet: &'a [u8],
    side: impl FnOnce(&IpPacket<'a>) -> IpAddr,
    now: Instant,
) -> bool {
    if queue.is_idle() {
        return true;
    }
    let Ok(parsed) = IpPacket::parse(packet) else {
        return false;
    };
    let Some(slot) = exit.slot_of(side(&parsed)) else {
        return false;
    };
    queue.admit(slot, packet, now)
}

/// Packets are never longer than the pump's buffer, so none comes back as too long.
fn release(queue: &mut FairQueue, into: &mut [u8], now: Instant) -> Option<usize> {
    match queue.pop_into(now, into) {
        Pop::Packet { len, .. } => Some(len),
        Pop::Short(_) | Pop::Empty => None,
    }
}
