//! Connections that only questions needed: closed when no question has used them for a while. It refuses to close what somebody
//! else wants.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

/// Long enough for the next of the questions that come together, shorter than what keeps a connection alive costs.
const UNUSED: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(crate) struct Passing {
    dialed: HashSet<PeerId>,
    open: HashMap<PeerId, (ConnectionId, Instant)>,
}

impl Passing {
    /// A peer is dialed for a question.
    pub(crate) fn dialed(&mut self, peer: PeerId) {
        self.dialed.insert(peer);
    }

    /// The first connection to a peer that we dialed is there.
    pub(crate) fn connected(&mut self, peer: PeerId, id: ConnectionId, now: Instant) {
        if self.dialed.remove(&peer) {
            self.open.insert(peer, (id, now));
        }
    }

    pub(crate) fn used(&mut self, peer: PeerId, now: Instant) {
        if let Some((_, used)) = self.open.get_mut(&peer) {
            *used = now;
        }
    }

    /// It is gone, or somebody else wants it from now on.
    pub(crate) fn let_go(&mut self, peer: &PeerId) {
        self.dialed.remove(peer);
        self.open.remove(peer);
    }

    /// What is to be closed.
    pub(crate) fn unused(&mut self, now: Instant) -> Vec<ConnectionId> {
        let over = self.open.extract_if(|_, (_, used)| now >= *used + UNUSED);
        over.map(|(_, (id, _))| id).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use super::*;
    use libp2p_swarm::ConnectionId;

    #[test]
    fn only_what_questions_dialed_is_closed() {
        let (mut passing, now) = (Passing::default(), Instant::now());
        let [asked, wanted, other] = [PeerId::random(), PeerId::random(), PeerId::random()];
        let id = ConnectionId::new_unchecked;
        passing.dialed(asked);
        passing.dialed(wanted);
        for (at, peer) in [asked, wanted, other].into_iter().enumerate() {
            passing.connected(peer, id(at), now);
        }
        passing.let_go(&wanted);
        assert_eq!(passing.unused(now), []);
        passing.used(asked, now + UNUSED / 2);
        assert_eq!(passing.unused(now + UNUSED), []);
        assert_eq!(passing.unused(now + UNUSED * 2), [id(0)]);
        assert_eq!(passing.unused(now + UNUSED * 4), []);
    }
}
