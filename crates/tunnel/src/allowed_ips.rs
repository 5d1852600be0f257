//! Which peer owns which addresses: one path-compressed binary trie per address family, longest prefix wins.
//! It refuses two owners for one prefix, and to answer anything but "who owns this address": the same answer routes
//! outgoing packets and judges the source of incoming ones, so a peer cannot speak for a nested prefix of another.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::endpoint::PeerId;

/// Both families. Worst case per prefix: one leaf and one branching node, 2 × 48 bytes.
#[derive(Debug, Default)]
pub(crate) struct AllowedIps {
    v4: Trie,
    v6: Trie,
}

impl AllowedIps {
    /// Gives `prefix` to `owner`.
    ///
    /// # Errors
    /// The present owner, if that is somebody else; nothing is changed then.
    pub(crate) fn insert(&mut self, prefix: IpNet, owner: PeerId) -> Result<(), PeerId> {
        let (trie, bits) = self.split(prefix);
        trie.insert(bits, u32::from(prefix.prefix_len()), owner)
    }

    /// Takes `prefix` from whoever owns it.
    pub(crate) fn remove(&mut self, prefix: IpNet) {
        let (trie, bits) = self.split(prefix);
        trie.remove(bits, u32::from(prefix.prefix_len()));
    }

    /// The owner of the longest prefix that contains `address`.
    pub(crate) fn owner_of(&self, address: IpAddr) -> Option<PeerId> {
        match address {
            IpAddr::V4(_) => self.v4.owner_of(left_aligned(address)),
            IpAddr::V6(_) => self.v6.owner_of(left_aligned(address)),
        }
    }

    fn split(&mut self, prefix: IpNet) -> (&mut Trie, u128) {
        let bits = left_aligned(prefix.network());
        match prefix {
            IpNet::V4(_) => (&mut self.v4, bits),
            IpNet::V6(_) => (&mut self.v6, bits),
        }
    }
}

/// An address with its first bit as the most significant of 128, whatever the family.
fn left_aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[derive(Debug)]
struct Node {
    bits: u128,
    /// How many leading bits of `bits` count.
    len: u32,
    owner: Option<PeerId>,
    children: [Option<u32>; 2],
}

#[derive(Debug, Default)]
struct Trie {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: Option<u32>,
}

/// Where a node hangs: at the root, or at one side of another node.
#[derive(Debug, Clone, Copy)]
enum Link {
    Root,
    Child(u32, usize),
}

impl Trie {
    fn owner_of(&self, address: u128) -> Option<PeerId> {
        let (mut best, mut cursor) = (None, self.root);
        while let Some(at) = cursor {
            let node = &self.nodes[at as usize];
            if common(node.bits, address) < node.len {
                break;
            }
            best = node.owner.or(best);
            // A full-length node has no children; this keeps the shift below 128.
            cursor = if node.len == u128::BITS {
                None
            } else {
                node.children[side(address, node.len)]
            };
        }
        best
    }

    fn insert(&mut self, bits: u128, len: u32, owner: PeerId) -> Result<(), PeerId> {
        let mut link = Link::Root;
        while let Some(at) = self.follow(link) {
            let node = &mut self.nodes[at as usize];
            let shared = common(node.bits, bits).min(node.len).min(len);
            if shared == node.len && shared == len {
                if let Some(present) = node.owner.filter(|present| *present != owner) {
                    return Err(present);
                }
                node.owner = Some(owner);
                return Ok(());
            }
            if shared == node.len {
                link = Link::Child(at, side(bits, shared));
                continue;
            }
            // The new prefix parts from this node above it: hang a node in between.
            let old_side = side(node.bits, shared);
            let leaf = self.allocate(bits, len, Some(owner));
            if shared == len {
                self.nodes[leaf as usize].children[old_side] = Some(at);
                self.hang(link, Some(leaf));
            } else {
                let fork = self.allocate(bits, shared, None);
                self.nodes[fork as usize].children[old_side] = Some(at);
                self.nodes[fork as usize].children[1 - old_side] = Some(leaf);
                self.hang(link, Some(fork));
            }
            return Ok(());
        }
        let leaf = self.allocate(bits, len, Some(owner));
        self.hang(link, Some(leaf));
        Ok(())
    }

    fn remove(&mut self, bits: u128, len: u32) {
        let (mut above, mut link) = (None, Link::Root);
        while let Some(at) = self.follow(link) {
            let node = &mut self.nodes[at as usize];
            if common(node.bits, bits) < node.len || node.len > len {
                return;
            }
            if node.len == len {
                node.owner = None;
                self.prune(link);
                // The node above may have been a fork that now has one branch only.
                if let Some(above) = above {
                    self.prune(above);
                }
                return;
            }
            (above, link) = (Some(link), Link::Child(at, side(bits, node.len)));
        }
    }

    /// Takes out the node at `link` if it owns nothing and joins nothing.
    fn prune(&mut self, link: Link) {
        let Some(at) = self.follow(link) else { return };
        let node = &self.nodes[at as usize];
        let replacement = match (node.owner, node.children) {
            (None, [None, only] | [only, None]) => only,
            (None, [Some(_), Some(_)]) | (Some(_), _) => return,
        };
        self.hang(link, replacement);
        self.free.push(at);
    }

