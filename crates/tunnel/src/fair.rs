//! Fair queueing: a provider's driver asks it between "packet accepted" and "packet written", one instance for each direction.
//!
//! While nothing is limited and the socket takes everything, the answer is [`Verdict::Pass`] after three comparisons, and no byte is
//! copied. A packet that has to wait is copied once into memory of a fixed size, and leaves by *deficit round robin* over the
//! sessions with a backlog: a quantum of bytes each, in turn. A session whose queue was empty is served before those that have
//! already had a turn, for one quantum, once in each round, so a light session does not wait for the hogs. A token bucket per session
//! and one for all bound the rate; a session without tokens sleeps and costs no turn.
//!
//! ```text
//! for each packet:  match queue.offer(slot, len, now) { Pass => write it, Queue => queue.push(slot, packet), Drop => {} }
//! at the batch's end, when `poll_timeout` is due, and when the socket is writable again (`set_blocked(false)`):
//!                   while let Pop::Packet { slot, len } = queue.pop_into(now, buffer) { write it }
//! when the socket is full: `set_blocked(true)`; what was passed or popped and not taken stays with the caller, in order.
//! ```
//!
//! It refuses to know packets, peers and sockets: a session is a small dense number, a packet is bytes.

mod bucket;
mod chunks;
mod naps;
mod room;
mod sizes;
mod terms;
mod turn;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::bucket::Bucket;
use self::chunks::{CHUNK, Chunks, Line};
use self::naps::{AWAKE, Naps};
use self::sizes::Sizes;

pub use self::bucket::Rate;
pub use self::terms::{Backlog, FairLimits, Losses, Pop, Verdict};

/// Sessions at most, as many as an endpoint has peers. An idle one takes less than 128 bytes: 8 MiB at worst.
const MAX_SLOTS: u32 = 65_536;
/// The least quantum: a packet of 64 KiB then takes at most sixteen turns, each a few comparisons.
const LEAST_QUANTUM: u32 = 4_096;
/// With a total rate, a round of all that wait takes no longer, unless each has but the least quantum: two frames of a video call.
const ROUND_MILLIS: u64 = 20;
/// The largest quantum, packet and share of one session, so that deficits fit 32 bits with room.
const MOST: usize = 1 << 28;

/// One session.
#[derive(Debug)]
struct Flow {
    line: Line,
    bucket: Bucket,
    /// When it may go on, in nanoseconds; `AWAKE` unless it waits for tokens.
    nap: u64,
    /// What is left of its turn; below zero it sent more and pays in the next.
    deficit: i32,
    /// In `fresh` or in `round`, once. An empty flow stays until it is visited.
    ringed: bool,
}

impl Flow {
    fn new() -> Self {
        Self {
            line: Line::default(),
            bucket: Bucket::default(),
            nap: AWAKE,
            deficit: 0,
            ringed: false,
        }
    }
}

/// The queue of one direction. See the module.
#[derive(Debug)]
pub struct FairQueue {
    blocked: bool,
    /// Sessions with a rate.
    limited: u32,
    /// Packets that wait.
    packets: usize,
    bytes: usize,
    /// Sessions with a backlog, and those of them that do not sleep.
    busy: u32,
    awake: u32,
    total: Bucket,
    flows: Vec<Flow>,
    /// Sessions whose queue was empty before, served first; then those in turn.
    fresh: VecDeque<u32>,
    round: VecDeque<u32>,
    naps: Naps,
    chunks: Chunks,
    sizes: Sizes,
    session_chunks: u32,
    quantum: i32,
    epoch: Instant,
    /// The latest time that was told, in nanoseconds.
    last: u64,
    losses: Losses,
}

impl FairQueue {
    /// An empty queue without rates.
    #[must_use]
    pub fn new(limits: FairLimits, now: Instant) -> Self {
        let chunks = |bytes: usize| u32::try_from(bytes.min(MOST) / CHUNK).unwrap_or(u32::MAX);
        let total = chunks(limits.total_bytes).max(1);
        let session_chunks = chunks(limits.session_bytes).clamp(1, total);
        let quantum = limits.quantum.clamp(LEAST_QUANTUM, MOST as u32);
        Self {
            blocked: false,
            limited: 0,
            packets: 0,
            bytes: 0,
            busy: 0,
            awake: 0,
            total: Bucket::default(),
            flows: Vec::new(),
            fresh: VecDeque::new(),
            round: VecDeque::new(),
            naps: Naps::default(),
            chunks: Chunks::new(total),
            sizes: Sizes::new(session_chunks),
            session_chunks,
            quantum: i32::try_from(quantum).unwrap_or(i32::MAX),
            epoch: now,
            last: 0,
            losses: Losses::default(),
        }
    }

