//! Between our words and the swarm's: socket addresses and multiaddresses, node keys and peer ids. It refuses addresses that
//! are not UDP with QUIC.

use std::net::{IpAddr, SocketAddr};

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_identity::{PeerId, PublicKey, ed25519};
use wayfare_identity::NodeId;

/// The peer id of a node: its ed25519 key, spelt so that it can be read back. `None`: these 32 bytes are no such key.
pub(crate) fn peer_id(node: NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&node.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The node of a peer id; `None` when the id is of another kind of key.
pub(crate) fn node_id(peer: &PeerId) -> Option<NodeId> {
    let multihash = peer.as_ref();
    // Code 0 is the identity: short keys are not hashed but spelt out.
    if multihash.code() != 0 {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(multihash.digest()).ok()?;
    Some(NodeId(key.try_into_ed25519().ok()?.to_bytes()))
}

/// As the swarm writes where QUIC listens.
pub(crate) fn multiaddr(at: SocketAddr) -> Multiaddr {
    Multiaddr::empty()
        .with(at.ip().to_canonical().into())
        .with(Protocol::Udp(at.port()))
        .with(Protocol::QuicV1)
}

/// What [`multiaddr`] wrote, and the peer named behind it. `None` for anything else.
pub(crate) fn socket_addr(address: &Multiaddr) -> Option<(SocketAddr, Option<PeerId>)> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Udp(port) = parts.next()? else {
        return None;
    };
    let Protocol::QuicV1 = parts.next()? else {
        return None;
    };
    let peer = match parts.next() {
        None => None,
        Some(Protocol::P2p(peer)) => Some(peer),
        Some(_) => return None,
    };
    let at = SocketAddr::new(ip.to_canonical(), port);
    parts.next().is_none().then_some((at, peer))
}

/// Whether `at` is of 240.0.0.0/4, which is routed nowhere: the endpoint below carries what is sent there in a way of its own.
pub(crate) fn is_carried(at: SocketAddr) -> bool {
    matches!(at.ip().to_canonical(), IpAddr::V4(ip) if ip.octets()[0] >= 240)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use wayfare_identity::NodeKey;

    #[test]
    fn a_node_is_its_peer_id() {
        for seed in 0..8 {
            let node = NodeKey::from_seed([seed; 32]).id();
            assert_eq!(node_id(&peer_id(node).unwrap()), Some(node));
        }
        assert_eq!(node_id(&PeerId::random()).map(|_| ()), None);
    }

    #[test]
    fn addresses_go_there_and_back() {
        for at in ["1.2.3.4:5", "[2001:db8::1]:443"] {
            let at: SocketAddr = at.parse().unwrap();
            assert_eq!(socket_addr(&multiaddr(at)), Some((at, None)));
            let peer = peer_id(NodeKey::from_seed([1; 32]).id()).unwrap();
            let named = multiaddr(at).with(Protocol::P2p(peer));
            assert_eq!(socket_addr(&named), Some((at, Some(peer))));
            assert_eq!(socket_addr(&named.with(Protocol::P2pCircuit)), None);
        }
        let mapped = "[::ffff:1.2.3.4]:5".parse().unwrap();
        assert_eq!(multiaddr(mapped).to_string(), "/ip4/1.2.3.4/udp/5/quic-v1");
        for other in [
            "/ip4/1.2.3.4/tcp/5",
            "/ip4/1.2.3.4/udp/5",
            "/dns/a/udp/5/quic-v1",
        ] {
            assert_eq!(socket_addr(&other.parse().unwrap()), None, "{other}");
        }
    }
}
