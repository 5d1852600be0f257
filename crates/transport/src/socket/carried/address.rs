//! Which addresses are virtual, and the next one that nobody has heard of.
//!
//! It refuses to give an address twice: somebody may still remember the path it stood for.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

/// The first octet of 240.0.0.0/4, reserved since 1989 (RFC 1112 section 4) and routed nowhere.
pub(super) const FIRST_OCTET: u8 = 240;
/// The addresses of the block but 240.0.0.0 and 255.255.255.255, which is broadcast.
const HOSTS: u64 = (1 << 28) - 2;
const PORTS: u64 = u16::MAX as u64;
const FIRST_HOST: u32 = (FIRST_OCTET as u32) << 24 | 1;

/// Addresses given by this process so far: 2^44 until one would come again.
static GIVEN: AtomicU64 = AtomicU64::new(0);

/// Whether `addr` lies in the block of virtual addresses, 240.0.0.0/4, also if it is written as
/// IPv6. No peer can have such an address; a candidate that claims one is false.
#[must_use]
pub fn is_virtual(addr: SocketAddr) -> bool {
    octet(addr) >= FIRST_OCTET
}

/// The first octet of an IPv4 address, however it is written; 0 of any other.
pub(super) fn octet(addr: SocketAddr) -> u8 {
    let ip = match addr {
        SocketAddr::V4(addr) => *addr.ip(),
        SocketAddr::V6(addr) => addr.ip().to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED),
    };
    ip.octets()[0]
}

pub(super) fn next() -> SocketAddr {
    nth(GIVEN.fetch_add(1, Ordering::Relaxed))
}

fn nth(number: u64) -> SocketAddr {
    // Both fit: HOSTS < 2^28 and PORTS < 2^16.
    let host = Ipv4Addr::from(FIRST_HOST + (number % HOSTS) as u32);
    let port = 1 + (number / HOSTS % PORTS) as u16;
    SocketAddr::from((host, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_count_up_and_stay_within_the_block() {
        let check = |number, expect: &str| {
            assert_eq!(nth(number), expect.parse().unwrap());
            assert!(is_virtual(nth(number)));
        };
        check(0, "240.0.0.1:1");
        check(1, "240.0.0.2:1");
        check(HOSTS - 1, "255.255.255.254:1");
        check(HOSTS, "240.0.0.1:2");
        check(HOSTS * PORTS - 1, "255.255.255.254:65535");
        check(HOSTS * PORTS, "240.0.0.1:1");
        let [first, second] = [next(), next()];
        assert_ne!(first, second);
    }

    #[test]
    fn the_block_is_known_in_both_spellings() {
        let check =
            |addr: &str, expect| assert_eq!(is_virtual(addr.parse().unwrap()), expect, "{addr}");
        check("239.255.255.255:1", false);
        check("240.0.0.0:1", true);
        check("255.255.255.255:65535", true);
        check("[::ffff:240.1.2.3]:1", true);
        check("[::ffff:10.1.2.3]:1", false);
        check("[f000::1]:1", false);
        check("[::240.1.2.3]:1", false);
    }
}
