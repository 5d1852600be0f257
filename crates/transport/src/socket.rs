//! The shared UDP socket: tunnel messages and QUIC through one port, hence one NAT mapping.
//!
//! A single reader task receives in batches (`recvmmsg`, GRO), looks at the first byte of every
//! datagram and appends it to one of two bounded queues. When a queue is full its newest
//! datagrams are dropped and counted, as a router would; nothing here grows with what peers send.
//! Sending needs no task: any holder of a [`SharedSocket`] writes straight to the kernel.
//! It refuses to authenticate, decrypt or answer anything.

mod batch;
mod demux;
mod error;
mod inner;
mod queue;
mod quic_side;
mod reader;
mod stats;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use quinn::udp::Transmit;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::AbortHandle;

pub use batch::Batch;
pub use demux::{Kind, classify};
pub use error::BindError;
pub(crate) use quic_side::QuicSide;
pub use stats::SocketStats;

use inner::Inner;

/// 4 MiB: about 45 ms of a 1 Gb/s stream's worth of datagrams on the smallest kernel accounting
/// (each 1,420-byte datagram is charged about 2,300 bytes), i.e. several scheduling delays.
const KERNEL_BUFFER: usize = 4 << 20;

/// How to open the socket.
#[derive(Debug, Clone, Copy)]
pub struct SocketOptions {
    /// Firewall mark of every packet sent (`SO_MARK`), so that a kill switch and policy routing
    /// can tell our own traffic from what must enter the tunnel. Needs `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// Kernel receive and send buffer, bytes each. A best effort: without privilege the kernel
    /// silently caps it at `net.core.rmem_max`/`wmem_max`.
    pub buffers: usize,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            mark: None,
            buffers: KERNEL_BUFFER,
        }
    }
}

/// The sending half and the handle of the socket; cheap to clone.
///
/// The socket closes when the last clone, the [`TunnelReceiver`] and the QUIC endpoint on it are
/// gone.
#[derive(Debug, Clone)]
pub struct SharedSocket {
    inner: Arc<Inner>,
    reader: Arc<ReaderTask>,
}

/// The receiving half for tunnel messages. There is one per socket.
///
/// Dropping it makes the reader count and discard tunnel messages; QUIC goes on.
#[derive(Debug)]
pub struct TunnelReceiver {
    inner: Arc<Inner>,
    _reader: Arc<ReaderTask>,
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
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BindError::NoRuntime)?;
        let socket = open(addr, options)?;
        let os = |step| move |source| BindError::os(addr, step, source);
        let inner = Arc::new(Inner::new(socket.into()).map_err(os("prepare"))?);
        inner.tunnel.open();
        let reader = runtime.spawn(reader::run(Arc::clone(&inner)));
        let reader = Arc::new(ReaderTask(reader.abort_handle()));
        let receiver = TunnelReceiver {
            inner: Arc::clone(&inner),
            _reader: Arc::clone(&reader),
        };
        Ok((Self { inner, reader }, receiver))
    }

    /// The bound address, with the port the kernel chose if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local
    }

    /// What passed so far.
    #[must_use]
    pub fn stats(&self) -> SocketStats {
        self.inner.stats()
    }

    /// Sends one datagram, waiting while the kernel's buffer is full.
    ///
    /// # Errors
    /// `InvalidInput` for an address nobody can have (port 0, unspecified), otherwise what the
    /// kernel says of this datagram (for example no route). The socket stays usable.
    pub async fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        loop {
            match self.try_send(to, datagram) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.inner.io.writable().await?;
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
        self.inner
            .transmit(&plain(self.inner.wire(to)?, datagram, None))
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
                    self.inner.io.writable().await?;
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

    /// The QUIC half, for one endpoint; `None` while another endpoint has it.
    pub(crate) fn quic_side(&self) -> Option<Arc<QuicSide>> {
        QuicSide::claim(Arc::clone(&self.inner), Arc::clone(&self.reader))
    }
}

impl TunnelReceiver {
    /// Waits for tunnel messages and exchanges everything that is queued for the contents of
    /// `batch`, whose memory is reused by the queue. Returns the number of datagrams, at least 1.
    ///
    /// Cancel safe. The type byte and the three zero bytes have been checked, nothing else.
    ///
    /// # Errors
    /// The socket is broken for good.
    pub async fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_recv(cx, batch)).await
    }

    /// The poll form of [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<io::Result<usize>> {
        self.inner.tunnel.poll_swap(cx, batch)
    }
}

impl Drop for TunnelReceiver {
    fn drop(&mut self) {
        self.inner.tunnel.close();
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

fn open(addr: SocketAddr, options: SocketOptions) -> Result<Socket, BindError> {
    let os = |step| move |source| BindError::os(addr, step, source);
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))
        .map_err(os("open"))?;
    if addr.is_ipv6() {
        // Dual stack only when every address was asked for; a named IPv6 address is that one.
        socket
            .set_only_v6(!addr.ip().is_unspecified())
            .map_err(os("configure"))?;
    }
    if let Some(mark) = options.mark {
        setsockopt(&socket, sockopt::Mark, &mark)
            .map_err(|errno| BindError::os(addr, "mark", errno.into()))?;
    }
    size_buffers(&socket, options.buffers);
    socket.bind(&addr.into()).map_err(os("bind"))?;
    Ok(socket)
}

/// A best effort: a smaller buffer costs throughput, not correctness.
fn size_buffers(socket: &Socket, bytes: usize) {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        let _ = socket.set_recv_buffer_size(bytes);
    }
    if setsockopt(socket, sockopt::SndBufForce, &bytes).is_err() {
        let _ = socket.set_send_buffer_size(bytes);
    }
    tracing::debug!(
        asked = bytes,
        receive = socket.recv_buffer_size().unwrap_or(0),
        send = socket.send_buffer_size().unwrap_or(0),
        "UDP buffers"
    );
}

#[cfg(test)]
mod tests;
