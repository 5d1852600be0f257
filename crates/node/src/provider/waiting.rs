//! Packets of sessions whose credit is used up while their payment is on its way: dropped, they would cost a stream inside more time
//! than the payment takes. They wait here, in order, for a moment, and leave when the gate opens.
//!
//! It refuses to give credit: the gate is asked when a packet leaves, never when it begins to wait. And to wait for those who do not
//! pay: [`PATIENCE`] after a gate has closed, what waits is dropped, and so is what comes later, until it opens. Those who have
//! never paid get longer, as the first payment takes more round trips, and almost no room.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use wayfare_session::Exit;

/// A payment takes two round trips, consumer and Hermes, and a few milliseconds: 0.6 s across an ocean and through a relay. A
/// connection's first packet sent again after that second would be later than one that has waited.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first payment comes after four or five round trips: the stream is opened, the invoice told.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// Before the first payment, in bytes: a few connections may begin.
const FIRST_BYTES: usize = 4 << 10;
/// One session's packets in one direction, in bytes: a stream's usual window, so that none of it is lost.
const SESSION_BYTES: usize = 4 << 20;
/// All sessions' packets in one direction, in bytes. Both directions at worst: 64 MiB, and a sixth of it for their places.
const TOTAL_BYTES: usize = 32 << 20;
/// What a packet is counted with beside its bytes: the smallest ones must not need more memory than they count.
const PLACE: usize = 48;

/// Both directions.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom {
    pub(crate) up: Waiting,
    pub(crate) down: Waiting,
}

impl WaitingRoom {
    /// A new session has this slot: what the one before it left is forgotten.
    pub(crate) fn open(&mut self, slot: u32) {
        self.up.remove(slot);
        self.down.remove(slot);
    }

    /// Takes a packet for a consumer whose gate is closed. `false`: it is lost.
    pub(crate) fn hold_down(
        &mut self,
        exit: &Exit,
        slot: u32,
        packet: &[u8],
        now: Instant,
    ) -> bool {
        terms(exit, slot, now).is_some_and(|terms| self.down.push(slot, packet, terms))
    }

    /// Takes a packet of a consumer whose gate is closed. `false`: it is lost.
    pub(crate) fn hold_up(
        &mut self,
        exit: &mut Exit,
        slot: u32,
        packet: &[u8],
        now: Instant,
    ) -> bool {
        let held = terms(exit, slot, now).is_some_and(|terms| self.up.push(slot, packet, terms));
        if held {
            exit.set_waiting(slot, true);
        }
        held
    }

    /// The next packet for a consumer that may leave now, to be sealed at once.
    pub(crate) fn release_down(
        &mut self,
        exit: &mut Exit,
        into: &mut [u8],
        now: Instant,
    ) -> Option<usize> {
        let may_leave = |slot, _| exit.may_leave(slot, now);
        self.down.next(into, may_leave).map(|(_, len)| len)
    }

    /// The next packet of a consumer that may leave now; it is counted.
    pub(crate) fn release_up(
        &mut self,
        exit: &mut Exit,
        into: &mut [u8],
        now: Instant,
    ) -> Option<usize> {
        let may_leave = |slot, bytes| exit.pass_up(slot, bytes, now);
        let (slot, len) = self.up.next(into, may_leave)?;
        if !self.up.holds(slot) {
            exit.set_waiting(slot, false);
        }
        Some(len)
    }

    /// When something may leave or has waited long enough.
    pub(crate) fn poll_timeout(&self, exit: &Exit, now: Instant) -> Option<Instant> {
        let both = [&self.up, &self.down];
        both.into_iter()
            .filter_map(|waiting| waiting.poll_timeout(|slot| exit.is_open(slot), now))
            .min()
    }

    /// Drops what has waited long enough.
    pub(crate) fn handle_timeout(&mut self, exit: &mut Exit, now: Instant) {
        self.down.expire(|slot| exit.is_open(slot), now);
        for slot in self.up.expire(|slot| exit.is_open(slot), now) {
            exit.set_waiting(slot, false);
        }
    }
}

