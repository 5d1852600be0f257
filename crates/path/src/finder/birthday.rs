//! The birthday punch: one side opens many sockets toward one address, the other guesses ports until two meet.
//! It refuses to begin when both NATs are hard, to guess at an IP that is not attested, to exceed its budget, and to
//! begin again within ten minutes.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Event, Finder, Socket};
use crate::candidate::{CandidateKind, is_local};
use crate::chance::Chance;
use crate::description::Capabilities;
use crate::observation::NatClass;

/// How long plain punching is tried before the first guess, as long as nothing is known of the round trip.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Once the way through the relay is measured it is tried for so long: openers leave and starts differ,
const OPENERS_LEAVE: Duration = Duration::from_millis(300);
/// and then a plain punch needs two round trips of the direct way, which is hardly longer; twice that for losses.
const ROUND_TRIPS: u32 = 4;
const LEAST_PATIENCE: Duration = Duration::from_millis(700);
/// The hard side begins so much earlier: the caller starts half a round trip to the relay after the callee, and 256
/// openers take 80 ms. Guesses that come before them are wasted.
const HEAD_START: Duration = Duration::from_millis(200);
/// How long the driver may take to open sockets.
const OPENING: Duration = Duration::from_secs(1);
/// Guesses of one punch.
const GUESSES: u32 = 2048;
/// Eight guesses every 20 ms are 400 a second, 22 kB/s: five seconds at most.
const GUESSES_PER_STEP: u32 = 8;
const GUESS_STEP: Duration = Duration::from_millis(20);
/// Openers go in slices, so that no queue on the way overflows: 256 sockets take 80 ms.
const OPENERS_PER_STEP: u16 = 32;
const OPENER_STEP: Duration = Duration::from_millis(10);
/// How long the hard side waits: as long as guessing takes, and a second for what is under way.
const WAIT: Duration = Duration::from_secs(8);
/// How long the easy side waits after the last guess.
const LINGER: Duration = Duration::from_secs(1);
/// Between two birthday punches with one peer.
const REST: Duration = Duration::from_secs(600);
const MAX_SOCKETS: u16 = 512;
/// The ports guessed at: 1024 to 65535.
const FIRST_PORT: u64 = 1024;
const PORTS: u64 = 64_512;

#[derive(Debug, Clone)]
pub(super) struct Birthday {
    pub(super) allowed: bool,
    sockets: u16,
    last: Option<Instant>,
    probes: u32,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Idle,
    /// Plain punching is tried first.
    Waiting {
        since: Instant,
        at: Instant,
    },
    /// Hard side: the driver opens sockets.
    Opening {
        until: Instant,
        opened: bool,
    },
    /// Hard side: openers leave, then we wait for a guess to come in.
    Open {
        target: SocketAddr,
        count: u16,
        ttls: Vec<u8>,
        next: u16,
        next_at: Instant,
        until: Instant,
    },
    /// Easy side.
    Guessing {
        ip: IpAddr,
        ports: Ports,
        next_at: Instant,
        until: Option<Instant>,
    },
}

/// Every port once, in an order of chance: `first + i × stride` modulo a number that shares no factor with the stride.
#[derive(Debug, Clone)]
struct Ports {
    at: u64,
    stride: u64,
    given: u32,
}

impl Ports {
    fn new(chance: &mut Chance) -> Self {
        // 64512 = 2^10 · 3^2 · 7: a stride of 42 k ± 1 shares none of these.
        let stride = 42 * (1 + chance.below(PORTS / 42 - 1)) + 1;
        Self {
            at: chance.below(PORTS),
            stride,
            given: 0,
        }
    }

    fn draw(&mut self) -> Option<u16> {
        if self.given == GUESSES {
            return None;
        }
        self.given += 1;
        self.at = (self.at + self.stride) % PORTS;
        u16::try_from(FIRST_PORT + self.at).ok()
    }
}

impl Birthday {
    pub(super) fn new(allowed: bool, sockets: u16) -> Self {
        Self {
            allowed,
            sockets: sockets.min(MAX_SOCKETS),
            last: None,
            probes: 0,
            state: State::Idle,
        }
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        match &self.state {
            State::Idle => None,
            State::Waiting { at, .. } => Some(*at),
            State::Opening { until, .. } => Some(*until),
            State::Open { next_at, .. } | State::Guessing { next_at, .. } => Some(*next_at),
        }
    }

