//! How many pipes a relay takes, altogether and from one address. It refuses to remember who has gone.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Pipes at a time. A pipe of TLS holds at worst the 256 KiB that wait, 64 KiB of WebSocket buffers and
/// 64 KiB in the TLS library, and all together 64 MiB more that wait: 448 MiB, with every peer reading
/// nothing. One of QUIC holds 512 KiB: 512 MiB.
const MOST: usize = 1_024;
/// Of one address, of IPv6 one /64: a household, or a few behind one carrier's NAT.
const MOST_OF_ONE: usize = 16;

/// Counts pipes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Admission(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Nobody is listed with 0, so that this is bounded by `all`.
    of: HashMap<IpAddr, usize>,
}

/// A pipe's place; given back when it goes.
#[derive(Debug)]
pub(super) struct Place {
    admission: Admission,
    of: IpAddr,
}

impl Admission {
    /// A place for a pipe from `ip`, if there is one.
    pub(super) fn admit(&self, ip: IpAddr) -> Option<Place> {
        let of = source(ip);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = counts.of.get(&of).copied().unwrap_or(0);
        if counts.all >= MOST || held >= MOST_OF_ONE {
            return None;
        }
        counts.all += 1;
        counts.of.insert(of, held + 1);
        drop(counts);
        Some(Place {
            admission: self.clone(),
            of,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counts = self.admission.0.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(held) = counts.of.get_mut(&self.of) {
            *held -= 1;
            if *held == 0 {
                counts.of.remove(&self.of);
            }
        }
    }
}

fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_few_for_one_and_come_back() {
        let admission = Admission::default();
        let check = |ip: &str| admission.admit(ip.parse().unwrap());
        let held: Vec<Place> = (0..MOST_OF_ONE)
            .map(|n| check(&format!("2001:db8::{n:x}")).unwrap())
            .collect();
        assert!(check("2001:db8::ffff").is_none());
        let neighbour = check("2001:db8:0:1::1");
        assert!(neighbour.is_some() && check("9.9.9.9").is_some());
        drop(held);
        assert!(check("2001:db8::ffff").is_some());
        drop(neighbour);
        assert!(admission.0.lock().unwrap().of.is_empty());
    }

    #[test]
    fn places_are_bounded_altogether() {
        let admission = Admission::default();
        let held: Vec<Place> = (0..MOST as u32)
            .map(|n| admission.admit(IpAddr::V4(n.into())).unwrap())
            .collect();
        assert!(admission.admit([9, 9, 9, 9].into()).is_none());
        assert_eq!(held.len(), MOST);
    }
}
