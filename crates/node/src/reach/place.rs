//! Where we are, as far as we know: our interfaces, what others say they see, what a person told us. It refuses to ask anybody.

use std::net::{IpAddr, SocketAddr};

use wayfare_path::{
    Candidate, CandidateKind, Capabilities, Description, EphemeralPublic, NatClass, Observations,
};

use super::ground::local_addresses;

pub(super) struct Place {
    bound: SocketAddr,
    local: Vec<SocketAddr>,
    observations: Observations,
    manual: Vec<SocketAddr>,
    mapped: Option<SocketAddr>,
    depth: Option<u8>,
}

impl Place {
    pub(super) fn new(bound: SocketAddr, manual: Vec<SocketAddr>) -> Self {
        let local = local_addresses(bound);
        Self {
            bound,
            observations: Observations::new(local.clone()),
            local,
            manual,
            mapped: None,
            depth: None,
        }
    }

    /// We are about to ask somebody how it sees us.
    pub(super) fn asking(&mut self, by: SocketAddr) {
        self.observations.asking(by);
    }

    /// Somebody saw us. Says whether that is news.
    pub(super) fn observe(&mut self, by: SocketAddr, seen: SocketAddr) -> bool {
        self.observations.observe(by, seen)
    }

    /// Whether a NAT of ours numbers its flows, so that what it will do next can be told.
    pub(super) fn is_sequential(&self) -> bool {
        matches!(self.observations.class(), NatClass::Sequential { .. })
    }

    /// How far such a NAT has counted.
    pub(super) fn newest_flow(&mut self, seen: SocketAddr) {
        self.observations.newest_flow(seen);
    }

    /// Reads our interfaces again. Says whether they changed.
    pub(super) fn reread(&mut self) -> bool {
        let local = local_addresses(self.bound);
        let changed = local != self.local;
        if changed {
            self.observations.network_changed(local.clone());
            self.local = local;
            self.depth = None;
        }
        changed
    }

    /// How many routers of our own are in front of us, as a TTL that passes them and dies soon after.
    pub(super) fn lies_deep(&mut self, depth: Option<u8>) {
        self.depth = depth;
    }

    /// The router forwards from there, or does no more. Says whether that is news.
    pub(super) fn mapped(&mut self, at: Option<SocketAddr>) -> bool {
        let changed = self.mapped != at;
        self.mapped = at;
        changed
    }

    /// What to tell a peer.
    pub(super) fn description(&self, ephemeral: EphemeralPublic) -> Description {
        let mut candidates: Vec<Candidate> =
            self.local.iter().map(|at| of_interface(*at)).collect();
        candidates.extend(self.observations.candidates());
        let mapped = self.mapped.iter();
        candidates.extend(mapped.map(|at| Candidate::new(CandidateKind::Mapped, *at)));
        let manual = self.manual.iter();
        candidates.extend(manual.map(|at| Candidate::new(CandidateKind::Manual, *at)));
        Description::new(ephemeral, candidates, self.observations.class())
            .with_depth(self.depth)
            .with_capabilities(Capabilities::BIRTHDAY)
    }
}

fn of_interface(at: SocketAddr) -> Candidate {
    let kind = match at.ip() {
        IpAddr::V6(ip) if !ip.is_unique_local() => CandidateKind::Ipv6,
        IpAddr::V4(_) | IpAddr::V6(_) => CandidateKind::Host,
    };
    Candidate::new(kind, at)
}
