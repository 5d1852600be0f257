//! Rates are met within 3 % over a second: whatever the packets, however the caller calls.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// How packets come.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// There is always another one.
    Greedy,
    /// So many at once, in each period: a sender whose window opens.
    Burst { packets: u32, every: Duration },
}

/// How the caller keeps time.
#[derive(Debug, Clone, Copy)]
enum Caller {
    /// Sleeps as it is told and wakes up to 5 ms late.
    Late,
    /// Looks every 4 ms, whatever it is told.
    Lazy,
    /// Looks every 37 µs.
    Busy,
}

struct Run {
    queue: FairQueue,
    begin: Instant,
    now: Instant,
    sizes: &'static [usize],
    waiting: Vec<u32>,
    sent: Vec<u64>,
    buffer: Vec<u8>,
    chance: Chance,
}

impl Run {
    fn new(sessions: usize, sizes: &'static [usize]) -> Self {
        let begin = start();
        Self {
            queue: queue(begin),
            begin,
            now: begin,
            sizes,
            waiting: vec![0; sessions],
            sent: vec![0; sessions],
            buffer: vec![0; 65_535],
            chance: Chance(sessions as u64),
        }
    }

    /// Offers one packet; `false` when the session has enough waiting.
    fn offer(&mut self, slot: usize) -> bool {
        let len = self.sizes[self.chance.below(self.sizes.len() as u64) as usize];
        match self.queue.offer(slot as u32, len, self.now) {
            Verdict::Pass => self.sent[slot] += len as u64,
            Verdict::Queue if self.queue.push(slot as u32, &self.buffer[..len]) => {
                self.waiting[slot] += 1;
            }
            Verdict::Queue | Verdict::Drop => return false,
        }
        true
    }

    fn greed(&mut self, slot: usize) {
        while self.waiting[slot] < 3 && self.offer(slot) {}
    }

    /// Runs for a second from the beginning of the run, or on for another one.
    fn run(&mut self, source: Source, caller: Caller) {
        let end = self.now + SECOND;
        let mut burst = self.now;
        (0..self.sent.len()).for_each(|slot| self.greed(slot));
        while self.now < end {
            if let Source::Burst { packets, every } = source
                && self.now >= burst
            {
                burst += every;
                for slot in 0..self.sent.len() {
                    (0..packets).for_each(|_| _ = self.offer(slot));
                }
            }
            while let Pop::Packet { slot, len } = self.queue.pop_into(self.now, &mut self.buffer) {
                self.sent[slot as usize] += len as u64;
                self.waiting[slot as usize] -= 1;
                if let Source::Greedy = source {
                    self.greed(slot as usize);
                }
            }
            let late = Duration::from_micros(self.chance.below(5_000));
            let next = match caller {
                Caller::Late => self.queue.poll_timeout().unwrap_or(end).max(self.now) + late,
                Caller::Lazy => self.now + Duration::from_millis(4),
                Caller::Busy => self.now + Duration::from_micros(37),
            };
            self.now = match source {
                Source::Greedy => next,
                Source::Burst { .. } => next.min(burst.max(self.now)),
            };
        }
    }

    /// Every session within 3 % of `rate` for the time that has really passed.
    fn check(&self, rate: u64, what: &str) {
        let expect = rate as f64 * (self.now - self.begin).as_secs_f64();
        for (slot, sent) in self.sent.iter().enumerate() {
            let error = *sent as f64 / expect - 1.0;
            assert!(error.abs() <= 0.03, "{what}: session {slot} off by {error}");
        }
    }
}

#[test]
fn one_session_gets_its_rate() {
    const MIXES: [&[usize]; 4] = [&[64], &[1_420], &[64, 1_420, 576], &[9_000, 64]];
    let bursts = Source::Burst {
        packets: 200,
        every: Duration::from_millis(10),
    };
    for rate in [1_000_000, 12_500_000] {
        for sizes in MIXES {
            for caller in [Caller::Late, Caller::Lazy, Caller::Busy] {
                for source in [Source::Greedy, bursts] {
                    let mean = sizes.iter().sum::<usize>() as u64 / sizes.len() as u64;
                    let offered = mean * 200 * 100;
                    if matches!(source, Source::Burst { .. }) && offered < 2 * rate {
                        continue;
                    }
                    let mut run = Run::new(1, sizes);
                    run.queue.set_rate(0, Some(Rate::bytes_per_second(rate)));
                    run.run(source, caller);
                    run.check(rate, &format!("{rate} {sizes:?} {caller:?} {source:?}"));
                }
            }
        }
    }
}

#[test]
fn a_gigabit_of_super_packets_is_met_too() {
    for caller in [Caller::Late, Caller::Lazy] {
        let mut run = Run::new(1, &[65_535]);
        run.queue
            .set_rate(0, Some(Rate::bits_per_second(1_000_000_000)));
        run.run(Source::Greedy, caller);
        run.check(125_000_000, "super-packets");
    }
}

