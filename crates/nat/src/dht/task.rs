//! The table, the store and the searches of this node, driven by the swarm's task: questions of others in, answers out; our own
//! searches in steps. It refuses to dial for anything but a question.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_kad as kad;
use libp2p_kad::store::MemoryStore;
use libp2p_request_response::{self as request_response, OutboundRequestId, ProtocolSupport};
use libp2p_swarm::{ConnectionId, StreamProtocol};
use wayfare_identity::NodeAddress;

use super::limits::{Network, Pace};
use super::lookup::{Lookup, Target};
use super::passing::Passing;
use super::search::{Published, Purpose, Search};
use super::store::{Bounds, Store};
use super::words::{self, ANSWER_NODES, Answer, MAX_VALUE, Question, WordCodec};
use super::{DhtCommand, DhtConfig, DhtError, REPLICAS, Topic};
use crate::address::{multiaddr, node_id, peer_id, socket_addr};
use crate::connections::Connections;

const KAD_PROTOCOL: StreamProtocol = StreamProtocol::new("/wayfare/kad/1");
/// A question is answered at once or not at all; the connection may have to be made.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Questions of one connection at a time.
const QUESTIONS_AT_ONCE: usize = 32;
/// Searches of ours at a time: 64 of at most 6 MiB of values, each for a few seconds.
const MOST_SEARCHES: usize = 64;
/// First contacts that are remembered.
const MOST_SEEDS: usize = 64;
/// A table with fewer nodes than this is filled again soon.
const THIN: usize = 2 * REPLICAS;
const JOIN_SOON: Duration = Duration::from_secs(20);
const JOIN_LATER: Duration = Duration::from_secs(300);
/// How often what is over is forgotten.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);

pub(crate) type Table = kad::Behaviour<MemoryStore>;
pub(crate) type Words = request_response::Behaviour<WordCodec>;
pub(crate) type WordEvent = request_response::Event<Question, Answer>;

/// The table: who serves, where, and who is close to what. The library's own records and queries are not used.
pub(crate) fn assemble_kad(us: PeerId, serves: bool) -> Table {
    let mut config = kad::Config::new(KAD_PROTOCOL);
    config
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_periodic_bootstrap_interval(None)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_kbucket_size(NonZeroUsize::new(20).expect("20 is not 0"))
        .set_max_packet_size(16 << 10);
    config.set_caching(kad::Caching::Disabled);
    let mut kad = kad::Behaviour::with_config(us, MemoryStore::new(us), config);
    let mode = if serves {
        kad::Mode::Server
    } else {
        kad::Mode::Client
    };
    kad.set_mode(Some(mode));
    kad
}

pub(crate) fn assemble_words(serves: bool) -> Words {
    let support = if serves {
        ProtocolSupport::Full
    } else {
        ProtocolSupport::Outbound
    };
    request_response::Behaviour::with_codec(
        words::codec(),
        [(words::PROTOCOL, support)],
        request_response::Config::default()
            .with_request_timeout(ANSWER_LIMIT)
            .with_max_concurrent_streams(QUESTIONS_AT_ONCE),
    )
}

/// Whether a peer that speaks these protocols serves.
pub(crate) fn is_serving(protocols: &[StreamProtocol]) -> bool {
    protocols.contains(&KAD_PROTOCOL)
}

/// The parts of the swarm that this uses.
pub(crate) struct Net<'a> {
    pub(crate) kad: &'a mut Table,
    pub(crate) words: &'a mut Words,
    pub(crate) now: Instant,
}

#[derive(Debug)]
struct Asked {
    search: u64,
    keep: bool,
}

#[derive(Debug)]
pub(crate) struct Dht {
    config: DhtConfig,
    us: PeerId,
    connections: Connections,
    store: Store,
    pace: Pace,
    seeds: Vec<NodeAddress>,
    searches: BTreeMap<u64, Search>,
    asked: HashMap<OutboundRequestId, Asked>,
    passing: Passing,
    next: u64,
    join_at: Instant,
    expire_at: Instant,
    chance: RandomState,
}