    fn follow(&self, link: Link) -> Option<u32> {
        match link {
            Link::Root => self.root,
            Link::Child(parent, side) => self.nodes[parent as usize].children[side],
        }
    }

    fn hang(&mut self, link: Link, node: Option<u32>) {
        match link {
            Link::Root => self.root = node,
            Link::Child(parent, side) => self.nodes[parent as usize].children[side] = node,
        }
    }

    fn allocate(&mut self, bits: u128, len: u32, owner: Option<PeerId>) -> u32 {
        let node = Node {
            bits,
            len,
            owner,
            children: [None; 2],
        };
        if let Some(at) = self.free.pop() {
            self.nodes[at as usize] = node;
            return at;
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1)
            .expect("peers and prefixes per peer are bounded far below 2^31")
    }
}

/// How many leading bits two addresses share.
fn common(a: u128, b: u128) -> u32 {
    (a ^ b).leading_zeros()
}

/// The bit after the first `len`, as a child's side; `len` is below 128.
fn side(bits: u128, len: u32) -> usize {
    usize::from(bits << len >> 127 == 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn owner(table: &AllowedIps, address: &str) -> Option<u32> {
        table.owner_of(address.parse().unwrap()).map(PeerId::index)
    }

    #[test]
    fn the_longest_prefix_owns_in_whatever_order_they_came() {
        let prefixes = [
            ("0.0.0.0/0", 1),
            ("10.0.0.0/8", 2),
            ("10.1.0.0/16", 3),
            ("10.1.2.3/32", 4),
            ("10.128.0.0/9", 5),
        ];
        for rotation in 0..prefixes.len() {
            let mut table = AllowedIps::default();
            for (prefix, id) in prefixes.iter().cycle().skip(rotation).take(prefixes.len()) {
                table.insert(net(prefix), PeerId::from_index(*id)).unwrap();
            }
            assert_eq!(owner(&table, "8.8.8.8"), Some(1));
            assert_eq!(owner(&table, "10.2.0.1"), Some(2));
            assert_eq!(owner(&table, "10.1.9.9"), Some(3));
            assert_eq!(owner(&table, "10.1.2.3"), Some(4));
            assert_eq!(owner(&table, "10.200.0.1"), Some(5));
            assert_eq!(owner(&table, "::1"), None, "families do not mix");
        }
    }

    #[test]
    fn a_taken_prefix_stays_with_its_owner() {
        let mut table = AllowedIps::default();
        table
            .insert(net("10.0.0.0/24"), PeerId::from_index(1))
            .unwrap();
        assert_eq!(
            table.insert(net("10.0.0.77/24"), PeerId::from_index(2)),
            Err(PeerId::from_index(1))
        );
        assert_eq!(owner(&table, "10.0.0.5"), Some(1));
    }

    #[test]
    fn removal_gives_the_memory_back() {
        let mut table = AllowedIps::default();
        for round in 0..50_u32 {
            for host in 0..64_u32 {
                let prefix = Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + host * 7), 32).unwrap();
                table
                    .insert(prefix.into(), PeerId::from_index(round * 64 + host))
                    .unwrap();
            }
            for host in 0..64_u32 {
                table.remove(
                    Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + host * 7), 32)
                        .unwrap()
                        .into(),
                );
            }
            assert!(table.v4.root.is_none());
        }
        assert!(table.v4.nodes.len() <= 2 * 64, "{}", table.v4.nodes.len());
    }

    fn any_net() -> impl Strategy<Value = IpNet> {
        // Few distinct bits, so that prefixes nest and collide often.
        prop_oneof![
            (0_u32..64, 0_u8..=32).prop_map(|(a, len)| IpNet::from(
                Ipv4Net::new((a << 26 | a).into(), len).unwrap()
            )
            .trunc()),
            (0_u128..64, 0_u8..=128).prop_map(|(a, len)| IpNet::from(
                Ipv6Net::new((a << 122 | a).into(), len).unwrap()
            )
            .trunc()),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(
            steps in prop::collection::vec((any_net(), 0_u32..4, any::<bool>()), 1..80),
            probes in prop::collection::vec(any_net(), 1..40),
        ) {
            let (mut table, mut model) = (AllowedIps::default(), BTreeMap::<IpNet, u32>::new());
            for (prefix, id, add) in steps {
                if !add {
                    table.remove(prefix);
                    model.remove(&prefix);
                } else {
                    let free = model.get(&prefix).is_none_or(|present| *present == id);
                    prop_assert_eq!(table.insert(prefix, PeerId::from_index(id)).is_ok(), free);
                    if free {
                        model.insert(prefix, id);
                    }
                }
            }
            for probe in probes {
                let address = probe.network();
                let expect = model.iter().filter(|(p, _)| p.contains(&address)).max_by_key(|(p, _)| p.prefix_len()).map(|(_, id)| *id);
                prop_assert_eq!(table.owner_of(address).map(PeerId::index), expect, "{}", address);
            }
        }
    }
}
