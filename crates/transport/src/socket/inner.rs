//! The kernel socket with its queues and detours: what reader, QUIC side and senders share.
//!
//! It refuses to wait: what cannot be sent now is the caller's to send again, or lost.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use quinn::udp::Transmit;

use super::carried::Detours;
use super::kernel;
use super::pile::Limits;
use super::plain;
use super::port::Port;
use super::probes::ProbeLine;
use super::queue::Queue;
use super::stats::{Counters, SocketStats};
use super::switch::SwitchSeat;
use super::turn::Turn;

/// Tunnel queue: 4 MiB (about 30 ms at 1 Gb/s) and 8,192 runs of about 100 bytes of bookkeeping.
/// Worst case twice that, since two piles change places: below 10 MiB.
const TUNNEL: Limits = Limits {
    bytes: 4 << 20,
    runs: 8192,
};
/// QUIC queue: half of the tunnel's; its endpoint has queues of its own. Worst case below 5 MiB.
const QUIC: Limits = Limits {
    bytes: 2 << 20,
    runs: 4096,
};

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) port: Port,
    pub(super) tunnel: Queue,
    pub(super) quic: Queue,
    pub(super) probes: ProbeLine,
    pub(super) detours: Detours,
    pub(super) switch: SwitchSeat,
    pub(super) turn: Turn,
    pub(super) counters: Counters,
}

impl Inner {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self {
            port: Port::new(socket)?,
            tunnel: Queue::new(TUNNEL),
            quic: Queue::new(QUIC),
            probes: ProbeLine::default(),
            detours: Detours::default(),
            switch: SwitchSeat::default(),
            turn: Turn::default(),
            counters: Counters::default(),
        })
    }

    /// See [`super::SharedSocket::try_send`].
    pub(super) fn try_send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let to = self.port.wire(to)?;
        if self.detours.concern(to) {
            return self.detour(to, datagram, datagram.len()).map(|_| ());
        }
        self.port
            .transmit(&self.counters, &plain(to, datagram, None))
    }

    /// See [`super::SharedSocket::try_send_segments`].
    pub(super) fn try_send_segments(
        &self,
        to: SocketAddr,
        buffer: &[u8],
        segment: usize,
    ) -> io::Result<usize> {
        let to = self.port.wire(to)?;
        if self.detours.concern(to) {
            return self.detour(to, buffer, segment);
        }
        self.port.segments(&self.counters, to, buffer, segment)
    }

    /// See [`super::SharedSocket::try_send_ttl`].
    pub(super) fn try_send_ttl(&self, to: SocketAddr, datagram: &[u8], ttl: u8) -> io::Result<()> {
        if ttl == 0 {
            let why = "a datagram that may pass no hop at all does not leave";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let to = self.port.wire(to)?;
        if self.detours.concern(to) {
            return self.detour_ttl(to, datagram, ttl);
        }
        self.port.transmit_ttl(&self.counters, to, datagram, ttl)
    }

    /// What quinn sends.
    pub(super) fn transmit(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if !self.detours.concern(transmit.destination) {
            return self.port.transmit(&self.counters, transmit);
        }
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        // What of it did not fit into the kernel's buffer is lost; QUIC sends it again.
        self.detour(transmit.destination, transmit.contents, segment)
            .map(|_| ())
    }

    /// Tells both consumers of queues that there is something for them.
    pub(super) fn wake(&self) {
        self.tunnel.wake();
        self.quic.wake();
    }

    /// Nobody can read any more: says so to all consumers, for ever.
    pub(super) fn break_off(&self, cause: &io::Error) {
        tracing::error!(error = %cause, "the shared UDP socket failed");
        self.tunnel.break_off(cause.kind());
        self.quic.break_off(cause.kind());
        self.probes.break_off();
    }

    pub(super) fn stats(&self) -> SocketStats {
        let kernel = kernel::receive_queue(self.port.io.as_fd()).unwrap_or_default();
        SocketStats {
            quic_queued_bytes: self.quic.bytes() as u64,
            tunnel_queued_bytes: self.tunnel.bytes() as u64,
            kernel_queued_bytes: kernel.charged,
            kernel_dropped: kernel.dropped,
            ..self.counters.read()
        }
    }
}
