//! The network between: segments joined by NAT boxes, a core of five routers, delay and loss.
//! It refuses to let a datagram live longer than its TTL.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::chance::Chance;
use super::nat::{Kind, Nat};

/// Routers in the core.
const CORE_HOPS: u8 = 5;
/// The segment of public addresses.
pub const CORE: usize = 0;
const LAN_DELAY: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub ttl: u8,
}

#[derive(Debug)]
pub struct Host {
    pub ip: IpAddr,
    pub segment: usize,
    /// One way to the core.
    pub delay: Duration,
}

/// Where a datagram is after the part of its way that is walked at once.
#[derive(Debug, Clone, Copy)]
pub enum Walk {
    /// At a host of the same network, a moment later.
    Arrives(usize, Datagram, Duration),
    /// In the core; what happens beyond happens later.
    InCore(Datagram),
    Lost,
}

#[derive(Debug, Default)]
pub struct Network {
    pub hosts: Vec<Host>,
    pub nats: Vec<Nat>,
    /// Everything that ever reached the core: its destinations.
    pub in_core: Vec<SocketAddr>,
}

impl Network {
    /// A box between `inside` (a new segment, returned) and `outside`.
    pub fn add_nat(
        &mut self,
        kind: Kind,
        wan: IpAddr,
        outside: usize,
        chance: &mut Chance,
    ) -> usize {
        let inside = self.nats.len() + 1;
        self.nats
            .push(Nat::new(kind, wan, (inside, outside), chance));
        inside
    }

    /// From a host upward, until it arrives or is in the core.
    pub fn send(
        &mut self,
        host: usize,
        datagram: Datagram,
        now: Instant,
        chance: &mut Chance,
    ) -> Walk {
        let segment = self.hosts[host].segment;
        self.climb(segment, datagram, now, chance)
    }

    fn climb(
        &mut self,
        mut segment: usize,
        mut datagram: Datagram,
        now: Instant,
        chance: &mut Chance,
    ) -> Walk {
        for _ in 0..16 {
            if segment == CORE {
                self.in_core.push(datagram.to);
                return Walk::InCore(datagram);
            }
            let is_here = |nat: &Nat| nat.outside == segment && nat.wan == datagram.to.ip();
            if let Some(at) = self.nats.iter().position(is_here) {
                return self.descend(at, datagram, now, LAN_DELAY);
            }
            if let Some(walk) = self.host_in(segment, datagram, LAN_DELAY) {
                return walk;
            }
            let at = segment - 1;
            // A router drops what has no hop left before it translates.
            if datagram.ttl <= 1 {
                return Walk::Lost;
            }
            datagram.ttl -= 1;
            let to_itself = self.nats[at].wan == datagram.to.ip();
            if to_itself && !self.nats[at].kind.hairpin {
                return Walk::Lost;
            }
            let outside = self.nats[at].outbound(datagram.from, datagram.to, now, chance);
            let Some(from) = outside else {
                return Walk::Lost;
            };
            datagram.from = from;
            if to_itself {
                return self.descend(at, datagram, now, LAN_DELAY);
            }
            segment = self.nats[at].outside;
        }
        Walk::Lost
    }

    /// Out of the core, down to a host.
    pub fn leave_core(&mut self, mut datagram: Datagram, now: Instant) -> Walk {
        if datagram.ttl <= CORE_HOPS {
            return Walk::Lost;
        }
        datagram.ttl -= CORE_HOPS;
        let is_here = |nat: &Nat| nat.outside == CORE && nat.wan == datagram.to.ip();
        match self.nats.iter().position(is_here) {
            Some(at) => self.descend(at, datagram, now, Duration::ZERO),
            None => self
                .host_in(CORE, datagram, Duration::ZERO)
                .unwrap_or(Walk::Lost),
        }
    }

    fn descend(
        &mut self,
        mut at: usize,
        mut datagram: Datagram,
        now: Instant,
        after: Duration,
    ) -> Walk {
        for _ in 0..16 {
            let inner = self.nats[at].inbound(datagram.from, datagram.to.port(), now);
            let Some(inner) = inner.filter(|_| datagram.ttl > 1) else {
                return Walk::Lost;
            };
            datagram.ttl -= 1;
            datagram.to = inner;
            let segment = self.nats[at].inside;
            if let Some(walk) = self.host_in(segment, datagram, after) {
                return walk;
            }
            let is_here = |nat: &Nat| nat.outside == segment && nat.wan == inner.ip();
            match self.nats.iter().position(is_here) {
                Some(next) => at = next,
                None => return Walk::Lost,
            }
        }
        Walk::Lost
    }

    fn host_in(&self, segment: usize, datagram: Datagram, after: Duration) -> Option<Walk> {
        let is_it = |host: &Host| host.segment == segment && host.ip == datagram.to.ip();
        let host = self.hosts.iter().position(is_it)?;
        Some(Walk::Arrives(host, datagram, after))
    }

    /// The boxes between a host and the core, nearest first.
    pub fn nats_of(&self, host: usize) -> Vec<usize> {
        let mut segment = self.hosts[host].segment;
        let mut above = Vec::new();
        while segment != CORE {
            above.push(segment - 1);
            segment = self.nats[segment - 1].outside;
        }
        above
    }

    /// How an observer in the core sees a socket; makes the mapping that asking makes.
    pub fn observe(
        &mut self,
        host: usize,
        port: u16,
        by: SocketAddr,
        now: Instant,
        chance: &mut Chance,
    ) -> Option<SocketAddr> {
        let datagram = Datagram {
            from: SocketAddr::new(self.hosts[host].ip, port),
            to: by,
            ttl: 64,
        };
        match self.send(host, datagram, now, chance) {
            Walk::InCore(datagram) => {
                self.in_core.pop();
                Some(datagram.from)
            }
            Walk::Arrives(..) | Walk::Lost => None,
        }
    }
}
