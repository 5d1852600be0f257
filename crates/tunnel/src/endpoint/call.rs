//! A call: an initiation that was opened, and may be answered by another endpoint of the same key.
//! It refuses to answer by itself, and to open anything before the cheap proofs are given.
//!
//! An initiation names no receiver index: who calls shows only inside it. With several lanes one of them receives all
//! initiations, demands the proofs (MAC1, under load a cookie and the source's allowance) and does the two x25519 that
//! tell the caller. The rest is the lane's whose peer it is; nothing is computed twice.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::{DropReason, Endpoint, Received, Transmit};
use crate::handshake::Opened;
use crate::key::PublicKey;
use crate::message::{MessageKind, classify};

/// An initiation whose sender has proven that it holds its static key; neither its freshness nor that we know it.
/// About 2 KiB.
pub struct Call {
    from: SocketAddr,
    opened: Opened,
}

impl Call {
    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> PublicKey {
        self.opened.sender
    }

    /// Where from.
    #[must_use]
    pub fn from(&self) -> SocketAddr {
        self.from
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("caller", &self.opened.sender)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Opens an initiation without answering it: for whoever receives for several endpoints of this key. No peer of
    /// this endpoint is looked at or changed. Under load the answer may be a cookie, in [`Endpoint::poll_transmit`].
    ///
    /// # Errors
    /// Why it is none: what [`Endpoint::handle_datagram`] would have said up to here.
    pub fn open_call(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Result<Call, DropReason> {
        if classify(datagram) != Some(MessageKind::Initiation) {
            return Err(DropReason::NotAMessage);
        }
        self.admit(from, datagram, now)?;
        let opened = self
            .local
            .open_initiation(datagram, &mut self.chance)
            .map_err(|_| DropReason::BadHandshake)?;
        Ok(Call { from, opened })
    }

    /// Answers a call that an endpoint of the same key has opened. The response is in [`Endpoint::poll_transmit`].
    pub fn answer(&mut self, call: Call, now: Instant) -> Received<'static> {
        self.try_answer(call, now).unwrap_or_else(Received::Dropped)
    }

    pub(super) fn try_answer(
        &mut self,
        call: Call,
        now: Instant,
    ) -> Result<Received<'static>, DropReason> {
        let Call { from, opened } = call;
        let id = *self
            .by_key
            .get(&opened.sender)
            .ok_or(DropReason::UnknownPeer)?;
        let peer = self.peers.get_mut(&id).ok_or(DropReason::UnknownPeer)?;
        // No minimum distance between initiations: a legitimate one is never refused for coming soon. What a flood
        // costs is the limiter's affair.
        if peer.last_seen.is_some_and(|last| opened.timestamp <= last) {
            return Err(DropReason::ReplayedHandshake);
        }
        peer.last_seen = Some(opened.timestamp);
        let psk = peer.psk.clone();
        let index = self.take_index(id).ok_or(DropReason::Full)?;
        let responded = opened.respond(&psk, index, now);
        let Ok((mut payload, pair)) = responded else {
            self.indices.remove(&index);
            return Err(DropReason::BadHandshake);
        };
        let Some(peer) = self.peers.get_mut(&id) else {
            return Err(DropReason::UnknownPeer);
        };
        peer.cookies.seal(&mut payload, &peer.macs, now);
        if let Some(unconfirmed) = peer.pairs.next.replace(Box::new(pair)) {
            self.indices.remove(&unconfirmed.local_index);
        }
        peer.timers.received(now, peer.persistent);
        peer.timers.sent(now, peer.persistent);
        peer.timers.keyed(now);
        self.agenda.keep(id, &mut peer.timers);
        // The answer goes to where the question came from, but the peer does not move there before data does.
        self.transmit(Transmit {
            peer: Some(id),
            to: from,
            payload,
        });
        Ok(Received::Handshake { peer: id })
    }
}