#[test]
fn a_thousand_sessions_get_their_rate_each() {
    let mut run = Run::new(1_000, &[64, 1_420]);
    for slot in 0..1_000 {
        run.queue
            .set_rate(slot, Some(Rate::bytes_per_second(150_000)));
    }
    run.run(Source::Greedy, Caller::Late);
    run.check(150_000, "one of a thousand");
    run.queue.audit();
}

#[test]
fn the_total_is_met_and_shared_by_a_thousand() {
    let mut run = Run::new(1_000, &[64, 1_420]);
    run.queue
        .set_total_rate(Some(Rate::bytes_per_second(60_000_000)));
    run.run(Source::Greedy, Caller::Late);
    let expect = 60_000_000.0 * (run.now - run.begin).as_secs_f64();
    let error = run.sent.iter().sum::<u64>() as f64 / expect - 1.0;
    assert!(error.abs() <= 0.03, "{error}");
}

#[test]
fn what_the_limited_leave_of_the_total_goes_to_the_others() {
    let mut run = Run::new(10, &[1_420]);
    run.queue
        .set_total_rate(Some(Rate::bytes_per_second(10_000_000)));
    for slot in 0..5 {
        run.queue
            .set_rate(slot, Some(Rate::bytes_per_second(200_000)));
    }
    run.run(Source::Greedy, Caller::Late);
    let seconds = (run.now - run.begin).as_secs_f64();
    for (slot, sent) in run.sent.iter().enumerate() {
        let expect = if slot < 5 { 200_000.0 } else { 1_800_000.0 } * seconds;
        let error = *sent as f64 / expect - 1.0;
        assert!(error.abs() <= 0.03, "session {slot} off by {error}");
    }
}

#[test]
fn an_unlimited_session_is_not_held_up_by_one_that_sleeps() {
    let now = start();
    let mut queue = queue(now);
    queue.set_rate(0, Some(Rate::bytes_per_second(1_000)));
    assert_eq!(queue.offer(0, 1_420, now), Verdict::Pass, "one is lent");
    assert_eq!(queue.offer(0, 1_420, now), Verdict::Queue);
    queue.push(0, &[0; 1_420]);
    assert_eq!(queue.pop_into(now, &mut [0; 1_500]), Pop::Empty);
    assert_eq!(queue.offer(1, 1_420, now), Verdict::Pass);
    // 1,410 bytes of debt and a millisecond's worth, on the next full millisecond.
    assert_eq!(
        queue.poll_timeout(),
        Some(now + Duration::from_millis(1_411))
    );
    // A higher rate is not slept through.
    queue.set_rate(0, Some(Rate::bytes_per_second(1_000_000)));
    assert!(queue.poll_timeout().unwrap() <= now);
    let soon = now + Duration::from_millis(3);
    let popped = queue.pop_into(soon, &mut [0; 1_500]);
    assert_eq!(
        popped,
        Pop::Packet {
            slot: 0,
            len: 1_420
        }
    );
}

#[test]
fn naps_cost_a_wake_up_each_millisecond_at_most() {
    let mut run = Run::new(200, &[1_420]);
    for slot in 0..200 {
        let rate = 1_000_000 + u64::from(slot) * 1_000;
        run.queue.set_rate(slot, Some(Rate::bytes_per_second(rate)));
    }
    (0..200).for_each(|slot| run.greed(slot));
    let mut wake_ups = 0;
    while let Some(due) = run
        .queue
        .poll_timeout()
        .filter(|due| *due < run.begin + SECOND)
    {
        run.now = run.now.max(due);
        wake_ups += 1;
        while let Pop::Packet { slot, .. } = run.queue.pop_into(run.now, &mut run.buffer) {
            run.waiting[slot as usize] -= 1;
            run.greed(slot as usize);
        }
    }
    assert!((500..=1_000).contains(&wake_ups), "{wake_ups}");
}

#[test]
fn a_slow_total_keeps_rounds_short() {
    let mut run = Run::new(10, &[1_420]);
    run.queue
        .set_total_rate(Some(Rate::bits_per_second(20_000_000)));
    (0..10).for_each(|slot| run.greed(slot));
    let mut last = [run.now; 10];
    let mut longest = Duration::ZERO;
    while run.now < run.begin + SECOND {
        run.now = run.now.max(run.queue.poll_timeout().unwrap());
        while let Pop::Packet { slot, .. } = run.queue.pop_into(run.now, &mut run.buffer) {
            longest = longest.max(run.now - last[slot as usize]);
            last[slot as usize] = run.now;
            run.waiting[slot as usize] -= 1;
            run.greed(slot as usize);
        }
    }
    // Quanta of 64 KiB would take 262 ms a round.
    let round = Duration::from_millis(ROUND_MILLIS);
    assert!(longest >= round / 4 && longest <= 2 * round, "{longest:?}");
}
