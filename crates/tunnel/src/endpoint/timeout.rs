//! Time passes: retries, keepalives, silence, and the end of keys.
//! It refuses to sleep; it does what is due at `now` and nothing else.

use std::time::Instant;

use super::{Endpoint, Event, PeerId};
use crate::timers::{REKEY_ATTEMPT_TIME, elapsed};

impl Endpoint {
    /// Does everything that is due. Call it at [`Self::poll_timeout`]; earlier and later calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        // Each peer is looked at once: what it sets anew is later than `now`.
        for _ in 0..self.agenda.len() {
            let Some(id) = self.agenda.due(now) else {
                return;
            };
            self.wake(id, now);
        }
    }

    fn wake(&mut self, id: PeerId, now: Instant) {
        let is_due = |timer: &mut Option<Instant>| timer.take_if(|at| *at <= now).is_some();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        self.agenda.remove(id, &mut peer.timers);
        let erasure = is_due(&mut peer.timers.erasure);
        let retry = is_due(&mut peer.timers.retry);
        let silence = is_due(&mut peer.timers.silence);
        let keepalive = is_due(&mut peer.timers.keepalive);
        let persistent = is_due(&mut peer.timers.persistent);
        let again = keepalive && std::mem::take(&mut peer.timers.keepalive_again);
        if erasure {
            self.erase_keys(id);
        }
        if retry {
            self.retry(id, now);
        }
        if silence {
            self.rekey(id, now);
        }
        if keepalive || persistent {
            self.send_keepalive(id, now);
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if again {
            peer.timers.received_packet(now);
        }
        self.agenda.keep(id, &mut peer.timers);
    }

    /// An initiation went unanswered: repeat it, let it go, or give up.
    fn retry(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(since) = peer.pending.as_ref().map(|pending| pending.since) else {
            return;
        };
        let overtaken = peer.pending_is_overtaken(now);
        if !overtaken && elapsed(since, now) < REKEY_ATTEMPT_TIME {
            self.send_initiation(id, since, now);
            return;
        }
        if let Some(pending) = peer.pending.take() {
            self.indices.remove(&pending.index);
        }
        if overtaken {
            return;
        }
        self.queued_bytes -= peer.clear_queue();
        peer.timers.keepalive = None;
        peer.timers.keepalive_again = false;
        self.tell(Event::HandshakeFailed { peer: id });
    }

    /// Erases every key of a peer; its configuration and counters stay.
    fn erase_keys(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        for index in peer.indices() {
            self.indices.remove(&index);
        }
        let had_keys = peer.pairs.current.is_some();
        peer.pairs.clear();
        if let Some(pending) = &peer.pending {
            self.indices.insert(pending.index, id);
        }
        // A responder's keys that were never confirmed were never announced either.
        if had_keys {
            self.tell(Event::Expired { peer: id });
        }
    }
}
