//! Outgoing: packets to be sealed, initiations, keepalives, and the queue that waits for keys.
//! It refuses to let a packet wait without a handshake under way.

use std::time::{Duration, Instant};

use super::{DropReason, Endpoint, PeerId, Sealed, Transmit};
use crate::keypair::{REKEY_AFTER_MESSAGES, Role, padding_for};
use crate::message::OVERHEAD;
use crate::packet::IpPacket;
use crate::peer::{Peer, Pending};
use crate::timers::{REKEY_AFTER_TIME, REKEY_TIMEOUT, RETRY_JITTER_MS, elapsed};

impl Endpoint {
    /// Seals an IP packet for whichever peer owns its destination. `into` should hold
    /// `packet.len()` + 15 (padding) + [`OVERHEAD`] bytes.
    pub fn seal(&mut self, packet: &[u8], now: Instant, into: &mut [u8]) -> Sealed {
        let Ok(packet) = IpPacket::parse(packet) else {
            return Sealed::Dropped(DropReason::NotIp);
        };
        let Some(id) = self.routes.owner_of(packet.destination()) else {
            return Sealed::Dropped(DropReason::NoRoute);
        };
        self.seal_parsed(id, packet, now, into)
    }

    /// Seals an IP packet for a given peer, whatever its destination.
    pub fn seal_to(
        &mut self,
        peer: PeerId,
        packet: &[u8],
        now: Instant,
        into: &mut [u8],
    ) -> Sealed {
        match IpPacket::parse(packet) {
            Ok(packet) => self.seal_parsed(peer, packet, now, into),
            Err(_) => Sealed::Dropped(DropReason::NotIp),
        }
    }

    /// Starts a handshake now, also to replace keys that are still good. Returns whether one is under way: not without
    /// an address. An initiation already in flight to the same address is not repeated (its timer does that).
    pub fn initiate(&mut self, peer: PeerId, now: Instant) -> bool {
        let Some(state) = self.peers.get(&peer) else {
            return false;
        };
        if state
            .pending
            .as_ref()
            .is_some_and(|pending| Some(pending.to) == state.address)
        {
            return true;
        }
        self.send_initiation(peer, now, now)
    }

