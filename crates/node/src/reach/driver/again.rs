//! When the way to a peer is lost: relays are asked anew how they see us, and the peer is called through another one of them. It
//! refuses to call again for a peer that answers.

use std::net::SocketAddr;
use std::time::Duration;

use wayfare_identity::NodeAddress;
use wayfare_nat::{Call, CallError, Opened, Ring};
use wayfare_path::{Answer, Role, Verified};
use wayfare_transport::{Carried, Clock, is_virtual};

use super::super::carriers::Carrier;
use super::super::link::Channel;
use super::Driver;
use super::calls::Called;
use crate::{NodeError, chance};

/// Between calls in vain: 0.5 s, doubled up to six times.
const PAUSE: Duration = Duration::from_millis(500);

/// A call through another relay, for a link that is there.
pub(super) type Recalled = (u64, NodeAddress, Result<Opened, CallError>);

/// What came of a call: that of a new link, or of an old one.
pub(super) enum Came {
    New(Box<Called>),
    Again(Recalled),
}

impl Driver {
    /// The path that a link used is gone: what may have caused it is looked at, and undone if it was the relay.
    pub(super) async fn lost(&mut self, id: u64, stranded: bool) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        // A NAT that forgot us, or another address: the answers tell, and the relay sees where we are now.
        for relay in link.relays.clone() {
            self.ask_plain(relay);
        }
        self.tell(id).await;
        if stranded {
            self.recall(id);
        }
    }

    /// Asks a relay how it sees us, unless a pipe leads there.
    pub(super) fn ask_plain(&mut self, relay: NodeAddress) {
        if !is_virtual(relay.at) && self.carriers.address(relay.node).is_none() {
            self.ask(relay);
        }
    }

    /// The relays that callers of ours know, once each.
    pub(super) fn relays_of_links(&self) -> Vec<NodeAddress> {
        let mut relays: Vec<NodeAddress> = Vec::new();
        for relay in self.links.values().flat_map(|link| &link.relays) {
            if !relays.contains(relay) {
                relays.push(*relay);
            }
        }
        relays
    }

    /// Calls the peer through another relay than the last one, if it is ours to call.
    fn recall(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.recalling || link.relays.is_empty() {
            return;
        }
        link.recalling = true;
        // The first of the list is tried next, and the last one last.
        link.relays.rotate_left(1);
        // An address of a family that this computer does not have leads nowhere.
        let leads = |relay: &NodeAddress| {
            self.carriers.address(relay.node).is_some() || self.socket.reaches(relay.at)
        };
        let (last, first_try) = (link.channel.relay, link.recalls == 0);
        let mut known = link.relays.iter();
        let next = known.position(|it| leads(it) && !(first_try && it.node == last));
        let next = next.or_else(|| link.relays.iter().position(leads));
        link.relays.rotate_left(next.unwrap_or(0));
        let mut relay = link.relays[0];
        let pause = match link.recalls {
            0 => Duration::ZERO,
            vain => PAUSE * (1 << vain.min(6)),
        };
        if let Some(pipe) = self.carriers.address(relay.node) {
            relay.at = pipe;
        }
        let ours = self.place.description(link.ephemeral);
        let offer = link.word(&self.key, &ours);
        let (peer, swarm) = (link.peer, self.swarm.clone());
        let also = self.elsewhere.of(relay);
        let Ok(number) = chance::bytes() else {
            link.recalling = false;
            return;
        };
        // Should the number be somebody's, the next call has another one.
        let call = Call {
            also,
            ..Call::new(peer, u32::from_be_bytes(number), offer)
        };
        tracing::debug!("a peer is called again, through another relay");
        self.calls.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            Came::Again((id, relay, swarm.call(relay, call).await))
        }));
    }

    /// What came of it.
    pub(super) async fn recalled(&mut self, (id, relay, opened): Recalled) {
        if let Some(link) = self.links.get_mut(&id) {
            link.recalling = false;
            link.recalls = link.recalls.saturating_add(1);
            let still = !link
                .finder
                .selected()
                .is_some_and(|(_, _, tier)| tier.is_direct());
            match self.taken_again(id, relay, opened) {
                Ok(()) => tracing::info!("the peer is reached through another relay"),
                Err(error) => {
                    tracing::debug!(%error, "a peer was called again in vain");
                    if still {
                        self.recall(id);
                    }
                }
            }
        }
        self.drive(id).await;
    }

    fn taken_again(
        &mut self,
        id: u64,
        relay: NodeAddress,
        opened: Result<Opened, CallError>,
    ) -> Result<(), NodeError> {
        let opened = opened?;
        let us = self.key.id();
        let Some(link) = self.links.get_mut(&id) else {
            return Ok(());
        };
        Answer::from_bytes(&opened.answer)
            .and_then(|answer| answer.verify(link.peer, us, link.attempt))?;
        link.hear(&opened.answer, us, Some(opened.seen));
        let carried = self.open_relayed(opened.relay, opened.channel)?;
        let channel = Channel {
            relay: relay.node,
            number: opened.channel,
        };
        self.move_link(id, channel, (opened.relay, carried));
        Ok(())
    }

    /// A caller that has a link already: it calls through another relay.
    pub(super) fn answer_again(
        &mut self,
        ring: &Ring,
        theirs: &Verified,
    ) -> Option<Result<Vec<u8>, NodeError>> {
        let same = |link: &super::Link| {
            link.finder.role() == Role::Callee
                && link.peer == theirs.peer()
                && link.attempt == theirs.attempt()
        };
        let id = *self.links.iter().find(|(_, link)| same(link))?.0;
        Some(self.move_callee(id, ring))
    }

    fn move_callee(&mut self, id: u64, ring: &Ring) -> Result<Vec<u8>, NodeError> {
        let us = self.key.id();
        let carried = self.open_relayed(ring.relay.at, ring.channel)?;
        let channel = Channel {
            relay: ring.relay.node,
            number: ring.channel,
        };
        let mut word = Vec::new();
        if let Some(link) = self.links.get_mut(&id) {
            link.hear(&ring.offer, us, Some(ring.seen));
            link.heard_at = Clock::now();
            word = link.word(&self.key, &self.place.description(link.ephemeral));
        }
        self.move_link(id, channel, (ring.relay.at, carried));
        self.note_due(id, Clock::now());
        Ok(word)
    }

    fn move_link(&mut self, id: u64, channel: Channel, (relay, carried): (SocketAddr, Carried)) {
        let carrier: Carrier = self.carriers.carrier(relay);
        if let Some(link) = self.links.get_mut(&id) {
            self.by_channel.remove(&link.channel);
            link.move_to(channel, (carried, carrier, relay));
            self.by_channel.insert(channel, id);
        }
    }

    pub(super) fn open_relayed(
        &self,
        relay: SocketAddr,
        channel: u32,
    ) -> Result<Carried, NodeError> {
        self.socket
            .open_relayed(relay, channel)
            .map_err(|error| NodeError::Setting(format!("the relayed path: {error}")))
    }
}
