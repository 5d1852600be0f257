//! Each side's own counter of one session. Nobody's word but one's own is ever counted.

use std::time::Instant;

use wayfare_payment::Usage;

/// Counts inner IP bytes and the time since the tunnel came up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    up: u64,
    down: u64,
    started: Option<Instant>,
    stopped: Option<Instant>,
}

impl Meter {
    /// The clock starts with the first handshake and never restarts.
    pub(crate) fn start(&mut self, now: Instant) {
        self.started.get_or_insert(now);
    }

    /// The clock stops where the session is closed: what comes after is nobody's use.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.stopped.get_or_insert(now);
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started.is_some()
    }

    pub(crate) fn count_up(&mut self, bytes: usize) {
        self.up = self.up.saturating_add(bytes as u64);
    }

    pub(crate) fn count_down(&mut self, bytes: usize) {
        self.down = self.down.saturating_add(bytes as u64);
    }

    pub(crate) fn usage(&self, now: Instant) -> Usage {
        let time = self.started.map_or_else(Default::default, |start| {
            self.stopped.unwrap_or(now).saturating_duration_since(start)
        });
        Usage {
            up: self.up,
            down: self.down,
            time,
        }
    }
}
