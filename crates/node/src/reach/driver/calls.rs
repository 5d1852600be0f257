//! Calls to peers: looking around first, one relay after the other, and the link that comes of it. It refuses to call again for a
//! link that is there already.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use wayfare_identity::{NodeAddress, NodeId};
use wayfare_nat::{CallError, Opened, Sight};
use wayfare_path::{Answer, Attempt, Description, Ephemeral, Offer, Role};
use wayfare_transport::Clock;

use super::super::link::Channel;
use super::again::Came;
use super::{Driver, Reply, one_of_each};
use crate::{NodeError, chance};

/// How long a caller waits for those who see it before it tells its peer where it is: twice a long round trip.
const LOOK_AROUND: Duration = Duration::from_millis(400);
/// As before, when no relay answers over plain UDP: until pipes stand, or cannot be opened.
const LOOK_FURTHER: Duration = Duration::from_secs(10);
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
    /// No relay has answered in the usual time.
    patient: bool,
    /// What the offer says of us.
    offered: Option<Description>,
    reply: Reply,
}

/// What came of a call through this relay.
pub(super) type Called = (Calling, NodeAddress, Result<Opened, CallError>);

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
        node: NodeId,
        relays: Vec<NodeAddress>,
        reply: Reply,
    ) {
        let made = chance::bytes::<16>().and_then(|attempt| Ok((attempt, chance::bytes()?)));
        let (attempt, seed) = match made {
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
            patient: false,
            offered: None,
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
            let _ = calling.reply.send(Err(NodeError::NoProposal));
            return;
        };
        if let Some(pipe) = self.carriers.address(relay.node) {
            relay.at = pipe;
        }
        let ours = self.place.description(calling.ephemeral.public());
        let offer = Offer::sign(&self.key, calling.node, calling.attempt, 0, &ours).to_bytes();
        calling.offered = Some(ours);
        let also = self.elsewhere.of(relay);
        let swarm = self.swarm.clone();
        self.calls.push(Box::pin(async move {
            let opened = swarm.call(relay, calling.node, also, offer).await;
            Came::New(Box::new((calling, relay, opened)))
        }));
    }

    pub(super) async fn called(&mut self, (calling, relay, opened): Called) {
        match self.linked(&calling, relay, opened).await {
            Ok(link) => {
                if calling.reply.send(Ok(link)).is_err() {
                    tracing::debug!("nobody waits for a link any more");
                }
            }
            // Another relay may do better.
            Err(error) if !calling.relays.is_empty() => {
                tracing::debug!(%error, "the next relay is called");
                self.call(calling);
            }
            Err(error) => {
                let _ = calling.reply.send(Err(error));
            }
        }
    }

    async fn linked(
        &mut self,
        calling: &Calling,
        relay: NodeAddress,
        opened: Result<Opened, CallError>,
    ) -> Result<super::super::Link, NodeError> {
        let opened = opened?;
        let theirs = Answer::from_bytes(&opened.answer)
            .and_then(|answer| answer.verify(calling.node, self.key.id(), calling.attempt))?;
        let carried = self.open_relayed(opened.relay, opened.channel)?;
        let channel = Channel {
            relay: relay.node,
            number: opened.channel,
        };
        let ephemeral = &calling.ephemeral;
        let way = (channel, opened.relay, carried);
        let (id, path) = self.link(Role::Caller, ephemeral, theirs, opened.seen, way)?;
        let link = self.links.get_mut(&id).ok_or(NodeError::NoProposal)?;
        link.relays.clone_from(&calling.all);
        let us = self.key.id();
        for (word, seen) in self.early.take(channel) {
            link.hear(&word, us, seen);
        }
        let relay = link.relay_in_use();
        // What we learned of ourselves since the offer was sent.
        if calling.offered.as_ref() != Some(&self.place.description(calling.ephemeral.public())) {
            self.tell(id).await;
        }
        let (closer, closed) = oneshot::channel();
        self.closed
            .push(Box::pin(async move { (id, closed.await.ok()) }));
        Ok(super::super::Link {
            path,
            relay,
            closer,
        })
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
