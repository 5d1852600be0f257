//! Which peer goes to which lane, decided by the addresses that are theirs alone.
//! It refuses to guess: whoever cannot be told apart by the kernel makes it one lane for all.

use std::collections::BTreeSet;

use ipnet::IpNet;
use wayfare_transport::{MOST_LANES, SteerError, TunError, lane_of};
use wayfare_tunnel::PeerConfig;

/// Why one lane carries everything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OneLane {
    /// Packets to a network may go to any lane.
    #[error("the allowed network {0} of a peer is more than one address")]
    Network(IpNet),
    /// One address of a peer belongs to one lane, another to another.
    #[error("the addresses {0} and {1} of one peer belong to different lanes")]
    Apart(IpNet, IpNet),
    /// Two peers have one key.
    #[error("two peers have the same public key")]
    SameKey,
    /// The kernel does not steer, or we may not ask it to.
    #[error(transparent)]
    Unsteered(#[from] SteerError),
    /// The device has no further queues.
    #[error(transparent)]
    Unqueued(#[from] TunError),
}

/// Whether the kernel can tell this peer's packets from all others'.
pub(super) fn has_single_addresses(peer: &PeerConfig) -> bool {
    !peer.allowed_ips.is_empty() && peer.allowed_ips.iter().all(is_single)
}

/// The lane of each peer. One without addresses gets no packets and may be anywhere: in the first.
pub(super) fn homes(peers: &[PeerConfig], lanes: usize) -> Result<Vec<usize>, OneLane> {
    if !(1..=MOST_LANES).contains(&lanes) {
        return Err(SteerError::Lanes(lanes).into());
    }
    let mut keys = BTreeSet::new();
    let mut home = |peer: &PeerConfig| {
        if !keys.insert(peer.public_key) {
            return Err(OneLane::SameKey);
        }
        let mut found: Option<(usize, IpNet)> = None;
        for prefix in &peer.allowed_ips {
            if !is_single(prefix) {
                return Err(OneLane::Network(*prefix));
            }
            let lane = lane_of(prefix.addr(), lanes);
            match found {
                Some((other, first)) if other != lane => {
                    return Err(OneLane::Apart(first, *prefix));
                }
                Some(_) => {}
                None => found = Some((lane, *prefix)),
            }
        }
        Ok(found.map_or(0, |(lane, _)| lane))
    };
    peers.iter().map(&mut home).collect()
}

fn is_single(prefix: &IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wayfare_tunnel::PublicKey;

    use super::*;

    fn peer(number: u8, prefixes: &[&str]) -> PeerConfig {
        let mut peer = PeerConfig::new(PublicKey([number; 32]));
        peer.allowed_ips = prefixes.iter().map(|p| p.parse().unwrap()).collect();
        peer
    }

    #[test]
    fn single_addresses_decide() {
        let peers = [
            peer(1, &["10.0.0.2/32"]),
            peer(2, &["10.0.0.3/32", "fd00::3/128"]),
            peer(3, &["fd00::1:4/128"]),
            peer(4, &[]),
            peer(5, &["10.0.0.9/32", "10.0.0.6/32"]),
        ];
        assert_eq!(homes(&peers, 3).unwrap(), [2, 0, 1, 0, 0]);
        assert_eq!(homes(&peers[..4], 2).unwrap(), [0, 1, 0, 0]);
        assert_eq!(homes(&peers, 1).unwrap(), [0; 5]);
        let several = peers.iter().filter(|peer| has_single_addresses(peer));
        assert_eq!(several.count(), 4);
    }

    #[test]
    fn what_cannot_be_told_apart_is_named() {
        let why = |peers: &[PeerConfig]| homes(peers, 2).unwrap_err().to_string();
        let network = [peer(1, &["10.0.0.2/32"]), peer(2, &["10.0.1.0/24"])];
        assert!(why(&network).contains("10.0.1.0/24"));
        let apart = [peer(1, &["10.0.0.2/32", "fd00::3/128"])];
        assert!(why(&apart).contains("10.0.0.2/32") && why(&apart).contains("fd00::3/128"));
        let twins = [peer(1, &["10.0.0.2/32"]), peer(1, &["10.0.0.3/32"])];
        assert!(why(&twins).contains("same public key"));
        assert!(homes(&[], 65).unwrap_err().to_string().contains("65"));
        assert!(homes(&[], 0).is_err());
    }
}
