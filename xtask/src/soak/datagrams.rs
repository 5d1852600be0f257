//! A steady stream of numbered datagrams, one way: which arrived, which did not, which came late
//! or twice, and how long at most none came. It refuses to send one again.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use crate::bench::tunnel::link::inside;
use crate::lab::{Namespace, wait_for};

/// The discard service's own.
const PORT: u16 = 9;

/// 500 a second.
const EVERY: Duration = Duration::from_millis(2);

/// A sender that was kept from sending makes up for it at no more than four times its rate: a
/// burst would try the queues and not the tunnel.
const BREATH: Duration = Duration::from_micros(500);

/// What the smallest holds: its number.
const SMALLEST: usize = 8;

/// What fits into an inner MTU of 1,420 bytes beside the headers of IPv4 and UDP.
const LARGEST: usize = 1_420 - 20 - 8;

/// How often the receiver looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// After the last one was sent: well beyond what any queue on the way can hold back.
const DRAIN: Duration = Duration::from_secs(3);

/// Losses told one by one in a note; what follows is a number.
const TOLD: usize = 6;

/// The length of a datagram: every length in turn, in leaps, as 37 and the span have no common
/// divisor.
fn length(number: u64) -> usize {
    let span = (LARGEST - SMALLEST + 1) as u64;
    SMALLEST + (number.wrapping_mul(37) % span) as usize
}

/// A running stream. Dropping it ends its threads.
#[derive(Debug)]
pub(super) struct Datagrams {
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    full: Arc<AtomicBool>,
    empty: Arc<AtomicBool>,
    sender: Option<JoinHandle<anyhow::Result<()>>>,
    receiver: Option<JoinHandle<anyhow::Result<Tally>>>,
}

impl Datagrams {
    /// Begins to send from `from` to `to`, which is an address of `at`.
    ///
    /// # Errors
    /// When a socket cannot be had.
    pub(super) fn begin(from: &Namespace, at: &Namespace, to: Ipv4Addr) -> anyhow::Result<Self> {
        let receiver = inside(at, || {
            let socket = UdpSocket::bind((to, PORT)).context("cannot receive datagrams")?;
            socket.set_read_timeout(Some(LOOK))?;
            // The receiver's own queue must not be what loses them.
            setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
            Ok(socket)
        })?;
        let sender = inside(from, || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect((to, PORT)).context("no way to it")?;
            Ok(socket)
        })?;
        let (sent, received) = (Arc::default(), Arc::default());
        let (full, empty) = (Arc::default(), Arc::default());
        let (count, stop) = (Arc::clone(&sent), Arc::clone(&full));
        let sending = thread::spawn(move || send(&sender, &count, &stop));
        let (count, stop) = (Arc::clone(&received), Arc::clone(&empty));
        let receiving = thread::spawn(move || receive(&receiver, &count, &stop));
        Ok(Self {
            sent,
            received,
            full,
            empty,
            sender: Some(sending),
            receiver: Some(receiving),
        })
    }

    /// Sent and received so far; those on their way are not yet received.
    pub(super) fn so_far(&self) -> (u64, u64) {
        let received = self.received.load(Ordering::Relaxed);
        (self.sent.load(Ordering::Relaxed), received)
    }

    /// Ends it: no more is sent, those on their way arrive, and all are counted.
    ///
    /// # Errors
    /// When either side failed, or a signal comes.
    pub(super) fn end(mut self) -> anyhow::Result<Tally> {
        self.full.store(true, Ordering::Relaxed);
        let ended = |thread: thread::Result<_>| thread.map_err(|_| anyhow!("a stream panicked"));
        let sender = self.sender.take().context("a stream ends once")?;
        ended(sender.join())??;
        let sent = self.sent.load(Ordering::Relaxed);
        let until = Instant::now() + DRAIN;
        wait_for("the last datagrams", DRAIN * 2, || {
            let all = self.received.load(Ordering::Relaxed) >= sent;
            Ok((all || Instant::now() >= until).then_some(()))
        })?;
        self.empty.store(true, Ordering::Relaxed);
        let receiver = self.receiver.take().context("a stream ends once")?;
        let receiver = receiver.join().map_err(|_| anyhow!("a stream panicked"))?;
        let mut tally = receiver?;
        tally.close(sent);
        Ok(tally)
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.full.store(true, Ordering::Relaxed);
        self.empty.store(true, Ordering::Relaxed);
        if let Some(thread) = self.sender.take() {
            let _ = thread.join();
        }
        if let Some(thread) = self.receiver.take() {
            let _ = thread.join();
        }
    }
}

fn send(socket: &UdpSocket, sent: &AtomicU64, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut memory = [0x5a; LARGEST];
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let number = sent.load(Ordering::Relaxed);
        memory[..SMALLEST].copy_from_slice(&number.to_be_bytes());
        match socket.send(&memory[..length(number)]) {
            Ok(_) => {}
            // A full queue is a loss like any other.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {}
            Err(error) => return Err(error).context("cannot send datagrams"),
        }
        sent.store(number + 1, Ordering::Relaxed);
        due += EVERY;
        thread::sleep(due.saturating_duration_since(Instant::now()).max(BREATH));
    }
    Ok(())
}

fn receive(socket: &UdpSocket, count: &AtomicU64, stop: &AtomicBool) -> anyhow::Result<Tally> {
    let mut memory = [0; 2_048];
    let mut tally = Tally::new(Instant::now());
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut memory) {
            Ok(length) => tally.take(&memory[..length], Instant::now()),
            Err(error) if is_quiet(&error) => {}
            Err(error) => return Err(error).context("cannot receive datagrams"),
        }
        count.store(tally.arrived, Ordering::Relaxed);
    }
    Ok(tally)
}

