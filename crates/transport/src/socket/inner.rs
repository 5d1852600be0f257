//! The kernel socket with its two queues: what reader, QUIC side and senders share.
//!
//! It refuses destinations no peer can have before the kernel sees them, because some of the
//! kernel's refusals (`EINVAL`) would make the UDP library give up segmentation for every peer.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use quinn::udp::{Transmit, UdpSocketState};
use tokio::io::Interest;

use super::kernel;
use super::pile::Limits;
use super::plain;
use super::queue::Queue;
use super::stats::{Counters, SocketStats};
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
/// 65,535 less the IPv4 and UDP headers: the most one call may send, segmented or not.
const MAX_PAYLOAD: usize = 65_507;

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) io: tokio::net::UdpSocket,
    pub(super) udp: UdpSocketState,
    pub(super) local: SocketAddr,
    pub(super) tunnel: Queue,
    pub(super) quic: Queue,
    pub(super) turn: Turn,
    pub(super) counters: Counters,
}

impl Inner {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let udp = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        Ok(Self {
            io: tokio::net::UdpSocket::from_std(socket)?,
            udp,
            local,
            tunnel: Queue::new(TUNNEL),
            quic: Queue::new(QUIC),
            turn: Turn::default(),
            counters: Counters::default(),
        })
    }

    /// `to` as this socket's family writes it.
    pub(super) fn wire(&self, to: SocketAddr) -> io::Result<SocketAddr> {
        let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        let to = super::canonical(to);
        if to.port() == 0 || to.ip().is_unspecified() {
            return refuse("nobody can be reached at port 0 or at the unspecified address");
        }
        match to {
            SocketAddr::V4(v4) if self.local.is_ipv6() => {
                let mapped: Ipv6Addr = v4.ip().to_ipv6_mapped();
                Ok(SocketAddr::new(mapped.into(), v4.port()))
            }
            SocketAddr::V6(_) if self.local.is_ipv4() => {
                refuse("an IPv6 peer cannot be reached from an IPv4 socket")
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => Ok(to),
        }
    }

    /// Calls the kernel to send, in step with what the event loop knows of the send buffer.
    pub(super) fn attempt<T>(&self, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut attempted = false;
        let outcome = self.io.try_io(Interest::WRITABLE, || {
            attempted = true;
            call()
        });
        // A fresh socket is writable before the event loop has had a chance to say so.
        if attempted { outcome } else { call() }
    }

    /// How many datagrams of `segment` bytes one message to the kernel may carry.
    pub(super) fn segments_at_once(&self, segment: usize) -> io::Result<usize> {
        if segment == 0 || segment > MAX_PAYLOAD {
            let why = "a datagram carries 1 to 65,507 bytes";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let fit = MAX_PAYLOAD / segment;
        Ok(self.udp.max_gso_segments().min(fit).max(1))
    }

    /// One call to the kernel, for one datagram or for several of equal size.
    pub(super) fn transmit(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let outcome = self.attempt(|| self.udp.try_send((&self.io).into(), transmit));
        match &outcome {
            Ok(()) => {
                let datagrams = transmit.segment_size.map_or(1, |segment| {
                    transmit.contents.len().div_ceil(segment.max(1)).max(1)
                });
                self.counters.sent.add(datagrams);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.counters.send_errors.add(1),
        }
        outcome
    }

    /// See [`super::SharedSocket::try_send_segments`].
    pub(super) fn try_send_segments(
        &self,
        to: SocketAddr,
        buffer: &[u8],
        segment: usize,
    ) -> io::Result<usize> {
        let mut at_once = self.segments_at_once(segment)?;
        let to = self.wire(to)?;
        let mut sent = 0;
        while sent < buffer.len() {
            let end = buffer.len().min(sent + at_once * segment);
            match self.transmit(&plain(to, &buffer[sent..end], Some(segment))) {
                Ok(()) => sent = end,
                Err(e) if at_once > 1 && segmentation_refused(&e) => {
                    self.counters.segmentation_refused.add(1);
                    at_once = 1;
                }
                // What was sent is the answer; the error will show again on the next call.
                Err(_) if sent > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(sent)
    }

    /// Nobody can read any more: says so to both consumers, for ever.
    pub(super) fn break_off(&self, cause: &io::Error) {
        tracing::error!(error = %cause, "the shared UDP socket failed");
        self.tunnel.break_off(cause.kind());
        self.quic.break_off(cause.kind());
    }

    pub(super) fn stats(&self) -> SocketStats {
        let counters = &self.counters;
        let kernel = kernel::receive_queue(self.io.as_fd()).unwrap_or_default();
        SocketStats {
            quic_in: counters.quic_in.read(),
            tunnel_in: counters.tunnel_in.read(),
            junk_in: counters.junk_in.read(),
            quic_dropped: counters.quic_dropped.read(),
            tunnel_dropped: counters.tunnel_dropped.read(),
            quic_queued_bytes: self.quic.bytes() as u64,
            tunnel_queued_bytes: self.tunnel.bytes() as u64,
            kernel_queued_bytes: kernel.charged,
            kernel_dropped: kernel.dropped,
            sent: counters.sent.read(),
            send_errors: counters.send_errors.read(),
            receive_errors: counters.receive_errors.read(),
            segmentation_refused: counters.segmentation_refused.read(),
        }
    }
}

/// Drivers without segmentation say `EIO`, kernels without it `EINVAL`.
pub(super) fn segmentation_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}