    /// Whether every packet passes, whosever it is: then nobody needs to know whose it is.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.packets == 0 && !self.blocked && self.limited == 0 && !self.total.is_limited()
    }

    /// Whether a packet of `len` bytes may go now. Sessions are numbered densely from 0; above 65,535 nothing is queued.
    pub fn offer(&mut self, slot: u32, len: usize, now: Instant) -> Verdict {
        if self.is_idle() {
            return Verdict::Pass;
        }
        // Nobody overtakes those that could go and wait for their turn; those that sleep are overtaken.
        if self.awake == 0 && !self.blocked && self.charge(slot, len, now) {
            return Verdict::Pass;
        }
        if self.has_room(slot, len) {
            Verdict::Queue
        } else {
            self.losses.refused += 1;
            Verdict::Drop
        }
    }

    /// Takes a copy of a packet, after [`Verdict::Queue`]. `false`: it is lost, since the session's share is full.
    pub fn push(&mut self, slot: u32, packet: &[u8]) -> bool {
        if !self.has_room(slot, packet.len()) || !self.make_room(slot, packet.len()) {
            self.losses.refused += 1;
            return false;
        }
        let flow = &mut self.flows[slot as usize];
        let (was, was_empty) = (flow.line.chunks(), flow.line.is_empty());
        self.chunks.append(&mut flow.line, packet);
        self.sizes.change(slot, was, flow.line.chunks());
        self.packets += 1;
        self.bytes += packet.len();
        if was_empty {
            self.busy += 1;
            self.awake += 1;
            if !flow.ringed {
                flow.ringed = true;
                self.fresh.push_back(slot);
                let turn = self.quantum_now();
                self.flows[slot as usize].deficit = turn;
            }
        }
        true
    }

    /// Whether this packet may go now, as [`FairQueue::offer`] says; if not, it waits here or is lost, and is counted then.
    pub fn admit(&mut self, slot: u32, packet: &[u8], now: Instant) -> bool {
        match self.offer(slot, packet.len(), now) {
            Verdict::Pass => true,
            Verdict::Queue => {
                self.push(slot, packet);
                false
            }
            Verdict::Drop => false,
        }
    }

    /// The next packet whose turn it is, copied into `into`.
    pub fn pop_into(&mut self, now: Instant, into: &mut [u8]) -> Pop {
        if self.packets == 0 || self.blocked {
            return Pop::Empty;
        }
        let now = self.nanos(now);
        self.wake(now);
        self.total.refresh(now, 0);
        if !self.total.has_tokens() {
            return Pop::Empty;
        }
        let Some(slot) = self.turn(now) else {
            return Pop::Empty;
        };
        let flow = &mut self.flows[slot as usize];
        let len = self.chunks.first_len(&flow.line);
        let Some(buffer) = into.get_mut(..len) else {
            return Pop::Short(len);
        };
        let was = flow.line.chunks();
        self.chunks.take_first(&mut flow.line, buffer);
        flow.deficit -= i32::try_from(len).unwrap_or(i32::MAX);
        flow.bucket.spend(len);
        self.total.spend(len);
        self.left(slot, was, 1, len);
        Pop::Packet { slot, len }
    }

    /// When [`FairQueue::pop_into`] is worth a call; at once while something could leave. `None` while nothing waits, or only for the
    /// socket. Never too late; sometimes there is nothing to do yet.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.packets == 0 || self.blocked {
            return None;
        }
        let at = if self.awake == 0 {
            self.naps.first()?
        } else if self.total.has_tokens() {
            self.last
        } else {
            self.total.ready_at()
        };
        Some(self.epoch + Duration::from_nanos(at))
    }

    /// Whether the socket refuses more for now: then everything is queued.
    pub fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Whether [`FairQueue::set_blocked`] was last told so.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Bounds one session's rate, or no longer. From the first packet on it is met within 1 % of a second's worth and one packet, also
    /// when timers are 5 ms late. After waiting for its turn a session may send faster, until it has what it missed: a quantum at most.
    pub fn set_rate(&mut self, slot: u32, rate: Option<Rate>) {
        if !self.grow(slot) {
            return;
        }
        let flow = &mut self.flows[slot as usize];
        self.limited -= u32::from(flow.bucket.is_limited());
        flow.bucket.set_rate(rate, self.last);
        self.limited += u32::from(flow.bucket.is_limited());
        if flow.nap == AWAKE {
            return;
        }
        // Its turn comes again, and with it the question whether there are tokens.
        self.naps.cut_short();
        self.rouse(slot);
    }

    /// Bounds the rate of all sessions together, or no longer; as accurate as [`FairQueue::set_rate`].
    pub fn set_total_rate(&mut self, rate: Option<Rate>) {
        self.total.set_rate(rate, self.last);
    }

    /// Forgets a session: its rate and what waits for it.
    pub fn remove(&mut self, slot: u32) {
        self.set_rate_of_known(slot);
        let Some(flow) = self.flows.get_mut(slot as usize) else {
            return;
        };
        let (was, packets) = (flow.line.chunks(), flow.line.packets());
        if packets == 0 {
            return;
        }
        let bytes = self.chunks.clear(&mut flow.line);
        self.losses.evicted += u64::from(packets);
        self.left(slot, was, packets as usize, bytes);
    }

    /// What waits now.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        Backlog {
            sessions: self.busy as usize,
            packets: self.packets,
            bytes: self.bytes,
            memory: self.chunks.taken() as usize * CHUNK,
        }
    }

    /// What was lost since the beginning.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.losses
    }

    fn set_rate_of_known(&mut self, slot: u32) {
        if (slot as usize) < self.flows.len() {
            self.set_rate(slot, None);
        }
    }

    /// Charges the rates for a packet that does not wait; `false` when it has to.
    fn charge(&mut self, slot: u32, len: usize, now: Instant) -> bool {
        let now = self.nanos(now);
        self.total.refresh(now, 0);
        if !self.total.has_tokens() {
            return false;
        }
        if let Some(flow) = self.flows.get_mut(slot as usize) {
            flow.bucket.refresh(now, 0);
            if !flow.line.is_empty() || !flow.bucket.has_tokens() {
                return false;
            }
            flow.bucket.spend(len);
        }
        self.total.spend(len);
        true
    }

    fn nanos(&mut self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.epoch).as_nanos();
        // 2^64 ns are 584 years.
        self.last = self.last.max(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.last
    }
}

#[cfg(test)]
mod tests;
