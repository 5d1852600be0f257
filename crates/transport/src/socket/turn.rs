//! Whose turn it is to read the kernel: the background task's, or a leading receiver's.
//!
//! INVARIANT: the background task reads only inside [`Turn::background`], under the lock; so once
//! [`Turn::lead`] has returned everything it read is in the queues, and nobody but the caller
//! reads until [`Turn::follow`]. The leader itself reads without the lock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Debug, Default)]
pub(super) struct Turn(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    led: bool,
    /// Of the background task since it was last polled. Kept also when that registered for
    /// readiness: a leader that waits takes its place in the event loop.
    background: Option<Waker>,
}

impl Turn {
    /// The caller reads from now on. Waits for a read in progress: one call to the kernel.
    pub(super) fn lead(&self) {
        self.lock().led = true;
    }

    /// The background task reads from now on.
    pub(super) fn follow(&self) {
        let mut state = self.lock();
        state.led = false;
        let background = state.background.take();
        drop(state);
        if let Some(background) = background {
            background.wake();
        }
    }

    /// Lets the background task `read` if it is its turn. Registering for readiness belongs
    /// inside: it would take the leader's place in the event loop otherwise.
    pub(super) fn background<T>(
        &self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut state = self.lock();
        match &mut state.background {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        if state.led {
            return Poll::Pending;
        }
        read(cx)
    }

    /// A panic while reading would end the background task and nothing else.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
