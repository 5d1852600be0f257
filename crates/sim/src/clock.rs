//! Virtual time. It passes only when told to.

use std::time::{Duration, Instant};

/// A clock that stands still until it is wound.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
    elapsed: Duration,
}

impl Clock {
    /// A clock at zero.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "an Instant cannot be made otherwise; only differences to it are ever used"
    )]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
            elapsed: Duration::ZERO,
        }
    }

    /// The virtual moment.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.origin + self.elapsed
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.elapsed += time;
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
