//! What a TUN device is asked for, what the kernel grants, and what it has carried.
//!
//! Figures only; nothing here asks the kernel.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a device is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunOptions {
    /// Ask the kernel to leave checksums and segmentation to us, which makes packets come and go up to 64 KiB at a time.
    /// What it refuses is done without.
    pub offload: bool,
    /// More than 1 allows further queues of the same device, see [`TunDevice::another_queue`](super::TunDevice::another_queue).
    pub queues: usize,
    /// Packets in one super-packet at most, 1 to 64. Sealed, they should fit into one segmented UDP send, whose 65,507
    /// bytes hold 45 datagrams of 1,452: packets of 1,420 bytes and 32 of a tunnel.
    pub segments: usize,
}

impl Default for TunOptions {
    fn default() -> Self {
        Self {
            offload: true,
            queues: 1,
            segments: 45,
        }
    }
}

/// What the kernel leaves to us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums.
    pub checksum: bool,
    /// Segmentation of TCP, both IP versions.
    pub tcp: bool,
    /// Segmentation of UDP, both IP versions (Linux 6.2).
    pub udp: bool,
}

/// What one queue of a device has carried in batches since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TunCounts {
    /// Super-packets taken from the kernel.
    pub supers_received: u64,
    /// Packets they were taken apart into.
    pub segments_received: u64,
    /// Super-packets given to the kernel.
    pub supers_sent: u64,
    /// Packets they were put together from.
    pub segments_sent: u64,
    /// Packets whose offload header did not fit them.
    pub malformed: u64,
    /// Packets for which a batch or the kernel had no room.
    pub lost: u64,
}

/// [`TunCounts`] while they count: written once per batch, by one task a direction.
#[derive(Debug, Default)]
pub(super) struct Counting {
    pub(super) supers_received: AtomicU64,
    pub(super) segments_received: AtomicU64,
    pub(super) supers_sent: AtomicU64,
    pub(super) segments_sent: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) lost: AtomicU64,
}

impl Counting {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        if count > 0 {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> TunCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TunCounts {
            supers_received: load(&self.supers_received),
            segments_received: load(&self.segments_received),
            supers_sent: load(&self.supers_sent),
            segments_sent: load(&self.segments_sent),
            malformed: load(&self.malformed),
            lost: load(&self.lost),
        }
    }
}
