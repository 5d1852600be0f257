//! Who gets how much of a socket that takes less than is offered, and who loses when memory is short.

use super::*;

/// Lets each of `greedy` keep its queue as full as it may be, of packets of its own size, and the socket take one packet at a time.
struct Crowd {
    queue: FairQueue,
    now: Instant,
    sizes: Vec<usize>,
    sent: Vec<u64>,
    buffer: Vec<u8>,
}

impl Crowd {
    fn new(sizes: Vec<usize>, total_bytes: usize) -> Self {
        let now = start();
        let limits = FairLimits {
            total_bytes,
            ..FairLimits::default()
        };
        let mut queue = FairQueue::new(limits, now);
        queue.set_blocked(true);
        let mut crowd = Self {
            queue,
            now,
            sent: vec![0; sizes.len()],
            sizes,
            buffer: vec![0; 65_535],
        };
        for _ in 0..64 {
            (0..crowd.sizes.len()).for_each(|slot| crowd.feed(slot));
        }
        crowd.queue.set_blocked(false);
        crowd
    }

    fn feed(&mut self, slot: usize) {
        let len = self.sizes[slot];
        if self.queue.offer(slot as u32, len, self.now) == Verdict::Queue {
            self.queue.push(slot as u32, &self.buffer[..len]);
        }
    }

    /// One packet leaves; its session, and a session by lot, offer two more.
    fn step(&mut self, chance: &mut Chance) -> u32 {
        let Pop::Packet { slot, len } = self.queue.pop_into(self.now, &mut self.buffer) else {
            panic!("there is a backlog");
        };
        self.sent[slot as usize] += len as u64;
        let other = chance.below(self.sizes.len() as u64) as usize;
        for slot in [slot as usize, slot as usize, other] {
            self.feed(slot);
        }
        slot
    }
}

#[test]
fn a_thousand_greedy_sessions_get_the_same_whatever_the_size_of_their_packets() {
    let sizes = (0..1_000).map(|n| [64, 300, 576, 1_420][n % 4]).collect();
    let mut crowd = Crowd::new(sizes, 8 << 20);
    let mut chance = Chance(1);
    for _ in 0..800_000 {
        crowd.step(&mut chance);
    }
    crowd.queue.audit();
    let index = jain(&crowd.sent);
    assert!(index >= 0.95, "{index}");
}

#[test]
fn super_packets_and_small_ones_share_alike() {
    let sizes = (0..1_000).map(|n| [65_535, 1_420][n % 2]).collect();
    let mut crowd = Crowd::new(sizes, 64 << 20);
    let mut chance = Chance(2);
    for _ in 0..240_000 {
        crowd.step(&mut chance);
    }
    crowd.queue.audit();
    let index = jain(&crowd.sent);
    assert!(index >= 0.95, "{index}");
}

#[test]
fn a_light_session_among_hogs_waits_a_round_at_most() {
    const LIGHT: u32 = 999;
    let mut crowd = Crowd::new(vec![1_420; LIGHT as usize], 8 << 20);
    let mut chance = Chance(3);
    let mut at_once = 0;
    // All of them were newcomers once.
    while !crowd.queue.fresh.is_empty() {
        crowd.step(&mut chance);
    }
    for packet in (0..40).map(|n| [n; 100]) {
        for _ in 0..200 {
            crowd.step(&mut chance);
        }
        let flow = crowd.queue.flows.get(LIGHT as usize);
        let rested = flow.is_none_or(|flow| !flow.ringed);
        assert_eq!(crowd.queue.offer(LIGHT, 100, crowd.now), Verdict::Queue);
        assert!(crowd.queue.push(LIGHT, &packet), "not refused for the hogs");
        let before = crowd.sent.clone();
        let mut waited = 0;
        loop {
            let popped = crowd.queue.pop_into(crowd.now, &mut crowd.buffer);
            let Pop::Packet { slot, len } = popped else {
                panic!("{popped:?}");
            };
            if slot == LIGHT {
                assert_eq!(crowd.buffer[..100], packet);
                break;
            }
            crowd.sent[slot as usize] += len as u64;
            waited += 1;
            crowd.feed(slot as usize);
        }
        for (now, before) in crowd.sent.iter().zip(before) {
            assert!(now - before <= (64 << 10) + 1_420, "more than a turn");
        }
        // Silent for a round, it is served before everybody else.
        assert!(waited == 0 || !rested, "{waited}");
        at_once += u32::from(rested);
    }
    assert!(at_once >= 2, "{at_once}");
}

