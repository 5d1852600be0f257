//! Scenes: who is behind what, and how they learn of each other.
//! It refuses shortcuts: NAT classes come from observations, descriptions travel signed, secrets are agreed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use wayfare_identity::NodeKey;
use wayfare_path::{
    Answer, Attempt, Candidate, CandidateKind, Capabilities, Description, Ephemeral, NatClass,
    Observations, Offer, Role, Setup,
};

use super::chance::Chance;
use super::drive::{Side, VIRTUAL, World};
use super::nat::{FW, Kind};
use super::net::{CORE, Host, Network};

/// One side of a scene.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// NATs, nearest first.
    pub chain: Vec<Kind>,
    /// Behind a stateful firewall, beside whatever there is of IPv4.
    pub ipv6: bool,
    /// The router forwards a port.
    pub mapped: bool,
    /// Addresses that this side falsely lists.
    pub lies: Vec<SocketAddr>,
}

pub fn behind(chain: &[Kind]) -> Place {
    Place {
        chain: chain.to_vec(),
        ..Place::default()
    }
}

/// What both sides share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    Nothing,
    /// The nearest network, behind `a`'s chain.
    Lan,
    /// The carrier's NAT: the last box of `a`'s chain.
    Carrier,
}

#[derive(Debug, Clone)]
pub struct Scene {
    pub a: Place,
    pub b: Place,
    pub shared: Shared,
    pub seed: u64,
    /// Datagrams lost in the core, of 1,000.
    pub loss: u64,
    /// How much later than with the answer the caller begins.
    pub skew: Duration,
    pub depth_known: bool,
    /// Openers have so many hops that they arrive.
    pub openers_arrive: bool,
    pub birthday: bool,
}

pub fn scene(a: Place, b: Place, seed: u64) -> Scene {
    Scene {
        a,
        b,
        shared: Shared::Nothing,
        seed,
        loss: 0,
        skew: Duration::ZERO,
        depth_known: true,
        openers_arrive: false,
        birthday: true,
    }
}

/// To the relay and back.
pub const SIGNALLING: Duration = Duration::from_millis(140);
const PORT: u16 = 41_641;

impl Scene {
    pub fn build(&self) -> World {
        let mut chance = Chance::new(self.seed);
        let mut network = Network::default();
        let start = Instant::now();
        let a = place(&mut network, &self.a, 0, None, &mut chance);
        let joint = match self.shared {
            Shared::Nothing => None,
            Shared::Lan => Some(network.hosts[a.0].segment),
            Shared::Carrier => {
                let last = *network.nats_of(a.0).last().unwrap();
                Some(network.nats[last].inside)
            }
        };
        let b = place(&mut network, &self.b, 1, joint, &mut chance);
        let keys = [1, 2].map(|n| NodeKey::from_seed([n; 32]));
        let ephemerals = [chance.bytes(), chance.bytes()].map(Ephemeral::from_seed);
        let ours = [(a, &self.a), (b, &self.b)].map(|(hosts, place)| {
            let public = ephemerals[usize::from(hosts == b)].public();
            describe(&mut network, hosts, place, public, self, start, &mut chance)
        });
        let attempt = Attempt([7; 16]);
        let ids = [keys[0].id(), keys[1].id()];
        let offer = Offer::sign(&keys[0], ids[1], attempt, 1, &ours[0].0).to_bytes();
        let offer = Offer::from_bytes(&offer).unwrap();
        let offer = offer.verify(ids[0], ids[1]).unwrap();
        let answer = Answer::sign(&keys[1], &offer, 1, &ours[1].0).to_bytes();
        let answer = Answer::from_bytes(&answer).unwrap();
        let answer = answer.verify(ids[1], ids[0], attempt).unwrap();

        let side = |role: Role| {
            let (us, hosts, theirs, ephemeral) = match role {
                Role::Caller => (0, a, &answer, &ephemerals[0]),
                Role::Callee => (1, b, &offer, &ephemerals[1]),
            };
            let setup = Setup {
                role,
                secret: theirs.secret(ephemeral).unwrap(),
                ours: ours[us].0.clone(),
                theirs: theirs.description().clone(),
                attested: ours[1 - us].1.clone(),
                fallback: Some(VIRTUAL),
                birthday_allowed: self.birthday,
                birthday_sockets: 256,
            };
            let starts_after = match role {
                Role::Caller => SIGNALLING + self.skew,
                Role::Callee => SIGNALLING / 2,
            };
            Side::new(hosts, PORT, setup, start + starts_after)
        };
        let sides = [side(Role::Caller), side(Role::Callee)];
        World::new(network, sides, chance, start, self.loss)
    }
}

