//! Incoming: from untrusted bytes to an inner packet, a handshake step, or silence.
//! It refuses to change anything, or to answer anything, before a message is authenticated. The one exception, the
//! cookie reply under load, is smaller than what it answers and needs no state.

use std::net::SocketAddr;
use std::time::Instant;

use super::{DropReason, Endpoint, Event, PeerId, Received, Transmit};
use crate::handshake;
use crate::keypair::Unopened;
use crate::message::{MessageKind, TRANSPORT_HEADER, classify, counter_of, index_at};
use crate::packet::IpPacket;
use crate::peer::Place;

impl Endpoint {
    /// Takes one datagram of any content and length. Packets are decrypted in place.
    pub fn handle_datagram<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Received<'a> {
        let outcome = match classify(datagram) {
            None => Err(DropReason::NotAMessage),
            Some(MessageKind::Transport) => self.on_transport(from, datagram, now),
            Some(MessageKind::Initiation) => self.on_initiation(from, datagram, now),
            Some(MessageKind::Response) => self.on_response(from, datagram, now),
            Some(MessageKind::Cookie) => self.on_cookie(datagram, now),
        };
        outcome.unwrap_or_else(Received::Dropped)
    }

    fn on_transport<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Result<Received<'a>, DropReason> {
        let (index, counter) = (index_at(datagram, 4), counter_of(datagram));
        let id = *self.indices.get(&index).ok_or(DropReason::UnknownIndex)?;
        let peer = self.peers.get_mut(&id).ok_or(DropReason::UnknownIndex)?;
        let (place, pair) = peer.pairs.find(index).ok_or(DropReason::UnknownIndex)?;
        let (plain, is_newest) = pair
            .open(counter, &mut datagram[TRANSPORT_HEADER..], now)
            .map_err(|why| match why {
                Unopened::Expired => DropReason::KeyExpired,
                Unopened::Replayed => DropReason::Replayed,
                Unopened::Forged => DropReason::Forged,
            })?;
        let ask_late = pair.asks_late(now);
        pair.asked_late |= ask_late;
        // Authenticated from here on. Only the newest packet moves the peer: one that was overtaken, by younger keys
        // too, comes from where the peer was (or from who held it back), not from where it is.
        let is_newest = is_newest && (place != Place::Previous || !peer.pairs.current_was_heard());
        let is_newest = is_newest && !peer.pinned;
        let moved_from = peer.address.filter(|known| is_newest && *known != from);
        if is_newest {
            peer.address = Some(from);
        }
        let mut begins = peer.timers.received(now, peer.persistent);
        let packet = if plain.is_empty() {
            None
        } else {
            begins |= peer.timers.received_packet(now);
            Some(IpPacket::parse(plain))
        };
        if begins {
            self.agenda.keep(id, &mut peer.timers);
        }
        if let Some(old) = moved_from {
            self.tell(Event::Roamed {
                peer: id,
                from: old,
                to: from,
            });
        }
        if place == Place::Next {
            self.confirm(id, now);
        }
        if ask_late && place != Place::Previous {
            self.rekey(id, now);
        }
        match packet {
            None => Ok(Received::Keepalive { peer: id }),
            Some(Ok(packet)) => self.accept_inner(id, packet),
            Some(Err(_)) => Err(DropReason::NotIp),
        }
    }

    /// The source of an inner packet must be an address that is its sender's and nobody else's.
    fn accept_inner<'a>(
        &mut self,
        id: PeerId,
        packet: IpPacket<'a>,
    ) -> Result<Received<'a>, DropReason> {
        if self.routes.owner_of(packet.source()) != Some(id) {
            return Err(DropReason::SpoofedSource);
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.stats.rx_packets += 1;
            peer.stats.rx_bytes += packet.total_length() as u64;
        }
        Ok(Received::Packet {
            peer: id,
            packet: packet.as_bytes(),
        })
    }

    fn on_initiation(
        &mut self,
        from: SocketAddr,
        message: &[u8],
        now: Instant,
    ) -> Result<Received<'static>, DropReason> {
        let call = self.open_call(from, message, now)?;
        self.try_answer(call, now)
    }

    fn on_response(
        &mut self,
        from: SocketAddr,
        message: &[u8],
        now: Instant,
    ) -> Result<Received<'static>, DropReason> {
        self.admit(from, message, now)?;
        let index = index_at(message, 8);
        let id = *self.indices.get(&index).ok_or(DropReason::UnknownIndex)?;
        let peer = self.peers.get_mut(&id).ok_or(DropReason::UnknownIndex)?;
        let pending = peer
            .pending
            .as_mut()
            .filter(|pending| pending.index == index)
            .ok_or(DropReason::UnknownIndex)?;
        let pair = handshake::open_response(&mut pending.state, message, index, now)
            .map_err(|_| DropReason::BadHandshake)?;
        peer.pending = None;
        let had_keys = peer
            .pairs
            .current
            .as_ref()
            .is_some_and(|current| current.is_alive(now));
        if let Some(fallen) = peer.pairs.install(Box::new(pair)) {
            self.indices.remove(&fallen.local_index);
        }
        peer.timers.retry = None;
        peer.timers.received(now, peer.persistent);
        self.keyed(id, had_keys, now);
        // The responder may only use the keys once we did: say something at once.
        self.flush(id, now, true);
        Ok(Received::Handshake { peer: id })
    }

    fn on_cookie(&mut self, message: &[u8], now: Instant) -> Result<Received<'static>, DropReason> {
        let index = index_at(message, 4);
        let id = *self.indices.get(&index).ok_or(DropReason::UnknownIndex)?;
        let peer = self.peers.get_mut(&id).ok_or(DropReason::UnknownIndex)?;
        // Neither roams nor retries: a cookie reply is authenticated by nothing but our own last message, and the
        // retry timer is what keeps two loaded ends from chasing each other.
        if !peer.cookies.accept(message, &peer.macs, now) {
            return Err(DropReason::BadCookie);
        }
        Ok(Received::Handshake { peer: id })
    }

    /// The cheap proofs, before any x25519: MAC1 always; under load also MAC2, and then the source's own allowance.
    pub(super) fn admit(
        &mut self,
        from: SocketAddr,
        message: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        if !self.local.macs.mac1_is_right(message) {
            return Err(DropReason::BadMac1);
        }
        if !self.load.note(now) {
            return Ok(());
        }
        if !self.mint.mac2_is_right(message, from, now) {
            if self.transmits.len() >= self.config.max_transmits {
                return Err(DropReason::Full);
            }
            let payload = self
                .mint
                .reply(message, from, &self.local.macs, now, &mut self.chance);
            self.transmit(Transmit {
                peer: None,
                to: from,
                payload,
            });
            return Err(DropReason::CookieDemanded);
        }
        if !self.limiter.admit(from, now) {
            return Err(DropReason::RateLimited);
        }
        Ok(())
    }

    /// The responder's keys were used by the initiator: they are the ones from now on.
    fn confirm(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let had_keys = peer
            .pairs
            .current
            .as_ref()
            .is_some_and(|current| current.is_alive(now));
        if let Some(fallen) = peer.pairs.confirm(self.local.public < peer.public_key) {
            self.indices.remove(&fallen.local_index);
        }
        self.keyed(id, had_keys, now);
        self.flush(id, now, false);
    }

    fn keyed(&mut self, id: PeerId, had_keys: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.timers.keyed(now);
        peer.stats.last_handshake = Some(now);
        self.agenda.keep(id, &mut peer.timers);
        self.tell(if had_keys {
            Event::Rekeyed { peer: id }
        } else {
            Event::Established { peer: id }
        });
    }
}
