//! The driver of two finders in virtual time.
//! It refuses to run on: every run has an end in time and in steps.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use wayfare_path::{
    Candidate, CandidateKind, Description, Event, Finder, Observations, Outcome, PROBE_LEN, Setup,
    Socket, Tier, Transmit,
};

use super::chance::Chance;
use super::net::{Datagram, Network, Walk};

/// The path through the relay, as each side knows it.
pub const VIRTUAL: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(240, 0, 0, 1)), 1);
const RELAY_DELAY: Duration = Duration::from_millis(70);
const MAX_STEPS: u32 = 400_000;

pub struct Side {
    pub hosts: (usize, Option<usize>),
    pub port: u16,
    pub extras: Vec<u16>,
    pub starts_at: Instant,
    setup: Option<Setup>,
    ours: Description,
    pub finder: Option<Finder>,
    pub events: Vec<(Duration, Event)>,
    /// Everything that was sent, by destination.
    pub sent: BTreeMap<SocketAddr, u32>,
    pub asked_for_sockets: u32,
}

impl Side {
    pub fn new(hosts: (usize, Option<usize>), port: u16, setup: Setup, starts_at: Instant) -> Self {
        Self {
            hosts,
            port,
            extras: Vec::new(),
            starts_at,
            ours: setup.ours.clone(),
            setup: Some(setup),
            finder: None,
            events: Vec::new(),
            sent: BTreeMap::new(),
            asked_for_sockets: 0,
        }
    }

    pub fn finder(&mut self) -> &mut Finder {
        self.finder.as_mut().unwrap()
    }

    pub fn tier(&self) -> Option<Tier> {
        let (_, _, tier) = self.finder.as_ref()?.selected()?;
        Some(tier)
    }

    /// When a direct path was first in use after `since`, and how it is explained.
    pub fn direct_after(&self, since: Duration) -> Option<Duration> {
        self.events.iter().find_map(|(at, event)| match event {
            Event::Selected { tier, .. } if tier.is_direct() && *at >= since => Some(*at),
            _ => None,
        })
    }

    pub fn outcome(&self) -> Option<Outcome> {
        self.finder.as_ref()?.outcome()
    }
}

enum Due {
    InCore(Datagram, [u8; PROBE_LEN]),
    AtHost(usize, Datagram, [u8; PROBE_LEN]),
    Relayed(usize, [u8; PROBE_LEN]),
    SocketsOpen(usize, u16),
    Described(usize, Description, Vec<IpAddr>),
}

pub struct World {
    pub network: Network,
    pub sides: [Side; 2],
    pub chance: Chance,
    pub start: Instant,
    pub now: Instant,
    pub loss: u64,
    pub relay_works: bool,
    due: BTreeMap<(Instant, u64), Due>,
    count: u64,
}

impl World {
    pub fn new(
        network: Network,
        sides: [Side; 2],
        chance: Chance,
        start: Instant,
        loss: u64,
    ) -> Self {
        Self {
            network,
            sides,
            chance,
            start,
            now: start,
            loss,
            relay_works: true,
            due: BTreeMap::new(),
            count: 0,
        }
    }

    /// Time since the caller's offer left.
    pub fn time(&self) -> Duration {
        self.now - self.start
    }

    /// Runs until `end` (since the start), or until `done`.
    pub fn run(&mut self, end: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.start + end;
        for _ in 0..MAX_STEPS {
            self.drain();
            if done(self) {
                return;
            }
            let Some(next) = self.next().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.step();
        }
        panic!("no end in sight after {:?}", self.time());
    }

    /// Until both agree on a direct path.
    pub fn run_until_direct(&mut self, end: Duration) {
        self.run(end, |world| {
            world
                .sides
                .iter()
                .all(|side| side.tier().is_some_and(Tier::is_direct))
        });
    }

    /// A side asks its observers again and tells the other. Returns where it is seen.
    pub fn tell_anew(&mut self, us: usize) -> SocketAddr {
        let (host, port) = (self.sides[us].hosts.0, self.sides[us].port);
        let mut observations = Observations::new(vec![]);
        for n in 4..=5 {
            let by = SocketAddr::from(([11, 9, n, 1], 3478));
            let seen = self
                .network
                .observe(host, port, by, self.now, &mut self.chance);
            observations.observe(by, seen.unwrap());
        }
        let old = &self.sides[us].ours;
        let of_host = |candidate: &&Candidate| candidate.kind == CandidateKind::Host;
        let mut candidates: Vec<_> = old.candidates().iter().filter(of_host).copied().collect();
        candidates.extend(observations.candidates());
        let ours = Description::new(old.ephemeral, candidates, observations.class())
            .with_depth(old.depth)
            .with_capabilities(old.capabilities);
        self.sides[us].ours = ours.clone();
        self.sides[us].finder().update_ours(ours.clone());
        let seen = observations.candidates()[0].addr;
        let due = Due::Described(1 - us, ours, vec![seen.ip()]);
        self.schedule(self.now + RELAY_DELAY, due);
        seen
    }

    fn next(&self) -> Option<Instant> {
        let due = self.due.keys().next().map(|(at, _)| *at);
        let of_side = |side: &Side| match &side.finder {
            None => Some(side.starts_at),
            Some(finder) => finder.poll_timeout().map(|deadline| deadline.at),
        };
        self.sides.iter().filter_map(of_side).chain(due).min()
    }

