//! Junk: datagrams that no honest peer sends, at a steady rate. They leave in trains that the kernel
//! cuts up only where they leave the switch (see `junk`), so that sending them costs this machine
//! next to nothing, as it costs an attacked one. It refuses to be sent anywhere but to an address
//! of a laboratory.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::link::inside;
use crate::lab::Namespace;

/// Datagrams a second.
pub(super) const RATE: f64 = 200_000.0;

/// Datagrams of one kind that leave together; 44 of the longest fill the largest train.
const TRAIN: usize = 40;

/// Between two looks at the clock; five trains at [`RATE`].
const BURST: Duration = Duration::from_millis(1);

/// One train in this many is a single datagram as large as can be, which comes in fragments:
/// 100 a second, 6 MB/s.
const HUGE_EVERY: u64 = 50;

/// Kinds of junk: what it begins with, and its length.
const KINDS: [(&[u8], usize); 5] = [
    // Random from the first byte on.
    (&[], 300),
    // The form of a sealed packet, of no session.
    (&[4, 0, 0, 0], 128),
    // The form of a handshake, its MAC wrong.
    (&[1, 0, 0, 0], 148),
    // Cut short.
    (&[4, 0, 0, 0], 20),
    // Longer than any sealed packet here.
    (&[4, 0, 0, 0], 1_472),
];

const HUGE: (&[u8], usize) = (&[4, 0, 0, 0], 65_000);

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
    /// When there is no way to `to`, or the kernel cuts no trains.
    pub(super) fn begin(from: &Namespace, to: SocketAddrV4) -> anyhow::Result<Self> {
        check(to)?;
        let open = |segment: Option<usize>| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(to).context("no way for the junk")?;
            if let Some(segment) = segment {
                setsockopt(&socket, sockopt::UdpGsoSegment, &i32::try_from(segment)?)
                    .context("the kernel cuts no trains of datagrams")?;
            }
            anyhow::Ok(socket)
        };
        let sockets = inside(from, || {
            let trains = KINDS.iter().map(|(_, length)| open(Some(*length)));
            Ok((trains.collect::<anyhow::Result<Vec<_>>>()?, open(None)?))
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = thread::spawn(move || pour(&sockets.0, &sockets.1, &ended));
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

fn pour(trains: &[UdpSocket], single: &UdpSocket, ended: &AtomicBool) -> f64 {
    let mut junk = Junk::new(1);
    let (begun, mut sent, mut number) = (Instant::now(), 0_u64, 0_u64);
    while !ended.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * RATE) as u64;
        while sent < due && !ended.load(Ordering::Relaxed) {
            // A refusal is a reply, which is counted where it arrives.
            let kind = number as usize % KINDS.len();
            sent += match trains[kind].send(junk.train(KINDS[kind], TRAIN)) {
                Ok(_) => TRAIN as u64,
                Err(_) => 0,
            };
            if number.is_multiple_of(HUGE_EVERY) && single.send(junk.train(HUGE, 1)).is_ok() {
                sent += 1;
            }
            number += 1;
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
            memory: vec![0; 65_536],
        }
    }

    fn train(&mut self, (beginning, length): (&[u8], usize), count: usize) -> &[u8] {
        for number in 0..count {
            let from = number * length;
            let random = self.random().to_le_bytes();
            let datagram = &mut self.memory[from..from + length];
            // Index and counter, or more; what is behind is left over from other datagrams.
            datagram[..8].copy_from_slice(&random);
            datagram[8..16].copy_from_slice(&random);
            datagram[..beginning.len()].copy_from_slice(beginning);
        }
        &self.memory[..count * length]
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
    fn every_datagram_of_a_train_is_junk_of_its_own() {
        let mut junk = Junk::new(1);
        for kind in KINDS {
            let train = junk.train(kind, TRAIN).to_vec();
            assert!(train.len() < 65_508, "one call takes it");
            let datagrams: Vec<&[u8]> = train.chunks(kind.1).collect();
            assert_eq!(datagrams.len(), TRAIN);
            assert!(datagrams.iter().all(|one| one.starts_with(kind.0)));
            assert_ne!(datagrams[0][4..16], datagrams[1][4..16]);
        }
    }

    #[test]
    fn nobody_outside_a_laboratory_is_flooded() {
        let error = check(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9)).unwrap_err();
        assert!(error.to_string().contains("laboratory"), "{error}");
        check(SocketAddrV4::new(Ipv4Addr::new(10, 90, 0, 2), 9)).unwrap();
    }
}
