//! Timers: when a peer must be looked at again, and why.
//! It refuses to read a clock or to act; it keeps instants, and the endpoint acts.
//!
//! A packet moves several timers, but must not cost a search tree operation. So each peer keeps its timers as plain
//! fields, and the [`Agenda`] of all peers keeps one entry per peer that is **never later** than its soonest timer:
//! it is moved when a timer becomes sooner, and only re-read when it comes due. A wake-up may therefore find nothing
//! to do; it never comes too late.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::endpoint::PeerId;

/// The initiator renews keys of this age when it sends (WireGuard paper, section 6.1).
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Keys of this age neither seal nor open.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// An unanswered initiation is repeated after this long, plus jitter.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Unanswered initiations are repeated for this long: 18 attempts.
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// Data that got no data in return is acknowledged by a keepalive after this long.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Jitter on retries is below a third of a second, so that two peers that started together part.
pub(crate) const RETRY_JITTER_MS: u32 = 333;
/// We sent data and heard nothing, not even a keepalive, for 10 s + 5 s: the keys are dead at the other end.
pub(crate) const SILENCE_TIMEOUT: Duration = KEEPALIVE_TIMEOUT.saturating_add(REKEY_TIMEOUT);
/// Data that arrives on keys older than 180 − 10 − 5 = 165 s makes their initiator renew them although it does not send.
pub(crate) const LATE_REKEY_TIME: Duration = REJECT_AFTER_TIME.saturating_sub(SILENCE_TIMEOUT);
/// All keys are erased this long after the last handshake: 3 × 180 s.
pub(crate) const ERASE_AFTER_TIME: Duration = REJECT_AFTER_TIME.saturating_mul(3);

/// Longest interval that is honoured, so that `now + interval` cannot overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Why a deadline is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// An initiation may have been lost.
    HandshakeRetry,
    /// Data was received and nothing sent since.
    Keepalive,
    /// The configured persistent keepalive.
    PersistentKeepalive,
    /// Data was sent and nothing received since.
    Silence,
    /// Old keys must be erased.
    KeyErasure,
}

/// When to call `handle_timeout`, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// Not before this instant; calling earlier is harmless.
    pub at: Instant,
    /// What is due then, as known when the deadline was set.
    pub why: TimerKind,
}

/// How long ago `since` was; zero if the caller's time went backwards.
pub(crate) fn elapsed(since: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(since)
}

/// `now + interval`, for any interval a configuration may hold.
pub(crate) fn after(now: Instant, interval: Duration) -> Instant {
    now + interval.min(LONGEST)
}

/// The timers of one peer.
#[derive(Debug, Default)]
pub(crate) struct PeerTimers {
    pub(crate) retry: Option<Instant>,
    pub(crate) keepalive: Option<Instant>,
    pub(crate) persistent: Option<Instant>,
    pub(crate) silence: Option<Instant>,
    pub(crate) erasure: Option<Instant>,
    /// Data arrived while a keepalive was already due: another must follow it.
    pub(crate) keepalive_again: bool,
    /// Our entry in the agenda.
    entry: Option<Deadline>,
}

impl PeerTimers {
    /// The soonest timer.
    pub(crate) fn soonest(&self) -> Option<Deadline> {
        [
            (self.retry, TimerKind::HandshakeRetry),
            (self.keepalive, TimerKind::Keepalive),
            (self.persistent, TimerKind::PersistentKeepalive),
            (self.silence, TimerKind::Silence),
            (self.erasure, TimerKind::KeyErasure),
        ]
        .into_iter()
        .filter_map(|(at, why)| at.map(|at| Deadline { at, why }))
        .min()
    }

    /// Any authenticated packet was sent: no keepalive is owed, and the path was kept open.
    ///
    /// As the three below it says whether a timer began to run. Only then can the soonest have become sooner: a timer
    /// that runs is only ever stopped or put off by traffic.
    pub(crate) fn sent(&mut self, now: Instant, persistent: Option<Duration>) -> bool {
        self.keepalive = None;
        self.keepalive_again = false;
        self.kept_open(now, persistent)
    }

    /// A packet with content was sent: an answer of some kind is expected.
    pub(crate) fn sent_packet(&mut self, now: Instant, jitter: Duration) -> bool {
        let begins = self.silence.is_none();
        if begins {
            self.silence = Some(now + SILENCE_TIMEOUT + jitter);
        }
        begins
    }

    /// Any authenticated packet was received: the other end lives.
    pub(crate) fn received(&mut self, now: Instant, persistent: Option<Duration>) -> bool {
        self.silence = None;
        self.kept_open(now, persistent)
    }

    /// A packet with content was received: owe a keepalive unless we send first.
    pub(crate) fn received_packet(&mut self, now: Instant) -> bool {
        let begins = self.keepalive.is_none();
        if begins {
            self.keepalive = Some(now + KEEPALIVE_TIMEOUT);
        } else {
            self.keepalive_again = true;
        }
        begins
    }

    /// New keys: their erasure is counted from here.
    pub(crate) fn keyed(&mut self, now: Instant) {
        self.erasure = Some(now + ERASE_AFTER_TIME);
    }

    fn kept_open(&mut self, now: Instant, persistent: Option<Duration>) -> bool {
        let begins = self.persistent.is_none() && persistent.is_some();
        self.persistent = persistent.map(|interval| after(now, interval));
        begins
    }
}

/// One entry per peer with a running timer; 40 bytes each plus tree nodes.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    entries: BTreeSet<(Deadline, PeerId)>,
}

impl Agenda {
    /// Keeps the promise "never later than the soonest timer". Cheap when nothing became sooner.
    pub(crate) fn keep(&mut self, peer: PeerId, timers: &mut PeerTimers) {
        let Some(soonest) = timers.soonest() else {
            return;
        };
        if timers.entry.is_some_and(|entry| entry.at <= soonest.at) {
            return;
        }
        self.remove(peer, timers);
        self.entries.insert((soonest, peer));
        timers.entry = Some(soonest);
    }

    pub(crate) fn remove(&mut self, peer: PeerId, timers: &mut PeerTimers) {
        if let Some(entry) = timers.entry.take() {
            self.entries.remove(&(entry, peer));
        }
    }

    pub(crate) fn first(&self) -> Option<Deadline> {
        self.entries.first().map(|(deadline, _)| *deadline)
    }

    /// The peer whose entry is due, if any. The caller removes or renews its entry.
    pub(crate) fn due(&self, now: Instant) -> Option<PeerId> {
        self.entries
            .first()
            .filter(|(deadline, _)| deadline.at <= now)
            .map(|(_, peer)| *peer)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