    /// Whether something may still come of it.
    pub(super) fn is_running(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    pub(super) fn was_tried(&self) -> bool {
        self.last.is_some()
    }

    /// Guesses sent so far.
    pub(super) fn probes(&self) -> u32 {
        self.probes
    }

    /// Whether guesses are, or were, sent to this IP.
    pub(super) fn aims_at(&self, target: IpAddr) -> bool {
        match &self.state {
            State::Guessing { ip, .. } => *ip == target,
            State::Idle | State::Waiting { .. } | State::Opening { .. } | State::Open { .. } => {
                false
            }
        }
    }

    pub(super) fn sockets_opened(&mut self, count: u16, now: Instant) {
        if let State::Opening { until, opened } = &mut self.state {
            self.sockets = self.sockets.min(count);
            (*until, *opened) = (now, true);
        }
    }
}

impl Finder {
    /// A round began: if it can need a birthday punch, one is awaited.
    pub(super) fn await_birthday(&mut self) {
        if !self.birthday.is_running() && self.may_guess() {
            let (since, at) = (self.now, self.now + self.patience());
            self.birthday.state = State::Waiting { since, at };
        }
    }

    /// The way through the relay was measured: a short one tells sooner that plain punching is in vain.
    pub(super) fn reconsider_birthday(&mut self) {
        let patience = self.patience();
        if let State::Waiting { since, at } = &mut self.birthday.state {
            *at = *since + patience;
        }
    }

    fn patience(&self) -> Duration {
        let relayed = self.pairs.all.iter().filter(|pair| pair.is_fallback());
        let patience = match relayed.filter_map(|pair| pair.rtt).min() {
            Some(rtt) => (OPENERS_LEAVE + rtt * ROUND_TRIPS).clamp(LEAST_PATIENCE, PATIENCE),
            None => PATIENCE,
        };
        match self.ours.nat {
            NatClass::Random => patience - HEAD_START,
            _ => patience,
        }
    }

    /// A direct path was found, or time is up.
    pub(super) fn end_birthday(&mut self) {
        let keep = match self.selected {
            Some((_, Socket::Extra(index))) => Some(index),
            Some((_, Socket::Main)) | None => None,
        };
        match std::mem::replace(&mut self.birthday.state, State::Idle) {
            State::Opening { .. } | State::Open { .. } => {
                let selected = self.selected;
                self.pairs.all.retain(|pair| {
                    pair.on == Socket::Main || selected == Some((pair.remote, pair.on))
                });
                self.tell(Event::CloseSockets { keep });
            }
            State::Idle | State::Waiting { .. } | State::Guessing { .. } => {}
        }
    }

    pub(super) fn step_birthday(&mut self) {
        if self.birthday.next_at().is_none_or(|at| at > self.now) {
            return;
        }
        match self.birthday.state.clone() {
            State::Idle => {}
            State::Waiting { .. } => self.begin_birthday(),
            State::Opening { .. } => self.begin_openers(),
            State::Open { .. } => self.step_openers(),
            State::Guessing { .. } => self.step_guesses(),
        }
    }

    /// Exactly one NAT is random and the other is not hard, both sides take part, and none of late.
    fn may_guess(&self) -> bool {
        let (ours, theirs) = (self.ours.nat, self.theirs.nat);
        let is_blocked = ours == NatClass::UdpBlocked || theirs == NatClass::UdpBlocked;
        let one_is_random = (ours == NatClass::Random) != (theirs == NatClass::Random);
        let both_hard = ours.is_hard() && theirs.is_hard();
        let rested = self
            .birthday
            .last
            .is_none_or(|last| self.now >= last + REST);
        let willing = self.theirs.capabilities.contain(Capabilities::BIRTHDAY);
        self.birthday.allowed
            && willing
            && rested
            && one_is_random
            && !both_hard
            && !is_blocked
            && !self.is_direct()
            && self.target().is_some()
    }

