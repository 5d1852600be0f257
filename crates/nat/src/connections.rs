//! Every live connection of the swarm, by peer. Whoever forwards for a peer, or wants the hole that was punched to it, asks
//! here for its address. It refuses to keep closed ones.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p_identity::PeerId;
use quinn::Connection;

/// Cheap to clone; the transport adds, others read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<HashMap<PeerId, Vec<Connection>>>>);

impl Connections {
    pub(crate) fn add(&self, peer: PeerId, connection: Connection) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The swarm bounds how many are open; this keeps no other.
        if all.len() > 64 && all.len().is_power_of_two() {
            all.retain(|_, of_peer| of_peer.iter().any(is_open));
        }
        let of_peer = all.entry(peer).or_default();
        of_peer.retain(is_open);
        of_peer.push(connection);
    }

    /// Where the peer is now, as its newest open connection knows.
    pub(crate) fn address(&self, peer: &PeerId) -> Option<SocketAddr> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = all
            .get(peer)?
            .iter()
            .rfind(|connection| is_open(connection))?;
        let at = newest.remote_address();
        Some(SocketAddr::new(at.ip().to_canonical(), at.port()))
    }
}

fn is_open(connection: &Connection) -> bool {
    connection.close_reason().is_none()
}
