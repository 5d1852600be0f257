//! The shared socket as quinn sees it: a UDP socket on which only QUIC arrives.
//!
//! Send errors of single datagrams are counted, not returned: quinn would take them for the death
//! of the socket. They are not logged either, for a log line would carry the peer's address.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::ReaderTask;
use super::inner::Inner;
use super::pile::Pile;

/// Held by one quinn endpoint at a time.
#[derive(Debug)]
pub(crate) struct QuicSide {
    inner: Arc<Inner>,
    draining: Mutex<Draining>,
    _reader: Arc<ReaderTask>,
}

/// What is being handed to quinn, and how far that has come.
#[derive(Debug, Default)]
struct Draining {
    pile: Pile,
    next_run: usize,
}

impl QuicSide {
    pub(super) fn claim(inner: Arc<Inner>, reader: Arc<ReaderTask>) -> Option<Arc<Self>> {
        if !inner.quic.open() {
            return None;
        }
        Some(Arc::new(Self {
            inner,
            draining: Mutex::default(),
            _reader: reader,
        }))
    }

    /// See [`super::SharedSocket::reaches`].
    pub(crate) fn reaches(&self, to: SocketAddr) -> bool {
        self.inner.reaches(to)
    }
}

impl Drop for QuicSide {
    fn drop(&mut self) {
        self.inner.quic.close();
    }
}

impl AsyncUdpSocket for QuicSide {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable {
            inner: Arc::clone(&self.inner),
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.inner.transmit(transmit) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
            // Lost like any datagram can be; QUIC's own timers deal with it. The counter tells.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut draining = self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = loop {
            if draining.next_run == draining.pile.runs().len() {
                draining.next_run = 0;
                ready!(self.inner.quic.poll_swap(cx, &mut draining.pile))?;
            }
            // Zero only if every run was too large for quinn's buffers: take what came since.
            let filled = self.fill(&mut draining, buffers, metas);
            if filled > 0 || buffers.is_empty() || metas.is_empty() {
                break filled;
            }
        };
        Poll::Ready(Ok(filled))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.port.local)
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.port.udp.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.port.udp.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.port.udp.may_fragment()
    }
}

impl QuicSide {
    fn fill(
        &self,
        draining: &mut Draining,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> usize {
        let mut slots = buffers.iter_mut().zip(metas);
        let mut slot = slots.next();
        let mut filled = 0;
        while let Some(run) = draining.pile.runs().get(draining.next_run).copied() {
            let Some((buffer, meta)) = slot.as_mut() else {
                break;
            };
            draining.next_run += 1;
            let Some(target) = buffer.get_mut(..run.len) else {
                // Larger than any packet quinn accepts; a truncated one would be noise.
                self.inner.counters.quic_dropped.add(run.datagrams());
                continue;
            };
            target.copy_from_slice(&draining.pile.bytes()[run.start..run.start + run.len]);
            **meta = RecvMeta {
                addr: run.from,
                len: run.len,
                stride: run.stride,
                ecn: run.ecn,
                dst_ip: run.local_ip,
            };
            filled += 1;
            slot = slots.next();
        }
        filled
    }
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until the kernel's send buffer has room; each connection has its own.
struct Writable {
    inner: Arc<Inner>,
    waiting: Option<Waiting>,
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = Arc::clone(&self.inner);
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(async move { inner.port.io.writable().await }));
        let outcome = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(outcome)
    }
}
