//! What can be seen of a session from outside while its download runs: which session it is, which
//! way its packets take, what it has paid; and how the file grows. It refuses to hold the download
//! up: the program is asked from a thread of its own.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::demo::json;
use crate::demo::party::Party;

use super::super::programs::{self, Route};

/// Between two questions: paths change within a second.
const ASK: Duration = Duration::from_millis(200);

/// What the program said of its session.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// The agreement's id.
    pub(super) session: String,
    /// Confirmed as covered, in smallest units.
    pub(super) paid: i128,
    /// The way of its packets.
    pub(super) route: Option<Route>,
}

/// Asks until told to stop.
pub(super) fn keep_looking(consumer: &Party, looks: &Mutex<Vec<Look>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if let Some(look) = look(consumer) {
            looks.lock().expect("nobody panics holding it").push(look);
        }
        std::thread::sleep(ASK);
    }
}

/// One question; none while there is no session that answers.
pub(super) fn look(consumer: &Party) -> Option<Look> {
    let told = consumer.ask(&["sessions"]).ok()?;
    let session = told.as_array()?.first()?;
    Some(Look {
        session: json::text(session, "agreement").ok()?,
        paid: json::amount(session, "paid").ok()?,
        route: programs::route(session),
    })
}

/// How a file grows.
#[derive(Debug)]
pub(super) struct Growth {
    bytes: u64,
    since: Instant,
    begun: Instant,
    /// The longest time without a byte, and how long after the begin it started.
    longest: (Duration, Duration),
    /// Those that are over and were longer than [`TOLD`], each with its begin.
    stalls: Vec<(Duration, Duration)>,
}

/// Pauses that are told one by one: a person notices them.
const TOLD: Duration = Duration::from_secs(1);

impl Growth {
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            bytes: 0,
            since: now,
            begun: now,
            longest: (Duration::ZERO, Duration::ZERO),
            stalls: Vec::new(),
        }
    }

    /// The file has so many bytes now.
    pub(super) fn note(&mut self, bytes: u64, now: Instant) {
        let stood = now.saturating_duration_since(self.since);
        if stood > self.longest.0 {
            self.longest = (stood, self.since.saturating_duration_since(self.begun));
        }
        if bytes > self.bytes {
            if stood > TOLD {
                let begin = self.since.saturating_duration_since(self.begun);
                self.stalls.push((stood, begin));
            }
            self.bytes = bytes;
            self.since = now;
        }
    }

    /// Since when no byte has come.
    pub(super) fn standing(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// The longest time without a byte, and when it began, from the download's begin.
    pub(super) fn longest(&self) -> (Duration, Duration) {
        self.longest
    }

    /// The pauses that are over, in a few words: `1.9 s from 4.0 s, …`.
    pub(super) fn told(&self) -> String {
        let word = |(stood, begin): &(Duration, Duration)| {
            format!(
                "{:.1} s from {:.1} s",
                stood.as_secs_f64(),
                begin.as_secs_f64()
            )
        };
        self.stalls.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Bytes of a file; none yet is 0.
pub(super) fn size(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_stall_is_told_with_its_begin() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let mut growth = Growth::begin(begun);
        for (ms, bytes) in [(100, 10), (200, 20), (900, 20), (950, 30), (1_000, 40)] {
            growth.note(bytes, at(ms));
        }
        let (longest, since) = growth.longest();
        assert_eq!((longest.as_millis(), since.as_millis()), (750, 200));
        assert_eq!(growth.standing(at(1_400)).as_millis(), 400);
        // One that has no end yet counts.
        growth.note(40, at(3_000));
        assert_eq!(growth.longest().0.as_millis(), 2_000);
        assert_eq!(growth.bytes(), 40);
        // Told one by one once they are over, if a person noticed.
        assert_eq!(growth.told(), "");
        growth.note(50, at(3_000));
        assert_eq!(growth.told(), "2.0 s from 1.0 s");
    }
}
