//! Junk: datagrams that no honest peer sends, at a steady rate, from one socket. It refuses to be
//! sent anywhere but to an address of a laboratory.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};

use super::link::inside;
use crate::lab::Namespace;

/// Datagrams a second.
pub(super) const RATE: f64 = 200_000.0;

/// Between two bursts; 50 datagrams each at [`RATE`].
const BURST: Duration = Duration::from_micros(250);

/// One in this many is as large as a datagram can be and comes in fragments: 100 a second, 6 MB/s.
const HUGE_EVERY: u64 = 2_000;

/// A running flood. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<f64>>,
}

impl Flood {
    /// Begins to send from `from` to `to`.
    ///
    /// # Errors
    /// When there is no way to `to`.
    pub(super) fn begin(from: &Namespace, to: SocketAddrV4) -> anyhow::Result<Self> {
        check(to)?;
        let socket = inside(from, || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(to).context("no way for the junk")?;
            Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = thread::spawn(move || pour(&socket, &ended));
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it and tells how many datagrams a second were sent.
    ///
    /// # Errors
    /// When its thread failed.
    pub(super) fn end(mut self) -> anyhow::Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("a flood ends once")?;
        thread.join().map_err(|_| anyhow!("the flood panicked"))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn check(to: SocketAddrV4) -> anyhow::Result<()> {
    ensure!(to.ip().is_private(), "{to} is not a laboratory's");
    Ok(())
}

fn pour(socket: &UdpSocket, ended: &AtomicBool) -> f64 {
    let mut junk = Junk::new(1);
    let (begun, mut sent) = (Instant::now(), 0_u64);
    while !ended.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * RATE) as u64;
        while sent < due {
            // A refusal is a reply, which is counted where it arrives; a full queue is a loss.
            let _ = socket.send(junk.next(sent));
            sent += 1;
        }
        thread::sleep(BURST);
    }
    sent as f64 / begun.elapsed().as_secs_f64()
}

/// Makes datagrams: random bytes behind what looks like a beginning.
struct Junk {
    state: u64,
    memory: Vec<u8>,
}

impl Junk {
    fn new(seed: u64) -> Self {
        Self {
            state: seed,
            memory: vec![0; 65_000],
        }
    }

    fn next(&mut self, number: u64) -> &[u8] {
        let (kind, length) = match number % 5 {
            _ if number.is_multiple_of(HUGE_EVERY) => (Some(4), self.memory.len()),
            // Random from the first byte on.
            0 => (None, 16 + self.random() as usize % 500),
            // The form of a sealed packet, of no session.
            1 => (Some(4), 128),
            // The form of a handshake, its MAC wrong.
            2 => (Some(1), 148),
            // Cut short.
            3 => (Some(1 + number % 4), 4 + self.random() as usize % 28),
            // Longer than any sealed packet here.
            _ => (Some(4), 1_472),
        };
        for at in (0..length.min(160)).step_by(8) {
            let random = self.random().to_le_bytes();
            self.memory[at..at + 8].copy_from_slice(&random);
        }
        if let Some(kind) = kind {
            self.memory[..4].copy_from_slice(&[kind as u8, 0, 0, 0]);
        }
        &self.memory[..length]
    }

    /// G. Marsaglia, Xorshift RNGs, 2003: triple (13, 7, 17).
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_junk_of_every_kind() {
        let mut junk = Junk::new(1);
        let made: Vec<Vec<u8>> = (1..=HUGE_EVERY).map(|n| junk.next(n).to_vec()).collect();
        let has = |kind: u8, length: usize| {
            let alike = |one: &&Vec<u8>| one[..4] == [kind, 0, 0, 0] && one.len() == length;
            made.iter().filter(alike).count()
        };
        assert!(has(4, 128) > 300 && has(1, 148) > 300 && has(4, 1_472) > 300);
        assert_eq!(has(4, 65_000), 1);
        assert!(made.iter().any(|one| one.len() < 16 && one[0] == 4));
        assert!(made.iter().any(|one| one[0] > 4));
        assert_ne!(made[0][8..16], made[5][8..16]);
    }

    #[test]
    fn nobody_outside_a_laboratory_is_flooded() {
        let to = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9);
        let error = check(to).unwrap_err().to_string();
        assert!(error.contains("laboratory"), "{error}");
        check(SocketAddrV4::new(Ipv4Addr::new(10, 90, 0, 2), 9)).unwrap();
    }
}
