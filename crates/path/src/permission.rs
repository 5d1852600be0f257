//! Whom we send to: the rule against being turned into a weapon (A21).
//! It refuses every address that merely was told to us: a peer that lists a victim's address makes us send it nothing.
//!
//! INVARIANT: an address is sent to only if its IP is attested by a relay or an authenticated connection, or if it is a
//! local address that can be on our own link (both sides are seen at one public IP, or one prefix holds it and us), or
//! if an authenticated probe came from it (the finder's pairs know that), or if the driver itself gave it as a fallback.

use std::net::{IpAddr, SocketAddr};

use crate::candidate::{CandidateKind, is_local, is_usable, share_prefix};
use crate::description::Description;

/// Attested IPs of one peer: a relay or two, in two families, and a change of network. 16 of 17 bytes.
const MAX_ATTESTED: usize = 16;

#[derive(Debug, Clone)]
pub(crate) struct Permission {
    attested: Vec<IpAddr>,
    /// Our own addresses on local networks.
    local: Vec<IpAddr>,
    /// We and the peer are seen at the same public IP.
    neighbours: bool,
}

impl Permission {
    pub(crate) fn new(ours: &Description, attested: &[IpAddr]) -> Self {
        let attested: Vec<IpAddr> = attested
            .iter()
            .map(IpAddr::to_canonical)
            .filter(|ip| is_usable(SocketAddr::new(*ip, 1)))
            .take(MAX_ATTESTED)
            .collect();
        let of_kind = |kind| {
            let of_kind = ours.candidates().iter().filter(move |c| c.kind == kind);
            of_kind.map(|candidate| candidate.addr.ip())
        };
        let neighbours = of_kind(CandidateKind::Observed).any(|ip| attested.contains(&ip));
        let local = of_kind(CandidateKind::Host)
            .filter(|ip| is_local(*ip))
            .collect();
        Self {
            attested,
            local,
            neighbours,
        }
    }

    /// Whether an address that the peer lists may be sent to.
    pub(crate) fn allows(&self, addr: SocketAddr) -> bool {
        let ip = addr.ip();
        if !is_usable(addr) {
            return false;
        }
        self.attests(ip)
            || is_local(ip)
                && (self.neighbours || self.local.iter().any(|ours| share_prefix(*ours, ip)))
    }

    /// Whether somebody we trust saw the peer at `ip`.
    pub(crate) fn attests(&self, ip: IpAddr) -> bool {
        self.attested.contains(&ip)
    }

    /// The IPs that somebody we trust saw the peer at.
    pub(crate) fn attested(&self) -> &[IpAddr] {
        &self.attested
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::candidate::Candidate;
    use crate::observation::NatClass;
    use crate::secret::EphemeralPublic;

    fn permission(ours: &[(CandidateKind, &str)], attested: &[&str]) -> Permission {
        let candidates = ours
            .iter()
            .map(|(kind, addr)| Candidate::new(*kind, addr.parse().unwrap()))
            .collect();
        let ours = Description::new(EphemeralPublic([1; 32]), candidates, NatClass::Unknown);
        let attested: Vec<IpAddr> = attested.iter().map(|ip| ip.parse().unwrap()).collect();
        Permission::new(&ours, &attested)
    }

    #[test]
    fn only_what_is_attested_or_on_our_own_link() {
        use CandidateKind::{Host, Observed};
        let at_home = [(Host, "192.168.7.2:9"), (Observed, "9.9.9.9:9")];
        let far = permission(&at_home, &["8.8.8.8", "fd12::1", "240.0.0.1", "127.0.0.1"]);
        for (addr, allowed) in [
            ("8.8.8.8:1", true),
            ("8.8.4.4:1", false),
            ("8.8.8.8:0", false),
            ("[2001:db8::1]:1", false),
            ("192.168.7.9:1", true),
            ("192.168.8.9:1", false),
            ("10.0.0.1:1", false),
            ("[fd12::1]:1", true),
            ("[fd12::2]:1", false),
            ("240.0.0.1:1", false),
            ("127.0.0.1:1", true),
            ("127.0.0.2:1", false),
        ] {
            assert_eq!(far.allows(addr.parse().unwrap()), allowed, "{addr}");
        }
        let near = permission(&at_home, &["9.9.9.9"]);
        assert!(near.allows("10.0.0.1:1".parse().unwrap()));
        assert!(!near.allows("8.8.8.8:1".parse().unwrap()));
        assert!(!near.allows("127.0.0.1:1".parse().unwrap()));
    }
}
