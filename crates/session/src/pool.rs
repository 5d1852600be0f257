//! One address plan for all consumers of an exit: session number `n` has the `n`-th address of both pools.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Addresses that no consumer gets: the network's own and the exit's.
const RESERVED: u32 = 2;
/// Most sessions of one exit; a slot takes 16 bytes.
const MAX_SLOTS: u32 = 16_384;

/// Hands out addresses and finds their owners without searching.
#[derive(Debug)]
pub(crate) struct AddressPool<T> {
    v4: Ipv4Net,
    v6: Option<Ipv6Net>,
    slots: Vec<Option<T>>,
    capacity: u32,
    /// Where the search for a free slot goes on, so that an address is reused as late as possible.
    cursor: u32,
}

/// An assigned pair of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) slot: u32,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Option<Ipv6Addr>,
}

impl<T: Copy> AddressPool<T> {
    pub(crate) fn new(v4: Ipv4Net, v6: Option<Ipv6Net>) -> Self {
        let hosts = 1_u64 << (32 - u32::from(v4.prefix_len()));
        // The broadcast address stays free.
        let usable = hosts.saturating_sub(u64::from(RESERVED) + 1);
        let usable_v6 = v6.map_or(u64::MAX, |net| {
            let hosts = 1_u64.checked_shl(128 - u32::from(net.prefix_len()));
            hosts.map_or(u64::MAX, |hosts| hosts.saturating_sub(RESERVED.into()))
        });
        let usable = usable.min(usable_v6);
        let capacity = u32::try_from(usable).unwrap_or(u32::MAX).min(MAX_SLOTS);
        Self {
            v4,
            v6,
            slots: Vec::new(),
            capacity,
            cursor: 0,
        }
    }

    /// The address of the exit itself on the tunnel device.
    pub(crate) fn exit_v4(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.v4.network()) + 1)
    }

    pub(crate) fn exit_v6(&self) -> Option<Ipv6Addr> {
        self.v6
            .map(|net| Ipv6Addr::from(u128::from(net.network()) + 1))
    }

    /// A free pair, not yet taken; `None` when the pool is exhausted.
    pub(crate) fn vacancy(&self) -> Option<Lease> {
        let slot = (0..self.capacity)
            .map(|step| (self.cursor + step) % self.capacity)
            .find(|slot| self.slots.get(*slot as usize).is_none_or(Option::is_none))?;
        let v4 = Ipv4Addr::from(u32::from(self.v4.network()) + RESERVED + slot);
        let v6 = self
            .v6
            .map(|net| Ipv6Addr::from(u128::from(net.network()) + u128::from(RESERVED + slot)));
        Some(Lease { slot, v4, v6 })
    }

    /// Takes a vacancy.
    pub(crate) fn occupy(&mut self, lease: &Lease, owner: T) {
        let index = lease.slot as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        self.slots[index] = Some(owner);
        self.cursor = (lease.slot + 1) % self.capacity;
    }

    pub(crate) fn release(&mut self, lease: &Lease) {
        if let Some(slot) = self.slots.get_mut(lease.slot as usize) {
            *slot = None;
        }
    }

    /// Whose address this is, and the number of its slot.
    pub(crate) fn tenant(&self, address: IpAddr) -> Option<(u32, T)> {
        let number = match address {
            IpAddr::V4(address) => {
                u128::from(u32::from(address).checked_sub(u32::from(self.v4.network()))?)
            }
            IpAddr::V6(address) => {
                u128::from(address).checked_sub(u128::from(self.v6?.network()))?
            }
        };
        let slot = u32::try_from(number.checked_sub(u128::from(RESERVED))?).ok()?;
        let owner = self.slots.get(slot as usize).copied().flatten()?;
        Some((slot, owner))
    }

    #[cfg(test)]
    pub(crate) fn owner(&self, address: IpAddr) -> Option<T> {
        self.tenant(address).map(|(_, owner)| owner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn take(pool: &mut AddressPool<u8>, owner: u8) -> Option<Lease> {
        let lease = pool.vacancy()?;
        pool.occupy(&lease, owner);
        Some(lease)
    }

    fn pool() -> AddressPool<u8> {
        AddressPool::new(
            "10.80.0.0/29".parse().unwrap(),
            Some("fd00:80::/64".parse().unwrap()),
        )
    }

    #[test]
    fn a_small_pool_is_used_up_and_refilled() {
        let mut pool = pool();
        let leases: Vec<_> = (0..5).map(|n| take(&mut pool, n).unwrap()).collect();
        assert_eq!(leases[0].v4.to_string(), "10.80.0.2");
        assert_eq!(leases[4].v4.to_string(), "10.80.0.6");
        assert_eq!(leases[4].v6.unwrap().to_string(), "fd00:80::6");
        assert!(take(&mut pool, 9).is_none());
        pool.release(&leases[2]);
        assert_eq!(take(&mut pool, 9).unwrap().v4, leases[2].v4);
    }

    #[test]
    fn the_smaller_of_two_networks_says_how_many() {
        let small = Some("fd00:80::/126".parse().unwrap());
        let mut pool = AddressPool::new("10.80.0.0/24".parse().unwrap(), small);
        let leases: Vec<_> = std::iter::from_fn(|| take(&mut pool, 1)).collect();
        let last = leases.last().unwrap().v6.unwrap();
        assert_eq!((leases.len(), last.to_string()), (2, "fd00:80::3".into()));
        for nothing in ["10.80.0.0/30", "10.80.0.0/31", "10.80.0.0/32"] {
            let mut pool = AddressPool::new(nothing.parse().unwrap(), None);
            let leases = std::iter::from_fn(|| take(&mut pool, 1)).count();
            assert_eq!(leases, usize::from(nothing.ends_with("/30")), "{nothing}");
        }
    }

    #[test]
    fn owners_are_found_by_either_address_and_strangers_have_none() {
        let mut pool = pool();
        let lease = take(&mut pool, 7).unwrap();
        assert_eq!(pool.owner(lease.v4.into()), Some(7));
        assert_eq!(pool.owner(lease.v6.unwrap().into()), Some(7));
        for stranger in [
            "10.80.0.1",
            "10.80.0.3",
            "9.9.9.9",
            "255.255.255.255",
            "fd00:80::1",
            "::",
            "ffff::",
        ] {
            assert_eq!(pool.owner(stranger.parse().unwrap()), None, "{stranger}");
        }
        assert_eq!(pool.exit_v4().to_string(), "10.80.0.1");
        assert_eq!(pool.exit_v6().unwrap().to_string(), "fd00:80::1");
    }
}