/// On what terms a session's packets wait.
#[derive(Debug, Clone, Copy)]
struct Terms {
    until: Instant,
    /// In one direction.
    most_bytes: usize,
}

/// `None` where no payment is to be expected any more.
fn terms(exit: &Exit, slot: u32, now: Instant) -> Option<Terms> {
    if exit.is_open(slot) {
        // Behind those that are about to leave.
        return Some(Terms {
            until: now + PATIENCE,
            most_bytes: SESSION_BYTES,
        });
    }
    let awaited = exit.awaited_payment(slot)?;
    let (patience, most_bytes) = match awaited.is_first {
        true => (FIRST_PATIENCE, FIRST_BYTES),
        false => (PATIENCE, SESSION_BYTES),
    };
    let until = awaited.since + patience;
    (until > now).then_some(Terms { until, most_bytes })
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    lines: BTreeMap<u32, Line>,
    bytes: usize,
}

/// One session's packets; never empty.
#[derive(Debug)]
struct Line {
    packets: VecDeque<Box<[u8]>>,
    bytes: usize,
    until: Instant,
}

impl Waiting {
    /// Nobody's packets wait.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Packets of this session wait: what comes later has to wait behind them.
    pub(crate) fn holds(&self, slot: u32) -> bool {
        self.lines.contains_key(&slot)
    }

    /// `false`: there is no room.
    fn push(&mut self, slot: u32, packet: &[u8], terms: Terms) -> bool {
        let size = packet.len() + PLACE;
        let line_bytes = self.lines.get(&slot).map_or(0, |line| line.bytes);
        if line_bytes + size > terms.most_bytes || self.bytes + size > TOTAL_BYTES {
            return false;
        }
        let line = self.lines.entry(slot).or_insert_with(|| Line {
            packets: VecDeque::new(),
            bytes: 0,
            until: terms.until,
        });
        line.packets.push_back(packet.into());
        line.bytes += size;
        line.until = terms.until;
        self.bytes += size;
        true
    }

    /// The first packet of a session that lets it leave, asked with its length. One session's leave before another's, so that
    /// they make long trains; each has a bounded number of them.
    fn next(
        &mut self,
        into: &mut [u8],
        mut may_leave: impl FnMut(u32, usize) -> bool,
    ) -> Option<(u32, usize)> {
        let (slot, len) = self.lines.iter().find_map(|(slot, line)| {
            let len = line.packets.front()?.len();
            (len <= into.len() && may_leave(*slot, len)).then_some((*slot, len))
        })?;
        let line = self.lines.get_mut(&slot)?;
        let packet = line.packets.pop_front()?;
        into[..len].copy_from_slice(&packet);
        line.bytes -= len + PLACE;
        self.bytes -= len + PLACE;
        if line.packets.is_empty() {
            self.lines.remove(&slot);
        }
        Some((slot, len))
    }

    fn remove(&mut self, slot: u32) {
        if let Some(line) = self.lines.remove(&slot) {
            self.bytes -= line.bytes;
        }
    }

    fn poll_timeout(&self, is_open: impl Fn(u32) -> bool, now: Instant) -> Option<Instant> {
        let due = |(slot, line): (&u32, &Line)| if is_open(*slot) { now } else { line.until };
        self.lines.iter().map(due).min()
    }

    /// Drops the lines that nobody pays for; whose they were.
    fn expire(&mut self, is_open: impl Fn(u32) -> bool, now: Instant) -> Vec<u32> {
        let is_over =
            |(slot, line): (&u32, &Line)| (now >= line.until && !is_open(*slot)).then_some(*slot);
        let over: Vec<u32> = self.lines.iter().filter_map(is_over).collect();
        over.iter().for_each(|slot| self.remove(*slot));
        over
    }
}

#[cfg(test)]
mod tests {
    use wayfare_transport::Clock;

    use super::*;

    fn usual(until: Instant) -> Terms {
        Terms {
            until,
            most_bytes: SESSION_BYTES,
        }
    }

    fn drain(waiting: &mut Waiting, open: &[u32]) -> Vec<(u32, u8)> {
        let mut into = [0; 2_048];
        let mut left = Vec::new();
        while let Some((slot, len)) = waiting.next(&mut into, |slot, _| open.contains(&slot)) {
            assert!(len >= 1);
            left.push((slot, into[0]));
        }
        left
    }

