//! Datagrams piled up in one contiguous piece of memory, in the order they arrived.
//!
//! It is what a queue keeps and what changes places with its consumer's, so that the steady state
//! allocates nothing. It refuses to grow past the bounds its queue gives.

use std::net::{IpAddr, SocketAddr};

use quinn::udp::EcnCodepoint;

/// One or more datagrams of one peer, all `stride` bytes long but for a shorter last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) from: SocketAddr,
    /// Where it begins in the memory that holds it.
    pub(super) start: usize,
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

/// The most a pile may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) runs: usize,
}

#[derive(Debug, Default)]
pub(super) struct Pile {
    runs: Vec<Run>,
    bytes: Vec<u8>,
    datagrams: usize,
}

impl Pile {
    pub(super) fn datagrams(&self) -> usize {
        self.datagrams
    }

    pub(super) fn is_empty(&self) -> bool {
        self.datagrams == 0
    }

    /// Forgets the datagrams, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.bytes.clear();
        self.datagrams = 0;
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn parts_mut(&mut self) -> (&[Run], &mut [u8]) {
        (&self.runs, &mut self.bytes)
    }

    /// Bytes of memory held, used or not.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.runs.capacity() * size_of::<Run>()
    }

    /// Appends a run, wherever it began before, unless that would pass `limits`; says whether it
    /// did.
    pub(super) fn push(&mut self, run: Run, bytes: &[u8], limits: Limits) -> bool {
        debug_assert_eq!(run.len, bytes.len());
        let start = self.bytes.len();
        let length = start + bytes.len();
        if self.runs.len() >= limits.runs || length > limits.bytes {
            return false;
        }
        if length > self.bytes.capacity() {
            // Doubling, but never past the bound, as Vec's own growth would.
            let target = (self.bytes.capacity() * 2).clamp(length, limits.bytes);
            self.bytes.reserve_exact(target - start);
        }
        self.bytes.extend_from_slice(bytes);
        self.datagrams += run.datagrams();
        self.runs.push(Run { start, ..run });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(len: usize, stride: usize) -> Run {
        Run {
            from: SocketAddr::from(([10, 0, 0, 1], 1)),
            start: 77,
            len,
            stride,
            ecn: None,
            local_ip: None,
        }
    }

    #[test]
    fn runs_lie_one_after_the_other() {
        let limits = Limits {
            bytes: 100,
            runs: 10,
        };
        let mut pile = Pile::default();
        assert!(pile.push(run(5, 2), b"aabbc", limits));
        assert!(pile.push(run(3, 3), b"xyz", limits));
        assert_eq!(pile.datagrams(), 4);
        assert_eq!(pile.bytes(), b"aabbcxyz");
        let starts: Vec<usize> = pile.runs().iter().map(|run| run.start).collect();
        assert_eq!(starts, [0, 5]);
    }

    #[test]
    fn the_bounds_hold_for_bytes_memory_and_runs() {
        let limits = Limits { bytes: 10, runs: 3 };
        let mut pile = Pile::default();
        assert!(pile.push(run(6, 6), &[0; 6], limits));
        assert!(!pile.push(run(5, 5), &[0; 5], limits));
        assert!(pile.push(run(3, 3), &[0; 3], limits));
        assert!(pile.bytes.capacity() <= limits.bytes);
        assert!(pile.push(run(1, 1), &[0; 1], limits));
        pile.clear();
        for _ in 0..3 {
            assert!(pile.push(run(1, 1), &[0; 1], limits));
        }
        assert!(!pile.push(run(1, 1), &[0; 1], limits));
    }
}
