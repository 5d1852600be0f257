//! A description: what one side tells the other about how it may be reached.
//! It refuses more than 24 candidates, duplicates, addresses that nobody can have, and meanings of later versions.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::candidate::{Candidate, CandidateKind, canonical, is_usable};
use crate::observation::NatClass;
use crate::secret::EphemeralPublic;

/// Candidates of one side: 6 of hosts and routers, 8 observed, 8 predicted, 2 to spare.
pub const MAX_CANDIDATES: usize = 24;

/// What a side can do beyond answering probes: a set of bits, of which unknown ones are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u32);

impl Capabilities {
    /// This side takes part in a birthday punch: it opens many sockets, or sprays, within the budget.
    pub const BIRTHDAY: Self = Self(1);

    /// No capability.
    #[must_use]
    pub fn none() -> Self {
        Self(0)
    }

    /// Whether all of `wanted` are there.
    #[must_use]
    pub fn contain(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Both sets together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How one side may be reached, and what its NAT is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    candidates: Vec<Candidate>,
    /// How the NATs in front choose ports.
    pub nat: NatClass,
    /// TTL with which a packet passes this side's own NATs and dies soon after, if it was measured.
    pub depth: Option<u8>,
    /// The public half of this attempt's key.
    pub ephemeral: EphemeralPublic,
    /// What this side can do beyond probing.
    pub capabilities: Capabilities,
}

impl Description {
    /// A description with these candidates in canonical form: sorted, without duplicates and without addresses that
    /// nobody can have; of more than [`MAX_CANDIDATES`] the last are left out.
    #[must_use]
    pub fn new(ephemeral: EphemeralPublic, candidates: Vec<Candidate>, nat: NatClass) -> Self {
        Self {
            candidates: in_canonical_form(candidates),
            nat,
            depth: None,
            ephemeral,
            capabilities: Capabilities::none(),
        }
    }

    /// The same with a measured depth of the NATs: the TTL of openers.
    #[must_use]
    pub fn with_depth(mut self, depth: Option<u8>) -> Self {
        self.depth = depth;
        self
    }

    /// The same with capabilities.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// At most [`MAX_CANDIDATES`], sorted by kind and address, no address twice.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (class, delta, port) = nat_to_wire(self.nat);
        let wire = Wire {
            candidates: self
                .candidates
                .iter()
                .map(|candidate| (candidate.kind.code(), candidate.addr))
                .collect(),
            class,
            delta,
            port,
            depth: self.depth,
            ephemeral: self.ephemeral.0,
            capabilities: self.capabilities.0,
        };
        postcard::to_allocvec(&wire).expect("a struct of numbers and addresses always serialises")
    }

    /// What a later version appended is ignored.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (wire, _later) = postcard::take_from_bytes::<Wire>(bytes).ok()?;
        if wire.candidates.len() > MAX_CANDIDATES {
            return None;
        }
        let candidates = wire
            .candidates
            .into_iter()
            .filter_map(|(code, addr)| Some(Candidate::new(CandidateKind::from_code(code)?, addr)))
            .collect();
        Some(Self {
            candidates: in_canonical_form(candidates),
            nat: nat_from_wire(wire.class, wire.delta, wire.port),
            depth: wire.depth,
            ephemeral: EphemeralPublic(wire.ephemeral),
            capabilities: Capabilities(wire.capabilities),
        })
    }
}

/// The form on the wire, as numbers: unknown kinds and classes stay readable.
#[derive(Serialize, Deserialize)]
struct Wire {
    candidates: Vec<(u8, SocketAddr)>,
    class: u8,
    delta: i16,
    port: u16,
    depth: Option<u8>,
    ephemeral: [u8; 32],
    capabilities: u32,
}

fn in_canonical_form(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut sorted: Vec<Candidate> = candidates
        .into_iter()
        .map(|candidate| Candidate::new(candidate.kind, canonical(candidate.addr)))
        .filter(|candidate| is_usable(candidate.addr))
        .collect();
    sorted.sort_unstable();
    let mut unique: Vec<Candidate> = Vec::new();
    for candidate in sorted {
        if unique.len() < MAX_CANDIDATES && unique.iter().all(|kept| kept.addr != candidate.addr) {
            unique.push(candidate);
        }
    }
    unique
}

fn nat_to_wire(nat: NatClass) -> (u8, i16, u16) {
    match nat {
        NatClass::Unknown => (0, 0, 0),
        NatClass::Open => (1, 0, 0),
        NatClass::EndpointIndependent => (2, 0, 0),
        NatClass::Sequential { delta, last_port } => (3, delta, last_port),
        NatClass::Random => (4, 0, 0),
        NatClass::UdpBlocked => (5, 0, 0),
    }
}

fn nat_from_wire(class: u8, delta: i16, last_port: u16) -> NatClass {
    match class {
        1 => NatClass::Open,
        2 => NatClass::EndpointIndependent,
        3 => NatClass::Sequential { delta, last_port },
        4 => NatClass::Random,
        5 => NatClass::UdpBlocked,
        // A class of a later version is as good as none.
        _ => NatClass::Unknown,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn candidates_are_canonical() {
        let observed = |addr: &str| Candidate::new(CandidateKind::Observed, addr.parse().unwrap());
        let host = Candidate::new(CandidateKind::Host, "192.0.2.1:7".parse().unwrap());
        let description = Description::new(
            EphemeralPublic([1; 32]),
            vec![
                observed("[::ffff:192.0.2.1]:7"),
                observed("192.0.2.9:9"),
                host,
                observed("192.0.2.9:9"),
                observed("240.0.0.1:9"),
            ],
            NatClass::Random,
        );
        assert_eq!(description.candidates(), [host, observed("192.0.2.9:9")]);
    }

    #[test]
    fn no_more_than_twenty_four() {
        let many: Vec<Candidate> = (1..=100)
            .map(|port| Candidate::new(CandidateKind::Predicted, ([192, 0, 2, 1], port).into()))
            .collect();
        let ephemeral = EphemeralPublic([1; 32]);
        let description = Description::new(ephemeral, many.clone(), NatClass::Unknown);
        assert_eq!(description.candidates().len(), MAX_CANDIDATES);
        let wire = Wire {
            candidates: many.iter().map(|c| (5, c.addr)).collect(),
            class: 0,
            delta: 0,
            port: 0,
            depth: None,
            ephemeral: [1; 32],
            capabilities: 0,
        };
        let bytes = postcard::to_allocvec(&wire).unwrap();
        assert_eq!(Description::from_bytes(&bytes), None);
    }

    #[test]
    fn what_a_later_version_says_is_ignored() {
        let wire = Wire {
            candidates: vec![
                (200, ([192, 0, 2, 1], 7).into()),
                (4, ([192, 0, 2, 2], 7).into()),
            ],
            class: 77,
            delta: 0,
            port: 0,
            depth: Some(3),
            ephemeral: [1; 32],
            capabilities: 0x8000_0001,
        };
        let mut bytes = postcard::to_allocvec(&wire).unwrap();
        bytes.extend_from_slice(b"more fields");
        let read = Description::from_bytes(&bytes).unwrap();
        assert_eq!(read.candidates().len(), 1);
        assert_eq!((read.nat, read.depth), (NatClass::Unknown, Some(3)));
        assert!(read.capabilities.contain(Capabilities::BIRTHDAY));
    }
}
