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

impl Offloads {
    /// The most that `accepts` takes, asked with `TUN_F_*`: all, then less and less.
    pub(super) fn most(mut accepts: impl FnMut(libc::c_uint) -> bool) -> Self {
        const CHECKSUM: libc::c_uint = libc::TUN_F_CSUM;
        // TCP with ECN needs nothing more: CWR is put where it belongs anyway.
        const TCP: libc::c_uint =
            CHECKSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        const ALL: libc::c_uint = TCP | libc::TUN_F_USO4 | libc::TUN_F_USO6;
        let granted = [ALL, TCP, CHECKSUM].into_iter().find(|work| accepts(*work));
        Self {
            checksum: granted.is_some(),
            tcp: granted.is_some_and(|work| work & TCP == TCP),
            udp: granted == Some(ALL),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_refuses_is_asked_for_less() {
        let most = |knows: libc::c_uint| {
            let mut asked = 0;
            let offloads = Offloads::most(|work| {
                asked += 1;
                work & !knows == 0
            });
            (asked, offloads.checksum, offloads.tcp, offloads.udp)
        };
        // Linux before 6.2 does not know UDP, before 2.6.27 none of it.
        assert_eq!(most(0x7f), (1, true, true, true));
        assert_eq!(most(0x1f), (2, true, true, false));
        assert_eq!(most(0x01), (3, true, false, false));
        assert_eq!(most(0x00), (3, false, false, false));
    }
}
