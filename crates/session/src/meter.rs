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

    /// Both directions.
    pub(crate) fn bytes(&self) -> u64 {
        self.up.saturating_add(self.down)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Where virtual time starts.
    #[allow(
        clippy::disallowed_methods,
        reason = "an Instant cannot be made otherwise; only differences are used"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_clock_runs_from_the_first_start_to_the_first_stop() {
        let origin = start();
        let at = |seconds| origin + Duration::from_secs(seconds);
        let mut meter = Meter::default();
        assert!(!meter.is_started());
        assert_eq!(meter.usage(at(5)), Usage::default());
        meter.start(at(10));
        meter.start(at(20));
        assert!(meter.is_started());
        assert_eq!(meter.usage(at(25)).time, Duration::from_secs(15));
        // A caller whose time goes backwards gains and loses nothing.
        assert_eq!(meter.usage(at(3)).time, Duration::ZERO);
        meter.stop(at(30));
        meter.stop(at(40));
        assert_eq!(meter.usage(at(100)).time, Duration::from_secs(20));
    }

    #[test]
    fn a_clock_that_never_started_is_not_started_by_stopping() {
        let now = start();
        let mut meter = Meter::default();
        meter.stop(now);
        assert_eq!(
            meter.usage(now + Duration::from_secs(9)).time,
            Duration::ZERO
        );
    }

    #[test]
    fn bytes_are_counted_by_direction_and_do_not_overflow() {
        let mut meter = Meter::default();
        meter.count_up(3);
        meter.count_up(4);
        meter.count_down(5);
        let usage = meter.usage(start());
        assert_eq!((usage.up, usage.down), (7, 5));
        meter.count_up(usize::MAX);
        meter.count_up(usize::MAX);
        assert_eq!(meter.usage(start()).up, u64::MAX);
    }
}
