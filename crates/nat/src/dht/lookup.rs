//! One search for the nodes closest to a topic. It knows neither streams nor clocks: who is to be asked comes out, who answered
//! goes in. It refuses to wait for nodes that are only said to exist.
//!
//! Whoever is asked names others. Each candidate is the word of the node that named it first; of two, the one whose namer has
//! fewer candidates that do not answer is asked first, and only then the closer one. So a node that names absent nodes costs
//! [`FREE`] questions, however many it names and however close it makes them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libp2p_identity::PeerId;
use libp2p_kad::{KBucketDistance, KBucketKey};
use wayfare_identity::NodeAddress;

use super::limits::believable;
use super::words::ANSWER_NODES;
use super::{REPLICAS, Topic};
use crate::address::peer_id;

/// Questions under way.
const WIDTH: usize = 12;
/// How long one holds a place among them: a handshake and a question at 300 ms a round trip. An answer that comes later counts.
const PATIENCE: Duration = Duration::from_millis(900);
/// How long an answer is waited for while nobody has given one: the second repetition of a lost first packet arrives.
const LAST_PATIENCE: Duration = Duration::from_millis(2_700);
/// Of one namer, candidates that may be without an answer before others go first.
const FREE: usize = 4;
/// With so many in vain, the rest of what it named is not asked at all: an honest one names 20, and half of them may be dead.
const MOST_DEBT: usize = 12;
/// Whoever joins knows enough of its surroundings by so many; the others come with time.
const AROUND: usize = 8;
/// Candidates in all: 1,024 of about 200 bytes.
const MOST: usize = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Asked(Instant),
    Late(Instant),
    Answered,
    Failed,
}

type Debts = BTreeMap<Option<PeerId>, usize>;

#[derive(Debug)]
struct Candidate {
    peer: PeerId,
    address: NodeAddress,
    namer: Option<PeerId>,
    state: State,
}

impl Candidate {
    /// Whether its namer's word is still worth a question. Nobody but us named first contacts.
    fn is_believed(&self, debts: &Debts) -> bool {
        let debt = debts.get(&self.namer).copied().unwrap_or_default();
        self.namer.is_none() || debt < MOST_DEBT
    }
}

/// What a lookup is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Those around ourselves.
    Oneself,
    /// Those around a topic.
    Topic(Topic),
}

impl Target {
    /// Its place among the nodes; `us`: who looks.
    pub(crate) fn key(self, us: PeerId) -> KBucketKey<Vec<u8>> {
        KBucketKey::new(match self {
            Self::Oneself => us.to_bytes(),
            Self::Topic(topic) => topic.0.to_vec(),
        })
    }
}

#[derive(Debug)]
pub(crate) struct Lookup {
    us: PeerId,
    target: KBucketKey<Vec<u8>>,
    candidates: BTreeMap<KBucketDistance, Candidate>,
    /// It ends when so many of the closest have answered.
    wanted: usize,
}

impl Lookup {
    /// Begins with nodes that we know ourselves.
    pub(crate) fn new(us: PeerId, target: Target, seeds: &[NodeAddress]) -> Self {
        let mut lookup = Self {
            us,
            target: target.key(us),
            candidates: BTreeMap::new(),
            wanted: match target {
                Target::Oneself => AROUND,
                Target::Topic(_) => REPLICAS,
            },
        };
        for seed in seeds {
            lookup.add(*seed, None);
        }
        lookup
    }

    fn add(&mut self, address: NodeAddress, namer: Option<PeerId>) {
        let Some(peer) = peer_id(address.node).filter(|peer| *peer != self.us) else {
            return;
        };
        let distance = self.distance(peer);
        if self.candidates.len() < MOST || self.candidates.contains_key(&distance) {
            self.candidates.entry(distance).or_insert(Candidate {
                peer,
                address,
                namer,
                state: State::Fresh,
            });
        }
    }

    fn distance(&self, peer: PeerId) -> KBucketDistance {
        KBucketKey::from(peer).distance(&self.target)
    }

