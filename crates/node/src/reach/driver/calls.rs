//! Calls to peers: looking around first, one relay after the other, and the link that comes of it. Who calls dials its peer at the
//! same time: the first flight of that handshake rides in the call. It refuses to call again for a link that is there already.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;
use wayfare_identity::{NodeAddress, NodeId};
use wayfare_nat::{Call, CallError, Elsewhere, Opened, Sight, Swarm};
use wayfare_path::{Answer, Attempt, Description, Ephemeral, Offer, Role, Verified};
use wayfare_transport::{Carried, Clock};

use super::super::link::Channel;
use super::again::Came;
use super::{Driver, Reply, one_of_each};
use crate::{NodeError, chance};

/// How long a caller waits for those who see it before it tells its peer where it is: twice a long round trip.
const LOOK_AROUND: Duration = Duration::from_millis(400);
/// Relays that must have answered to tell a NAT's kind.
const ENOUGH: usize = 2;
/// As before, when no relay answers over plain UDP: until pipes stand, or cannot be opened.
const LOOK_FURTHER: Duration = Duration::from_secs(10);
/// A call waits for what is to go along with it no longer than this: the round trip that it saves. A key exchange begins within a
/// few ms, on a busy computer within some dozens.
const FLIGHT: Duration = Duration::from_millis(150);
/// Numbers of channels that are tried at one relay: of 2^32 it has given ten thousand away at most.
const NUMBERS: usize = 3;
/// Words of peers that wait for the link they belong to: 16 of 2 KiB.
const MOST_EARLY: usize = 16;

/// A call that is under way.
pub(super) struct Calling {
    node: NodeId,
    attempt: Attempt,
    ephemeral: Ephemeral,
    /// Relays not tried yet, the best last.
    relays: Vec<NodeAddress>,
    /// All of them.
    all: Vec<NodeAddress>,
    began: Instant,
    /// No relay has answered in the usual time.
    patient: bool,
    /// What the offer says of us.
    offered: Option<Description>,
    /// Where the peer will be; held until a relay is called.
    carried: Carried,
    /// Who hears where that is when a relay is called.
    begun: Option<oneshot::Sender<SocketAddr>>,
    /// What was sent there first.
    first: Vec<Vec<u8>>,
    reply: Reply,
}

impl Calling {
    /// Nothing is left of it when this is told.
    fn fail(self, error: NodeError) {
        drop(self.carried);
        let _ = self.reply.send(Err(error));
    }

    /// Calls the peer through this relay. Frames of the channel are heard from when the relay has the call.
    async fn through(
        &mut self,
        swarm: &Swarm,
        relay: NodeAddress,
        also: Option<Elsewhere>,
        offer: Vec<u8>,
    ) -> Result<Opened, NodeError> {
        let flight = timeout(FLIGHT, self.carried.first_flight()).await;
        self.first = flight.unwrap_or_default();
        let mut taken = CallError::Taken { relay };
        for _ in 0..NUMBERS {
            let channel = u32::from_be_bytes(chance::bytes()?);
            let (begun, at) = oneshot::channel();
            let call = Call {
                also,
                first: self.first.clone(),
                begun: Some(begun),
                ..Call::new(self.node, channel, offer.clone())
            };
            let mut opened = std::pin::pin!(swarm.call(relay, call));
            let opened = tokio::select! {
                opened = &mut opened => opened,
                Ok(at) = at => {
                    if let Err(error) = self.carried.lead(at, channel) {
                        tracing::debug!(%error, "a channel is not heard before it is open");
                    }
                    opened.await
                }
            };
            match opened {
                Err(error @ CallError::Taken { .. }) => taken = error,
                opened => return Ok(opened?),
            }
        }
        Err(taken.into())
    }
}

/// What came of a call through this relay.
pub(super) type Called = (Calling, NodeAddress, Result<Opened, NodeError>);

/// A peer may say more before the reply to our call is here: its words come on other streams.
#[derive(Default)]
pub(super) struct Early(VecDeque<(Channel, Vec<u8>, Option<Sight>)>);

