//! One kernel socket: how it writes addresses, and the calls that send on it.
//!
//! It refuses destinations no peer can have before the kernel sees them, because some of the
//! kernel's refusals (`EINVAL`) would make the UDP library give up segmentation for every peer.
//! It knows nothing of virtual addresses: whoever asks it has found out that a destination is real.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use quinn::udp::{Transmit, UdpSocketState};
use tokio::io::Interest;

use super::kernel;
use super::plain;
use super::stats::Counters;

/// 65,535 less the IPv4 and UDP headers: the most one call may send, segmented or not.
pub(super) const MAX_PAYLOAD: usize = 65_507;

#[derive(Debug)]
pub(super) struct Port {
    pub(super) io: tokio::net::UdpSocket,
    pub(super) udp: UdpSocketState,
    pub(super) local: SocketAddr,
}

impl Port {
    /// Takes the socket to the current runtime.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let udp = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        Ok(Self {
            io: tokio::net::UdpSocket::from_std(socket)?,
            udp,
            local,
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
    pub(super) fn transmit(&self, counters: &Counters, transmit: &Transmit<'_>) -> io::Result<()> {
        let datagrams = transmit.segment_size.map_or(1, |segment| {
            transmit.contents.len().div_ceil(segment.max(1)).max(1)
        });
        let outcome = self.attempt(|| self.udp.try_send((&self.io).into(), transmit));
        count(counters, outcome, datagrams)
    }

    /// One datagram that may pass `ttl` routers, less one. `to` as this socket's family writes it.
    pub(super) fn transmit_ttl(
        &self,
        counters: &Counters,
        to: SocketAddr,
        datagram: &[u8],
        ttl: u8,
    ) -> io::Result<()> {
        let outcome = self.attempt(|| kernel::send_ttl(self.io.as_fd(), to, datagram, ttl));
        count(counters, outcome, 1)
    }

    /// `buffer` as datagrams of `segment` bytes, to an address as this socket's family writes it.
    /// Says how many bytes the kernel took, whole datagrams, at least one.
    pub(super) fn segments(
        &self,
        counters: &Counters,
        to: SocketAddr,
        buffer: &[u8],
        segment: usize,
    ) -> io::Result<usize> {
        let mut at_once = self.segments_at_once(segment)?;
        let mut sent = 0;
        while sent < buffer.len() {
            let end = buffer.len().min(sent + at_once * segment);
            match self.transmit(counters, &plain(to, &buffer[sent..end], Some(segment))) {
                Ok(()) => sent = end,
                Err(e) if at_once > 1 && segmentation_refused(&e) => {
                    counters.segmentation_refused.add(1);
                    at_once = 1;
                }
                // What was sent is the answer; the error will show again on the next call.
                Err(_) if sent > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(sent)
    }
}

fn count(counters: &Counters, outcome: io::Result<()>, datagrams: usize) -> io::Result<()> {
    match &outcome {
        Ok(()) => counters.sent.add(datagrams),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => counters.send_errors.add(1),
    }
    outcome
}

/// Drivers without segmentation say `EIO`, kernels without it `EINVAL`.
pub(super) fn segmentation_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}
