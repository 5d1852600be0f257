//! The addresses that are not the internet: IANA's special-purpose registries of both families, plus multicast
//! and what was never given out.
//!
//! Refuses to reason about which special prefixes are "globally reachable": a consumer needs none of them, so
//! all are listed. Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and updates),
//! RFC 5771 and RFC 4291 (multicast), RFC 3879 (site-local), RFC 4291 section 2.5.5.1 (IPv4-compatible).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const V4: [([u8; 4], u8); 20] = [
    ([0, 0, 0, 0], 8),          // this network
    ([10, 0, 0, 0], 8),         // private use
    ([100, 64, 0, 0], 10),      // shared address space of carriers
    ([127, 0, 0, 0], 8),        // loopback
    ([169, 254, 0, 0], 16),     // link local, cloud metadata
    ([172, 16, 0, 0], 12),      // private use
    ([192, 0, 0, 0], 24),       // protocol assignments, DS-Lite, PCP and TURN anycast
    ([192, 0, 2, 0], 24),       // documentation
    ([192, 31, 196, 0], 24),    // AS112
    ([192, 52, 193, 0], 24),    // AMT
    ([192, 88, 99, 0], 24),     // 6to4 relay anycast
    ([192, 168, 0, 0], 16),     // private use
    ([192, 175, 48, 0], 24),    // AS112
    ([198, 18, 0, 0], 15),      // benchmarking
    ([198, 51, 100, 0], 24),    // documentation
    ([203, 0, 113, 0], 24),     // documentation
    ([224, 0, 0, 0], 4),        // multicast
    ([240, 0, 0, 0], 4),        // reserved, with the limited broadcast address
    ([255, 255, 255, 255], 32), // limited broadcast
    ([192, 88, 99, 2], 32),     // 6a44 relay anycast
];

const V6: [([u16; 8], u8); 25] = [
    ([0, 0, 0, 0, 0, 0, 0, 0], 128),             // unspecified
    ([0, 0, 0, 0, 0, 0, 0, 1], 128),             // loopback
    ([0, 0, 0, 0, 0, 0, 0, 0], 96),              // IPv4-compatible
    ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),         // IPv4-mapped
    ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),      // NAT64
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),      // NAT64, local use
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64),          // discard only
    ([0x100, 0, 0, 1, 0, 0, 0, 0], 64),          // dummy prefix
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // protocol assignments: Teredo, ORCHID, benchmarking …
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // 6to4
    ([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), // AS112
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation
    ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), // segment routing
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),  // unique local
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), // link local
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), // site local
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),  // multicast
    // Global unicast is 2000::/3 (IANA IPv6 Address Space): everything else, in three pieces.
    ([0, 0, 0, 0, 0, 0, 0, 0], 3),
    ([0x4000, 0, 0, 0, 0, 0, 0, 0], 2),
    ([0x8000, 0, 0, 0, 0, 0, 0, 0], 1),
    // Withdrawn or never routed inside 2000::/3.
    ([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16),    // the 6bone
    ([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), // ORCHID
    ([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), // ORCHIDv2
    ([0x2001, 0x2, 0, 0, 0, 0, 0, 0], 48),  // benchmarking
];

/// Special IPv4 prefixes, merged and in order.
pub(crate) fn special_v4() -> Vec<Ipv4Net> {
    let nets = V4.map(|(octets, len)| Ipv4Net::new_assert(Ipv4Addr::from(octets), len));
    Ipv4Net::aggregate(&nets.to_vec())
}

/// Special IPv6 prefixes, merged and in order.
pub(crate) fn special_v6() -> Vec<Ipv6Net> {
    let nets = V6.map(|(segments, len)| Ipv6Net::new_assert(Ipv6Addr::from(segments), len));
    Ipv6Net::aggregate(&nets.to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_special_address_is_covered_and_the_internet_is_not() {
        let (v4, v6) = (special_v4(), special_v6());
        let hit4 = |text: &str| {
            v4.iter()
                .any(|net| net.contains(&text.parse::<Ipv4Addr>().unwrap()))
        };
        let hit6 = |text: &str| {
            v6.iter()
                .any(|net| net.contains(&text.parse::<Ipv6Addr>().unwrap()))
        };
        for special in [
            "0.1.2.3",
            "10.255.0.1",
            "100.127.255.255",
            "172.31.0.1",
            "198.19.0.1",
            "255.255.255.255",
        ] {
            assert!(hit4(special), "{special}");
        }
        for public in [
            "1.1.1.1",
            "11.0.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "223.255.255.255",
        ] {
            assert!(!hit4(public), "{public}");
        }
        for special in [
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2001:1ff::1",
            "fd00::1",
            "fe80::1",
            "4000::",
        ] {
            assert!(hit6(special), "{special}");
        }
        for public in ["2001:200::1", "2606:4700::1111", "2a00::1", "3ffd::1"] {
            assert!(!hit6(public), "{public}");
        }
    }

    #[test]
    fn merged_prefixes_do_not_overlap() {
        let v6 = special_v6();
        for (i, a) in v6.iter().enumerate() {
            assert!(
                v6.iter()
                    .skip(i + 1)
                    .all(|b| !a.contains(b) && !b.contains(a)),
                "{a}"
            );
        }
    }
}