    fn step(&mut self) {
        let now = self.now;
        for side in &mut self.sides {
            if side.finder.is_none() && side.starts_at <= now {
                let setup = side.setup.take().unwrap();
                side.finder = Some(Finder::new(setup, self.chance.bytes(), now));
            }
            if let Some(finder) = &mut side.finder
                && finder.poll_timeout().is_some_and(|d| d.at <= now)
            {
                finder.handle_timeout(now);
                let again = finder.poll_timeout();
                assert!(
                    again.is_none_or(|d| d.at > now || d.why != wayfare_path::Why::Changed),
                    "{again:?}"
                );
            }
        }
        while let Some((key, _)) = self.due.first_key_value().filter(|(key, _)| key.0 <= now) {
            let key = *key;
            let due = self.due.remove(&key).unwrap();
            self.happen(due);
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::InCore(datagram, bytes) => match self.network.leave_core(datagram, self.now) {
                Walk::Arrives(host, datagram, _) => self.arrive(host, datagram, &bytes),
                Walk::InCore(_) | Walk::Lost => {}
            },
            Due::AtHost(host, datagram, bytes) => self.arrive(host, datagram, &bytes),
            Due::Relayed(to, bytes) => {
                if let Some(finder) = self.sides[to].finder.as_mut().filter(|_| self.relay_works) {
                    finder.handle_probe(VIRTUAL, Socket::Main, &bytes, self.now);
                }
            }
            Due::SocketsOpen(side, count) => self.sides[side].finder().sockets_opened(count),
            Due::Described(to, theirs, attested) => {
                self.sides[to].finder().update_theirs(theirs, attested);
            }
        }
    }

    fn arrive(&mut self, host: usize, datagram: Datagram, bytes: &[u8]) {
        let owner = |side: &&mut Side| side.hosts.0 == host || side.hosts.1 == Some(host);
        let Some(side) = self.sides.iter_mut().find(owner) else {
            return;
        };
        let port = datagram.to.port();
        let extra = side.extras.iter().position(|extra| *extra == port);
        let on = match extra {
            _ if port == side.port => Socket::Main,
            Some(index) => Socket::Extra(u16::try_from(index).unwrap()),
            None => return,
        };
        if let Some(finder) = &mut side.finder {
            finder.handle_probe(datagram.from, on, bytes, self.now);
        }
    }

    fn drain(&mut self) {
        let at = self.time();
        for us in 0..2 {
            while let Some(transmit) = self.sides[us]
                .finder
                .as_mut()
                .and_then(Finder::poll_transmit)
            {
                self.transmit(us, &transmit);
            }
            while let Some(event) = self.sides[us].finder.as_mut().and_then(Finder::poll_event) {
                match event {
                    Event::OpenSockets { count } => {
                        self.sides[us].asked_for_sockets += u32::from(count);
                        self.sides[us].extras = (0..count).map(|n| 10_000 + n).collect();
                        let opened = self.now + Duration::from_millis(5);
                        self.schedule(opened, Due::SocketsOpen(us, count));
                    }
                    Event::CloseSockets { keep } => {
                        let extras = self.sides[us].extras.iter_mut().enumerate();
                        for (index, port) in extras {
                            if keep.map(usize::from) != Some(index) {
                                *port = 0;
                            }
                        }
                    }
                    Event::Selected { .. }
                    | Event::Lost { .. }
                    | Event::SeenAs { .. }
                    | Event::Settled(_) => {}
                }
                self.sides[us].events.push((at, event));
            }
        }
    }

    fn transmit(&mut self, us: usize, transmit: &Transmit) {
        let side = &mut self.sides[us];
        *side.sent.entry(transmit.to).or_default() += 1;
        if transmit.to == VIRTUAL {
            return self.schedule(self.now + RELAY_DELAY, Due::Relayed(1 - us, transmit.bytes));
        }
        let port = match transmit.on {
            Socket::Main => side.port,
            Socket::Extra(index) => side.extras[usize::from(index)],
        };
        let host = match (transmit.to.is_ipv4(), side.hosts.1) {
            (true, _) => side.hosts.0,
            (false, Some(v6)) => v6,
            (false, None) => return,
        };
        if port == 0 {
            return;
        }
        let from = SocketAddr::new(self.network.hosts[host].ip, port);
        let datagram = Datagram {
            from,
            to: transmit.to,
            ttl: transmit.ttl.unwrap_or(64),
        };
        let walk = self
            .network
            .send(host, datagram, self.now, &mut self.chance);
        match walk {
            Walk::Arrives(host, datagram, after) => {
                self.schedule(
                    self.now + after,
                    Due::AtHost(host, datagram, transmit.bytes),
                );
            }
            Walk::InCore(datagram) => {
                if self.chance.below(1000) >= self.loss {
                    let other = self.sides[1 - us].hosts.0;
                    let delay = self.network.hosts[host].delay + self.network.hosts[other].delay;
                    let jitter = Duration::from_micros(self.chance.below(2000));
                    let due = Due::InCore(datagram, transmit.bytes);
                    self.schedule(self.now + delay + jitter, due);
                }
            }
            Walk::Lost => {}
        }
    }

    fn schedule(&mut self, at: Instant, due: Due) {
        self.count += 1;
        self.due.insert((at, self.count), due);
    }
}
