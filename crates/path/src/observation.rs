//! What others say about us: the addresses at which they see our socket, and the class of NAT that follows.
//! It refuses to ask anybody; who asks, and whom, is the driver's matter.

use std::net::{IpAddr, SocketAddr};

use crate::candidate::{Candidate, CandidateKind, canonical, is_usable};

/// Observers that are remembered, the newest: 8 of 64 bytes each.
const MAX_OBSERVERS: usize = 8;

/// How many ports of a sequential NAT are predicted.
pub const PREDICTED_PORTS: u16 = 8;

/// A port step larger than this is taken for chance: eight steps of it stay within 256 ports.
const MAX_DELTA: i32 = 32;

/// How the NATs in front of a node choose the port of a new flow. Filtering is not part of it: it cannot be told
/// without a third party, and probing does not need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NatClass {
    /// Fewer than two observers have spoken.
    #[default]
    Unknown,
    /// No NAT: seen at an address of our own. There may be a firewall.
    Open,
    /// One port for every destination (RFC 4787, section 4.1).
    EndpointIndependent,
    /// A new port for every destination, a constant step away from the last.
    Sequential {
        /// The step from one new flow to the next.
        delta: i16,
        /// The port of the newest flow that was seen.
        last_port: u16,
    },
    /// A new port for every destination, unpredictable.
    Random,
    /// No UDP at all.
    UdpBlocked,
}

impl NatClass {
    /// Whether the port toward a new peer differs from the one others have seen.
    #[must_use]
    pub fn is_hard(self) -> bool {
        match self {
            Self::Sequential { .. } | Self::Random => true,
            Self::Unknown | Self::Open | Self::EndpointIndependent | Self::UdpBlocked => false,
        }
    }

    /// The ports a sequential NAT is likely to choose next, nearest first; empty for the other classes.
    #[must_use]
    pub fn predicted_ports(self) -> Vec<u16> {
        let Self::Sequential { delta, last_port } = self else {
            return Vec::new();
        };
        (1..=i32::from(PREDICTED_PORTS))
            .map(|step| i32::from(last_port) + i32::from(delta) * step)
            .filter_map(|port| u16::try_from(port).ok())
            .filter(|port| *port >= 1024)
            .collect()
    }
}

#[derive(Debug, Clone, Copy)]
struct Observation {
    by: SocketAddr,
    seen: SocketAddr,
}

/// What observers on different addresses have said about one socket.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    local: Vec<SocketAddr>,
    /// Oldest first.
    heard: Vec<Observation>,
    /// Whom we asked, in the order of the flows.
    asked: Vec<SocketAddr>,
    /// Where the newest flow of another socket was seen.
    newest: Option<SocketAddr>,
    blocked: bool,
}

impl Observations {
    /// Nothing heard yet. `local` are the socket's own addresses, by which the absence of a NAT is known.
    #[must_use]
    pub fn new(local: Vec<SocketAddr>) -> Self {
        Self {
            local: local.into_iter().map(canonical).collect(),
            heard: Vec::new(),
            asked: Vec::new(),
            newest: None,
            blocked: false,
        }
    }

    /// We are about to ask `by`. NATs number flows as they begin, and replies come in any order: the step from one flow to the next
    /// is told by the order of the questions.
    pub fn asking(&mut self, by: SocketAddr) {
        let by = canonical(by);
        if !self.asked.contains(&by) {
            if self.asked.len() == MAX_OBSERVERS {
                self.asked.remove(0);
            }
            self.asked.push(by);
        }
    }