    fn seal_parsed(
        &mut self,
        id: PeerId,
        packet: IpPacket<'_>,
        now: Instant,
        into: &mut [u8],
    ) -> Sealed {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Sealed::Dropped(DropReason::UnknownPeer);
        };
        let Some(to) = peer.address else {
            return Sealed::Dropped(DropReason::NoEndpoint);
        };
        let Some(pair) = peer
            .pairs
            .current
            .as_mut()
            .filter(|pair| pair.can_send(now))
        else {
            return self.enqueue(id, packet.as_bytes(), now);
        };
        let bytes = packet.as_bytes();
        let padding = padding_for(bytes.len(), self.config.mtu);
        if into.len() < bytes.len() + padding + OVERHEAD {
            return Sealed::Dropped(DropReason::BufferTooSmall);
        }
        let Some(len) = pair.seal(bytes, padding, into) else {
            return Sealed::Dropped(DropReason::KeyExpired);
        };
        peer.note_sent_packet(bytes.len(), now);
        self.agenda.keep(id, &mut peer.timers);
        self.rekey_if_due(id, now);
        Sealed::Datagram { peer: id, to, len }
    }

    /// Keeps a packet until there are keys; the oldest goes when the queue is full.
    fn enqueue(&mut self, id: PeerId, bytes: &[u8], now: Instant) -> Sealed {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Sealed::Dropped(DropReason::UnknownPeer);
        };
        while peer.queue.len() >= self.config.max_queued_packets.max(1) {
            self.queued_bytes -= peer.queue.pop_front().map_or(0, |oldest| oldest.len());
        }
        let fits = self.queued_bytes + bytes.len() <= self.config.max_queued_bytes;
        if fits {
            self.queued_bytes += bytes.len();
            peer.queue.push_back(bytes.to_vec());
        }
        if peer.pending.is_none() && !self.send_initiation(id, now, now) {
            return Sealed::Dropped(DropReason::NoEndpoint);
        }
        if fits {
            Sealed::Queued { peer: id }
        } else {
            Sealed::Dropped(DropReason::Full)
        }
    }

    /// The sender's side of renewal: by age if we initiated the keys, by count in any case.
    pub(super) fn rekey_if_due(&mut self, id: PeerId, now: Instant) {
        let limit = self.config.rekey_after.min(REKEY_AFTER_TIME);
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let Some(pair) = &peer.pairs.current else {
            return;
        };
        let by_age = pair.role == Role::Initiator && elapsed(pair.born, now) >= limit;
        let by_count = pair.next_counter > REKEY_AFTER_MESSAGES;
        if by_age || by_count {
            self.rekey(id, now);
        }
    }

    /// Renews keys unless a handshake is under way or was tried within the last five seconds.
    pub(super) fn rekey(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let too_soon = peer
            .last_initiation
            .is_some_and(|last| elapsed(last, now) < REKEY_TIMEOUT);
        if peer.pending.is_none() && !too_soon {
            self.send_initiation(id, now, now);
        }
    }

    /// Sends an initiation that belongs to the row of attempts begun at `since`. `false` if there is no address (or,
    /// with no practical chance, no free index).
    pub(super) fn send_initiation(&mut self, id: PeerId, since: Instant, now: Instant) -> bool {
        if self
            .peers
            .get(&id)
            .is_none_or(|peer| peer.address.is_none())
        {
            return false;
        }
        let Some(index) = self.take_index(id) else {
            return false;
        };
        let jitter = Duration::from_millis(u64::from(self.chance.draw_u32() % RETRY_JITTER_MS));
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let Some(to) = peer.address else { return false };
        if let Some(old) = peer.pending.take() {
            self.indices.remove(&old.index);
        }
        let stamp = self.clock.stamp(now, peer.last_sent);
        peer.last_sent = Some(stamp);
        peer.last_initiation = Some(now);
        peer.jitter = jitter;
        peer.timers.retry = Some(now + REKEY_TIMEOUT + jitter);
        let made = self
            .local
            .initiate(&peer.public_key, &peer.psk, index, stamp, &mut self.chance);
        let Ok((state, mut payload)) = made else {
            // The peer's key is a point of low order: nobody can ever answer. The attempts run out by themselves.
            self.indices.remove(&index);
            peer.timers.retry = None;
            return false;
        };
        peer.cookies.seal(&mut payload, &peer.macs, now);
        peer.pending = Some(Box::new(Pending {
            state,
            index,
            to,
            sent: now,
            since,
        }));
        peer.timers.sent(now, peer.persistent);
        self.agenda.keep(id, &mut peer.timers);
        self.transmit(Transmit {
            peer: Some(id),
            to,
            payload,
        });
        true
    }

    /// Sends what waited for keys, or a keepalive if nothing did and `or_keepalive` asks for one.
    pub(super) fn flush(&mut self, id: PeerId, now: Instant, or_keepalive: bool) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(to) = peer.address else { return };
        let nothing_waits = peer.queue.is_empty();
        while let Some(packet) = peer.queue.pop_front() {
            self.queued_bytes -= packet.len();
            if let Some(payload) = peer.seal_owned(&packet, self.config.mtu, now) {
                // Already bounded by `max_queued_packets` and `max_queued_bytes`.
                self.transmits.push_back(Transmit {
                    peer: Some(id),
                    to,
                    payload,
                });
                peer.note_sent_packet(packet.len(), now);
            }
        }
        if nothing_waits && or_keepalive {
            self.send_keepalive(id, now);
            return;
        }
        self.agenda.keep(id, &mut peer.timers);
    }

    /// Sends an empty packet; starts a handshake if there are no keys for it.
    pub(super) fn send_keepalive(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(to) = peer.address else { return };
        match peer.seal_owned(&[], self.config.mtu, now) {
            Some(payload) => {
                peer.timers.sent(now, peer.persistent);
                self.agenda.keep(id, &mut peer.timers);
                self.transmit(Transmit {
                    peer: Some(id),
                    to,
                    payload,
                });
                self.rekey_if_due(id, now);
            }
            None if peer.pending.is_none() => {
                self.send_initiation(id, now, now);
            }
            None => {}
        }
    }
}

impl Peer {
    fn seal_owned(&mut self, packet: &[u8], mtu: usize, now: Instant) -> Option<Vec<u8>> {
        let pair = self
            .pairs
            .current
            .as_mut()
            .filter(|pair| pair.can_send(now))?;
        let padding = padding_for(packet.len(), mtu);
        let mut payload = vec![0; packet.len() + padding + OVERHEAD];
        pair.seal(packet, padding, &mut payload)?;
        Some(payload)
    }

    fn note_sent_packet(&mut self, len: usize, now: Instant) {
        self.stats.tx_packets += 1;
        self.stats.tx_bytes += len as u64;
        self.timers.sent(now, self.persistent);
        self.timers.sent_packet(now, self.jitter);
    }
}