type Hosts = (usize, Option<usize>);

fn place(
    network: &mut Network,
    place: &Place,
    n: u8,
    joint: Option<usize>,
    chance: &mut Chance,
) -> Hosts {
    let delay = Duration::from_millis(20 + 10 * u64::from(n));
    let mut segment = joint.unwrap_or(CORE);
    let public = IpAddr::from([11, 0, 1 + n, 2]);
    for (level, kind) in place.chain.iter().enumerate().rev() {
        let level = u8::try_from(level).unwrap();
        // Homes all look alike: both sides number their inner networks the same way.
        let wan = if segment == CORE {
            public
        } else if joint == Some(segment) {
            IpAddr::from([100, 64, n, 2])
        } else {
            IpAddr::from([10, level + 1, 0, 2])
        };
        segment = network.add_nat(*kind, wan, segment, chance);
    }
    let is_firewall = place.chain.iter().all(|kind| kind.is_firewall);
    let ip = match joint {
        None if is_firewall => public,
        _ => IpAddr::from([192, 168, 1, 10 + n]),
    };
    network.hosts.push(Host { ip, segment, delay });
    let v4 = network.hosts.len() - 1;
    if place.mapped {
        let nat = segment - 1;
        let inner = SocketAddr::new(ip, PORT);
        network.nats[nat].forwarded.insert(51_000, inner);
    }
    let v6 = place.ipv6.then(|| {
        let segments = [0x2001, 0xdb8, u16::from(n), 0, 0, 0, 0, 5];
        let ip = IpAddr::from(Ipv6Addr::from(segments));
        let segment = network.add_nat(FW, ip, CORE, chance);
        network.hosts.push(Host { ip, segment, delay });
        network.hosts.len() - 1
    });
    (v4, v6)
}

/// What a side finds out about itself, and what a relay attests of it.
fn describe(
    network: &mut Network,
    (v4, v6): Hosts,
    place: &Place,
    public: wayfare_path::EphemeralPublic,
    scene: &Scene,
    now: Instant,
    chance: &mut Chance,
) -> (Description, Vec<IpAddr>) {
    let local = SocketAddr::new(network.hosts[v4].ip, PORT);
    let mut observations = Observations::new(vec![local]);
    let mut attested = Vec::new();
    for n in 1..=3 {
        let by = SocketAddr::from((Ipv4Addr::new(11, 9, n, 1), 3478));
        if let Some(seen) = network.observe(v4, PORT, by, now, chance) {
            observations.observe(by, seen);
            attested.push(seen.ip());
        }
    }
    let mut candidates = vec![Candidate::new(CandidateKind::Host, local)];
    if attested.is_empty() {
        observations.udp_blocked();
        let last = *network.nats_of(v4).last().unwrap();
        attested.push(network.nats[last].wan);
    }
    candidates.extend(observations.candidates());
    if place.mapped {
        let wan = network.nats[network.hosts[v4].segment - 1].wan;
        let addr = SocketAddr::new(wan, 51_000);
        candidates.push(Candidate::new(CandidateKind::Mapped, addr));
    }
    if let Some(v6) = v6 {
        let ip = network.hosts[v6].ip;
        attested.push(ip);
        let addr = SocketAddr::new(ip, PORT);
        candidates.push(Candidate::new(CandidateKind::Ipv6, addr));
    }
    for lie in &place.lies {
        candidates.push(Candidate::new(CandidateKind::Observed, *lie));
    }
    let depth = u8::try_from(network.nats_of(v4).len() + 1).unwrap();
    let depth = if scene.openers_arrive { 64 } else { depth };
    let nat: NatClass = observations.class();
    let description = Description::new(public, candidates, nat)
        .with_depth(scene.depth_known.then_some(depth))
        .with_capabilities(if scene.birthday {
            Capabilities::BIRTHDAY
        } else {
            Capabilities::none()
        });
    (description, attested)
}
