//! NAT boxes as the studies find them: how they choose a port, whom they let in, and what they forget.
//! They refuse to be kinder than a kernel: a Linux NAT that accepts input remembers what came too early.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::chance::Chance;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// The inner port, for every destination.
    Preserving,
    /// A random port, for every destination the same.
    RandomPort,
    /// A random port for each destination.
    Random,
    /// A random port for each destination IP.
    RandomPerAddress,
    /// The next port for each destination.
    Sequential,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// Full cone.
    Anybody,
    Address,
    AddressAndPort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub name: &'static str,
    pub mapping: Mapping,
    pub filtering: Filtering,
    pub hairpin: bool,
    /// Accepts input: an early packet takes its place in the table (the race of Linux).
    pub accepts_input: bool,
    pub blocks_udp: bool,
    /// No translation, only filtering.
    pub is_firewall: bool,
    pub forgets_after: Duration,
}

const fn kind(name: &'static str, mapping: Mapping, filtering: Filtering) -> Kind {
    Kind {
        name,
        mapping,
        filtering,
        hairpin: false,
        accepts_input: false,
        blocks_udp: false,
        is_firewall: false,
        forgets_after: Duration::from_secs(120),
    }
}

use Filtering::{Address, AddressAndPort, Anybody};
use Mapping::{Preserving, Random, RandomPerAddress, RandomPort, Sequential};

pub const FC: Kind = kind("fc", Preserving, Anybody);
pub const FCR: Kind = kind("fcr", RandomPort, Anybody);
pub const AR: Kind = kind("ar", Preserving, Address);
pub const PR: Kind = kind("pr", Preserving, AddressAndPort);
pub const PRR: Kind = kind("prr", RandomPort, AddressAndPort);
pub const SYM: Kind = kind("sym", Random, AddressAndPort);
pub const ADM: Kind = kind("adm", RandomPerAddress, AddressAndPort);
pub const SYMSEQ: Kind = kind("symseq", Sequential, AddressAndPort);
pub const FW: Kind = Kind {
    is_firewall: true,
    ..kind("fw", Preserving, AddressAndPort)
};
pub const MASQACC: Kind = Kind {
    accepts_input: true,
    ..kind("masqacc", Preserving, AddressAndPort)
};
pub const BLOCKED: Kind = Kind {
    blocks_udp: true,
    ..kind("udpblocked", Preserving, AddressAndPort)
};

#[derive(Debug, Clone, Copy)]
struct Flow {
    port: u16,
    used: Instant,
}

#[derive(Debug)]
pub struct Nat {
    pub kind: Kind,
    /// Its address on the outside.
    pub wan: IpAddr,
    /// The segments it joins.
    pub inside: usize,
    pub outside: usize,
    flows: BTreeMap<(SocketAddr, SocketAddr), Flow>,
    chosen: BTreeMap<(SocketAddr, Option<IpAddr>), u16>,
    taken: BTreeSet<u16>,
    /// What came before anybody asked for it.
    early: BTreeSet<(SocketAddr, u16)>,
    next: u16,
    /// Ports that the router forwards.
    pub forwarded: BTreeMap<u16, SocketAddr>,
}

impl Nat {
    pub fn new(
        kind: Kind,
        wan: IpAddr,
        (inside, outside): (usize, usize),
        chance: &mut Chance,
    ) -> Self {
        Self {
            kind,
            wan,
            inside,
            outside,
            flows: BTreeMap::new(),
            chosen: BTreeMap::new(),
            taken: BTreeSet::new(),
            early: BTreeSet::new(),
            next: u16::try_from(20_000 + chance.below(20_000)).unwrap(),
            forwarded: BTreeMap::new(),
        }
    }

    /// Power off, power on.
    pub fn reboot(&mut self, chance: &mut Chance) {
        self.flows.clear();
        self.chosen.clear();
        self.taken.clear();
        self.early.clear();
        self.next = u16::try_from(20_000 + chance.below(20_000)).unwrap();
    }

    pub fn outbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
        chance: &mut Chance,
    ) -> Option<SocketAddr> {
        if self.kind.blocks_udp {
            return None;
        }
        let old = self.flows.get(&(from, to)).copied();
        let old = old.filter(|flow| now - flow.used < self.kind.forgets_after);
        let port = match old {
            Some(flow) => flow.port,
            None => self.choose(from, to, now, chance),
        };
        self.flows.insert((from, to), Flow { port, used: now });
        Some(SocketAddr::new(self.wan, port))
    }

    pub fn inbound(&mut self, from: SocketAddr, port: u16, now: Instant) -> Option<SocketAddr> {
        if self.kind.blocks_udp {
            return None;
        }
        if let Some(inner) = self.forwarded.get(&port) {
            // Replies leave from the forwarded port.
            self.flows.insert((*inner, from), Flow { port, used: now });
            return Some(*inner);
        }
        let lifetime = self.kind.forgets_after;
        let filtering = self.kind.filtering;
        let lets_in = |to: SocketAddr| match filtering {
            Anybody => true,
            Address => to.ip() == from.ip(),
            AddressAndPort => to == from,
        };
        let found = self.flows.iter_mut().find(|((_, to), flow)| {
            flow.port == port && now - flow.used < lifetime && lets_in(*to)
        });
        if let Some(((inner, _), flow)) = found {
            flow.used = now;
            return Some(*inner);
        }
        if self.kind.accepts_input {
            self.early.insert((from, port));
        }
        None
    }

    fn choose(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
        chance: &mut Chance,
    ) -> u16 {
        let key = match self.kind.mapping {
            Preserving | RandomPort => Some((from, None)),
            RandomPerAddress => Some((from, Some(to.ip()))),
            Random | Sequential => None,
        };
        if self.early.contains(&(to, from.port())) && self.kind.mapping == Preserving {
            return self.free(chance);
        }
        let lifetime = self.kind.forgets_after;
        if let Some(port) = key.and_then(|key| self.chosen.get(&key)).copied()
            && (self.kind.mapping == Preserving
                || self
                    .flows
                    .values()
                    .any(|flow| flow.port == port && now - flow.used < lifetime))
        {
            return port;
        }
        let port = match self.kind.mapping {
            Preserving if self.taken.insert(from.port()) => from.port(),
            Preserving | RandomPort | Random | RandomPerAddress => self.free(chance),
            Sequential => {
                self.next += 1;
                self.next
            }
        };
        if let Some(key) = key {
            self.chosen.insert(key, port);
        }
        port
    }

    fn free(&mut self, chance: &mut Chance) -> u16 {
        loop {
            let port = chance.port();
            if self.taken.insert(port) {
                return port;
            }
        }
    }
}
