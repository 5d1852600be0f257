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
/// What may wait in each line, bytes, each datagram with [`COST`].
const ROOM: usize = 256 << 10;
/// What may wait in one while [`POOL`] has room: what a sender sends at once after a pause, before TCP has found its pace again.
/// An exit whose gate opens sends 4 MiB that have waited for the payment, and a stream that looks for its pace twice what fits.
/// Whatever of that is lost costs more than the 0.3 s that it waits at 200 Mb/s: it was paid for, and more than an eighth lost
/// ends the session, as the two meters disagree by more than the allowance.
const MOST_ROOM: usize = 8 << 20;
/// What waits beyond [`ROOM`] in all lines of the process.
const POOL: usize = 64 << 20;
/// Bookkeeping of one datagram.
const COST: usize = 64;
/// Datagrams that may wait.
const DATAGRAMS: usize = 8_192;
/// Taken at once, so that one TLS record holds several.
const AT_ONCE: usize = 64;

/// Bytes beyond [`ROOM`] that wait now.
static LENT: AtomicUsize = AtomicUsize::new(0);

/// Where senders put datagrams.
#[derive(Debug)]
pub(super) struct Line {
    waiting: mpsc::Sender<Bytes>,
    queued: Arc<Queued>,
}

/// Where the stream takes them.
#[derive(Debug)]
pub(super) struct Waiting {
    waiting: mpsc::Receiver<Bytes>,
    queued: Arc<Queued>,
    /// Of the datagrams taken last.
    taken: usize,
}

/// Bytes that wait in one line.
///
/// INVARIANT: [`LENT`] is the sum of what the lines hold beyond [`ROOM`].
#[derive(Debug, Default)]
struct Queued(AtomicUsize);

impl Queued {
    fn add(&self, cost: usize) -> bool {
        let before = self.0.fetch_add(cost, Relaxed);
        let lent = beyond(before + cost) - beyond(before);
        let all = LENT.fetch_add(lent, Relaxed) + lent;
        let fits = before + cost <= MOST_ROOM && (lent == 0 || all <= POOL);
        if !fits {
            self.subtract(cost);
        }
        fits
    }

    fn subtract(&self, cost: usize) {
        let before = self.0.fetch_sub(cost, Relaxed);
        LENT.fetch_sub(beyond(before) - beyond(before - cost), Relaxed);
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        LENT.fetch_sub(beyond(*self.0.get_mut()), Relaxed);
    }
}

fn beyond(bytes: usize) -> usize {
    bytes.saturating_sub(ROOM)
}

pub(super) fn line() -> (Arc<Line>, Waiting) {
    let (sender, waiting) = mpsc::channel(DATAGRAMS);
    let queued = Arc::<Queued>::default();
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
        if !self.queued.add(cost) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let put = self.waiting.try_send(Bytes::copy_from_slice(datagram));
        put.map_err(|error| {
            self.queued.subtract(cost);
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
        self.queued.subtract(std::mem::take(&mut self.taken));
        self.waiting.recv_many(into, AT_ONCE).await;
        self.taken = into.iter().map(|datagram| datagram.len() + COST).sum();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Both in one test: the pool is the process's.
    #[tokio::test]
    async fn what_waits_is_bounded_in_one_line_and_in_all() {
        one_is_bounded_and_keeps_its_order().await;
        many_share_what_is_beyond_their_own();
        assert_eq!(LENT.load(Relaxed), 0);
    }

    async fn one_is_bounded_and_keeps_its_order() {
        for size in [1, 60, 1_452] {
            let (line, mut waiting) = line();
            let mut put = 0;
            while line.send(&vec![put as u8; size]).is_ok() {
                put += 1;
            }
            assert!(put * (size + COST) <= MOST_ROOM);
            let full = put == DATAGRAMS || (put + 1) * (size + COST) > MOST_ROOM;
            assert!(full, "{put}");
            let refused = line.send(&vec![0; size]).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
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
            assert_eq!(line.queued.0.load(Relaxed), 0);
        }
    }

    fn many_share_what_is_beyond_their_own() {
        let datagram = [0; 1_452];
        let fill = |line: &Line| while line.send(&datagram).is_ok() {};
        let lines: Vec<_> = (0..64).map(|_| line()).collect();
        lines.iter().for_each(|(line, _)| fill(line));
        let held = |line: &Line| line.queued.0.load(Relaxed);
        let all: usize = lines.iter().map(|(line, _)| held(line)).sum();
        assert!(all <= POOL + 64 * ROOM, "{all}");
        // Nobody is left without its own.
        assert!(lines.iter().all(|(line, _)| held(line) > ROOM - 1_600));
        let (late, _waiting) = line();
        fill(&late);
        assert!((ROOM - 1_600..ROOM + (64 << 10)).contains(&held(&late)));
        drop(lines);
        fill(&late);
        assert!(held(&late) > MOST_ROOM - 1_600);
    }

    #[tokio::test]
    async fn nobody_takes_any_more() {
        let (line, waiting) = line();
        drop(waiting);
        let refused = line.send(&[1]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(line.queued.0.load(Relaxed), 0);
    }
}
