//! How long a small datagram takes there and back: a ping-pong between a thread here and an echo
//! there, without any program between. It refuses to forget what did not come back: lost ones are
//! counted, and too few answers are no figure.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::link::inside;
use crate::lab::Namespace;
use crate::{interrupt, process};

/// The echo service's own.
const PORT: u16 = 7;

/// Payload: a sequence number, and filling up to what a keystroke in a shell session takes.
const SIZE: usize = 64;

/// A datagram that is not back by now is lost: a thousand times what any answer takes.
const LOST: Duration = Duration::from_millis(500);

/// How often the echo looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Fewer answers than these have no 99th percentile.
const ENOUGH: usize = 100;

/// The far end of the ping-pong. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Answers from every address of `at`.
    ///
    /// # Errors
    /// When the port is taken.
    pub(crate) fn start(at: &Namespace) -> anyhow::Result<Self> {
        let socket = socket(at, PORT, LOOK)?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut buffer = [0; SIZE];
            while !seen.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Round trips, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Latency {
    /// Half of them took less.
    pub(super) p50: f64,
    /// One in a hundred took more.
    pub(super) p99: f64,
    /// How many did not come back, as a part of all.
    pub(super) lost: f64,
}

/// Sends `count` datagrams to the echo at `to`, each after the answer to the one before; stops
/// early after `limit`.
///
/// # Errors
/// When too few came back, or a signal comes.
pub(super) fn ping(
    from: &Namespace,
    to: Ipv4Addr,
    count: usize,
    limit: Duration,
) -> anyhow::Result<Latency> {
    let socket = socket(from, 0, LOST)?;
    socket.connect((to, PORT)).context("no way to the echo")?;
    let end = Instant::now() + limit;
    let mut trips = Vec::with_capacity(count);
    let mut lost = 0_usize;
    for number in 0..count {
        if Instant::now() >= end {
            break;
        }
        interrupt::check()?;
        match trip(&socket, number as u64)? {
            Some(trip) => trips.push(trip.as_secs_f64() * 1e3),
            None => lost += 1,
        }
    }
    ensure!(
        trips.len() >= ENOUGH.min(count),
        "only {} of {} datagrams came back",
        trips.len(),
        trips.len() + lost
    );
    trips.sort_by(f64::total_cmp);
    let all = (trips.len() + lost) as f64;
    Ok(Latency {
        p50: percentile(&trips, 0.50),
        p99: percentile(&trips, 0.99),
        lost: lost as f64 / all,
    })
}

/// Waits until the echo at `to` answers: the tunnel is up, its handshake done.
///
/// # Errors
/// After `limit`, or when a signal comes.
pub(crate) fn wait_for_answer(
    from: &Namespace,
    to: Ipv4Addr,
    limit: Duration,
) -> anyhow::Result<()> {
    let socket = socket(from, 0, LOOK)?;
    let end = Instant::now() + limit;
    let mut number = 0;
    while Instant::now() < end {
        interrupt::check()?;
        // There may be no route yet.
        if socket.connect((to, PORT)).is_ok() && trip(&socket, number)?.is_some() {
            return Ok(());
        }
        number += 1;
        thread::sleep(process::LOOK);
    }
    bail!("nothing came back from {to} within {} s", limit.as_secs())
}

/// One datagram there and back; none when it is lost.
fn trip(socket: &UdpSocket, number: u64) -> anyhow::Result<Option<Duration>> {
    let mut buffer = [0; SIZE];
    buffer[..8].copy_from_slice(&number.to_be_bytes());
    let begun = Instant::now();
    if let Err(error) = socket.send(&buffer) {
        return passing(&error).map(|()| None).context("cannot send");
    }
    // An earlier answer may come late, but each only once.
    for _ in 0..=number {
        match socket.recv(&mut buffer) {
            Ok(_) if buffer[..8] == number.to_be_bytes() => return Ok(Some(begun.elapsed())),
            Ok(_) => {}
            Err(error) => return passing(&error).map(|()| None).context("cannot receive"),
        }
    }
    Ok(None)
}

/// What an overloaded or half-built path may answer; anything else is an error of the bench.
fn passing(error: &std::io::Error) -> Result<(), std::io::Error> {
    let full = error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32);
    match error.kind() {
        ErrorKind::WouldBlock
        | ErrorKind::TimedOut
        | ErrorKind::Interrupted
        | ErrorKind::ConnectionRefused
        | ErrorKind::NetworkUnreachable
        | ErrorKind::HostUnreachable => Ok(()),
        _ if full => Ok(()),
        _ => Err(std::io::Error::new(error.kind(), error.to_string())),
    }
}

fn socket(at: &Namespace, port: u16, timeout: Duration) -> anyhow::Result<UdpSocket> {
    inside(at, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))
            .with_context(|| format!("cannot open UDP port {port}"))?;
        socket.set_read_timeout(Some(timeout))?;
        Ok(socket)
    })
}

/// The value below which `part` of the sorted values lie.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted[at.min(sorted.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_hundred() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 0.50), 51.0);
        assert_eq!(percentile(&sorted, 0.99), 100.0);
        assert_eq!(percentile(&sorted[..1], 0.99), 1.0);
    }

    #[test]
    fn a_ping_crosses_two_namespaces_and_only_to_an_echo() {
        if !crate::need::is_root() {
            println!("not judged: network namespaces need root");
            return;
        }
        let lab = crate::lab::Lab::open().unwrap();
        let link = super::super::link::Link::build(&lab).unwrap();
        let to = super::super::link::RIGHT;
        let nobody = wait_for_answer(&link.left, to, Duration::from_millis(50));
        assert!(nobody.is_err());
        let _echo = Echo::start(&link.right).unwrap();
        wait_for_answer(&link.left, to, Duration::from_secs(20)).unwrap();
        let latency = ping(&link.left, to, 300, Duration::from_secs(20)).unwrap();
        assert!(
            latency.p50 > 0.0 && latency.p50 <= latency.p99,
            "{latency:?}"
        );
        assert_eq!(lab.close().unwrap().count(), 0);
    }
}