impl Dht {
    pub(crate) fn new(
        config: DhtConfig,
        us: PeerId,
        connections: Connections,
        now: Instant,
    ) -> Self {
        let mut dht = Self {
            us,
            connections,
            store: Store::new(Bounds::default()),
            pace: Pace::default(),
            seeds: Vec::new(),
            searches: BTreeMap::new(),
            asked: HashMap::new(),
            passing: Passing::default(),
            next: 0,
            join_at: if config.serves { now } else { now + JOIN_SOON },
            expire_at: now,
            chance: RandomState::new(),
            config,
        };
        dht.know(&dht.config.seeds.clone());
        dht
    }

    fn know(&mut self, seeds: &[NodeAddress]) {
        for seed in seeds {
            let ours = peer_id(seed.node).is_none_or(|peer| peer == self.us);
            if !ours && !self.seeds.contains(seed) && self.seeds.len() < MOST_SEEDS {
                self.seeds.push(*seed);
            }
        }
    }

    pub(crate) fn carry_out(&mut self, command: DhtCommand, net: &mut Net<'_>) {
        match command {
            DhtCommand::Bootstrap { nodes, done } => self.bootstrap(&nodes, done, net),
            DhtCommand::Publish { topic, value, done } => {
                let unfit = value.len() > MAX_VALUE;
                let admitted = self.config.records.admit(&topic, &value);
                let Some(admitted) = admitted.filter(|_| !unfit) else {
                    let _ = done.send(Err(DhtError::Unfit));
                    return;
                };
                if self.config.serves {
                    let now = self.config.records.now();
                    let own = (value.clone(), Network::Own);
                    let _ = self.store.keep(topic, admitted, own.0, own.1, now);
                }
                match self.lookup(Target::Topic(topic), net) {
                    Ok(lookup) => {
                        let search = Search::publish(lookup, topic, value, done, net.now);
                        self.begin(search, net);
                    }
                    Err(error) => drop(done.send(Err(error))),
                }
            }
            DhtCommand::Find {
                topic,
                enough,
                limit,
                done,
            } => match self.lookup(Target::Topic(topic), net) {
                Ok(lookup) => {
                    let mut search = Search::find(lookup, topic, (enough, limit), done, net.now);
                    let own = self.store.find(topic, self.config.records.now());
                    search.take(own, self.config.records.as_ref());
                    self.begin(search, net);
                }
                Err(error) => drop(done.send(Err(error))),
            },
        }
    }

    fn bootstrap(&mut self, seeds: &[NodeAddress], done: Published, net: &mut Net<'_>) {
        self.know(seeds);
        self.join(Target::Oneself, Some(done), net);
        self.join_at = net.now + JOIN_SOON;
    }

    fn join(&mut self, target: Target, done: Option<Published>, net: &mut Net<'_>) {
        match (self.lookup(target, net), done) {
            (Ok(lookup), done) => self.begin(Search::join(lookup, target, done, net.now), net),
            (Err(error), Some(done)) => drop(done.send(Err(error))),
            (Err(_), None) => {}
        }
    }

    /// A lookup from what we know: the closest of the table, and first contacts where that is thin.
    fn lookup(&mut self, target: Target, net: &mut Net<'_>) -> Result<Lookup, DhtError> {
        if self.searches.len() >= MOST_SEARCHES {
            return Err(DhtError::Busy);
        }
        let us = self.us;
        let mut seeds = closest(net.kad, &target.key(us), &us);
        if seeds.len() < ANSWER_NODES {
            seeds.extend(&self.seeds);
        }
        if seeds.is_empty() {
            return Err(DhtError::Alone);
        }
        Ok(Lookup::new(us, target, &seeds))
    }

    fn begin(&mut self, search: Search, net: &mut Net<'_>) {
        self.next += 1;
        self.searches.insert(self.next, search);
        self.step(self.next, net);
    }

    /// Asks whom a search names, and ends it when it is over.
    fn step(&mut self, id: u64, net: &mut Net<'_>) {
        let Some(search) = self.searches.get_mut(&id) else {
            return;
        };
        if !matches!(search.purpose, Purpose::Keep { .. }) {
            while let Some((peer, at)) = search.lookup.next(net.now) {
                let question = search.question();
                let asked = Asked {
                    search: id,
                    keep: false,
                };
                let request = ask(net, &mut self.passing, (peer, at), question);
                self.asked.insert(request, asked);
            }
        }
        if search.is_over(net.now)
            && let Some(search) = self.searches.remove(&id)
        {
            self.end(id, search, net);
        }
    }

