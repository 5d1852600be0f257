//! Every live connection of the swarm, by peer. Whoever forwards for a peer, or wants the hole that was punched to it, asks
//! here for its address. It refuses to keep closed ones.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p_identity::PeerId;
use quinn::Connection;

/// Cheap to clone; the transport adds, others read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<HashMap<PeerId, Vec<Known>>>>);

/// Who began a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// We did, or both in a punch: from the shared socket, to where the peer is for us.
    Here,
    /// The peer, perhaps from a port of the moment: so does a node that tests whether we can be reached.
    There,
}

#[derive(Debug)]
struct Known {
    connection: Connection,
    begun: Begun,
}

impl Connections {
    pub(crate) fn add(&self, peer: PeerId, connection: Connection, begun: Begun) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The swarm bounds how many are open; this keeps no other.
        if all.len() > 64 && all.len().is_power_of_two() {
            all.retain(|_, of_peer| of_peer.iter().any(is_open));
        }
        let of_peer = all.entry(peer).or_default();
        of_peer.retain(is_open);
        of_peer.push(Known { connection, begun });
    }

    /// Where the peer is now, as its newest open connection knows: one that we began, if there is any.
    pub(crate) fn address(&self, peer: &PeerId) -> Option<SocketAddr> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = all.get(peer)?;
        let newest = |begun| {
            let mut newest_first = of_peer.iter().rev();
            newest_first.find(|known| known.begun == begun && is_open(known))
        };
        let known = newest(Begun::Here).or_else(|| newest(Begun::There))?;
        let at = known.connection.remote_address();
        Some(SocketAddr::new(at.ip().to_canonical(), at.port()))
    }
}

fn is_open(known: &Known) -> bool {
    known.connection.close_reason().is_none()
}
