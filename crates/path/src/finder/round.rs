//! Rounds: openers, then pings to every pair that could be better than what we have, for four seconds.
//! They refuse to hurry after a late driver: one step per call, however much time has passed.

use std::time::{Duration, Instant};

use super::Finder;
use crate::candidate::CandidateKind;
use crate::observation::NatClass;
use crate::outcome::{Obstacle, Outcome};
use crate::secret::Role;

/// How long a round tries.
const ROUND: Duration = Duration::from_secs(4);
/// Between two openers.
const OPENER_GAP: Duration = Duration::from_millis(20);
/// Openers when the depth of our NATs is known.
const OPENERS: usize = 3;
/// Openers when it is not: home, home and carrier, and deeper.
const RAMP: [u8; 5] = [3, 4, 5, 6, 8];
/// Between two pings: this at first, half as much more each time,
const FIRST_GAP: Duration = Duration::from_millis(25);
/// and this in the end.
const LAST_GAP: Duration = Duration::from_millis(200);
/// How long the side that begins first holds its full pings back: longer than an answer takes to arrive by a relay on
/// another continent.
const HOLD: Duration = Duration::from_millis(500);
/// An upgrade is tried so long after the first round that failed while a relay is used, twice as long after each further one,
const FIRST_UPGRADE: Duration = Duration::from_secs(5);
/// and in the end so often.
const LAST_UPGRADE: Duration = Duration::from_secs(60);

/// Why a round begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    /// The finder is new.
    First,
    /// A path died or our network changed: the peer is asked to join.
    Again,
    /// The peer asked us to join.
    Joined,
    /// One side's addresses changed; the other knows.
    Changed,
    /// Time to look for something better; the peer is asked to join.
    Upgrade,
}

#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) started: Instant,
    pub(super) next_at: Instant,
    /// Whether the peer is asked to punch again.
    pub(super) again: bool,
    step: usize,
    gap: Duration,
    hold_until: Instant,
    /// All direct pairs are tried, whatever is in use: that may be dead.
    all: bool,
}

impl Finder {
    pub(super) fn begin_round(&mut self, why: Pending) {
        let now = self.now;
        let (again, hold, all) = match why {
            Pending::First => (false, self.role == Role::Callee, false),
            // Our port may be another than the peer knows: only our own pings can tell it.
            Pending::Again => (true, false, true),
            Pending::Upgrade => (true, true, false),
            Pending::Joined | Pending::Changed => (false, false, true),
        };
        // Held back only if the peer knows the port that our openers come from.
        let is_known = match self.ours.nat {
            NatClass::Open | NatClass::EndpointIndependent => true,
            // One observer knows it: most NATs show others the same.
            NatClass::Unknown => {
                let mut candidates = self.ours.candidates().iter();
                candidates.any(|candidate| candidate.kind == CandidateKind::Observed)
            }
            NatClass::Sequential { .. } | NatClass::Random | NatClass::UdpBlocked => false,
        };
        self.rounds = self.rounds.wrapping_add(1);
        self.upgrade_at = None;
        self.round = Some(Round {
            started: now,
            next_at: now,
            again,
            step: 0,
            gap: FIRST_GAP,
            hold_until: if hold && is_known { now + HOLD } else { now },
            all,
        });
        self.await_birthday();
        if again {
            self.ping_fallbacks();
        }
    }

    pub(super) fn step_round(&mut self) {
        let Some(round) = self.round.clone().filter(|round| round.next_at <= self.now) else {
            return;
        };
        if self.now >= round.started + ROUND {
            self.round = None;
            self.conclude();
            return;
        }
        let ttls = self.opener_ttls();
        let opener = ttls.get(round.step).copied();
        for at in 0..self.pairs.all.len() {
            if !self.is_wanted(at, &round) {
                continue;
            }
            let pair = &self.pairs.all[at];
            if !pair.is_punched() {
                // One ping at the first step, then with those after the openers.
                if round.step == 0 || opener.is_none() {
                    self.ping(at, None);
                }
                continue;
            }
            let is_held = self.now < round.hold_until && pair.heard_at.is_none();
            let ttl = opener.or_else(|| ttls.last().copied().filter(|_| is_held));
            self.ping(at, ttl);
        }
        if let Some(round) = &mut self.round {
            round.step += 1;
            let gap = if opener.is_some() {
                OPENER_GAP
            } else {
                let gap = round.gap;
                round.gap = (gap * 3 / 2).min(LAST_GAP);
                gap
            };
            round.next_at = (self.now + gap).min(round.started + ROUND).max(self.now);
        }
    }

    /// TTLs of the openers: the measured depth, or a ramp.
    pub(super) fn opener_ttls(&self) -> Vec<u8> {
        match self.ours.depth {
            Some(depth) => vec![depth; OPENERS],
            None => RAMP.to_vec(),
        }
    }

    /// Says how it ended if nothing more is tried, and when the next attempt is.
    pub(super) fn conclude(&mut self) {
        if self.round.is_some() || self.birthday.is_running() || self.is_direct() {
            return;
        }
        let obstacle = self.obstacle();
        let outcome = match self.selected {
            Some(_) => Outcome::Relayed(obstacle),
            None => Outcome::Unreachable(obstacle),
        };
        self.settle(outcome);
        // The callee joins when the caller asks.
        if self.role == Role::Caller && self.upgrade_at.is_none() {
            let gap = (FIRST_UPGRADE * (1 << self.upgrades.min(4))).min(LAST_UPGRADE);
            self.upgrades = self.upgrades.saturating_add(1);
            self.upgrade_at = Some(self.now + gap);
        }
    }

    /// The request to join goes through what certainly works.
    fn ping_fallbacks(&mut self) {
        for at in 0..self.pairs.all.len() {
            if self.pairs.all[at].is_fallback() {
                self.ping(at, None);
            }
        }
    }

    fn is_wanted(&self, at: usize, round: &Round) -> bool {
        let pair = &self.pairs.all[at];
        if pair.is_fallback() {
            // Heartbeats measure them; in a round that asks the peer to join they carry the request, once per step.
            return round.again && round.step % 4 == 1;
        }
        let answered = pair.rtt.is_some() && pair.heard_at.is_some_and(|at| at >= round.started);
        if answered || self.selected == Some((pair.remote, pair.on)) {
            return false;
        }
        match self.selected_tier() {
            None => true,
            Some(tier) if pair.tier < tier => true,
            Some(_) => round.all && pair.tier.is_direct(),
        }
    }

    fn obstacle(&self) -> Obstacle {
        if let Some(obstacle) = Obstacle::of_classes(self.ours.nat, self.theirs.nat) {
            return obstacle;
        }
        let is_random = [self.ours.nat, self.theirs.nat].contains(&NatClass::Random);
        if is_random && self.birthday.was_tried() {
            let probes = self.birthday.probes();
            return Obstacle::NoGuessMet { probes };
        }
        if is_random {
            return Obstacle::MayNotGuess;
        }
        if self.pairs.all.iter().all(super::pair::Pair::is_fallback) {
            return Obstacle::NothingAttested;
        }
        Obstacle::NoAnswer
    }
}