    /// `by` saw us at `seen`. Returns whether that changes what we know.
    ///
    /// An observer that changes its mind says that the NAT forgot us or that we moved: everything older, heard in the
    /// same address family, is forgotten with it.
    pub fn observe(&mut self, by: SocketAddr, seen: SocketAddr) -> bool {
        let (by, seen) = (canonical(by), canonical(seen));
        if !is_usable(seen) || by.is_ipv4() != seen.is_ipv4() {
            return false;
        }
        self.blocked = false;
        let before = self.heard.iter().find(|heard| heard.by == by).copied();
        match before {
            Some(before) if before.seen == seen => return false,
            Some(_) => self
                .heard
                .retain(|old| old.seen.is_ipv4() != seen.is_ipv4()),
            None => {}
        }
        if self.heard.len() == MAX_OBSERVERS {
            self.forget_one();
        }
        self.heard.push(Observation { by, seen });
        true
    }

    /// The oldest of those who spoke unasked, and only without such a one the oldest of all: many peers in a short time must not
    /// push out the observers by whom the NAT's class is known.
    fn forget_one(&mut self) {
        let unasked = |heard: &Observation| !self.asked.contains(&heard.by);
        let oldest = self.heard.iter().position(unasked).unwrap_or(0);
        self.heard.remove(oldest);
    }

    /// A flow that another socket has just begun was seen there: how far a NAT that numbers all flows has counted meanwhile.
    pub fn newest_flow(&mut self, seen: SocketAddr) {
        self.newest = Some(canonical(seen)).filter(|seen| is_usable(*seen));
    }

    /// The socket's addresses changed: what was seen was another place.
    pub fn network_changed(&mut self, local: Vec<SocketAddr>) {
        *self = Self::new(local);
    }

    /// Nobody could be reached by UDP, though there was a network.
    pub fn udp_blocked(&mut self) {
        self.heard.clear();
        self.blocked = true;
    }

    /// The class of the NATs in front of us, for IPv4. Needs observers at two different IPs.
    #[must_use]
    pub fn class(&self) -> NatClass {
        if self.blocked {
            return NatClass::UdpBlocked;
        }
        let seen = self.seen_by_distinct_observers();
        let [first, .., last] = seen.as_slice() else {
            return NatClass::Unknown;
        };
        if seen.iter().all(|addr| addr == first) {
            return if self.local.contains(first) {
                NatClass::Open
            } else {
                NatClass::EndpointIndependent
            };
        }
        if seen.iter().any(|addr| addr.ip() != first.ip()) {
            return NatClass::Random;
        }
        match step(&seen) {
            Some(delta) => {
                let newest = self.newest.filter(|newest| newest.ip() == last.ip());
                NatClass::Sequential {
                    delta,
                    last_port: newest.unwrap_or(*last).port(),
                }
            }
            None => NatClass::Random,
        }
    }

    /// Observed candidates (newest first, one per address), and predicted ones if the class is sequential.
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        for heard in self.heard.iter().rev() {
            let candidate = Candidate::new(CandidateKind::Observed, heard.seen);
            if !self.local.contains(&heard.seen) && !found.contains(&candidate) {
                found.push(candidate);
            }
        }
        let ip = self.heard.iter().rev().find(|heard| heard.seen.is_ipv4());
        if let Some(ip) = ip.map(|heard| heard.seen.ip()) {
            for port in self.class().predicted_ports() {
                let addr = SocketAddr::new(ip, port);
                found.push(Candidate::new(CandidateKind::Predicted, addr));
            }
        }
        found
    }

    /// The public IPs at which we were seen.
    #[must_use]
    pub fn public_ips(&self) -> Vec<IpAddr> {
        let mut ips: Vec<IpAddr> = self.heard.iter().map(|heard| heard.seen.ip()).collect();
        ips.sort_unstable();
        ips.dedup();
        ips
    }

    /// IPv4 addresses at which we were seen, one per observer IP, in the order of the flows.
    fn seen_by_distinct_observers(&self) -> Vec<SocketAddr> {
        let mut distinct: Vec<Observation> = Vec::new();
        let mut add = |heard: &Observation| {
            if distinct.iter().all(|known| known.by.ip() != heard.by.ip()) {
                distinct.push(*heard);
            }
            distinct.len()
        };
        let of_v4 = || self.heard.iter().filter(|heard| heard.seen.is_ipv4());
        let asked = |heard: &Observation| self.asked.iter().position(|by| *by == heard.by);
        let mut flows: Vec<_> = of_v4()
            .filter_map(|heard| Some((asked(heard)?, heard)))
            .collect();
        flows.sort_by_key(|(place, _)| *place);
        let in_order = flows.iter().map(|(_, heard)| add(heard)).last();
        // When a flow to somebody who spoke unasked began is not known: such a one counts only if there are no two others.
        if in_order.unwrap_or(0) < 2 {
            for heard in of_v4().filter(|heard| asked(heard).is_none()) {
                add(heard);
            }
        }
        distinct.iter().map(|heard| heard.seen).collect()
    }
}