    #[test]
    fn packets_leave_in_order_when_their_own_gate_opens() {
        let mut waiting = Waiting::default();
        let terms = usual(Clock::now() + PATIENCE);
        for number in 0..4 {
            assert!(waiting.push(u32::from(number % 2), &[number; 100], terms));
        }
        assert!(drain(&mut waiting, &[]).is_empty());
        assert_eq!(drain(&mut waiting, &[1]), [(1, 1), (1, 3)]);
        assert!(waiting.holds(0) && !waiting.holds(1));
        assert!(waiting.push(0, &[9], terms));
        assert_eq!(drain(&mut waiting, &[0, 1]), [(0, 0), (0, 2), (0, 9)]);
        assert!(waiting.is_empty());
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn the_gate_is_asked_for_each_packet_that_leaves_and_not_for_one_that_does_not_fit() {
        let mut waiting = Waiting::default();
        let terms = usual(Clock::now() + PATIENCE);
        for length in [10, 20, 30] {
            assert!(waiting.push(7, &vec![0; length], terms));
        }
        let (mut credit, mut asked) = (35, Vec::new());
        let mut into = [0; 25];
        let mut may_leave = |slot, len| {
            asked.push((slot, len));
            credit >= len && {
                credit -= len;
                true
            }
        };
        assert_eq!(waiting.next(&mut into, &mut may_leave), Some((7, 10)));
        assert_eq!(waiting.next(&mut into, &mut may_leave), Some((7, 20)));
        assert_eq!(waiting.next(&mut into, &mut may_leave), None, "too long");
        assert_eq!(waiting.next(&mut [0; 30], &mut may_leave), None, "unpaid");
        assert_eq!(asked, [(7, 10), (7, 20), (7, 30)]);
        assert!(waiting.holds(7));
    }

    #[test]
    fn one_session_and_all_of_them_are_bounded() {
        let mut waiting = Waiting::default();
        let terms = usual(Clock::now() + PATIENCE);
        let packet = [0; 1_420];
        let fill = |waiting: &mut Waiting, slot| {
            (0..)
                .take_while(|_| waiting.push(slot, &packet, terms))
                .count()
        };
        let each = SESSION_BYTES / (1_420 + PLACE);
        assert_eq!(fill(&mut waiting, 0), each);
        for slot in 1..8 {
            assert_eq!(fill(&mut waiting, slot), each);
        }
        assert!(fill(&mut waiting, 8) < each);
        assert!(waiting.bytes <= TOTAL_BYTES);
        // Who has not paid yet has room for the beginning of a connection or two.
        let first = Terms {
            most_bytes: FIRST_BYTES,
            ..terms
        };
        assert!(waiting.push(9, &[0; 60], first) && !waiting.push(9, &[0; FIRST_BYTES], first));
        waiting.remove(9);
        // Whoever leaves makes room.
        waiting.remove(3);
        assert!(fill(&mut waiting, 8) > 0);
        (0..=8).for_each(|slot| waiting.remove(slot));
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn who_is_not_paid_for_in_time_is_dropped_and_who_is_leaves_at_once() {
        let mut waiting = Waiting::default();
        let now = Clock::now();
        let (soon, later) = (now + PATIENCE, now + 2 * PATIENCE);
        assert_eq!(waiting.poll_timeout(|_| false, now), None);
        assert!(waiting.push(1, &[1], usual(soon)) && waiting.push(2, &[2], usual(later)));
        assert_eq!(waiting.poll_timeout(|_| false, now), Some(soon));
        assert_eq!(waiting.poll_timeout(|slot| slot == 2, now), Some(now));
        assert!(
            waiting
                .expire(|_| false, soon - Duration::from_nanos(1))
                .is_empty()
        );
        // Its gate has opened: its time does not matter.
        assert!(waiting.expire(|slot| slot == 1, soon).is_empty());
        assert_eq!(waiting.expire(|_| false, soon), [1]);
        assert_eq!(drain(&mut waiting, &[1, 2]), [(2, 2)]);
    }
}
