//! The shared UDP socket: tunnel messages, QUIC, probes and relay frames through one port, hence
//! one NAT mapping.
//!
//! Whoever reads receives in batches (`recvmmsg`, GRO) and looks at the first byte of every
//! datagram. A background task does, and appends it to one of two bounded queues, until the
//! [`TunnelReceiver`] leads: then its task reads, works on tunnel messages where the kernel wrote
//! them, and only QUIC is queued. When a queue is full its newest datagrams are dropped and
//! counted, as a router would; nothing here grows with what peers send. Probes wait in a line of
//! their own, and relay frames are taken apart, or passed on if we are the relay.
//! Sending needs no task: any holder of a [`SharedSocket`] writes straight to the kernel.
//! It refuses to authenticate, decrypt or answer anything.

mod adopted;
mod batch;
mod carried;
mod demux;
mod error;
mod inner;
mod intake;
mod kernel;
pub(crate) mod open;
mod outgoing;
mod pile;
mod port;
mod probes;
mod queue;
mod quic_side;
mod reader;
mod receiver;
mod route;
mod sorting;
mod stats;
mod switch;
mod turn;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::Transmit;
use tokio::task::AbortHandle;

pub use adopted::Adopted;
pub use batch::Batch;
pub use carried::{Carried, CarriedMeter, Carrier, is_virtual};
pub use demux::{Kind, classify};
pub use error::BindError;
pub use open::SocketOptions;
pub use outgoing::Outgoing;
pub use probes::{Probe, Probes};
pub(crate) use quic_side::QuicSide;
pub use receiver::TunnelReceiver;
pub use stats::SocketStats;
pub use switch::Switch;

use inner::Inner;

/// The sending half and the handle of the socket; cheap to clone.
///
/// The socket closes when the last clone, the [`TunnelReceiver`] and the QUIC endpoint on it are
/// gone.
#[derive(Debug, Clone)]
pub struct SharedSocket {
    inner: Arc<Inner>,
    reader: Arc<ReaderTask>,
}

/// Ends the reader task with its last owner.
#[derive(Debug)]
pub(crate) struct ReaderTask(AbortHandle);

impl Drop for ReaderTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SharedSocket {
    /// Opens the socket on `addr` and starts its reader on the current tokio runtime.
    ///
    /// `[::]` is dual stack: IPv4 peers are served too and shown by their plain IPv4 address.
    ///
    /// # Errors
    /// [`BindError`] names the address, the cause and what to do about it.
    pub fn bind(
        addr: SocketAddr,
        options: SocketOptions,
    ) -> Result<(Self, TunnelReceiver), BindError> {
        tokio::runtime::Handle::try_current().map_err(|_| BindError::NoRuntime)?;
        Self::over(open::open(addr, options)?.into(), addr)
    }

