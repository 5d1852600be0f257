//! A bounded queue of datagrams between whoever reads the kernel and one consumer.
//!
//! Two piles change places: the reader appends to one while the consumer works on the other.
//! It refuses what does not fit, and everything while nobody listens.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::pile::{Limits, Pile, Run};

#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    state: Mutex<State>,
    /// Whether something is pending: a hint for who would rather not lock.
    filled: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    pending: Pile,
    waker: Option<Waker>,
    listening: bool,
    broken: Option<io::ErrorKind>,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            filled: AtomicBool::new(false),
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
        state.pending = Pile::default();
        self.filled.store(false, Relaxed);
    }

    /// Appends without waking, see [`wake`](Self::wake). Says whether the run was taken.
    pub(super) fn push(&self, run: Run, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        let taken = state.listening && state.pending.push(run, bytes, self.limits);
        self.filled.store(!state.pending.is_empty(), Relaxed);
        taken
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

    /// Exchanges `pile` for everything pending. Only the last caller's waker is kept.
    pub(super) fn poll_swap(
        &self,
        cx: &mut Context<'_>,
        pile: &mut Pile,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let taken = state.swap(pile)?;
        self.filled.store(false, Relaxed);
        if taken > 0 {
            return Poll::Ready(Ok(taken));
        }
        state.watch(cx);
        Poll::Pending
    }

    /// Whether something may be pending, without a lock.
    pub(super) fn is_filled(&self) -> bool {
        self.filled.load(Relaxed)
    }

    /// For a consumer that waits for something else too: wakes it when something comes, and says
    /// whether something is there already.
    pub(super) fn watch(&self, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        state.watch(cx);
        !state.pending.is_empty()
    }

    /// As [`poll_swap`](Self::poll_swap) for a consumer that will wait for something else: 0 if
    /// nothing is pending, and then the queue gives its memory back.
    pub(super) fn take(&self, pile: &mut Pile) -> io::Result<usize> {
        let mut state = self.lock();
        let taken = state.swap(pile)?;
        self.filled.store(false, Relaxed);
        if taken == 0 {
            state.pending = Pile::default();
        }
        Ok(taken)
    }

    pub(super) fn bytes(&self) -> usize {
        self.lock().pending.bytes().len()
    }

    /// No code panics while holding the lock, and a half-done push leaves nothing unsound.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn watch(&mut self, cx: &Context<'_>) {
        if !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
        }
    }

    /// Exchanges `pile` for everything pending and says how much that is. Tells that the socket is
    /// gone when nothing is left.
    fn swap(&mut self, pile: &mut Pile) -> io::Result<usize> {
        pile.clear();
        match self.broken {
            _ if !self.pending.is_empty() => std::mem::swap(&mut self.pending, pile),
            Some(cause) => {
                let why = "the UDP socket failed and is no longer read";
                return Err(io::Error::new(cause, why));
            }
            None => {}
        }
        Ok(pile.datagrams())
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
            start: 0,
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
        let mut pile = Pile::default();
        assert_eq!(
            poll_fn(|cx| queue.poll_swap(cx, &mut pile)).await.unwrap(),
            1
        );
        for _ in 0..2 {
            let error = poll_fn(|cx| queue.poll_swap(cx, &mut pile))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NetworkDown);
            assert!(queue.take(&mut pile).is_err());
        }
        assert!(pile.is_empty());
    }

    #[test]
    fn taking_leaves_nothing_behind_not_even_memory() {
        let queue = Queue::new(Limits {
            bytes: 100,
            runs: 10,
        });
        queue.open();
        assert!(one(&queue) && one(&queue));
        let mut pile = Pile::default();
        assert_eq!(queue.take(&mut pile).unwrap(), 2);
        assert!(one(&queue));
        assert_eq!(queue.take(&mut pile).unwrap(), 1);
        assert_eq!(queue.take(&mut pile).unwrap(), 0);
        assert_eq!(queue.lock().pending.memory(), 0);
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
            async move { poll_fn(|cx| queue.poll_swap(cx, &mut Pile::default())).await }
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
