//! For any interleaving of calls: nothing is lost or doubled, order holds, memory is bounded, limits hold.

use proptest::prelude::*;

use super::*;

const SLOTS: u32 = 6;
const LIMITS: FairLimits = FairLimits {
    total_bytes: 200 << 10,
    session_bytes: 80 << 10,
    quantum: 8 << 10,
};

#[derive(Debug, Clone)]
enum Call {
    Send { slot: u32, len: usize, times: u8 },
    Drain { most: u8 },
    Wait { micros: u64 },
    Sleep,
    Block(bool),
    Rate { slot: u32, rate: Option<u64> },
    Total(Option<u64>),
    Remove(u32),
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => Just(64_usize),
        4 => Just(1_420),
        2 => 8_usize..9_000,
        1 => 60_000_usize..90_000,
    ]
}

fn rate() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![Just(None), (1_000_u64..100_000_000).prop_map(Some)]
}

fn call() -> impl Strategy<Value = Call> {
    let slot = 0..SLOTS;
    prop_oneof![
        8 => (slot.clone(), length(), 1_u8..40)
            .prop_map(|(slot, len, times)| Call::Send { slot, len, times }),
        6 => (0_u8..60).prop_map(|most| Call::Drain { most }),
        3 => (0_u64..20_000).prop_map(|micros| Call::Wait { micros }),
        2 => Just(Call::Sleep),
        2 => any::<bool>().prop_map(Call::Block),
        2 => (slot.clone(), rate()).prop_map(|(slot, rate)| Call::Rate { slot, rate }),
        1 => rate().prop_map(Call::Total),
        1 => slot.prop_map(Call::Remove),
    ]
}

/// The queue, and what an onlooker saw of it.
struct Watched {
    queue: FairQueue,
    now: Instant,
    next: u64,
    pushed: u64,
    popped: u64,
    /// The last number that left each session, queued or passed.
    seen: [u64; SLOTS as usize],
    buffer: Vec<u8>,
}

impl Watched {
    fn send(&mut self, slot: u32, len: usize) {
        self.next += 1;
        let empty = self.queue.flows.get(slot as usize);
        let empty = empty.is_none_or(|flow| flow.line.is_empty());
        match self.queue.offer(slot, len, self.now) {
            Verdict::Pass => {
                assert!(empty, "a packet overtook its own session");
                self.seen[slot as usize] = self.next;
            }
            Verdict::Queue => {
                let mut packet = vec![slot as u8; len];
                packet[..8].copy_from_slice(&self.next.to_le_bytes());
                let mut taken = self.queue.losses().refused;
                if self.queue.push(slot, &packet) {
                    self.pushed += 1;
                } else {
                    taken += 1;
                }
                assert_eq!(self.queue.losses().refused, taken);
            }
            Verdict::Drop => {}
        }
    }

    fn drain(&mut self, most: u8) {
        for _ in 0..most {
            match self.queue.pop_into(self.now, &mut self.buffer) {
                Pop::Packet { slot, len } => {
                    let number = u64::from_le_bytes(self.buffer[..8].try_into().unwrap());
                    assert!(number > self.seen[slot as usize], "out of order");
                    assert!(self.buffer[8..len].iter().all(|b| *b == slot as u8));
                    self.seen[slot as usize] = number;
                    self.popped += 1;
                }
                Pop::Short(needed) => panic!("{needed}"),
                Pop::Empty => break,
            }
        }
    }

    fn call(&mut self, call: &Call) {
        match *call {
            Call::Send { slot, len, times } => (0..times).for_each(|_| self.send(slot, len)),
            Call::Drain { most } => self.drain(most),
            Call::Wait { micros } => self.now += Duration::from_micros(micros),
            Call::Sleep => {
                // Waiting as long as the queue asks always brings something within a second naps apart.
                let due = self.queue.poll_timeout();
                self.now = self.now.max(due.unwrap_or(self.now));
                self.drain(1);
            }
            Call::Block(blocked) => self.queue.set_blocked(blocked),
            Call::Rate { slot, rate } => {
                self.queue.set_rate(slot, rate.map(Rate::bytes_per_second));
            }
            Call::Total(rate) => self.queue.set_total_rate(rate.map(Rate::bytes_per_second)),
            Call::Remove(slot) => self.queue.remove(slot),
        }
        self.queue.audit();
        let backlog = self.queue.backlog();
        assert!(backlog.memory <= LIMITS.total_bytes);
        assert!(backlog.bytes <= backlog.memory);
        let there = backlog.packets as u64;
        assert_eq!(
            self.pushed,
            self.popped + self.queue.losses().evicted + there
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_packet_leaves_once_is_lost_once_or_is_still_there(
        calls in prop::collection::vec(call(), 1..120)
    ) {
        let now = start();
        let mut watched = Watched {
            queue: FairQueue::new(LIMITS, now),
            now,
            next: 0,
            pushed: 0,
            popped: 0,
            seen: [0; SLOTS as usize],
            buffer: vec![0; 90_000],
        };
        for call in &calls {
            watched.call(call);
        }
        // What is still there can always be had.
        watched.queue.set_blocked(false);
        watched.queue.set_total_rate(None);
        for slot in 0..SLOTS {
            watched.queue.set_rate(slot, None);
        }
        while watched.queue.backlog().packets > 0 {
            let before = watched.popped;
            watched.drain(255);
            prop_assert!(watched.popped > before);
        }
        watched.call(&Call::Drain { most: 1 });
    }

    #[test]
    fn no_order_of_calls_beats_a_rate(
        rates in prop::collection::vec(10_000_u64..10_000_000, 4),
        total in 20_000_u64..20_000_000,
        steps in prop::collection::vec((0_u32..4, length(), 0_u64..3_000, any::<bool>()), 1..400),
    ) {
        let begin = start();
        let mut queue = queue(begin);
        for (slot, rate) in (0..).zip(&rates) {
            queue.set_rate(slot, Some(Rate::bytes_per_second(*rate)));
        }
        queue.set_total_rate(Some(Rate::bytes_per_second(total)));
        let (mut now, mut sent, mut largest) = (begin, [0_u64; 4], 0_u64);
        let mut buffer = vec![0; 90_000];
        for (slot, len, micros, drains) in steps {
            now += Duration::from_micros(micros);
            largest = largest.max(len as u64);
            match queue.offer(slot, len, now) {
                Verdict::Pass => sent[slot as usize] += len as u64,
                Verdict::Queue => assert!(queue.push(slot, &buffer[..len])),
                Verdict::Drop => {}
            }
            while drains && let Pop::Packet { slot, len } = queue.pop_into(now, &mut buffer) {
                sent[slot as usize] += len as u64;
            }
            // What flowed in, what a pause saves, and the one packet that is lent.
            let passed = (now - begin).as_micros() as u64;
            let most = |rate: u64| rate * (passed + 10_000) / 1_000_000 + 1 + largest;
            for (sent, rate) in sent.iter().zip(&rates) {
                prop_assert!(*sent <= most(*rate), "{sent} {rate} {passed}");
            }
            prop_assert!(sent.iter().sum::<u64>() <= most(total));
        }
    }
}