#[test]
fn a_session_is_not_fresh_twice_in_a_round() {
    let mut crowd = Crowd::new(vec![1_420; 9], 8 << 20);
    let mut chance = Chance(4);
    // It sends less than a quantum whenever it has nothing queued: as often served first it would have most of the socket.
    let mut sly = 0;
    for _ in 0..20_000 {
        if crowd
            .queue
            .flows
            .get(9)
            .is_none_or(|flow| flow.line.is_empty())
        {
            crowd.queue.push(9, &[0; 60_000]);
        }
        let popped = crowd.queue.pop_into(crowd.now, &mut crowd.buffer);
        let Pop::Packet { slot, len } = popped else {
            panic!("{popped:?}");
        };
        if slot == 9 {
            sly += len as u64;
        } else {
            crowd.sent[slot as usize] += len as u64;
            crowd.feed(chance.below(9) as usize);
            crowd.feed(slot as usize);
        }
    }
    let honest = crowd.sent.iter().sum::<u64>() / 9;
    assert!(sly <= honest + (128 << 10), "{sly} {honest}");
}

#[test]
fn the_fattest_loses_first() {
    let now = start();
    let mut queue = queue(now);
    queue.set_blocked(true);
    let packet = [0; 1_420];
    // Thirty-two hogs fill the memory, each its share.
    for slot in 0..33 {
        while queue.offer(slot, packet.len(), now) == Verdict::Queue {
            assert!(queue.push(slot, &packet));
        }
    }
    let full = FairLimits::default();
    assert_eq!(queue.backlog().memory, full.total_bytes);
    assert!(
        queue.losses().evicted > 0,
        "the last hog took from the others"
    );
    // A newcomer is served whatever the hogs hold, up to as much as they are left with.
    let mut taken = 0;
    while queue.offer(100, 60_000, now) == Verdict::Queue {
        assert!(queue.push(100, &[0; 60_000]));
        taken += 1;
    }
    assert_eq!(taken, 4, "240,000 bytes of 256 KiB");
    // Four thousand newcomers more: a chunk for each.
    for slot in 200..4_000 {
        assert_eq!(queue.offer(slot, 1_420, now), Verdict::Queue, "{slot}");
        assert!(queue.push(slot, &packet));
    }
    assert_eq!(queue.backlog().memory, full.total_bytes);
    queue.audit();
}

#[test]
fn one_session_holds_no_more_than_its_share() {
    let now = start();
    let mut queue = queue(now);
    queue.set_blocked(true);
    while queue.offer(0, 9_000, now) == Verdict::Queue {
        queue.push(0, &[0; 9_000]);
    }
    assert_eq!(queue.offer(0, 9_000, now), Verdict::Drop);
    assert!(!queue.push(0, &[0; 9_000]), "also when nobody asked");
    let backlog = queue.backlog();
    assert!(backlog.memory <= FairLimits::default().session_bytes);
    assert!(backlog.bytes > (256 << 10) - 9_000 - 2_048);
    for slot in [65_536, u32::MAX] {
        assert_eq!(queue.offer(slot, 1, now), Verdict::Drop, "no such session");
        assert!(!queue.push(slot, &[0]));
        queue.set_rate(slot, Some(Rate::bytes_per_second(1)));
        queue.remove(slot);
    }
}
