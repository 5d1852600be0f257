//! Where somebody speaks from, and how often it may: what a flood is told apart by. It refuses to know who speaks.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Records that a network may bring at once: sixteen providers' two topics, twice.
const BURST: u32 = 64;
/// After that, one in so long: four a second, each costs us a verification of 0.1 ms.
const PACE: Duration = Duration::from_millis(250);
/// Networks remembered: 65,536 of about 64 bytes, 4 MiB.
const NETWORKS: usize = 65_536;

/// A network: the first 24 bits of an IPv4 address, the first 48 of an IPv6 one. What one attacker has cheaply counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Network {
    /// This node itself.
    Own,
    V4([u8; 3]),
    V6([u8; 6]),
}

impl Network {
    pub(crate) fn of(at: SocketAddr) -> Self {
        match at.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

/// A bucket for each network. Instead of tokens it notes until when the bucket is not full.
#[derive(Debug, Default)]
pub(crate) struct Pace(HashMap<Network, Instant>);

impl Pace {
    /// Whether the network may bring one more.
    pub(crate) fn admit(&mut self, from: Network, now: Instant) -> bool {
        if self.0.len() >= NETWORKS {
            self.0.retain(|_, full_at| *full_at > now);
            if self.0.len() >= NETWORKS {
                return false;
            }
        }
        let full_at = self.0.entry(from).or_insert(now);
        let next = (*full_at).max(now) + PACE;
        let admitted = next <= now + PACE * BURST;
        if admitted {
            *full_at = next;
        }
        admitted
    }
}

/// Whether a node at `namer` may make us send something to `named`: never to what is no host, and into private networks only if
/// the namer is in one, so that nobody outside makes us knock at doors inside.
pub(crate) fn believable(named: SocketAddr, namer: Option<SocketAddr>) -> bool {
    let ip = named.ip().to_canonical();
    let nowhere = match ip {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.octets()[0] >= 224,
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    };
    let inside = namer.is_none_or(|namer| is_private(namer.ip().to_canonical()));
    named.port() != 0 && !nowhere && (!is_private(ip) || inside)
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let carrier = a == 100 && (64..128).contains(&b);
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || carrier || a == 0
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;

    #[test]
    fn a_network_has_a_burst_and_then_a_pace_and_others_have_their_own() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let one = Network::of("203.0.113.7:1".parse().unwrap());
        let same = Network::of("[::ffff:203.0.113.9]:2".parse().unwrap());
        let other = Network::of("203.0.114.7:1".parse().unwrap());
        assert_eq!(one, same);
        for _ in 0..BURST {
            assert!(pace.admit(one, start));
        }
        assert!(!pace.admit(same, start));
        assert!(pace.admit(other, start));
        assert!(pace.admit(one, start + PACE));
        assert!(!pace.admit(one, start + PACE));
        let admitted = (0..1_000).filter(|_| pace.admit(one, start + PACE * 1_000));
        assert_eq!(admitted.count(), BURST as usize);
    }

    #[test]
    fn nobody_outside_makes_us_knock_inside() {
        let public = "203.0.113.7:1".parse().ok();
        for (named, by_public, by_private) in [
            ("198.51.100.1:4", true, true),
            ("192.168.1.1:4", false, true),
            ("127.0.0.1:4", false, true),
            ("100.64.0.1:4", false, true),
            ("[fd00::1]:4", false, true),
            ("[2001:db8::1]:4", true, true),
            ("240.0.0.1:4", false, false),
            ("224.0.0.1:4", false, false),
            ("255.255.255.255:4", false, false),
            ("198.51.100.1:0", false, false),
        ] {
            let named: SocketAddr = named.parse().unwrap();
            assert_eq!(believable(named, public), by_public, "{named}");
            let private = "10.0.0.1:1".parse().ok();
            assert_eq!(believable(named, private), by_private, "{named}");
        }
    }
}
