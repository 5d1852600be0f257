//! Counters of the shared socket. They count datagrams, never addresses.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What passed through a shared socket since it was opened. Datagrams, unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// Received for QUIC, including those dropped.
    pub quic_in: u64,
    /// Received tunnel messages, including those dropped.
    pub tunnel_in: u64,
    /// Received, for nobody, dropped.
    pub junk_in: u64,
    /// QUIC datagrams dropped because the queue was full or nobody listens.
    pub quic_dropped: u64,
    /// Tunnel messages dropped because the queue was full or nobody listens.
    pub tunnel_dropped: u64,
    /// Bytes waiting for the QUIC endpoint now.
    pub quic_queued_bytes: u64,
    /// Bytes waiting for the tunnel receiver now.
    pub tunnel_queued_bytes: u64,
    /// Memory the kernel holds for datagrams nobody has read yet, as it reckons: up to three times
    /// their bytes.
    pub kernel_queued_bytes: u64,
    /// Datagrams the kernel dropped before anybody read them: its buffer was full, or the checksum
    /// was wrong. Counted modulo 2^32; always 0 before Linux 4.12.
    pub kernel_dropped: u64,
    /// Sent, of both kinds.
    pub sent: u64,
    /// Calls to send that the kernel refused for good.
    pub send_errors: u64,
    /// Calls to receive that failed.
    pub receive_errors: u64,
    /// Sends repeated packet by packet because the kernel refused to segment.
    pub segmentation_refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) quic_in: Counter,
    pub(super) tunnel_in: Counter,
    pub(super) junk_in: Counter,
    pub(super) quic_dropped: Counter,
    pub(super) tunnel_dropped: Counter,
    pub(super) sent: Counter,
    pub(super) send_errors: Counter,
    pub(super) receive_errors: Counter,
    pub(super) segmentation_refused: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
