//! Candidates: addresses at which a node might be reached, each with where it comes from.
//! It refuses to believe them: that an address is listed does not make it one that is sent to (see `permission`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where an address was learned. The order is the canonical order of a description, and when there are too many the
/// last kinds go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// An address of an interface on a local network.
    Host,
    /// A global IPv6 address of an interface.
    Ipv6,
    /// A port that the router forwards because it was asked to (PCP, NAT-PMP, UPnP).
    Mapped,
    /// A port that a person forwards.
    Manual,
    /// How another node sees us.
    Observed,
    /// A port that a sequential NAT is likely to choose next.
    Predicted,
}

impl CandidateKind {
    /// Every kind, in canonical order.
    pub const ALL: [Self; 6] = [
        Self::Host,
        Self::Ipv6,
        Self::Mapped,
        Self::Manual,
        Self::Observed,
        Self::Predicted,
    ];

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Host => 0,
            Self::Ipv6 => 1,
            Self::Mapped => 2,
            Self::Manual => 3,
            Self::Observed => 4,
            Self::Predicted => 5,
        }
    }

    /// `None` for a kind of a later version, which is ignored.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// An address at which a node might be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Candidate {
    /// Where the address was learned.
    pub kind: CandidateKind,
    /// The address.
    pub addr: SocketAddr,
}

impl Candidate {
    /// A candidate of `kind` at `addr`.
    #[must_use]
    pub fn new(kind: CandidateKind, addr: SocketAddr) -> Self {
        Self { kind, addr }
    }
}

/// How good a path is before anything is measured: better tiers first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// On one local network.
    Lan,
    /// Over the internet, IPv6.
    Ipv6,
    /// Over the internet, IPv4.
    Direct,
    /// Through a relay, over UDP.
    Relayed,
    /// Through a relay, inside QUIC or TLS.
    Carried,
}

impl Tier {
    /// Whether nobody forwards for us.
    #[must_use]
    pub fn is_direct(self) -> bool {
        match self {
            Self::Lan | Self::Ipv6 | Self::Direct => true,
            Self::Relayed | Self::Carried => false,
        }
    }

    /// The tier of an address that is sent to directly.
    pub(crate) fn of_direct(addr: SocketAddr) -> Self {
        match addr.ip() {
            ip if is_local(ip) || ip.is_loopback() => Self::Lan,
            IpAddr::V6(_) => Self::Ipv6,
            IpAddr::V4(_) => Self::Direct,
        }
    }
}

/// One spelling of an address: IPv4 inside IPv6 is IPv4, flow label and zone are dropped.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Whether an address can be somebody's: a port, and an IP that one host answers to. Class E is refused, as there live
/// the virtual addresses of carried paths, which mean something only inside one process.
pub(crate) fn is_usable(addr: SocketAddr) -> bool {
    let ip_can_be = match addr.ip() {
        IpAddr::V4(ip) => ip.octets()[0] != 0 && ip.octets()[0] < 224,
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    addr.port() != 0 && ip_can_be
}

/// Private (RFC 1918, also the shared 100.64.0.0/10 of RFC 6598), link-local, or unique local.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || is_shared(ip),
        IpAddr::V6(ip) => is_unique_local(ip) || is_link_local(ip),
    }
}

/// Whether two addresses are on one link as far as their prefixes tell: /24 of IPv4, /64 of IPv6.
pub(crate) fn share_prefix(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8],
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn is_shared(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64
}

fn is_unique_local(ip: Ipv6Addr) -> bool {
    ip.octets()[0] & 0xfe == 0xfc
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.octets()[0] == 0xfe && ip.octets()[1] & 0xc0 == 0x80
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_cannot_be_a_host_is_not_usable() {
        for (addr, usable) in [
            ("192.0.2.1:1", true),
            ("192.0.2.1:0", false),
            ("0.1.2.3:9", false),
            ("224.0.0.1:9", false),
            ("240.0.0.1:9", false),
            ("255.255.255.255:9", false),
            ("[::]:9", false),
            ("[ff02::1]:9", false),
            ("[2001:db8::1]:9", true),
        ] {
            assert_eq!(is_usable(addr.parse().unwrap()), usable, "{addr}");
        }
    }

    #[test]
    fn tiers_follow_the_address() {
        for (addr, tier) in [
            ("192.168.1.2:9", Tier::Lan),
            ("100.64.1.2:9", Tier::Lan),
            ("100.128.1.2:9", Tier::Direct),
            ("169.254.1.2:9", Tier::Lan),
            ("[fd00::1]:9", Tier::Lan),
            ("[fe80::1]:9", Tier::Lan),
            ("[2001:db8::1]:9", Tier::Ipv6),
            ("11.0.0.1:9", Tier::Direct),
        ] {
            assert_eq!(Tier::of_direct(addr.parse().unwrap()), tier, "{addr}");
        }
        assert!(Tier::Lan < Tier::Ipv6 && Tier::Direct < Tier::Relayed);
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        let addr = canonical("[::ffff:192.0.2.1]:7".parse().unwrap());
        assert_eq!(addr, "192.0.2.1:7".parse().unwrap());
    }

    #[test]
    fn kinds_have_one_code_each() {
        for kind in CandidateKind::ALL {
            assert_eq!(CandidateKind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(CandidateKind::from_code(6), None);
    }
}
