//! Networks and how crowded they are: who has to go when the catalogue is full. It refuses to let one network take the places of
//! the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::ProposalKey;

/// How many networks, and how many entries of each, are looked at for one that may go. Keeps an insertion's cost bounded.
const LOOK_AT: usize = 32;

/// A network as one operator gets it: the first 16 bits of an IPv4 address, 32 of an IPv6 address (a provider's allocation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Prefix {
    V4([u8; 2]),
    V6([u8; 4]),
}

impl Prefix {
    pub(super) fn of(contact: Option<&SocketAddr>) -> Self {
        match contact.map(SocketAddr::ip) {
            Some(IpAddr::V4(ip)) => {
                let [a, b, ..] = ip.octets();
                Self::V4([a, b])
            }
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, ..] = ip.octets();
                Self::V6([a, b, c, d])
            }
            // A verified proposal has a contact.
            None => Self::V4([0, 0]),
        }
    }
}

/// Entries by network, and networks by size.
///
/// INVARIANT: `sizes` holds `(members[p].len(), p)` for each `p` of `members`, and no member set is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Crowds {
    members: BTreeMap<Prefix, BTreeSet<(u64, ProposalKey)>>,
    sizes: BTreeSet<(usize, Prefix)>,
}

impl Crowds {
    pub(super) fn join(&mut self, prefix: Prefix, tie: u64, key: ProposalKey) {
        let members = self.members.entry(prefix).or_default();
        self.sizes.remove(&(members.len(), prefix));
        members.insert((tie, key));
        self.sizes.insert((members.len(), prefix));
    }

    pub(super) fn leave(&mut self, prefix: Prefix, tie: u64, key: &ProposalKey) {
        let Some(members) = self.members.get_mut(&prefix) else {
            return;
        };
        self.sizes.remove(&(members.len(), prefix));
        members.remove(&(tie, key.clone()));
        if members.is_empty() {
            self.members.remove(&prefix);
        } else {
            self.sizes.insert((members.len(), prefix));
        }
    }

    /// Who makes room for a newcomer: somebody who `may_go`, out of a network with more entries than the newcomer's.
    pub(super) fn victim(
        &self,
        newcomer: Prefix,
        may_go: impl Fn(&ProposalKey) -> bool,
    ) -> Option<ProposalKey> {
        let own = self.members.get(&newcomer).map_or(0, BTreeSet::len);
        let crowded = self
            .sizes
            .iter()
            .rev()
            .take_while(|(size, _)| *size > own)
            .take(LOOK_AT);
        crowded
            .filter_map(|(_, prefix)| self.members.get(prefix))
            .find_map(|members| members.iter().take(LOOK_AT).find(|(_, key)| may_go(key)))
            .map(|(_, key)| key.clone())
    }
}