impl Early {
    fn take(&mut self, channel: Channel) -> Vec<(Vec<u8>, Option<Sight>)> {
        let of_it = self.0.iter().filter(|(of, ..)| *of == channel);
        let words = of_it.map(|(_, word, seen)| (word.clone(), *seen)).collect();
        self.0.retain(|(of, ..)| *of != channel);
        words
    }
}

impl Driver {
    /// Asks the relays how they see us, and lets the swarm connect to them meanwhile.
    pub(super) async fn look_around(
        &mut self,
        (node, relays): (NodeId, Vec<NodeAddress>),
        begun: oneshot::Sender<SocketAddr>,
        reply: Reply,
    ) {
        let made = || {
            let held = self.socket.open_held();
            let carried = held.map_err(|error| NodeError::Setting(format!("the way: {error}")))?;
            Ok((chance::bytes::<16>()?, chance::bytes()?, carried))
        };
        let (attempt, seed, carried) = match made() {
            Ok(made) => made,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        self.seen_by.clear();
        let all = relays.clone();
        let relays = self.within_reach(relays);
        for relay in &relays {
            self.depths.measure(relay.at);
            // A pipe that stands is used as long as it does.
            if self.carriers.address(relay.node).is_none() {
                self.ask(*relay);
            }
        }
        for relay in one_of_each(&relays) {
            if self.carriers.address(relay.node).is_none() {
                self.carriers.watch(relay, false, Clock::now());
                self.swarm.dial(relay).await;
            }
        }
        let calling = Calling {
            node,
            attempt: Attempt(attempt),
            ephemeral: Ephemeral::from_seed(seed),
            all,
            relays,
            began: Clock::now(),
            patient: false,
            offered: None,
            carried,
            begun: Some(begun),
            first: Vec::new(),
            reply,
        };
        self.looking.push((Clock::now() + LOOK_AROUND, calling));
        self.call_those_who_looked();
    }

    /// Those to which there is a way from here: an address of a family that this computer does not have is none. Where there is a
    /// way to none of them, all: the error tells then.
    fn within_reach(&self, relays: Vec<NodeAddress>) -> Vec<NodeAddress> {
        let reached = |relay: &&NodeAddress| self.socket.reaches(relay.at);
        let within: Vec<NodeAddress> = relays.iter().filter(reached).copied().collect();
        match within.is_empty() {
            true => relays,
            false => within,
        }
    }

    /// Calls begin when all relays can be reached, or time is up and one can; the relay that answered first over plain UDP is
    /// called first, and those behind pipes last.
    pub(super) fn call_those_who_looked(&mut self) {
        let now = Clock::now();
        let mut waiting = Vec::new();
        for (until, mut calling) in std::mem::take(&mut self.looking) {
            let by_pipe = |relay: &NodeAddress| self.carriers.address(relay.node);
            let reached =
                |relay: &&NodeAddress| self.seen_by.contains(&relay.at) || by_pipe(relay).is_some();
            let count = calling.relays.iter().filter(reached).count();
            let mut until = until;
            // What two have seen of us is enough: a third one is waited for as long again.
            let by = calling.relays.iter().filter(reached).map(|it| it.node);
            if by.collect::<BTreeSet<_>>().len() >= ENOUGH {
                until = until.min(now + now.saturating_duration_since(calling.began));
            }
            if count == 0 && !calling.patient && now >= until {
                calling.patient = true;
                until = now + LOOK_FURTHER;
            }
            let in_time = !calling.patient && now < until;
            let hopeless = |relay: &NodeAddress| self.carriers.is_hopeless(relay.node);
            let over = now >= until || calling.relays.iter().all(hopeless);
            let waits = match count {
                0 => in_time || !over,
                some => some < calling.relays.len() && in_time,
            };
            if waits {
                waiting.push((until, calling));
                continue;
            }
            let order = |relay: &NodeAddress| {
                let answered = self.seen_by.iter().position(|by| *by == relay.at);
                answered.unwrap_or(usize::MAX - usize::from(by_pipe(relay).is_some()))
            };
            calling
                .relays
                .sort_by_key(|relay| std::cmp::Reverse(order(relay)));
            self.call(calling);
        }
        self.looking = waiting;
    }

    fn call(&mut self, mut calling: Calling) {
        let Some(mut relay) = calling.relays.pop() else {
            return calling.fail(NodeError::NoProposal);
        };
        if let Some(pipe) = self.carriers.address(relay.node) {
            relay.at = pipe;
        }
        let ours = self.place.description(calling.ephemeral.public());
        let offer = Offer::sign(&self.key, calling.node, calling.attempt, 0, &ours).to_bytes();
        calling.offered = Some(ours);
        let also = self.elsewhere.of(relay);
        let swarm = self.swarm.clone();
        if let Some(begun) = calling.begun.take() {
            // Who has gone meanwhile does not wait for the reply either.
            let _ = begun.send(calling.carried.address());
        }
        self.calls.push(Box::pin(async move {
            let opened = calling.through(&swarm, relay, also, offer).await;
            Came::New(Box::new((calling, relay, opened)))
        }));
    }

    pub(super) async fn called(&mut self, (calling, relay, opened): Called) {
        match self.answered(&calling, opened) {
            Ok((opened, theirs)) => {
                let (link, reply) = self.linked(calling, relay, &opened, theirs).await;
                if reply.send(link).is_err() {
                    tracing::debug!("nobody waits for a link any more");
                }
            }
            // Another relay may do better.
            Err(error) if !calling.relays.is_empty() => {
                tracing::debug!(%error, "the next relay is called");
                self.call(calling);
            }
            Err(error) => calling.fail(error),
        }
    }

    /// What the peer said to a call, if the relay brought it.
    fn answered(
        &self,
        calling: &Calling,
        opened: Result<Opened, NodeError>,
    ) -> Result<(Opened, Verified), NodeError> {
        let opened = opened?;
        let theirs = Answer::from_bytes(&opened.answer)
            .and_then(|answer| answer.verify(calling.node, self.key.id(), calling.attempt))?;
        // The relay may be elsewhere than it was when the call began.
        let led = calling.carried.lead(opened.relay, opened.channel);
        led.map_err(|error| NodeError::Setting(format!("the relayed path: {error}")))?;
        Ok((opened, theirs))
    }

    async fn linked(
        &mut self,
        calling: Calling,
        relay: NodeAddress,
        opened: &Opened,
        theirs: Verified,
    ) -> (Result<super::super::Link, NodeError>, Reply) {
        let Calling {
            ephemeral,
            all,
            offered,
            carried,
            first,
            reply,
            ..
        } = calling;
        // The relay has counted them, too.
        carried.count_sent(first.iter().map(Vec::as_slice));
        let channel = Channel {
            relay: relay.node,
            number: opened.channel,
        };
        let way = (channel, opened.relay, carried);
        let (id, path) = match self.link(Role::Caller, &ephemeral, theirs, opened.seen, way) {
            Ok(linked) => linked,
            Err(error) => return (Err(error), reply),
        };
        let Some(link) = self.links.get_mut(&id) else {
            return (Err(NodeError::NoProposal), reply);
        };
        link.relays = all;
        let us = self.key.id();
        for (word, seen) in self.early.take(channel) {
            link.hear(&word, us, seen);
        }
        let relay = link.relay_in_use();
        // What we learned of ourselves since the offer was sent; how deep we lie is of use to us alone.
        let ours = self.place.description(ephemeral.public());
        if offered.is_none_or(|told| ours.with_depth(told.depth) != told) {
            self.tell(id).await;
        }
        let (closer, closed) = oneshot::channel();
        self.closed
            .push(Box::pin(async move { (id, closed.await.ok()) }));
        let link = super::super::Link {
            path,
            relay,
            closer,
        };
        (Ok(link), reply)
    }

    /// A word on a channel that belongs to no link yet.
    pub(super) fn heard_early(&mut self, channel: Channel, word: Vec<u8>, seen: Option<Sight>) {
        if self.calls.is_empty() {
            return;
        }
        self.early.0.truncate(MOST_EARLY - 1);
        self.early.0.push_front((channel, word, seen));
    }
}

#[cfg(test)]
mod tests;
