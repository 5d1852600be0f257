//! What a tunnel receiver works on: received datagrams with their sources, in order of arrival.
//!
//! They lie either in memory that changed places with the queue's, or, while the receiver leads,
//! where the kernel wrote them. It refuses to mix the two: what was queued is handed out before
//! anything newer is read.

use std::net::SocketAddr;

use super::intake::Landing;
use super::pile::Pile;

/// Received datagrams with their sources. Reuse one for all calls.
///
/// A receiver that leads makes it take 2 MiB for the kernel to write to, once; one that does not
/// fills it with at most the 4 MiB of its queue, which are given back when it leads.
#[derive(Debug, Default)]
pub struct Batch {
    queued: Pile,
    landed: Landing,
}

impl Batch {
    /// An empty batch; it takes no memory until it is first filled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of datagrams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queued.datagrams() + self.landed.datagrams()
    }

    /// Whether there is no datagram.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the kernel may have more than was read: it filled all the buffers it was given.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.landed.is_full()
    }

    /// Forgets the datagrams, keeps the memory.
    pub fn clear(&mut self) {
        self.queued.clear();
        self.landed.clear();
    }

    /// The datagrams in order of arrival, each with its source address.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let (runs, bytes) = if self.landed.is_empty() {
            (self.queued.runs(), self.queued.bytes())
        } else {
            self.landed.parts()
        };
        runs.iter().flat_map(move |run| {
            bytes[run.start..run.start + run.len]
                .chunks(run.stride)
                .map(|datagram| (run.from, datagram))
        })
    }

    /// As [`iter`](Self::iter), for decryption in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        let (runs, mut rest) = if self.landed.is_empty() {
            self.queued.parts_mut()
        } else {
            self.landed.parts_mut()
        };
        let mut at = 0;
        runs.iter().flat_map(move |run| {
            let (_, tail) = std::mem::take(&mut rest).split_at_mut(run.start - at);
            let (bytes, tail) = tail.split_at_mut(run.len);
            rest = tail;
            at = run.start + run.len;
            bytes
                .chunks_mut(run.stride)
                .map(|datagram| (run.from, datagram))
        })
    }

    /// Empty, for what changes places with a queue's.
    pub(super) fn for_queue(&mut self) -> &mut Pile {
        self.clear();
        &mut self.queued
    }

    /// Empty, for the kernel to write to; what it held for the queue is given back.
    pub(super) fn for_kernel(&mut self) -> &mut Landing {
        self.queued = Pile::default();
        self.landed.clear();
        &mut self.landed
    }

    /// Bytes of memory held, used or not.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.queued.memory() + self.landed.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pile::{Limits, Run};
    use super::*;

    fn run(port: u16, start: usize, len: usize, stride: usize) -> Run {
        let from = SocketAddr::from(([10, 0, 0, 1], port));
        Run {
            from,
            start,
            len,
            stride,
            ecn: None,
            local_ip: None,
        }
    }

    /// Both kinds of memory show the same.
    fn check(mut batch: Batch) {
        assert_eq!(batch.len(), 4);
        let seen: Vec<(u16, &[u8])> = batch.iter().map(|(from, d)| (from.port(), d)).collect();
        assert_eq!(seen, [(1, &b"aa"[..]), (1, b"bb"), (1, b"c"), (2, b"xyz")]);
        for (_, datagram) in batch.iter_mut() {
            datagram[0] = b'_';
        }
        assert_eq!(batch.iter().map(|(_, d)| d[0]).collect::<Vec<_>>(), b"____");
        assert_eq!(batch.iter().map(|(_, d)| d.len()).sum::<usize>(), 8);
        batch.clear();
        assert!(batch.is_empty() && batch.iter().next().is_none());
        assert!(batch.iter_mut().next().is_none());
    }

    #[test]
    fn queued_datagrams_come_back_in_order_and_can_be_changed_in_place() {
        let limits = Limits {
            bytes: 100,
            runs: 10,
        };
        let mut batch = Batch::new();
        assert!(batch.for_queue().push(run(1, 0, 5, 2), b"aabbc", limits));
        assert!(batch.for_queue().is_empty(), "what is asked for is empty");
        assert!(batch.for_queue().push(run(1, 0, 5, 2), b"aabbc", limits));
        assert!(batch.queued.push(run(2, 0, 3, 3), b"xyz", limits));
        check(batch);
    }

    #[test]
    fn landed_datagrams_come_back_in_order_and_can_be_changed_in_place() {
        let mut batch = Batch::new();
        let landing = batch.for_kernel();
        landing.memory_mut()[7..12].copy_from_slice(b"aabbc");
        landing.memory_mut()[100_000..100_003].copy_from_slice(b"xyz");
        landing.keep(run(1, 7, 5, 2));
        landing.keep(run(2, 100_000, 3, 3));
        check(batch);
    }

    #[test]
    fn leading_gives_the_memory_of_the_queue_back() {
        let limits = Limits {
            bytes: 4 << 20,
            runs: 10,
        };
        let mut batch = Batch::new();
        let queued = batch.for_queue();
        assert!(queued.push(run(1, 0, 4 << 20, 1000), &vec![0; 4 << 20], limits));
        batch.for_kernel().memory_mut();
        assert_eq!(batch.memory(), super::super::intake::MEMORY);
    }
}
