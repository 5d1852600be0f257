//! What holds for every order of calls, and how well it shares.
#![allow(clippy::unwrap_used)]

mod rates;
mod sharing;
mod soundness;

use super::*;

#[allow(
    clippy::disallowed_methods,
    reason = "a test needs some moment to begin at; what follows is arithmetic"
)]
fn start() -> Instant {
    Instant::now()
}

fn queue(now: Instant) -> FairQueue {
    FairQueue::new(FairLimits::default(), now)
}

/// Small numbers that differ; the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// (Σx)² / n·Σx²: 1 when all have the same, 1/n when one has all.
fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|x| *x as f64).sum();
    let squares: f64 = shares.iter().map(|x| (*x as f64).powi(2)).sum();
    sum * sum / (shares.len() as f64 * squares)
}

impl FairQueue {
    /// Recounts everything that is kept as a running number.
    fn audit(&mut self) {
        let busy = |flow: &&Flow| !flow.line.is_empty();
        let flows = || self.flows.iter();
        assert_eq!(self.busy as usize, flows().filter(busy).count());
        let awake = flows().filter(busy).filter(|flow| flow.nap == AWAKE);
        assert_eq!(self.awake as usize, awake.count());
        let limited = flows().filter(|flow| flow.bucket.is_limited());
        assert_eq!(self.limited as usize, limited.count());
        let chunks: u32 = flows().map(|flow| flow.line.chunks()).sum();
        assert_eq!(chunks, self.chunks.taken());
        let packets: u32 = flows().map(|flow| flow.line.packets()).sum();
        assert_eq!(packets as usize, self.packets);
        let fattest = flows().map(|flow| flow.line.chunks()).max();
        assert_eq!(fattest.unwrap_or(0), self.sizes.fattest().1);
        assert!(fattest.unwrap_or(0) <= self.session_chunks);
        let ringed: Vec<u32> = self.fresh.iter().chain(&self.round).copied().collect();
        for (slot, flow) in self.flows.iter().enumerate() {
            let times = ringed.iter().filter(|s| **s as usize == slot).count();
            assert_eq!(times, usize::from(flow.ringed), "{slot}");
            let waits = !flow.line.is_empty() && flow.nap == AWAKE;
            assert!(!waits || flow.ringed, "{slot} is never served");
            assert!(flow.nap == AWAKE || !flow.line.is_empty(), "{slot} sleeps");
        }
    }
}

#[test]
fn without_limits_and_with_a_free_socket_nothing_is_looked_up() {
    let now = start();
    let mut queue = queue(now);
    for slot in [0, 7, 65_535, u32::MAX] {
        assert_eq!(queue.offer(slot, 65_535, now), Verdict::Pass);
    }
    assert!(queue.flows.is_empty());
    assert_eq!(queue.poll_timeout(), None);
    assert_eq!(queue.pop_into(now, &mut []), Pop::Empty);
}

#[test]
fn a_full_socket_holds_everything_back_and_a_free_one_takes_it_in_order() {
    let now = start();
    let mut queue = queue(now);
    let mut buffer = [0; 100];
    queue.set_blocked(true);
    assert!(queue.is_blocked());
    for n in 0..3_u8 {
        assert_eq!(queue.offer(1, 10, now), Verdict::Queue);
        assert!(queue.push(1, &[n; 10]));
    }
    assert_eq!(queue.poll_timeout(), None, "only the socket can help");
    assert_eq!(queue.pop_into(now, &mut buffer), Pop::Empty);
    queue.set_blocked(false);
    assert_eq!(queue.poll_timeout(), Some(now), "there is something to do");
    // Nobody overtakes, not even another session.
    assert_eq!(queue.offer(2, 10, now), Verdict::Queue);
    for n in 0..3 {
        let popped = queue.pop_into(now, &mut buffer);
        assert_eq!(popped, Pop::Packet { slot: 1, len: 10 });
        assert_eq!(buffer[..10], [n; 10]);
    }
    assert_eq!(queue.backlog(), Backlog::default());
    assert_eq!(queue.offer(2, 10, now), Verdict::Pass);
}

#[test]
fn a_buffer_too_short_loses_nothing() {
    let now = start();
    let mut queue = queue(now);
    queue.push(3, &[1; 1_420]);
    assert_eq!(queue.pop_into(now, &mut [0; 1_419]), Pop::Short(1_420));
    let popped = queue.pop_into(now, &mut [0; 1_420]);
    assert_eq!(
        popped,
        Pop::Packet {
            slot: 3,
            len: 1_420
        }
    );
}

#[test]
fn a_session_without_a_backlog_costs_little() {
    // Itself, its link among the sizes, its place in a ring and its nap.
    let cost = size_of::<Flow>() + 8 + 4 + 16;
    assert!(cost <= 128, "{cost}");
}

#[test]
fn a_removed_session_leaves_nothing_behind() {
    let now = start();
    let mut queue = queue(now);
    queue.set_rate(4, Some(Rate::bytes_per_second(1)));
    assert_eq!(queue.offer(4, 1_000, now), Verdict::Pass);
    for _ in 0..2 {
        assert_eq!(queue.offer(4, 1_000, now), Verdict::Queue);
        queue.push(4, &[0; 1_000]);
    }
    assert_eq!(queue.pop_into(now, &mut [0; 1_000]), Pop::Empty);
    assert_eq!(queue.backlog().sessions, 1);
    queue.remove(4);
    queue.remove(5);
    queue.audit();
    assert_eq!(queue.backlog(), Backlog::default());
    assert_eq!(queue.losses().evicted, 2);
    assert_eq!(queue.offer(4, 1_000, now), Verdict::Pass, "and has no rate");
}
