//! A batch of datagrams in one contiguous piece of memory, in the order they arrived.
//!
//! It serves as the queue's storage and, exchanged whole, as what the receiver works on, so that
//! the steady state allocates nothing. It refuses to grow past the bounds its queue gives.

use std::net::{IpAddr, SocketAddr};

use quinn::udp::EcnCodepoint;

/// Received datagrams with their sources. Reuse one for all calls.
#[derive(Debug, Default)]
pub struct Batch {
    runs: Vec<Run>,
    bytes: Vec<u8>,
    datagrams: usize,
}

/// One or more datagrams of one peer, all `stride` bytes long but for a shorter last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) from: SocketAddr,
    pub(super) len: usize,
    pub(super) stride: usize,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) local_ip: Option<IpAddr>,
}

impl Run {
    pub(super) fn datagrams(&self) -> usize {
        self.len.div_ceil(self.stride)
    }
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
        self.datagrams
    }

    /// Whether there is no datagram.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.datagrams == 0
    }

    /// Forgets the datagrams, keeps the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.bytes.clear();
        self.datagrams = 0;
    }

    /// The datagrams in order of arrival, each with its source address.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.runs.iter().flat_map(move |run| {
            let (bytes, tail) = rest.split_at(run.len);
            rest = tail;
            bytes
                .chunks(run.stride)
                .map(|datagram| (run.from, datagram))
        })
    }

    /// As [`iter`](Self::iter), for decryption in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        let mut rest = self.bytes.as_mut_slice();
        self.runs.iter().flat_map(move |run| {
            let (bytes, tail) = std::mem::take(&mut rest).split_at_mut(run.len);
            rest = tail;
            bytes
                .chunks_mut(run.stride)
                .map(|datagram| (run.from, datagram))
        })
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a run unless that would pass `limits`; says whether it did.
    pub(super) fn push(&mut self, run: Run, bytes: &[u8], limits: Limits) -> bool {
        debug_assert_eq!(run.len, bytes.len());
        let length = self.bytes.len() + bytes.len();
        if self.runs.len() >= limits.runs || length > limits.bytes {
            return false;
        }
        if length > self.bytes.capacity() {
            // Doubling, but never past the bound, as Vec's own growth would.
            let target = (self.bytes.capacity() * 2).clamp(length, limits.bytes);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        self.datagrams += run.datagrams();
        self.runs.push(run);
        true
    }
}

/// The most a batch may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) runs: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(port: u16, len: usize, stride: usize) -> Run {
        let from = SocketAddr::from(([10, 0, 0, 1], port));
        Run {
            from,
            len,
            stride,
            ecn: None,
            local_ip: None,
        }
    }

    #[test]
    fn datagrams_come_back_in_order_and_can_be_changed_in_place() {
        let limits = Limits {
            bytes: 100,
            runs: 10,
        };
        let mut batch = Batch::new();
        assert!(batch.push(run(1, 5, 2), b"aabbc", limits));
        assert!(batch.push(run(2, 3, 3), b"xyz", limits));
        assert_eq!(batch.len(), 4);
        let seen: Vec<(u16, &[u8])> = batch.iter().map(|(from, d)| (from.port(), d)).collect();
        assert_eq!(seen, [(1, &b"aa"[..]), (1, b"bb"), (1, b"c"), (2, b"xyz")]);
        for (_, datagram) in batch.iter_mut() {
            datagram[0] = b'_';
        }
        assert_eq!(batch.iter().map(|(_, d)| d[0]).collect::<Vec<_>>(), b"____");
        batch.clear();
        assert!(batch.is_empty() && batch.iter().next().is_none());
    }

    #[test]
    fn the_bounds_hold_for_bytes_memory_and_runs() {
        let limits = Limits { bytes: 10, runs: 3 };
        let mut batch = Batch::new();
        assert!(batch.push(run(1, 6, 6), &[0; 6], limits));
        assert!(!batch.push(run(1, 5, 5), &[0; 5], limits));
        assert!(batch.push(run(1, 3, 3), &[0; 3], limits));
        assert!(batch.bytes.capacity() <= limits.bytes);
        assert!(batch.push(run(1, 1, 1), &[0; 1], limits));
        batch.clear();
        for _ in 0..3 {
            assert!(batch.push(run(1, 1, 1), &[0; 1], limits));
        }
        assert!(!batch.push(run(1, 1, 1), &[0; 1], limits));
    }
}
