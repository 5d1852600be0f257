//! A bounded queue of datagrams between the reader task and one consumer.
//!
//! Two batches change places: the reader appends to one while the consumer works on the other.
//! It refuses what does not fit, and everything while nobody listens.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::batch::{Batch, Limits, Run};

#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pending: Batch,
    waker: Option<Waker>,
    listening: bool,
    broken: Option<io::ErrorKind>,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
        }
    }

    /// A consumer is there. Says whether it is the only one.
    pub(super) fn open(&self) -> bool {
        !std::mem::replace(&mut self.lock().listening, true)
    }

    /// The consumer left: forget what it did not fetch, and the memory.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.listening = false;
        state.waker = None;
        state.pending = Batch::new();
    }

    /// Appends without waking, see [`wake`](Self::wake). Says whether the run was taken.
    pub(super) fn push(&self, run: Run, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        state.listening && state.pending.push(run, bytes, self.limits)
    }

    /// Wakes the consumer if something is there for it.
    pub(super) fn wake(&self) {
        let mut state = self.lock();
        let waker = if state.pending.is_empty() {
            None
        } else {
            state.waker.take()
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Tells the consumer, now and for ever, that the socket is gone.
    pub(super) fn break_off(&self, cause: io::ErrorKind) {
        let mut state = self.lock();
        state.broken = Some(cause);
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }

    /// Exchanges `batch` for everything pending. Only the last caller's waker is kept.
    pub(super) fn poll_swap(
        &self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<io::Result<usize>> {
        batch.clear();
        let mut state = self.lock();
        if !state.pending.is_empty() {
            std::mem::swap(&mut state.pending, batch);
            return Poll::Ready(Ok(batch.len()));
        }
        if let Some(cause) = state.broken {
            let error = io::Error::new(cause, "the UDP socket failed and is no longer read");
            return Poll::Ready(Err(error));
        }
        if !state
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn bytes(&self) -> usize {
        self.lock().pending.bytes().len()
    }

    /// No code panics while holding the lock, and a half-done push leaves nothing unsound.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::poll_fn;
    use std::net::SocketAddr;

    use super::*;

    fn one(queue: &Queue) -> bool {
        let from = SocketAddr::from(([10, 0, 0, 1], 1));
        let run = Run {
            from,
            len: 4,
            stride: 4,
            ecn: None,
            local_ip: None,
        };
        queue.push(run, b"wave")
    }

    #[tokio::test]
    async fn a_broken_socket_is_reported_after_what_it_still_delivered() {
        let queue = Queue::new(Limits {
            bytes: 100,
            runs: 10,
        });
        assert!(!one(&queue), "nobody listens yet");
        assert!(queue.open());
        assert!(!queue.open(), "a second listener is refused");
        assert!(one(&queue));
        queue.break_off(io::ErrorKind::NetworkDown);
        let mut batch = Batch::new();
        assert_eq!(
            poll_fn(|cx| queue.poll_swap(cx, &mut batch)).await.unwrap(),
            1
        );
        for _ in 0..2 {
            let error = poll_fn(|cx| queue.poll_swap(cx, &mut batch))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NetworkDown);
        }
        assert!(batch.is_empty());
    }

    #[tokio::test]
    async fn breaking_wakes_a_waiting_consumer() {
        let queue = std::sync::Arc::new(Queue::new(Limits {
            bytes: 100,
            runs: 10,
        }));
        queue.open();
        let waiting = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { poll_fn(|cx| queue.poll_swap(cx, &mut Batch::new())).await }
        });
        while queue.lock().waker.is_none() {
            tokio::task::yield_now().await;
        }
        queue.break_off(io::ErrorKind::BrokenPipe);
        assert_eq!(
            waiting.await.unwrap().unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
