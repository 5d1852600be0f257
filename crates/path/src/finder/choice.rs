//! The choice: which pair is used, how it is kept alive, when it is given up.
//! It refuses to give a path up for silence shorter than four heartbeats that stayed unanswered.

use std::time::Duration;

use super::round::Pending;
use super::{Event, Finder, Origin, Pair, Socket};
use crate::candidate::CandidateKind;
use crate::observation::NatClass;
use crate::outcome::{Method, Outcome};
use crate::secret::Role;

/// Within a tier another pair must be better by this: below it, jitter would decide.
const WORTH: Duration = Duration::from_millis(5);
/// Heartbeats of the path in use.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// When idle: below the 30 s after which many NATs forget (RFC 4787 asks for 120 s).
const IDLE: Duration = Duration::from_secs(20);
/// Pings that keep a fallback's mapping.
const WARM: Duration = Duration::from_secs(25);
/// Pings of the last fallback while it does not answer: nothing else is left.
const STRANDED: Duration = Duration::from_secs(1);
/// Heartbeats in a row that must stay unanswered. At 5 % loss each way that happens by chance once in 12,000 heartbeats.
const MISSES: u8 = 4;
/// From so many on, another path of the same tier that has answered is taken.
const DOUBT: u8 = 2;
/// How long an answer is waited for: twice the round trip, within these.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));

/// How often heartbeats come.
#[derive(Debug, Clone)]
pub(super) struct Rhythm {
    idle: bool,
    idle_gap: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            idle: false,
            idle_gap: IDLE,
        }
    }
}

impl Rhythm {
    pub(super) fn set_idle(&mut self, idle: bool) {
        self.idle = idle;
    }

    fn gap(&self) -> Duration {
        if self.idle { self.idle_gap } else { HEARTBEAT }
    }

    /// A path died while idle: perhaps the NAT forgot it, being asked too rarely.
    fn was_too_rare(&mut self) {
        if self.idle {
            self.idle_gap = (self.idle_gap / 2).max(HEARTBEAT);
        }
    }
}

impl Finder {
    /// The caller's choice: the best tier, then the shortest round trip.
    pub(super) fn choose(&mut self) {
        if self.role == Role::Callee {
            return self.fall_back();
        }
        let Some(best) = self.best() else { return };
        let pair = &self.pairs.all[best];
        let is_better = match self.selected_pair() {
            None => true,
            Some(current) if pair.tier != current.tier => pair.tier < current.tier,
            Some(current) => match (pair.rtt, current.rtt) {
                (Some(rtt), Some(current)) => rtt + WORTH <= current,
                _ if current.misses >= DOUBT => true,
                // A current path whose round trip is unknown again is in doubt; the other has just answered.
                (Some(_), None) => true,
                (None, Some(_) | None) => false,
            },
        };
        if is_better {
            self.select(best);
        }
    }

    /// Whoever has nothing takes the best there is.
    pub(super) fn fall_back(&mut self) {
        if self.selected.is_none()
            && let Some(best) = self.best()
        {
            self.select(best);
        }
    }

    /// The callee follows the caller's wish, once a pong proved that the caller is where its wish came from: a ping can
    /// be caught and sent on in another's name.
    pub(super) fn follow(&mut self, at: usize) {
        let pair = &self.pairs.all[at];
        if pair.proven && self.wished == Some((pair.remote, pair.on)) {
            self.wished = None;
            self.select(at);
        }
    }

    /// A fallback that was given up is heard again.
    pub(super) fn revive(&mut self, at: usize) {
        let pair = &mut self.pairs.all[at];
        if !pair.proven {
            pair.proven = true;
            pair.misses = 0;
            self.choose();
        }
    }

    /// The pair's next heartbeat, if it has any.
    pub(super) fn schedule_beat(&mut self, at: usize) {
        let pair = &self.pairs.all[at];
        let gap = if self.selected == Some((pair.remote, pair.on)) {
            Some(self.rhythm.gap())
        } else if pair.is_fallback() {
            Some(WARM)
        } else {
            None
        };
        self.pairs.all[at].beat_at = gap.map(|gap| self.now + gap);
    }

    pub(super) fn keep_alive(&mut self) {
        // A pair that is given up may go; whatever is behind it then is looked at in the next call.
        for at in (0..self.pairs.all.len()).rev() {
            let Some(pair) = self.pairs.all.get_mut(at) else {
                continue;
            };
            if pair.overdue_at.is_some_and(|overdue| overdue <= self.now) {
                pair.overdue_at = None;
                pair.misses = pair.misses.saturating_add(1);
                if pair.misses >= MISSES {
                    self.give_up(at);
                } else {
                    self.beat(at);
                    self.choose();
                }
            } else if pair.beat_at.is_some_and(|beat| beat <= self.now) {
                self.beat(at);
            }
        }
    }

