//! A control stream: late, but in order, until it breaks and everything on its way is gone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// One direction of a stream.
#[derive(Debug)]
pub(super) struct Stream<F> {
    frames: VecDeque<(Instant, F)>,
}

impl<F> Default for Stream<F> {
    fn default() -> Self {
        Self {
            frames: VecDeque::new(),
        }
    }
}

impl<F> Stream<F> {
    /// Sends a frame that arrives after `delay`, or with the one before it.
    pub(super) fn send(&mut self, frame: F, now: Instant, delay: Duration) {
        let last = self.frames.back().map_or(now, |(at, _)| *at);
        self.frames.push_back((last.max(now + delay), frame));
    }

    /// The next frame that has arrived.
    pub(super) fn arrived(&mut self, now: Instant) -> Option<F> {
        let (_, frame) = self.frames.pop_front_if(|(at, _)| *at <= now)?;
        Some(frame)
    }

    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.frames.front().map(|(at, _)| *at)
    }

    /// The stream breaks.
    pub(super) fn cut(&mut self) {
        self.frames.clear();
    }
}
