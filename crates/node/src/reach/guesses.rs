//! How often we guess ports. A birthday punch sends up to 2,048 small datagrams to one address, which a relay vouches for: as
//! often as honest peers need it, and too rarely to bother anybody if the relay lies. It refuses to know who is honest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use wayfare_identity::NodeId;

/// One peer, once in so long: a second try would find the same NATs.
const PEER_EVERY: Duration = Duration::from_secs(600);
/// One address, where many peers may share a NAT: 12 a minute of 2,048 datagrams of 55 bytes are 22 kB/s at most.
const ADDRESS_EVERY: Duration = Duration::from_secs(60);
const OF_ADDRESS: u8 = 12;
/// Remembered peers and addresses; when there are more nobody guesses, which costs a direct path and nothing else.
const MOST: usize = 1_024;

#[derive(Debug, Default)]
pub(super) struct Guesses {
    peers: HashMap<NodeId, Instant>,
    addresses: HashMap<IpAddr, (Instant, u8)>,
}

impl Guesses {
    /// Whether we may guess ports of this peer at this address now; a yes is counted.
    pub(super) fn admit(&mut self, peer: NodeId, address: IpAddr, now: Instant) -> bool {
        if self.peers.len() >= MOST || self.addresses.len() >= MOST {
            self.forget(now);
        }
        let full = self.peers.len() >= MOST || self.addresses.len() >= MOST;
        let lately = self.peers.get(&peer);
        if full || lately.is_some_and(|last| age(*last, now) < PEER_EVERY) {
            return false;
        }
        let (since, count) = self.addresses.entry(address).or_insert((now, 0));
        if age(*since, now) >= ADDRESS_EVERY {
            (*since, *count) = (now, 0);
        }
        if *count >= OF_ADDRESS {
            return false;
        }
        *count += 1;
        self.peers.insert(peer, now);
        true
    }

    /// Drops what does not matter any more.
    pub(super) fn forget(&mut self, now: Instant) {
        self.peers.retain(|_, last| age(*last, now) < PEER_EVERY);
        self.addresses
            .retain(|_, (since, _)| age(*since, now) < ADDRESS_EVERY);
    }
}

fn age(since: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wayfare_transport::Clock;

    fn peer(number: u32) -> NodeId {
        let mut node = [0; 32];
        node[..4].copy_from_slice(&number.to_be_bytes());
        NodeId(node)
    }

    #[test]
    fn a_peer_and_an_address_have_their_measure() {
        let now = Clock::now();
        let mut guesses = Guesses::default();
        let [here, there] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        assert!(guesses.admit(peer(0), here, now));
        assert!(!guesses.admit(peer(0), here, now + PEER_EVERY / 2));
        let many = (1..100).filter(|number| guesses.admit(peer(*number), here, now));
        assert_eq!(many.count(), usize::from(OF_ADDRESS) - 1);
        assert!(guesses.admit(peer(200), there, now));
        assert!(guesses.admit(peer(201), here, now + ADDRESS_EVERY));
        assert!(guesses.admit(peer(0), here, now + PEER_EVERY));
    }

    #[test]
    fn a_flood_of_peers_fills_no_memory() {
        let now = Clock::now();
        let mut guesses = Guesses::default();
        for number in 0..10_000 {
            let [_, a, b, c] = number_bytes(number);
            guesses.admit(peer(number), IpAddr::from([10, a, b, c]), now);
        }
        assert_eq!(guesses.peers.len(), MOST);
        guesses.forget(now + PEER_EVERY);
        assert_eq!(guesses.peers.len() + guesses.addresses.len(), 0);
    }

    fn number_bytes(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }
}