    fn end(&mut self, id: u64, search: Search, net: &mut Net<'_>) {
        let Search {
            lookup,
            target,
            purpose,
            ..
        } = search;
        let silent = lookup.closest().next().is_none();
        let tried = lookup.tried();
        match purpose {
            Purpose::Join { done } => {
                tracing::debug!(?target, tried, silent, "looked around");
                let joined = match lookup.closest().count() {
                    0 => Err(DhtError::Silent(tried)),
                    answered => Ok(answered),
                };
                if let Some(done) = done {
                    let _ = done.send(joined);
                }
            }
            Purpose::Find { values, done, .. } => {
                let found = match values.is_empty() && silent {
                    true => Err(DhtError::Silent(tried)),
                    false => Ok(values.into_iter().collect()),
                };
                let _ = done.send(found);
            }
            Purpose::Publish { done, .. } if silent => {
                let _ = done.send(Err(DhtError::Silent(tried)));
            }
            Purpose::Publish { value, done } => {
                let Target::Topic(topic) = target else { return };
                for node in lookup.closest() {
                    let question = Question::Keep(topic, value.clone());
                    let asked = Asked {
                        search: id,
                        keep: true,
                    };
                    let request = ask(net, &mut self.passing, node, question);
                    self.asked.insert(request, asked);
                }
                let keeping = Search::keeping(lookup, topic, done, net.now);
                self.searches.insert(id, keeping);
            }
            Purpose::Keep {
                answered,
                kept,
                done,
                ..
            } => {
                let published = match kept {
                    0 => Err(DhtError::Unkept(answered)),
                    kept => Ok(kept),
                };
                let _ = done.send(published);
            }
        }
    }

