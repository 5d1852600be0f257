//! Finding proposals: every index that is named and the distributed table are asked at once, what they say is verified and
//! merged. It refuses to let one source that is down, slow or lying stand for all.
//!
//! The indexes' order is kept, one of each in turn; behind it comes what only the table knows, in the catalogue's order without
//! evidence, as the table's nodes have reached nobody. Of two proposals under one key the later counts.

mod ahead;
#[cfg(test)]
mod hundred;
mod records;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::FuturesUnordered;
use wayfare_api::discovery::IndexClient;
use wayfare_discovery::{
    Catalogue, Limits, MAX_LIMIT, Proposal, ProposalKey, Query, SignedProposal,
};
use wayfare_identity::{NodeAddress, NodeKey};
use wayfare_nat::{DhtConfig, DhtError, Swarm, SwarmConfig};
use wayfare_transport::{Clock, QuicIdentity, SharedSocket, SocketOptions, quic_endpoint};

use self::ahead::Asked;
use self::records::{ProposalRecords, topics_for};
use crate::reach::swarm_on;
use crate::{Network, NodeError, chance};

pub(crate) use self::records::topics_of;

/// When one index has answered, how much longer the others may take: several round trips around the world.
const GRACE: Duration = Duration::from_millis(800);
/// The table is asked for so long; two lookups fit in which some wait for the dead.
const ENOUGH: Duration = Duration::from_millis(2_500);
/// And for so long where nothing was found until then.
const LIMIT: Duration = Duration::from_millis(4_500);
/// Relays of proposals that were found, remembered as first contacts for the next time.
const REMEMBERED: usize = 32;
/// Proposals out of the table that are looked at: 4,096 signatures are 0.4 s.
const MOST: usize = 4_096;

/// The distributed table, to people.
pub(crate) const TABLE: &str = "the distributed table";

/// How a node takes part in the distributed table. `serves`: whether anybody can dial it.
pub(crate) fn table(seeds: Vec<NodeAddress>, serves: bool) -> DhtConfig {
    DhtConfig {
        records: Arc::new(ProposalRecords),
        serves,
        seeds,
    }
}

/// Clients of every index of a network. Nothing is sent.
///
/// # Errors
/// An address that is none.
pub(crate) fn indexes(network: &Network) -> Result<Vec<(String, IndexClient)>, NodeError> {
    let client = |url: &str| match IndexClient::connect(url) {
        Ok(client) => Ok((url.to_owned(), client)),
        Err(source) => Err(index_error(source)),
    };
    network.index_urls().map(client).collect()
}

pub(crate) fn index_error(source: wayfare_api::ApiError) -> NodeError {
    NodeError::Service {
        what: "the proposal index",
        source,
    }
}

/// Where a node's proposals come from.
#[derive(Debug)]
pub(crate) struct Sources {
    network: Network,
    /// Relays that proposals named.
    relays: Mutex<Vec<NodeAddress>>,
    /// A question that was asked before anybody waits for its answer.
    ahead: Mutex<Option<Asked>>,
}

/// One source's answer.
struct Heard {
    /// An index has an order of its own.
    index: Option<usize>,
    name: String,
    found: Result<Vec<SignedProposal>, NodeError>,
}

impl Sources {
    /// Those of a network.
    ///
    /// # Errors
    /// An index's address that is none: told now, and not at the first question.
    pub(crate) fn new(network: &Network) -> Result<Self, NodeError> {
        let indexes = indexes(network)?;
        if indexes.is_empty() && network.bootstrap.is_empty() {
            let why =
                "neither `index_url` nor `bootstrap` is set: there is nobody to ask for proposals";
            return Err(NodeError::Setting(why.into()));
        }
        Ok(Self {
            network: network.clone(),
            relays: Mutex::default(),
            ahead: Mutex::default(),
        })
    }

    /// Asks already; the first [`ask`](Self::ask) of this query takes the answer.
    pub(crate) fn begin(self: &Arc<Self>, query: Query) {
        let sources = Arc::clone(self);
        let asked = Asked::begin(query.clone(), async move { sources.ask_now(&query).await });
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
    }