    /// Goes on with a socket that was opened on `addr`.
    pub(crate) fn over(
        socket: std::net::UdpSocket,
        addr: SocketAddr,
    ) -> Result<(Self, TunnelReceiver), BindError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BindError::NoRuntime)?;
        let os = |step| move |source| BindError::os(addr, step, source);
        let inner = Arc::new(Inner::new(socket).map_err(os("prepare"))?);
        let reader = runtime.spawn(reader::run(Arc::clone(&inner)));
        let reader = Arc::new(ReaderTask(reader.abort_handle()));
        let receiver = TunnelReceiver::new(Arc::clone(&inner), Arc::clone(&reader));
        Ok((Self { inner, reader }, receiver))
    }

    /// The bound address, with the port the kernel chose if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.port.local
    }

    /// What passed so far.
    #[must_use]
    pub fn stats(&self) -> SocketStats {
        self.inner.stats()
    }

    /// Whether the kernel has a route to `to`, and an address to send from, at this moment: there is
    /// none to an IPv6 address where the computer has IPv4 alone. Always true for a virtual address.
    ///
    /// One call to the kernel, which sends nothing.
    #[must_use]
    pub fn reaches(&self, to: SocketAddr) -> bool {
        self.inner.reaches(to)
    }

    /// Sends one datagram, waiting while the kernel's buffer is full.
    ///
    /// # Errors
    /// `InvalidInput` for an address nobody can have (port 0, unspecified), `NotConnected` for a
    /// virtual address that is not open, otherwise what the kernel, or the carrier, says of this
    /// datagram (for example no route). The socket stays usable.
    pub async fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        loop {
            match self.try_send(to, datagram) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.inner.port.io.writable().await?;
                }
                done => return done,
            }
        }
    }

    /// Sends one datagram now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `WouldBlock` when the kernel's buffer is full.
    pub fn try_send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.inner.try_send(to, datagram)
    }

    /// Sends one datagram now, with a time to live (IPv4) or hop limit (IPv6) of `ttl` instead of
    /// the usual 64: the router that would be hop number `ttl` drops it. An opener that is to pass
    /// our own NATs and to reach nobody.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), `InvalidInput` for a `ttl` of 0, and `Unsupported` for an
    /// open virtual address, to which there are no hops to count.
    pub fn try_send_ttl(&self, to: SocketAddr, datagram: &[u8], ttl: u8) -> io::Result<()> {
        self.inner.try_send_ttl(to, datagram, ttl)
    }

    /// Sends `buffer` as datagrams of `segment` bytes each (the last may be shorter), by kernel
    /// segmentation where there is one, waiting while the kernel's buffer is full.
    ///
    /// # Errors
    /// As [`send`](Self::send); segments before the failing one have been sent.
    pub async fn send_segments(
        &self,
        to: SocketAddr,
        buffer: &[u8],
        segment: usize,
    ) -> io::Result<()> {
        let mut sent = 0;
        while sent < buffer.len() {
            match self.try_send_segments(to, &buffer[sent..], segment) {
                Ok(bytes) => sent += bytes,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.inner.port.io.writable().await?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// As [`send_segments`](Self::send_segments) without waiting. Returns how many bytes (whole
    /// segments) the kernel took, at least one segment; call again with the rest.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), if not even the first segment could be sent.
    pub fn try_send_segments(
        &self,
        to: SocketAddr,
        buffer: &[u8],
        segment: usize,
    ) -> io::Result<usize> {
        self.inner.try_send_segments(to, buffer, segment)
    }

    /// As [`try_send_segments`](Self::try_send_segments) for several messages, in order and in as
    /// few calls to the kernel as there can be. Returns how many bytes it took, counted over all
    /// messages: those of whole datagrams, at least one of the first message; call again with the
    /// rest.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), if not even the first datagram could be sent. An error of
    /// a later message ends the call, and shows when that message comes first: leave it out then.
    pub fn try_send_many(&self, messages: &[Outgoing<'_>]) -> io::Result<usize> {
        self.inner.try_send_many(messages)
    }

    /// Waits until the kernel's send buffer may have room again after `WouldBlock`. Any number of
    /// tasks may wait. Cancel safe.
    ///
    /// # Errors
    /// The runtime the socket was opened on is gone.
    pub async fn writable(&self) -> io::Result<()> {
        self.inner.port.io.writable().await
    }

    /// The poll form of [`writable`](Self::writable), for one task per socket: only the last one
    /// that asked is woken.
    ///
    /// # Errors
    /// As [`writable`](Self::writable).
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.port.io.poll_send_ready(cx)
    }

    /// The probes that arrive from now on; `None` while somebody has them.
    #[must_use]
    pub fn probes(&self) -> Option<Probes> {
        Probes::claim(Arc::clone(&self.inner), Arc::clone(&self.reader))
    }

    /// Makes this node a relay: frames that are not of a path of ours are offered to `switch`.
    /// `None`, as at the start: they are junk.
    pub fn set_switch(&self, switch: Option<Arc<dyn Switch>>) {
        self.inner.switch.take(switch);
    }

    /// The QUIC half, for one endpoint; `None` while another endpoint has it.
    pub(crate) fn quic_side(&self) -> Option<Arc<QuicSide>> {
        QuicSide::claim(Arc::clone(&self.inner), Arc::clone(&self.reader))
    }
}

/// `addr` with an IPv4-mapped IPv6 address written as the IPv4 address it is.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

fn plain(destination: SocketAddr, contents: &[u8], segment_size: Option<usize>) -> Transmit<'_> {
    Transmit {
        destination,
        ecn: None,
        contents,
        segment_size,
        src_ip: None,
    }
}

#[cfg(test)]
mod tests;