    pub(crate) fn handle(&mut self, event: WordEvent, net: &mut Net<'_>) {
        use request_response::{Event, Message};
        match event {
            Event::Message { peer, message, .. } => match message {
                Message::Request {
                    request, channel, ..
                } => {
                    if let Some(answer) = self.answer(peer, request, net) {
                        // Whoever asked may not wait any more.
                        let _ = net.words.send_response(channel, answer);
                    }
                }
                Message::Response {
                    request_id,
                    response,
                } => self.answered(peer, request_id, response, net),
            },
            Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                tracing::debug!(%peer, %error, "a node of the table does not answer");
                net.kad.remove_peer(&peer);
                self.failed(peer, request_id, net);
            }
            Event::InboundFailure { error, .. } => {
                tracing::debug!(%error, "who asked did not wait for the answer");
            }
            Event::ResponseSent { .. } => {}
        }
    }

    /// What we say to others; nothing to those whose connection is gone.
    fn answer(&mut self, peer: PeerId, question: Question, net: &mut Net<'_>) -> Option<Answer> {
        let now = self.config.records.now();
        let of_topic = |topic| Target::Topic(topic).key(peer);
        match question {
            Question::Around => Some(Answer::Found {
                values: Vec::new(),
                closer: closest(net.kad, &Target::Oneself.key(peer), &peer),
            }),
            Question::Closer(topic) => Some(Answer::Found {
                values: Vec::new(),
                closer: closest(net.kad, &of_topic(topic), &peer),
            }),
            Question::Find(topic) => Some(Answer::Found {
                values: self.store.find(topic, now),
                closer: closest(net.kad, &of_topic(topic), &peer),
            }),
            Question::Keep(topic, value) => {
                let from = Network::of(self.connections.address(&peer)?);
                Some(Answer::Kept(self.keep(topic, value, from, net.now)))
            }
        }
    }

    fn keep(&mut self, topic: Topic, value: Vec<u8>, from: Network, now: Instant) -> bool {
        if value.len() > MAX_VALUE || !self.pace.admit(from, now) {
            return false;
        }
        let records = &self.config.records;
        let Some(admitted) = records.admit(&topic, &value) else {
            return false;
        };
        let kept = self.store.keep(topic, admitted, value, from, records.now());
        if let Err(why) = kept {
            tracing::debug!(?why, ?topic, "a record is not kept");
        }
        kept.is_ok()
    }

    fn answered(
        &mut self,
        peer: PeerId,
        request: OutboundRequestId,
        answer: Answer,
        net: &mut Net<'_>,
    ) {
        let at = self.connections.address(&peer);
        // It serves: it answered.
        if let Some(at) = at {
            net.kad.add_address(&peer, multiaddr(at));
        }
        let Some(asked) = self.asked.remove(&request) else {
            return;
        };
        let Some(search) = self.searches.get_mut(&asked.search) else {
            return;
        };
        match (answer, asked.keep) {
            (Answer::Found { values, closer }, false) => {
                search.lookup.answered(peer, at, &closer);
                search.take(values, self.config.records.as_ref());
            }
            (Answer::Kept(kept), true) => search.told(kept),
            (Answer::Found { .. }, true) => search.told(false),
            (Answer::Kept(_), false) => search.lookup.failed(peer),
        }
        self.step(asked.search, net);
    }

    fn failed(&mut self, peer: PeerId, request: OutboundRequestId, net: &mut Net<'_>) {
        self.passing.let_go(&peer);
        let Some(asked) = self.asked.remove(&request) else {
            return;
        };
        if let Some(search) = self.searches.get_mut(&asked.search) {
            match asked.keep {
                true => search.told(false),
                false => search.lookup.failed(peer),
            }
            self.step(asked.search, net);
        }
    }

    /// A peer said by `identify` that it serves; its own connection shows where.
    pub(crate) fn serves(&mut self, peer: PeerId, net: &mut Net<'_>) {
        if let Some(at) = self.connections.address(&peer) {
            net.kad.add_address(&peer, multiaddr(at));
        }
    }

    /// We dialed a peer and the first connection to it is there.
    pub(crate) fn connected(&mut self, peer: PeerId, id: ConnectionId, now: Instant) {
        self.passing.connected(peer, id, now);
    }

    /// Its connection is gone, or somebody else needs it.
    pub(crate) fn let_go(&mut self, peer: &PeerId) {
        self.passing.let_go(peer);
    }

    /// Whether searches wait for the time to pass.
    pub(crate) fn is_busy(&self) -> bool {
        !self.searches.is_empty()
    }

    /// Time passes for searches.
    pub(crate) fn step_all(&mut self, net: &mut Net<'_>) {
        let ids: Vec<u64> = self.searches.keys().copied().collect();
        for id in ids {
            self.step(id, net);
        }
    }

    /// Keeps the table filled and the store tidy; returns connections to be closed.
    pub(crate) fn look_after(&mut self, net: &mut Net<'_>) -> Vec<ConnectionId> {
        if net.now >= self.expire_at {
            self.expire_at = net.now + EXPIRE_EVERY;
            self.store.expire(self.config.records.now());
        }
        if net.now >= self.join_at {
            let known: usize = net.kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
            let pause = if known < THIN { JOIN_SOON } else { JOIN_LATER };
            self.join_at = net.now + pause;
            self.join(Target::Oneself, None, net);
            if self.config.serves {
                // Somewhere else, so that the table is not only about us.
                let somewhere = self.somewhere();
                self.join(Target::Topic(somewhere), None, net);
            }
        }
        self.passing.unused(net.now)
    }

    fn somewhere(&mut self) -> Topic {
        let mut topic = [0; 32];
        for part in topic.chunks_exact_mut(8) {
            self.next += 1;
            part.copy_from_slice(&self.chance.hash_one(self.next).to_be_bytes());
        }
        Topic(topic)
    }
}

/// Asks a node, and notes if it has to be dialed for that.
fn ask(
    net: &mut Net<'_>,
    passing: &mut Passing,
    (peer, address): (PeerId, NodeAddress),
    question: Question,
) -> OutboundRequestId {
    if net.words.is_connected(&peer) {
        passing.used(peer, net.now);
    } else {
        passing.dialed(peer);
    }
    let at = vec![multiaddr(address.at)];
    net.words.send_request_with_addresses(&peer, question, at)
}

/// Those of the table that are closest to a target, but for one.
fn closest(kad: &mut Table, target: &kad::KBucketKey<Vec<u8>>, but: &PeerId) -> Vec<NodeAddress> {
    let known = kad.find_closest_local_peers(target, but);
    let named = known.filter_map(|peer| {
        let node = node_id(&peer.node_id)?;
        // The newest is the last.
        let mut at = peer.multiaddrs.iter().rev().filter_map(direct);
        Some(NodeAddress {
            node,
            at: at.next()?,
        })
    });
    named.take(ANSWER_NODES).collect()
}

fn direct(address: &Multiaddr) -> Option<std::net::SocketAddr> {
    socket_addr(address).map(|(at, _)| at)
}
