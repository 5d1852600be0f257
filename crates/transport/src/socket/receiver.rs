//! The receiving half for tunnel messages, which may read the kernel itself.
//!
//! It refuses to read while anything read before it is still queued. What comes another way than
//! through the socket, by carriers and adopted sockets, is queued in both roles; a leader takes it
//! in turn with what it reads.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::ReaderTask;
use super::batch::Batch;
use super::inner::Inner;
use super::intake::Metas;
use super::reader::PATIENCE;

/// The receiving half for tunnel messages. There is one per socket.
///
/// Dropping it makes the background task read again, which then counts and discards tunnel
/// messages; QUIC goes on.
#[derive(Debug)]
pub struct TunnelReceiver {
    inner: Arc<Inner>,
    _reader: Arc<ReaderTask>,
    role: Role,
    metas: Metas,
    failures: usize,
    /// A leader's last turn went to the queue.
    queue_had_turn: bool,
}

/// Who reads the kernel, as the receiver sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The background task does; we live on the queue.
    Follows,
    /// We do, but the queue may hold what was read before.
    TakesOver,
    /// As before, but what was queued has been fetched once.
    Settles,
    /// We do, and nothing that was read from the socket is in the queue.
    Leads,
}

impl TunnelReceiver {
    pub(super) fn new(inner: Arc<Inner>, reader: Arc<ReaderTask>) -> Self {
        inner.tunnel.open();
        Self {
            inner,
            _reader: reader,
            role: Role::Follows,
            metas: Metas::default(),
            failures: 0,
            queue_had_turn: false,
        }
    }

    /// From now on [`recv`](Self::recv) reads the kernel itself, into the memory of its batch, and
    /// the background task rests. What has been queued until now is delivered first; nothing is
    /// lost or reordered by the change.
    ///
    /// For a task that does little else than to receive, again and again: **while it leads, QUIC
    /// on this socket is read by nobody else**, so as long as the receiver is not polled QUIC
    /// stands still and the kernel's buffer fills. Waits for a read in progress in the background
    /// task, at most one call to the kernel. Changes nothing if it leads already.
    pub fn lead(&mut self) {
        if self.role == Role::Follows {
            self.inner.turn.lead();
            self.role = Role::TakesOver;
        }
    }

    /// Gives reading back to the background task, at once. [`recv`](Self::recv) goes on from the
    /// queue. Changes nothing if it does not lead.
    pub fn follow(&mut self) {
        if self.role != Role::Follows {
            self.role = Role::Follows;
            self.inner.turn.follow();
        }
    }

    /// Waits for tunnel messages and puts those that are there into `batch`, in place of what it
    /// held. Returns the number of datagrams, at least 1.
    ///
    /// Cancel safe. The type byte and the three zero bytes have been checked, nothing else.
    ///
    /// # Errors
    /// The socket is broken for good.
    pub async fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_recv(cx, batch)).await
    }

    /// The poll form of [`recv`](Self::recv). It calls the kernel at most once and takes part in
    /// tokio's cooperative budget.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<io::Result<usize>> {
        match self.role {
            Role::Follows => self.inner.tunnel.poll_swap(cx, batch.for_queue()),
            Role::TakesOver | Role::Settles => {
                if self.inner.tunnel.take(batch.for_queue())? > 0 {
                    // One fetch takes all there was; what comes later came another way.
                    self.role = match self.role {
                        Role::TakesOver => Role::Settles,
                        Role::Follows | Role::Settles | Role::Leads => Role::Leads,
                    };
                    return Poll::Ready(Ok(batch.len()));
                }
                self.role = Role::Leads;
                self.poll_both(cx, batch)
            }
            Role::Leads => self.poll_both(cx, batch),
        }
    }

    /// The kernel, and in turn with it what came another way.
    fn poll_both(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<io::Result<usize>> {
        if self.inner.tunnel.is_filled() && !self.queue_had_turn {
            self.queue_had_turn = true;
            if self.inner.tunnel.take(batch.for_queue())? > 0 {
                return Poll::Ready(Ok(batch.len()));
            }
        }
        self.queue_had_turn = false;
        let read = self.poll_kernel(cx, batch);
        if read.is_pending() && self.inner.tunnel.watch(cx) {
            cx.waker().wake_by_ref();
        }
        read
    }

    fn poll_kernel(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<io::Result<usize>> {
        let inner = &self.inner;
        let landing = batch.for_kernel();
        ready!(inner.port.io.poll_recv_ready(cx))?;
        match landing.fill(inner, &mut self.metas) {
            Ok(()) => {
                self.failures = 0;
                inner.quic.wake();
                if !landing.is_empty() {
                    return Poll::Ready(Ok(landing.datagrams()));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => {
                inner.counters.receive_errors.add(1);
                self.failures += 1;
                if self.failures == PATIENCE {
                    inner.break_off(&e);
                    self.failures = 0;
                    // The queue tells it from now on, here as in the other role.
                    self.role = Role::TakesOver;
                    return Poll::Ready(Err(e));
                }
            }
        }
        // Nothing for us: wait for more, or, if there is more already, come back after others.
        ready!(inner.port.io.poll_recv_ready(cx))?;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for TunnelReceiver {
    fn drop(&mut self) {
        self.inner.tunnel.close();
        self.follow();
    }
}