    /// Whom to ask now, if anybody.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(PeerId, NodeAddress)> {
        for candidate in self.candidates.values_mut() {
            candidate.state = match candidate.state {
                State::Asked(at) if now >= at + PATIENCE => State::Late(at),
                State::Late(at) if now >= at + LAST_PATIENCE => State::Failed,
                other => other,
            };
        }
        if self.asked() >= WIDTH {
            return None;
        }
        let debts = self.debts();
        let useful = self.useful();
        let fresh = self.candidates.iter_mut().take(useful);
        let best = fresh
            .filter(|(_, candidate)| {
                candidate.state == State::Fresh && candidate.is_believed(&debts)
            })
            .min_by_key(|(distance, candidate)| {
                let debt = debts.get(&candidate.namer).copied().unwrap_or_default();
                (debt / FREE, *distance)
            });
        let (_, candidate) = best?;
        candidate.state = State::Asked(now);
        Some((candidate.peer, candidate.address))
    }

    fn asked(&self) -> usize {
        let asked = |candidate: &&Candidate| matches!(candidate.state, State::Asked(_));
        self.candidates.values().filter(asked).count()
    }

    /// How many of those that each namer named were asked in vain so far.
    fn debts(&self) -> Debts {
        let mut debts = Debts::new();
        for candidate in self.candidates.values() {
            match candidate.state {
                State::Asked(_) | State::Late(_) | State::Failed => {
                    *debts.entry(candidate.namer).or_default() += 1;
                }
                State::Fresh | State::Answered => {}
            }
        }
        debts
    }

    /// How many candidates, from the closest, are worth asking: what is behind enough answers is not.
    fn useful(&self) -> usize {
        let mut answered = 0;
        let enough = self.candidates.values().position(|candidate| {
            answered += usize::from(candidate.state == State::Answered);
            answered == self.wanted
        });
        enough.unwrap_or(self.candidates.len())
    }

    /// An answer: who it names, and where the connection shows it to be.
    pub(crate) fn answered(
        &mut self,
        peer: PeerId,
        at: Option<SocketAddr>,
        closer: &[NodeAddress],
    ) {
        let distance = self.distance(peer);
        let Some(candidate) = self.candidates.get_mut(&distance) else {
            return;
        };
        candidate.state = State::Answered;
        let namer_at = at.unwrap_or(candidate.address.at);
        for node in closer.iter().take(ANSWER_NODES) {
            if believable(node.at, Some(namer_at)) {
                self.add(*node, Some(peer));
            }
        }
    }

    /// It cannot be reached, or answers nonsense.
    pub(crate) fn failed(&mut self, peer: PeerId) {
        let distance = self.distance(peer);
        if let Some(candidate) = self.candidates.get_mut(&distance) {
            candidate.state = State::Failed;
        }
    }

    /// When nobody useful is left to be asked or waited for.
    pub(crate) fn is_done(&self) -> bool {
        let debts = self.debts();
        let silent = self.closest().next().is_none();
        let mut useful = self.candidates.values().take(self.useful());
        !useful.any(|candidate| match candidate.state {
            State::Asked(_) => true,
            State::Fresh => candidate.is_believed(&debts),
            State::Late(_) => silent,
            State::Answered | State::Failed => false,
        })
    }

    /// Those who answered, the closest first.
    pub(crate) fn closest(&self) -> impl Iterator<Item = (PeerId, NodeAddress)> {
        let candidates = self.candidates.values();
        let answered = candidates.filter(|candidate| candidate.state == State::Answered);
        answered
            .take(REPLICAS)
            .map(|candidate| (candidate.peer, candidate.address))
    }

    /// How many were asked so far.
    pub(crate) fn tried(&self) -> usize {
        let fresh = |candidate: &&Candidate| candidate.state != State::Fresh;
        self.candidates.values().filter(fresh).count()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;
    use wayfare_identity::NodeKey;

    fn node(number: u16) -> NodeAddress {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        NodeAddress {
            node: NodeKey::from_seed(seed).id(),
            at: SocketAddr::from(([127, 0, 0, 1], 1_000 + number)),
        }
    }

    fn lookup(seeds: &[NodeAddress]) -> Lookup {
        Lookup::new(PeerId::random(), Target::Topic(Topic([7; 32])), seeds)
    }

    #[test]
    fn it_ends_when_the_closest_have_answered() {
        let all: Vec<_> = (0..200).map(node).collect();
        let (mut lookup, now) = (lookup(&all[..1]), Instant::now());
        let mut questions = 0;
        while let Some((peer, _)) = lookup.next(now) {
            questions += 1;
            let mut known = all.clone();
            // Each knows those closest to the topic among a third of all.
            known.retain(|node| (node.at.port() + questions) % 3 == 0);
            known.sort_by_key(|node| lookup.distance(peer_id(node.node).unwrap()));
            lookup.answered(peer, None, &known[..20]);
        }
        assert!(lookup.is_done());
        let mut sorted = all;
        sorted.sort_by_key(|node| lookup.distance(peer_id(node.node).unwrap()));
        let found: Vec<_> = lookup.closest().map(|(_, node)| node).collect();
        assert_eq!(found, sorted[..REPLICAS]);
        assert!(questions < 60, "{questions} questions");
    }

    #[test]
    fn a_liar_costs_a_few_questions_however_many_it_names() {
        let honest: Vec<_> = (0..40).map(node).collect();
        let (mut lookup, now) = (lookup(&honest[..20]), Instant::now());
        let mut fakes: Vec<_> = (1_000..6_000).map(node).collect();
        fakes.sort_by_key(|node| lookup.distance(peer_id(node.node).unwrap()));
        fakes.truncate(20);
        let (liar, _) = lookup.next(now).unwrap();
        lookup.answered(liar, None, &fakes);
        let (mut in_vain, mut answered) = (0, 1);
        while answered < REPLICAS {
            let (peer, node) = lookup.next(now).expect("honest nodes are asked");
            if fakes.contains(&node) {
                in_vain += 1;
            } else {
                answered += 1;
                lookup.answered(peer, None, &[]);
            }
        }
        assert!((1..=FREE).contains(&in_vain), "{in_vain}");
        // What is named and never answers ends as well, by patience alone.
        let mut later = now;
        for _ in 0..10 {
            while lookup.next(later).is_some() {}
            later += LAST_PATIENCE;
        }
        assert!(lookup.is_done());
    }

    #[test]
    fn it_does_not_grow_without_end_and_does_not_ask_itself() {
        let us = node(0);
        let mut lookup = Lookup::new(peer_id(us.node).unwrap(), Target::Oneself, &[us, node(1)]);
        let (peer, asked) = lookup.next(Instant::now()).unwrap();
        assert_eq!(asked, node(1));
        assert_eq!(lookup.next(Instant::now()), None);
        for round in 0..200 {
            let named: Vec<_> = (0..20).map(|at| node(10 + round * 20 + at)).collect();
            lookup.answered(peer, None, &named);
        }
        assert_eq!(lookup.candidates.len(), MOST);
    }
}