    /// Verified proposals that fit, best first: from whoever answers soon. Takes at most 5 s where no index answers.
    ///
    /// # Errors
    /// No source answers; every one is named.
    pub(crate) async fn ask(&self, query: &Query) -> Result<Vec<Proposal>, NodeError> {
        let ahead = self
            .ahead
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match ahead.filter(|asked| asked.is_for(query)) {
            Some(asked) => asked.answer().await,
            None => self.ask_now(query).await,
        }
    }

    async fn ask_now(&self, query: &Query) -> Result<Vec<Proposal>, NodeError> {
        // A connection for each question: one that outlived the coming or going of a tunnel would speak beside it, or not at all.
        let query = &self.narrowed(query);
        let mut asked: FuturesUnordered<BoxFuture<'_, Heard>> = FuturesUnordered::new();
        for (at, (name, client)) in indexes(&self.network)?.into_iter().enumerate() {
            asked.push(ask_index(at, name, client, query).boxed());
        }
        let seeds = self.seeds();
        if !seeds.is_empty() {
            asked.push(ask_table(seeds, query).boxed());
        }
        let (mut heard, mut failed) = (Vec::new(), Vec::new());
        let mut until = None;
        while let Some(answer) = next(&mut asked, until).await {
            match answer.found {
                Ok(found) => {
                    // The others may follow, but nobody has to wait for them.
                    let enough = answer.index.is_some() && !found.is_empty();
                    until = until.or(enough.then(|| tokio::time::Instant::now() + GRACE));
                    heard.push((answer.index, found));
                }
                Err(error) => {
                    tracing::warn!(source = %answer.name, %error, "a source of proposals does not answer");
                    failed.push((answer.name, error));
                }
            }
        }
        if heard.is_empty() {
            return Err(silence(failed));
        }
        let found = merge(heard, query, Clock::unix_ms() / 1_000)?;
        self.remember(&found);
        Ok(found)
    }

    /// What is not of this network is of no use, and should not take the place of what is.
    fn narrowed(&self, query: &Query) -> Query {
        let mut query = query.clone();
        query.hermes = query.hermes.or(Some(self.network.hermes));
        query.chain_id = query.chain_id.or(Some(self.network.chain_id));
        query
    }

    /// Nodes through which the table may be asked: those of the settings, and relays seen before.
    fn seeds(&self) -> Vec<NodeAddress> {
        let relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seeds = self.network.bootstrap.clone();
        seeds.extend(relays.iter());
        seeds
    }

    fn remember(&self, found: &[Proposal]) {
        let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        for relay in found.iter().flat_map(|proposal| &proposal.relays) {
            if !relays.contains(relay) {
                relays.push(*relay);
            }
        }
        let surplus = relays.len().saturating_sub(REMEMBERED);
        relays.drain(..surplus);
    }
}

async fn next(
    asked: &mut FuturesUnordered<BoxFuture<'_, Heard>>,
    until: Option<tokio::time::Instant>,
) -> Option<Heard> {
    match until {
        None => asked.next().await,
        Some(until) => tokio::time::timeout_at(until, asked.next()).await.ok()?,
    }
}

async fn ask_index(at: usize, name: String, client: IndexClient, query: &Query) -> Heard {
    Heard {
        index: Some(at),
        name,
        found: client.query(query).await.map_err(index_error),
    }
}

async fn ask_table(seeds: Vec<NodeAddress>, query: &Query) -> Heard {
    Heard {
        index: None,
        name: TABLE.into(),
        found: search_table(seeds, query).await,
    }
}

