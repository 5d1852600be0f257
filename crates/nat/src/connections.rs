//! Every live connection of the swarm, by peer. Whoever forwards for a peer, or wants the hole that was punched to it, asks
//! here for its address. It refuses to keep closed ones.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p_identity::PeerId;
use quinn::{Connection, ConnectionError};

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
        // The transport bounds how many others make; this keeps no other.
        if all.len() > 64 && all.len().is_power_of_two() {
            all.retain(|_, of_peer| of_peer.iter().any(is_open));
        }
        let of_peer = all.entry(peer).or_default();
        of_peer.retain(is_open);
        of_peer.push(Known { connection, begun });
    }

    /// Whether the peer made a connection to us that is open.
    pub(crate) fn has_come(&self, peer: &PeerId) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = all.get(peer).into_iter().flatten();
        { of_peer }.any(|known| known.begun == Begun::There && is_open(known))
    }

    /// Why the peer turned away the last connection that we made, in its words; at most 256 bytes are kept.
    pub(crate) fn refusal(&self, peer: &PeerId) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(peer)?.last()?;
        match known.connection.close_reason()? {
            // Code 0 is a farewell.
            ConnectionError::ApplicationClosed(closed)
                if known.begun == Begun::Here && closed.error_code.into_inner() != 0 =>
            {
                let words = String::from_utf8_lossy(&closed.reason);
                Some(words.chars().take(256).collect())
            }
            _ => None,
        }
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
