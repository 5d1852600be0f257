//! Outgoing: packets to be sealed, initiations, keepalives, and the queue that waits for keys.
//! It refuses to let a packet wait without a handshake under way.

use std::time::{Duration, Instant};

use super::{DropReason, Endpoint, PeerId, Sealed, Transmit};
use crate::keypair::{PADDING, padding_for};
#[cfg(doc)]
use crate::message::TAG;
use crate::message::{OVERHEAD, TRANSPORT_HEADER};
use crate::packet::IpPacket;
use crate::peer::{Peer, Pending};
use crate::timers::{REKEY_TIMEOUT, RETRY_JITTER_MS, elapsed};

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

    /// Starts a handshake anew, in the place of one in flight: for whoever knows sooner than its timer that it was in vain.
    pub fn initiate_again(&mut self, peer: PeerId, now: Instant) -> bool {
        self.send_initiation(peer, now, now)
    }

    /// Seals an IP packet of `length` bytes where it lies, for whichever peer owns its destination. `frame` becomes the
    /// datagram, whole: [`TRANSPORT_HEADER`] bytes of room, the packet, at most 15 zeroes of padding, [`TAG`] bytes of room.
    pub fn seal_in_place(&mut self, frame: &mut [u8], length: usize, now: Instant) -> Sealed {
        let Some(packet) = packet_in(frame, length) else {
            return Sealed::Dropped(DropReason::NotIp);
        };
        let Some(id) = self.routes.owner_of(packet.destination()) else {
            return Sealed::Dropped(DropReason::NoRoute);
        };
        self.seal_frame(id, frame, length, now)
    }

    /// As [`Self::seal_in_place`] for a given peer, whatever the packet's destination.
    pub fn seal_to_in_place(
        &mut self,
        peer: PeerId,
        frame: &mut [u8],
        length: usize,
        now: Instant,
    ) -> Sealed {
        if packet_in(frame, length).is_none() {
            return Sealed::Dropped(DropReason::NotIp);
        }
        self.seal_frame(peer, frame, length, now)
    }

    fn seal_parsed(
        &mut self,
        id: PeerId,
        packet: IpPacket<'_>,
        now: Instant,
        into: &mut [u8],
    ) -> Sealed {
        let bytes = packet.as_bytes();
        let padding = padding_for(bytes.len(), self.config.mtu);
        let framed = bytes.len() + padding + OVERHEAD;
        let Some(frame) = into.get_mut(..framed) else {
            return Sealed::Dropped(DropReason::BufferTooSmall);
        };
        let (content, rest) = frame[TRANSPORT_HEADER..].split_at_mut(bytes.len());
        content.copy_from_slice(bytes);
        rest[..padding].fill(0);
        self.seal_frame(id, frame, bytes.len(), now)
    }

    /// `frame` holds a parsed packet of `length` bytes.
    fn seal_frame(&mut self, id: PeerId, frame: &mut [u8], length: usize, now: Instant) -> Sealed {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Sealed::Dropped(DropReason::UnknownPeer);
        };
        let Some(to) = peer.address else {
            return Sealed::Dropped(DropReason::NoEndpoint);
        };
        let usable = peer
            .pairs
            .current
            .as_mut()
            .filter(|pair| pair.can_send(now));
        let Some(pair) = usable else {
            let packet = &frame[TRANSPORT_HEADER..TRANSPORT_HEADER + length];
            return self.enqueue(id, packet, now);
        };
        let Some(len) = pair.seal_in_place(frame) else {
            return Sealed::Dropped(DropReason::KeyExpired);
        };
        let due = pair.is_due(now, self.config.rekey_after);
        if peer.note_sent_packet(length, now) {
            self.agenda.keep(id, &mut peer.timers);
        }
        if due {
            self.rekey(id, now);
        }
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

    /// The sender's side of renewal.
    pub(super) fn rekey_if_due(&mut self, id: PeerId, now: Instant) {
        let current = self.peers.get(&id).and_then(|p| p.pairs.current.as_ref());
        if current.is_some_and(|pair| pair.is_due(now, self.config.rekey_after)) {
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
        let gap = match peer.pairs.current {
            None => elapsed(since, now)
                .max(self.config.first_retry)
                .min(REKEY_TIMEOUT),
            Some(_) => REKEY_TIMEOUT,
        };
        if let Some(old) = peer.pending.take() {
            self.indices.remove(&old.index);
        }
        let stamp = self.clock.stamp(now, peer.last_sent);
        peer.last_sent = Some(stamp);
        peer.last_initiation = Some(now);
        peer.jitter = jitter;
        peer.timers.retry = Some(now + gap + jitter);
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

/// The packet of `length` bytes in `frame`, if there is one and room around it.
fn packet_in(frame: &[u8], length: usize) -> Option<IpPacket<'_>> {
    let around = frame.len().checked_sub(length.checked_add(OVERHEAD)?)?;
    if around >= PADDING {
        return None;
    }
    let packet = IpPacket::parse(frame.get(TRANSPORT_HEADER..TRANSPORT_HEADER + length)?).ok()?;
    (packet.total_length() == length).then_some(packet)
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
        payload[TRANSPORT_HEADER..][..packet.len()].copy_from_slice(packet);
        pair.seal_in_place(&mut payload)?;
        Some(payload)
    }

    /// Whether a timer began to run.
    fn note_sent_packet(&mut self, len: usize, now: Instant) -> bool {
        self.stats.tx_packets += 1;
        self.stats.tx_bytes += len as u64;
        let begins = self.timers.sent(now, self.persistent);
        self.timers.sent_packet(now, self.jitter) || begins
    }
}
