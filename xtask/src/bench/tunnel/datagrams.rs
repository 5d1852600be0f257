//! The highest rate of UDP datagrams that arrives whole: at most one in a hundred lost, found by a
//! short search. It refuses to count a rate that was offered: only what the far end received.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::socket::{setsockopt, sockopt};

use super::link::inside;
use crate::interrupt;
use crate::lab::Namespace;

/// The discard service's own.
const PORT: u16 = 9;

/// IPv4 and UDP headers: sizes are told as those of IP packets, as a tunnel sees them.
const HEADERS: usize = 20 + 8;

/// One offer of the search.
const OFFER: Duration = Duration::from_millis(700);

/// After an offer: longer than any queue on the way holds at the rates seen here.
const DRAIN: Duration = Duration::from_millis(100);

/// The sender sleeps this long between bursts: 50 datagrams at 200,000 a second, well within
/// every queue on the way.
const BURST: Duration = Duration::from_micros(250);

/// Offers after the first, each halving what is not known yet: the result is within 3 % of the
/// threshold when it lies within a factor of 4 below the first.
const OFFERS: u32 = 6;

/// What may be lost.
const LOSS: f64 = 0.01;

/// How often the sink looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What one offer came to, in datagrams per second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Offered {
    sent: f64,
    received: f64,
}

impl Offered {
    fn is_whole(self) -> bool {
        self.received >= self.sent * (1.0 - LOSS)
    }
}

/// Counts what arrives. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Sink {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listens on every address of `at`.
    ///
    /// # Errors
    /// When the port is taken.
    pub(super) fn start(at: &Namespace) -> anyhow::Result<Self> {
        let socket = inside(at, || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))
                .with_context(|| format!("cannot open UDP port {PORT}"))?;
            socket.set_read_timeout(Some(LOOK))?;
            // The sink's own queue must not be what loses them.
            setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
            Ok(socket)
        })?;
        let received = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, ended) = (Arc::clone(&received), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while !ended.load(Ordering::Relaxed) {
                if socket.recv(&mut buffer).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self {
            received,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The highest rate that arrives whole, in datagrams per second, for IP packets of `size` bytes;
/// none when no rate of the search did.
///
/// # Errors
/// When nothing can be sent, or a signal comes.
pub(super) fn search(
    from: &Namespace,
    to: Ipv4Addr,
    size: usize,
    sink: &Sink,
) -> anyhow::Result<Option<f64>> {
    let socket = inside(from, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((to, PORT)).context("no way to the sink")?;
        Ok(socket)
    })?;
    let payload = vec![0x5a; size.saturating_sub(HEADERS)];
    highest(|rate| offer(&socket, &payload, rate, sink))
}

/// Bisects between the highest rate that arrived whole and the lowest that did not.
fn highest(
    mut offer: impl FnMut(Option<f64>) -> anyhow::Result<Offered>,
) -> anyhow::Result<Option<f64>> {
    let flat_out = offer(None)?;
    if flat_out.is_whole() {
        return Ok(Some(flat_out.received));
    }
    let mut whole: Option<f64> = None;
    let (mut low, mut high) = (flat_out.sent / 64.0, flat_out.sent);
    // What got through an overload is the best first guess.
    let mut next = flat_out.received.max(low);
    for _ in 0..OFFERS {
        let offered = offer(Some(next))?;
        if offered.is_whole() {
            whole = Some(whole.unwrap_or(0.0).max(offered.received));
            low = low.max(next);
        } else {
            high = high.min(next);
        }
        next = (low * high).sqrt();
    }
    Ok(whole)
}

/// Sends at `rate`, or as fast as it goes, and counts.
fn offer(
    socket: &UdpSocket,
    payload: &[u8],
    rate: Option<f64>,
    sink: &Sink,
) -> anyhow::Result<Offered> {
    interrupt::check()?;
    let before = sink.received.load(Ordering::Relaxed);
    let begun = Instant::now();
    let mut sent = 0_u64;
    while begun.elapsed() < OFFER {
        let due = match rate {
            Some(rate) => (begun.elapsed().as_secs_f64() * rate) as u64,
            None => sent + 64,
        };
        while sent < due && begun.elapsed() < OFFER {
            match socket.send(payload) {
                Ok(_) => sent += 1,
                Err(error) if is_full(&error) => break,
                Err(error) => return Err(error).context("cannot send datagrams"),
            }
        }
        if rate.is_some() {
            thread::sleep(BURST);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    thread::sleep(DRAIN);
    let received = sink.received.load(Ordering::Relaxed) - before;
    Ok(Offered {
        sent: sent as f64 / seconds,
        received: received as f64 / seconds,
    })
}

fn is_full(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
        || error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that carries `limit` and, beyond it, loses the more the more is offered.
    fn found(limit: f64) -> Option<f64> {
        highest(|rate| {
            let sent = rate.unwrap_or(1_000_000.0);
            let received = if sent <= limit { sent } else { limit * 0.9 };
            Ok(Offered { sent, received })
        })
        .unwrap()
    }

    #[test]
    fn the_search_comes_close_from_below() {
        for limit in [900_000.0, 400_000.0, 250_000.0] {
            let found = found(limit).unwrap();
            assert!(
                found <= limit * 1.011 && found > limit * 0.90,
                "{found} for {limit}"
            );
        }
    }

    #[test]
    fn a_path_that_carries_everything_is_asked_once() {
        assert_eq!(found(f64::INFINITY), Some(1_000_000.0));
    }

    #[test]
    fn a_path_that_carries_nothing_has_no_rate() {
        let nothing = |rate: Option<f64>| {
            Ok(Offered {
                sent: rate.unwrap_or(1e6),
                received: 0.0,
            })
        };
        assert_eq!(highest(nothing).unwrap(), None);
    }
}
