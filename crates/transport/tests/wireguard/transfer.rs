//! A hundred megabytes over TCP, every byte of them compared at the far end.
//!
//! Both ends draw the same pseudo-random stream, so the receiver knows each byte that must come:
//! a lost, repeated, exchanged or altered one has a position. It refuses to hurry or to wait by
//! itself: a regulator says before each piece how large it may be.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use wayfare_transport::Clock;

/// Bytes of one transfer.
pub(crate) const VOLUME: usize = 100_000_000;
/// The largest piece written at once.
pub(crate) const PIECE: usize = 1 << 16;
/// A tunnel that carries nothing for so long is dead.
const PATIENCE: Duration = Duration::from_secs(30);

/// When a transfer happened, as its receiver saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) first: Instant,
    half: Instant,
    pub(crate) last: Instant,
}

impl Span {
    /// MB/s of the first half, during which nothing trickles.
    pub(crate) fn rate(&self) -> f64 {
        let took = self.half.saturating_duration_since(self.first);
        VOLUME as f64 / 2e6 / took.as_secs_f64()
    }
}

/// Writes the stream of `seed`, in pieces of at most what `regulator` answers when it is told how
/// much was written before.
pub(crate) fn send(mut stream: &TcpStream, seed: u64, mut regulator: impl FnMut(usize) -> usize) {
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut source = Source::new(seed);
    let mut piece = vec![0; PIECE];
    let mut sent = 0;
    while sent < VOLUME {
        let length = regulator(sent).clamp(1, PIECE).min(VOLUME - sent);
        source.fill(&mut piece[..length]);
        if let Err(e) = stream.write_all(&piece[..length]) {
            panic!("after {sent} bytes: {e}");
        }
        sent += length;
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Reads the stream of `seed` to its end.
pub(crate) fn receive(mut stream: &TcpStream, seed: u64) -> Span {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut source = Source::new(seed);
    let (mut got, mut wanted) = (vec![0; PIECE], vec![0; PIECE]);
    let (mut first, mut half) = (None, None);
    let mut received = 0;
    // Ends: each turn receives at least one byte or returns.
    loop {
        let length = match stream.read(&mut got) {
            Ok(length) => length,
            Err(e) => panic!("after {received} bytes: {e}"),
        };
        let now = Clock::now();
        if length == 0 {
            assert_eq!(received, VOLUME, "the stream ended early");
            let (first, half) = (first.unwrap(), half.unwrap());
            return Span {
                first,
                half,
                last: now,
            };
        }
        source.fill(&mut wanted[..length]);
        if got[..length] != wanted[..length] {
            let mut pairs = got.iter().zip(&wanted);
            let at = received + pairs.position(|(a, b)| a != b).unwrap();
            panic!("byte {at} is not what was sent");
        }
        received += length;
        assert!(received <= VOLUME, "more arrived than was sent");
        first.get_or_insert(now);
        if received >= VOLUME / 2 {
            half.get_or_insert(now);
        }
    }
}

/// SplitMix64, byte by byte: the same stream however it is cut.
struct Source {
    state: u64,
    left: [u8; 8],
    used: usize,
}

impl Source {
    fn new(seed: u64) -> Self {
        Self {
            state: seed,
            left: [0; 8],
            used: 8,
        }
    }

    fn fill(&mut self, into: &mut [u8]) {
        let mut at = 0;
        while at < into.len() {
            if self.used == 8 {
                self.left = self.next().to_le_bytes();
                self.used = 0;
            }
            let count = (into.len() - at).min(8 - self.used);
            into[at..at + count].copy_from_slice(&self.left[self.used..self.used + count]);
            at += count;
            self.used += count;
        }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
