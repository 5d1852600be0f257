//! Counters of the shared socket. They count datagrams, never addresses.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What passed through a shared socket since it was opened. Datagrams, unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// Received for QUIC, including those dropped.
    pub quic_in: u64,
    /// Received tunnel messages, including those dropped.
    pub tunnel_in: u64,
    /// Received probes, including those dropped.
    pub probes_in: u64,
    /// Received, for nobody, dropped.
    pub junk_in: u64,
    /// QUIC datagrams dropped because the queue was full or nobody listens.
    pub quic_dropped: u64,
    /// Tunnel messages dropped because the queue was full or nobody listens.
    pub tunnel_dropped: u64,
    /// Probes dropped because the queue was full or nobody listens.
    pub probes_dropped: u64,
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
    /// Given to the kernel, of all kinds.
    pub sent: u64,
    /// Calls to send that the kernel or a carrier refused for good.
    pub send_errors: u64,
    /// Calls to receive that failed.
    pub receive_errors: u64,
    /// Sends repeated packet by packet because the kernel refused to segment.
    pub segmentation_refused: u64,
    /// Relay frames received on paths of ours; what is in them is counted by its kind as well.
    pub frames_in: u64,
    /// Datagrams sent in relay frames.
    pub frames_sent: u64,
    /// Relay frames of others that were passed on.
    pub frames_switched: u64,
    /// Relay frames of others that the switch had no place for.
    pub frames_refused: u64,
    /// Relay frames of others that were lost here: there was no room to send, or no way.
    pub frames_lost: u64,
    /// Arrived through carriers; what they are is counted by their kind as well.
    pub carried_in: u64,
    /// Given to carriers.
    pub carried_sent: u64,
    /// Lost because a carrier had no room, or takes nothing of that length.
    pub carried_lost: u64,
    /// Arrived through adopted sockets; what they are is counted by their kind as well.
    pub adopted_in: u64,
    /// Lost because an adopted socket's send buffer was full.
    pub adopted_lost: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) quic_in: Counter,
    pub(super) tunnel_in: Counter,
    pub(super) probes_in: Counter,
    pub(super) junk_in: Counter,
    pub(super) quic_dropped: Counter,
    pub(super) tunnel_dropped: Counter,
    pub(super) probes_dropped: Counter,
    pub(super) sent: Counter,
    pub(super) send_errors: Counter,
    pub(super) receive_errors: Counter,
    pub(super) segmentation_refused: Counter,
    pub(super) frames_in: Counter,
    pub(super) frames_sent: Counter,
    pub(super) frames_switched: Counter,
    pub(super) frames_refused: Counter,
    pub(super) frames_lost: Counter,
    pub(super) carried_in: Counter,
    pub(super) carried_sent: Counter,
    pub(super) carried_lost: Counter,
    pub(super) adopted_in: Counter,
    pub(super) adopted_lost: Counter,
}

impl Counters {
    /// All that is counted here; what is measured when asked is 0.
    pub(super) fn read(&self) -> SocketStats {
        SocketStats {
            quic_in: self.quic_in.read(),
            tunnel_in: self.tunnel_in.read(),
            probes_in: self.probes_in.read(),
            junk_in: self.junk_in.read(),
            quic_dropped: self.quic_dropped.read(),
            tunnel_dropped: self.tunnel_dropped.read(),
            probes_dropped: self.probes_dropped.read(),
            quic_queued_bytes: 0,
            tunnel_queued_bytes: 0,
            kernel_queued_bytes: 0,
            kernel_dropped: 0,
            sent: self.sent.read(),
            send_errors: self.send_errors.read(),
            receive_errors: self.receive_errors.read(),
            segmentation_refused: self.segmentation_refused.read(),
            frames_in: self.frames_in.read(),
            frames_sent: self.frames_sent.read(),
            frames_switched: self.frames_switched.read(),
            frames_refused: self.frames_refused.read(),
            frames_lost: self.frames_lost.read(),
            carried_in: self.carried_in.read(),
            carried_sent: self.carried_sent.read(),
            carried_lost: self.carried_lost.read(),
            adopted_in: self.adopted_in.read(),
            adopted_lost: self.adopted_lost.read(),
        }
    }
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