fn is_quiet(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// What came of a stream.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    begun: Instant,
    last: Instant,
    /// By number; as long as the highest that came, and in the end as many as were sent.
    seen: Vec<bool>,
    /// Different ones.
    pub(super) arrived: u64,
    /// After one with a higher number.
    pub(super) late: u64,
    /// Again.
    pub(super) twice: u64,
    /// Of another length than sent, or none of ours.
    pub(super) strange: u64,
    /// The longest time without an arrival, and when it ended, from the beginning.
    pub(super) gap: (Duration, Duration),
    /// How many were sent.
    pub(super) sent: u64,
}

impl Tally {
    fn new(begun: Instant) -> Self {
        Self {
            begun,
            last: begun,
            seen: Vec::new(),
            arrived: 0,
            late: 0,
            twice: 0,
            strange: 0,
            gap: (Duration::ZERO, Duration::ZERO),
            sent: 0,
        }
    }

    fn take(&mut self, datagram: &[u8], now: Instant) {
        /// A day at this rate; nobody sends a higher number.
        const HIGHEST: u64 = 24 * 60 * 60 * 500 + 500_000;
        let number = datagram
            .first_chunk()
            .map(|bytes| u64::from_be_bytes(*bytes));
        let Some(number) = number.filter(|n| *n < HIGHEST && length(*n) == datagram.len()) else {
            self.strange += 1;
            return;
        };
        let at = number as usize;
        if at < self.seen.len() {
            self.late += u64::from(!self.seen[at]);
        } else {
            self.seen.resize(at + 1, false);
        }
        if self.seen[at] {
            self.twice += 1;
            return;
        }
        self.seen[at] = true;
        self.arrived += 1;
        self.progress(now);
    }

    fn progress(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.last);
        if gap > self.gap.0 {
            self.gap = (gap, now.saturating_duration_since(self.begun));
        }
        self.last = now;
    }

    /// All that will ever come is here; `sent` were sent. A stream that fell silent before its end
    /// has a gap from then on.
    fn close(&mut self, sent: u64) {
        self.sent = sent;
        self.seen.resize(sent as usize, false);
        if self.seen.last() == Some(&false) {
            self.progress(self.begun + EVERY * u32::try_from(sent).unwrap_or(u32::MAX));
        }
    }

    /// How many never came.
    pub(super) fn lost(&self) -> u64 {
        self.sent - self.arrived
    }

    /// Where they were lost: the second of the stream, as sent, and how many in a row.
    pub(super) fn told(&self) -> String {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (number, _) in self.seen.iter().enumerate().filter(|(_, seen)| !**seen) {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == number => *count += 1,
                _ => runs.push((number, 1)),
            }
        }
        let told = runs.iter().take(TOLD).map(|(first, count)| {
            let second = *first as f64 * EVERY.as_secs_f64();
            format!("{count} at {second:.1} s")
        });
        let mut words: Vec<String> = told.collect();
        if runs.len() > TOLD {
            words.push(format!("and at {} more moments", runs.len() - TOLD));
        }
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(number: u64) -> Vec<u8> {
        let mut bytes = vec![0; length(number)];
        bytes[..SMALLEST].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    impl Tally {
        /// Of `sent` datagrams, these came, each 2 ms after the one before.
        pub(in crate::soak) fn of(numbers: &[u64], sent: u64) -> Self {
            let begun = Instant::now();
            let mut tally = Self::new(begun);
            for (at, number) in (1..).zip(numbers) {
                tally.take(&datagram(*number), begun + EVERY * at);
            }
            tally.close(sent);
            tally
        }
    }

    #[test]
    fn every_length_has_its_turn() {
        let span = (LARGEST - SMALLEST + 1) as u64;
        let mut lengths: Vec<usize> = (0..span).map(length).collect();
        lengths.sort_unstable();
        lengths.dedup();
        assert_eq!(lengths.len() as u64, span);
        assert_eq!((lengths[0], lengths.last()), (SMALLEST, Some(&LARGEST)));
    }

    #[test]
    fn what_is_missing_is_told_by_its_moment() {
        let tally = Tally::of(&[0, 1, 4, 5], 8);
        assert_eq!((tally.lost(), tally.arrived), (4, 4));
        assert_eq!(tally.told(), "2 at 0.0 s, 2 at 0.0 s");
        let odd: Vec<u64> = (0..1_000).filter(|n| n % 2 == 0).collect();
        assert!(
            Tally::of(&odd, 1_000)
                .told()
                .ends_with("and at 494 more moments")
        );
        assert_eq!(Tally::of(&[0, 1], 2).told(), "");
    }

    #[test]
    fn late_twice_and_strange_ones_are_none_of_the_lost() {
        let mut tally = Tally::of(&[0, 2, 1, 1, 3], 4);
        assert_eq!((tally.lost(), tally.late, tally.twice), (0, 1, 1));
        tally.take(&datagram(3)[..4], Instant::now());
        tally.take(&[0xff; 64], Instant::now());
        assert_eq!((tally.strange, tally.arrived), (2, 4));
    }

    #[test]
    fn a_stream_that_falls_silent_has_a_gap_to_its_end() {
        assert_eq!(Tally::of(&[0, 1, 2, 3], 4).gap.0, EVERY);
        let silent = Tally::of(&[0, 1], 1_000);
        assert!(silent.gap.0 > EVERY * 990, "{:?}", silent.gap);
        assert!(Tally::of(&[], 1_000).gap.0 > EVERY * 990);
    }
}