/// The smallest step between flows, if all go one way and none is larger than [`MAX_DELTA`]: other flows of the same
/// NAT may have come between two of ours.
fn step(seen: &[SocketAddr]) -> Option<i16> {
    let steps: Vec<i32> = seen
        .windows(2)
        .map(|two| i32::from(two[1].port()) - i32::from(two[0].port()))
        .collect();
    let upward = steps.iter().all(|step| (1..=MAX_DELTA).contains(step));
    let downward = steps.iter().all(|step| (-MAX_DELTA..=-1).contains(step));
    let smallest = steps.iter().copied().min_by_key(|step| step.abs())?;
    (upward || downward)
        .then(|| i16::try_from(smallest).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn class(local: &str, seen: &[(&str, &str)]) -> NatClass {
        let mut observations = Observations::new(vec![local.parse().unwrap()]);
        for (by, seen) in seen {
            observations.observe(by.parse().unwrap(), seen.parse().unwrap());
        }
        observations.class()
    }

    #[test]
    fn two_observers_at_different_ips_tell_the_class() {
        let local = "10.0.0.2:4000";
        for (seen, expect) in [
            (vec![("1.1.1.1:9", "9.9.9.9:4000")], NatClass::Unknown),
            (
                vec![("1.1.1.1:9", "9.9.9.9:7"), ("1.1.1.1:10", "9.9.9.9:7")],
                NatClass::Unknown,
            ),
            (
                vec![("1.1.1.1:9", "9.9.9.9:7"), ("2.1.1.1:9", "9.9.9.9:7")],
                NatClass::EndpointIndependent,
            ),
            (
                vec![("1.1.1.1:9", "9.9.9.9:7"), ("2.1.1.1:9", "9.9.9.9:900")],
                NatClass::Random,
            ),
            (
                vec![
                    ("1.1.1.1:9", "9.9.9.9:3000"),
                    ("2.1.1.1:9", "9.9.9.9:3001"),
                    ("3.1.1.1:9", "9.9.9.9:3003"),
                ],
                NatClass::Sequential {
                    delta: 1,
                    last_port: 3003,
                },
            ),
            (
                vec![("1.1.1.1:9", "9.9.9.9:7"), ("2.1.1.1:9", "9.9.9.8:7")],
                NatClass::Random,
            ),
            (
                vec![
                    ("1.1.1.1:9", "10.0.0.2:4000"),
                    ("2.1.1.1:9", "10.0.0.2:4000"),
                ],
                NatClass::Open,
            ),
        ] {
            assert_eq!(class(local, &seen), expect, "{seen:?}");
        }
    }

    #[test]
    fn flows_are_ordered_by_the_questions_not_by_the_replies() {
        let mut observations = Observations::default();
        let servers: [SocketAddr; 2] = ["1.1.1.1:9".parse().unwrap(), "2.1.1.1:9".parse().unwrap()];
        servers.iter().for_each(|by| observations.asking(*by));
        observations.observe(servers[1], "9.9.9.9:3001".parse().unwrap());
        observations.observe(servers[0], "9.9.9.9:3000".parse().unwrap());
        let expect = NatClass::Sequential {
            delta: 1,
            last_port: 3001,
        };
        assert_eq!(observations.class(), expect);
        // Others have begun flows since.
        observations.newest_flow("9.9.9.9:3070".parse().unwrap());
        let expect = NatClass::Sequential {
            delta: 1,
            last_port: 3070,
        };
        assert_eq!(observations.class(), expect);
        observations.newest_flow("9.9.9.1:80".parse().unwrap());
        assert_ne!(observations.class(), expect, "another NAT's");
    }

    #[test]
    fn a_peer_that_tells_unasked_how_it_sees_us_does_not_make_a_sequence_look_random() {
        let mut observations = Observations::default();
        let servers: [SocketAddr; 2] = ["1.1.1.1:9".parse().unwrap(), "2.1.1.1:9".parse().unwrap()];
        for (by, port) in servers.iter().zip([3000, 3001]) {
            observations.asking(*by);
            observations.observe(*by, SocketAddr::from(([9, 9, 9, 9], port)));
        }
        let peer = "3.1.1.1:9".parse().unwrap();
        observations.observe(peer, "9.9.9.9:3072".parse().unwrap());
        let expect = NatClass::Sequential {
            delta: 1,
            last_port: 3001,
        };
        assert_eq!(observations.class(), expect);
    }

    #[test]
    fn many_peers_do_not_push_out_whom_we_asked() {
        let mut observations = Observations::default();
        for (n, port) in [(1, 3000), (2, 3001)] {
            let relay = SocketAddr::from(([n, 1, 1, 1], 9));
            observations.asking(relay);
            observations.observe(relay, SocketAddr::from(([9, 9, 9, 9], port)));
        }
        for port in 1..=100 {
            let peer = SocketAddr::from(([3, 1, 1, 1], port));
            observations.observe(peer, SocketAddr::from(([9, 9, 9, 9], 4000 + port)));
        }
        let expect = NatClass::Sequential {
            delta: 1,
            last_port: 3001,
        };
        assert_eq!(observations.class(), expect);
        assert!(observations.candidates().len() <= MAX_OBSERVERS + usize::from(PREDICTED_PORTS));
    }

    #[test]
    fn a_sequential_nat_has_eight_predicted_ports() {
        let class = NatClass::Sequential {
            delta: 2,
            last_port: 3000,
        };
        let expect: Vec<u16> = (1..=8).map(|step| 3000 + 2 * step).collect();
        assert_eq!(class.predicted_ports(), expect);
        let near_the_end = NatClass::Sequential {
            delta: 1,
            last_port: 65_533,
        };
        assert_eq!(near_the_end.predicted_ports(), [65_534, 65_535]);
    }

    #[test]
    fn an_observer_that_changes_its_mind_ends_an_epoch() {
        let mut observations = Observations::default();
        let servers = ["1.1.1.1:9".parse().unwrap(), "2.1.1.1:9".parse().unwrap()];
        for server in servers {
            assert!(observations.observe(server, "9.9.9.9:7".parse().unwrap()));
            assert!(!observations.observe(server, "9.9.9.9:7".parse().unwrap()));
        }
        assert!(observations.observe(servers[0], "9.9.9.9:8".parse().unwrap()));
        assert_eq!(observations.class(), NatClass::Unknown);
        assert_eq!(observations.candidates().len(), 1);
        observations.observe(servers[1], "9.9.9.9:8".parse().unwrap());
        assert_eq!(observations.class(), NatClass::EndpointIndependent);
    }

    #[test]
    fn observers_are_bounded() {
        let mut observations = Observations::default();
        for n in 1..=100 {
            let by = SocketAddr::from(([1, 1, 1, n], 9));
            observations.observe(
                by,
                SocketAddr::from(([9, 9, 9, 9], 1000 + u16::from(n) * 99)),
            );
        }
        assert_eq!(observations.candidates().len(), MAX_OBSERVERS);
    }
}