/// Asks on a socket and by a node key of its own: nobody learns whether two questions came from one node.
async fn search_table(
    seeds: Vec<NodeAddress>,
    query: &Query,
) -> Result<Vec<SignedProposal>, NodeError> {
    let any = (Ipv6Addr::UNSPECIFIED, 0).into();
    let (socket, _receiver) = SharedSocket::bind(any, SocketOptions::default())?;
    let key = NodeKey::from_seed(chance::bytes()?);
    let identity = QuicIdentity::from_ed25519_seed(*key.seed())?;
    let endpoint = quic_endpoint(&socket, &identity)?;
    let config = SwarmConfig {
        key,
        relay: None,
        dht: Some(table(seeds, false)),
    };
    let (swarm, _events) = swarm_on(&socket, &endpoint, &identity, config)?;
    let topics = topics_for(query);
    let finding = topics.iter().map(|topic| swarm.find(*topic, ENOUGH, LIMIT));
    let mut found = Vec::new();
    let (mut answered, mut failure) = (false, DhtError::Stopped);
    for of_topic in join_all(finding).await {
        match of_topic {
            Ok(values) => {
                answered = true;
                found.extend(values);
            }
            Err(error) => failure = error,
        }
    }
    // Peers learn at once that we are gone; nobody waits for that here.
    tokio::spawn(async move { endpoint.close().await });
    if !answered {
        return Err(failure.into());
    }
    let read = found.iter().take(MOST).filter_map(|value| {
        let read = SignedProposal::from_bytes(value);
        read.ok()
    });
    Ok(read.collect())
}

/// Brings a proposal to the table; returns how many nodes keep it under the topic where fewest do.
pub(crate) async fn publish(swarm: &Swarm, signed: &SignedProposal) -> Result<usize, DhtError> {
    let value = signed.to_bytes();
    let topics = topics_of(&signed.offer);
    let publishing = topics
        .iter()
        .map(|topic| swarm.publish(*topic, value.clone()));
    let mut least = usize::MAX;
    for kept in join_all(publishing).await {
        least = least.min(kept?);
    }
    Ok(least)
}

/// What verifies, each key once, in the order that the head of this module tells.
fn merge(
    heard: Vec<(Option<usize>, Vec<SignedProposal>)>,
    query: &Query,
    now: u64,
) -> Result<Vec<Proposal>, NodeError> {
    let (mut by_index, mut by_table) = (Vec::new(), Vec::new());
    for (index, found) in heard {
        match index {
            Some(index) => by_index.push((index, found)),
            None => by_table.extend(found),
        }
    }
    by_index.sort_by_key(|(index, _)| *index);
    let mut latest: HashMap<ProposalKey, Proposal> = HashMap::new();
    let mut order: Vec<ProposalKey> = Vec::new();
    let mut take = |signed: SignedProposal, order: &mut Vec<ProposalKey>| {
        // A source may be old or lie; what does not verify is as if it were not there.
        let proposal = match signed.verify(now) {
            Ok(proposal) if query.matches(&proposal) => proposal,
            Ok(_) => return,
            Err(error) => return tracing::debug!(%error, "a proposal does not hold"),
        };
        let key = proposal.key();
        match latest.get(&key) {
            Some(known) if known.sequence >= proposal.sequence => return,
            Some(_) => {}
            None => order.push(key.clone()),
        }
        latest.insert(key, proposal);
    };
    let mut lists: Vec<_> = by_index
        .into_iter()
        .map(|(_, found)| found.into_iter())
        .collect();
    while !lists.is_empty() {
        lists.retain_mut(|list| match list.next() {
            Some(signed) => {
                take(signed, &mut order);
                true
            }
            None => false,
        });
    }
    let mut only_table = Vec::new();
    for signed in by_table {
        take(signed, &mut only_table);
    }
    let mut catalogue = Catalogue::new(Limits::default(), chance::bytes()?);
    for key in &only_table {
        if let Some(proposal) = latest.get(key) {
            // What exceeds one identity's quota is left out, as an index would.
            let _ = catalogue.insert(proposal.clone(), now);
        }
    }
    // An index has stepped over what was to be stepped over.
    let ranked = catalogue.query(query, now);
    order.extend(ranked.into_iter().map(Proposal::key));
    let found = order.into_iter().filter_map(|key| latest.remove(&key));
    Ok(found.take(query.limit.min(MAX_LIMIT)).collect())
}

/// Nobody answered.
fn silence(mut failed: Vec<(String, NodeError)>) -> NodeError {
    if failed.len() == 1
        && let Some((_, error)) = failed.pop()
    {
        return error;
    }
    let told = failed
        .iter()
        .map(|(name, error)| format!("{name}: {error}"));
    NodeError::NoSource(told.collect::<Vec<_>>().join("; "))
}