    /// Forgets that the pair works; if it is the path in use, takes another and punches again.
    fn give_up(&mut self, at: usize) {
        let selected = self.selected;
        let (route, was_direct) = {
            let pair = &mut self.pairs.all[at];
            pair.doubt();
            pair.proven = false;
            let route = (pair.remote, pair.on);
            // A fallback is asked again and again: its relay may come back.
            let is_last = selected.is_none_or(|selected| selected == route);
            let gap = if is_last { STRANDED } else { HEARTBEAT };
            pair.beat_at = pair.is_fallback().then_some(self.now + gap);
            (route, pair.tier.is_direct())
        };
        if selected != Some(route) {
            return;
        }
        self.lose(at);
        self.fall_back();
        if was_direct {
            self.rhythm.was_too_rare();
            self.begin_round(Pending::Again);
        } else {
            self.conclude();
        }
    }

    /// The path in use is none any more.
    pub(super) fn lose(&mut self, at: usize) {
        let pair = &mut self.pairs.all[at];
        pair.proven = false;
        let (path, on) = (pair.remote, pair.on);
        self.selected = None;
        self.settled = None;
        self.since = self.now;
        self.tell(Event::Lost { path });
        if matches!(on, Socket::Extra(_)) {
            self.pairs.all.remove(at);
            self.tell(Event::CloseSockets { keep: None });
        }
    }

    pub(super) fn settle(&mut self, outcome: Outcome) {
        if self.settled != Some(outcome) {
            self.settled = Some(outcome);
            self.tell(Event::Settled(outcome));
        }
    }

    fn beat(&mut self, at: usize) {
        let pair = &mut self.pairs.all[at];
        let patience = match pair.rtt {
            Some(rtt) => (rtt * 2).clamp(PATIENCE.0, PATIENCE.1),
            None => PATIENCE.1,
        };
        pair.beat_at = None;
        pair.overdue_at = Some(self.now + patience);
        self.ping(at, None);
    }

    fn best(&self) -> Option<usize> {
        let usable = |at: &usize| {
            let pair = &self.pairs.all[*at];
            pair.is_usable(self.now) && pair.misses < DOUBT
        };
        (0..self.pairs.all.len()).filter(usable).min_by_key(|at| {
            let pair = &self.pairs.all[*at];
            (pair.tier, pair.rtt.unwrap_or(Duration::MAX))
        })
    }

    fn select(&mut self, at: usize) {
        let pair = &self.pairs.all[at];
        let (path, on, tier, rtt) = (pair.remote, pair.on, pair.tier, pair.rtt);
        if self.selected == Some((path, on)) {
            return;
        }
        let old = self.selected.replace((path, on));
        if let Some(old) = old.and_then(|(remote, on)| self.pairs.find(remote, on)) {
            self.pairs.all[old].overdue_at = None;
            self.pairs.all[old].misses = 0;
            self.schedule_beat(old);
        }
        // At once: it tells the callee.
        self.pairs.all[at].misses = 0;
        self.beat(at);
        self.tell(Event::Selected {
            path,
            on,
            tier,
            rtt,
        });
        if tier.is_direct() {
            self.upgrade_at = None;
            self.upgrades = 0;
            if !matches!(self.settled, Some(Outcome::Direct { .. })) {
                self.settle(self.direct_outcome(at));
            }
            self.end_birthday();
        } else if let Some(Outcome::Unreachable(obstacle)) = self.settled {
            self.settle(Outcome::Relayed(obstacle));
        }
    }

    fn direct_outcome(&self, at: usize) -> Outcome {
        let pair = &self.pairs.all[at];
        let is_behind = |nat: &&NatClass| !matches!(nat, NatClass::Open);
        let nats = [self.ours.nat, self.theirs.nat];
        Outcome::Direct {
            tier: pair.tier,
            // Two at most.
            nats: u8::try_from(nats.iter().filter(is_behind).count()).unwrap_or(2),
            method: self.method(pair),
            after: self.now.saturating_duration_since(self.since),
        }
    }

    fn method(&self, pair: &Pair) -> Method {
        match (pair.origin, pair.on) {
            (_, Socket::Extra(_)) => Method::Birthday,
            (Origin::Listed(CandidateKind::Predicted), Socket::Main) => Method::Predicted,
            (Origin::Heard, Socket::Main) if self.birthday.probes() > 0 => Method::Birthday,
            (Origin::Listed(_) | Origin::Heard | Origin::Fallback, Socket::Main) => Method::Plain,
        }
    }
}
