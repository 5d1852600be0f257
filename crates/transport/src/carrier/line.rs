//! What waits for a TLS stream: a bounded line of datagrams, because TCP takes them at its own pace.
//!
//! It refuses to wait and to grow: what finds it full is lost, as before any narrow link.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::socket::Carrier;

/// The longest datagram that is carried: 1,452 bytes of tunnel or QUIC, their heads, and some air.
pub(super) const MOST: usize = 1_600;
/// What may wait, bytes, each datagram with [`COST`]: 20 ms at 100 Mb/s.
pub(super) const ROOM: usize = 256 << 10;
/// Bookkeeping of one datagram.
const COST: usize = 64;
/// Datagrams that may wait: so many short ones fill [`ROOM`].
const DATAGRAMS: usize = ROOM / (2 * COST);
/// Taken at once, so that one TLS record holds several.
const AT_ONCE: usize = 64;

/// Where senders put datagrams.
#[derive(Debug)]
pub(super) struct Line {
    waiting: mpsc::Sender<Bytes>,
    queued: Arc<AtomicUsize>,
}

/// Where the stream takes them.
#[derive(Debug)]
pub(super) struct Waiting {
    waiting: mpsc::Receiver<Bytes>,
    queued: Arc<AtomicUsize>,
    /// Of the datagrams taken last.
    taken: usize,
}

pub(super) fn line() -> (Arc<Line>, Waiting) {
    let (sender, waiting) = mpsc::channel(DATAGRAMS);
    let queued = Arc::new(AtomicUsize::new(0));
    let line = Line {
        waiting: sender,
        queued: Arc::clone(&queued),
    };
    let waiting = Waiting {
        waiting,
        queued,
        taken: 0,
    };
    (Arc::new(line), waiting)
}

impl Carrier for Line {
    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let cost = datagram.len() + COST;
        if self.queued.fetch_add(cost, Relaxed) + cost > ROOM {
            self.queued.fetch_sub(cost, Relaxed);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let put = self.waiting.try_send(Bytes::copy_from_slice(datagram));
        put.map_err(|error| {
            self.queued.fetch_sub(cost, Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => io::ErrorKind::WouldBlock.into(),
                mpsc::error::TrySendError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
            }
        })
    }

    fn most(&self) -> usize {
        MOST
    }
}

impl Waiting {
    /// The next datagrams, in order; those taken before have left. Empty when nobody sends any more. Cancel safe.
    pub(super) async fn take(&mut self, into: &mut Vec<Bytes>) {
        self.queued
            .fetch_sub(std::mem::take(&mut self.taken), Relaxed);
        self.waiting.recv_many(into, AT_ONCE).await;
        self.taken = into.iter().map(|datagram| datagram.len() + COST).sum();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_and_leaves_in_order() {
        for size in [1, 60, 1_452] {
            let (line, mut waiting) = line();
            let mut put = 0;
            while line.send(&vec![put as u8; size]).is_ok() {
                put += 1;
            }
            assert!(put * (size + COST) <= ROOM);
            assert!(
                put == DATAGRAMS || (put + 1) * (size + COST) > ROOM,
                "{put}"
            );
            let full = line.send(&vec![0; size]).unwrap_err();
            assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
            let mut taken = Vec::new();
            for _ in 0..put.div_ceil(AT_ONCE) {
                let mut some = Vec::new();
                waiting.take(&mut some).await;
                taken.extend(some);
            }
            let order: Vec<u8> = taken.iter().map(|datagram| datagram[0]).collect();
            assert_eq!(order, (0..put).map(|n| n as u8).collect::<Vec<u8>>());
            // What was taken counts until the next is asked for.
            let asked = tokio::time::timeout(std::time::Duration::ZERO, waiting.take(&mut taken));
            assert!(asked.await.is_err());
            assert_eq!(line.queued.load(Relaxed), 0);
        }
    }

    #[tokio::test]
    async fn nobody_takes_any_more() {
        let (line, waiting) = line();
        drop(waiting);
        assert_eq!(
            line.send(&[1]).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        assert_eq!(line.queued.load(Relaxed), 0);
    }
}