    /// The one address that a birthday punch is about: attested, public, IPv4. Of a hard peer only its IP counts.
    fn target(&self) -> Option<SocketAddr> {
        let of_kind = |kind| {
            let of_kind = self.theirs.candidates().iter();
            of_kind.filter(move |candidate| candidate.kind == kind)
        };
        of_kind(CandidateKind::Mapped)
            .chain(of_kind(CandidateKind::Manual))
            .chain(of_kind(CandidateKind::Observed))
            // A public address of its own, perhaps behind a firewall.
            .chain(of_kind(CandidateKind::Host))
            .map(|candidate| candidate.addr)
            .filter(|addr| addr.is_ipv4() && !is_local(addr.ip()))
            .find(|addr| self.permission.attests(addr.ip()))
            .or_else(|| {
                let ips = self.permission.attested().iter();
                let public = ips.filter(|ip| ip.is_ipv4() && !is_local(**ip)).min()?;
                (self.theirs.nat == NatClass::Random).then(|| SocketAddr::new(*public, 1))
            })
    }

    fn begin_birthday(&mut self) {
        self.birthday.state = State::Idle;
        let Some(target) = self.target().filter(|_| self.may_guess()) else {
            self.conclude();
            return;
        };
        self.birthday.last = Some(self.now);
        if self.ours.nat == NatClass::Random {
            let until = self.now + OPENING;
            self.birthday.state = State::Opening {
                until,
                opened: false,
            };
            let count = self.birthday.sockets;
            self.tell(Event::OpenSockets { count });
        } else {
            self.birthday.state = State::Guessing {
                ip: target.ip(),
                ports: Ports::new(&mut self.chance),
                next_at: self.now,
                until: None,
            };
        }
    }

    /// The sockets are open, or the driver never opened them.
    fn begin_openers(&mut self) {
        let opened = matches!(self.birthday.state, State::Opening { opened: true, .. });
        let target = self
            .target()
            .filter(|_| opened && self.birthday.sockets > 0);
        let Some(target) = target else {
            self.end_birthday();
            self.conclude();
            return;
        };
        // The same TTL once per socket if it is known to be right, every TTL of the ramp if not.
        let mut ttls = self.opener_ttls();
        ttls.dedup();
        self.birthday.state = State::Open {
            target,
            count: self.birthday.sockets,
            ttls,
            next: 0,
            next_at: self.now,
            until: self.now + WAIT,
        };
        self.step_openers();
    }

    fn step_openers(&mut self) {
        let State::Open {
            target,
            count,
            ttls,
            next,
            next_at,
            until,
        } = &mut self.birthday.state
        else {
            return;
        };
        if self.now >= *until {
            self.end_birthday();
            self.conclude();
            return;
        }
        let (target, ttls) = (*target, ttls.clone());
        let slice = *next..(*next + OPENERS_PER_STEP).min(*count);
        *next = slice.end;
        *next_at = if *next == *count {
            *until
        } else {
            self.now + OPENER_STEP
        };
        for index in slice {
            for ttl in &ttls {
                self.ping_to(target, Socket::Extra(index), Some(*ttl));
            }
        }
    }

    fn step_guesses(&mut self) {
        let State::Guessing {
            ip,
            ports,
            next_at,
            until,
        } = &mut self.birthday.state
        else {
            return;
        };
        if until.is_some_and(|until| self.now >= until) {
            self.end_birthday();
            self.conclude();
            return;
        }
        let ip = *ip;
        let mut drawn = Vec::new();
        for _ in 0..GUESSES_PER_STEP {
            drawn.extend(ports.draw());
        }
        *next_at = self.now + GUESS_STEP;
        if drawn.is_empty() {
            let end = self.now + LINGER;
            *until = Some(end);
            *next_at = end;
        }
        for port in drawn {
            self.birthday.probes += 1;
            self.ping_to(SocketAddr::new(ip, port), Socket::Main, None);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn guesses_are_ports_each_once_and_two_thousand_and_forty_eight() {
        for seed in 0..50 {
            let mut ports = Ports::new(&mut Chance::new([seed; 32]));
            let mut seen = BTreeSet::new();
            while let Some(port) = ports.draw() {
                assert!(port >= 1024 && seen.insert(port), "seed {seed}");
            }
            assert_eq!(seen.len(), 2048);
        }
    }
}
