//! What a relay with a price carries for nothing: enough to find a path, to agree on terms and to begin, and a trickle after that.
//!
//! Node keys cost nothing, so what counts is where an opener comes from: all openers of one address share a bucket, and everybody
//! shares one. Refuses to remember more than [`FreeLimits::addresses`], and to take a pipe's virtual address for a real one: who
//! comes through a pipe draws from the common bucket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bucket::{Bucket, Rate};
use crate::address::is_carried;

/// A trickle saves up so many seconds of itself: a few whole datagrams.
const TRICKLE_SECONDS: u64 = 4;
/// The common bucket saves up so many seconds of itself.
const COMMON_SECONDS: u64 = 60;
/// How often a full table is looked through for addresses that can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// What openers get without paying, in bytes and bytes a second; both directions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeLimits {
    /// Each opener, once.
    pub opener: u64,
    /// Each opener beyond that, a second.
    pub trickle: u64,
    /// All openers of one address (IPv4) or one /56 (IPv6) together, trickle included.
    pub address: u64,
    /// By which that is filled again, a second.
    pub address_per_second: u64,
    /// Everybody together, a second, but for the trickle of known addresses.
    pub common_per_second: u64,
    /// Addresses that are remembered, of about 64 bytes each. Those beyond draw from the common bucket alone.
    pub addresses: usize,
}

impl Default for FreeLimits {
    fn default() -> Self {
        Self {
            // Finding a path, a handshake with the exit and terms, and a page: 64 KiB would be too little for the terms.
            opener: 256 << 10,
            // Heartbeats and a finder's words are below 100 bytes a second.
            trickle: 2 << 10,
            // Sixteen openers at once, as behind one carrier's NAT; one more every four seconds.
            address: 4 << 20,
            address_per_second: 64 << 10,
            // One hundredth of a line of 1 Gb/s.
            common_per_second: 1_250_000,
            addresses: 4_096,
        }
    }
}

impl FreeLimits {
    pub(super) fn trickle(&self) -> Rate {
        Rate {
            per_second: self.trickle,
            most: self.trickle.saturating_mul(TRICKLE_SECONDS),
        }
    }

    fn address(&self) -> Rate {
        Rate {
            per_second: self.address_per_second,
            most: self.address,
        }
    }

    fn common(&self) -> Rate {
        Rate {
            per_second: self.common_per_second,
            most: self.common_per_second.saturating_mul(COMMON_SECONDS),
        }
    }
}

/// Of what kind the bytes are that somebody does not pay for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An opener's first.
    First,
    /// Those after.
    Trickle,
}

/// The buckets that openers share.
#[derive(Debug)]
pub(super) struct Free {
    pub(super) limits: FreeLimits,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Not made before it is asked, as nothing here knows the time before.
    common: Option<Bucket>,
    addresses: HashMap<IpAddr, Bucket>,
    swept: Option<Instant>,
}

impl Free {
    pub(super) fn new(limits: FreeLimits) -> Self {
        Self {
            limits,
            shared: Mutex::new(Shared {
                common: None,
                addresses: HashMap::new(),
                swept: None,
            }),
        }
    }

    /// Takes `bytes` for an opener at `from` out of the buckets that it shares.
    pub(super) fn take(&self, from: SocketAddr, kind: Kind, bytes: u64, now: Instant) -> bool {
        let limits = &self.limits;
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let known = source(from).filter(|source| shared.remembers(*source, limits, now));
        let Shared {
            common, addresses, ..
        } = &mut *shared;
        let common = common.get_or_insert_with(|| Bucket::full(limits.common(), now));
        let Some(own) = known.and_then(|source| addresses.get_mut(&source)) else {
            return common.take(bytes, limits.common(), now);
        };
        match kind {
            Kind::Trickle => own.take(bytes, limits.address(), now),
            Kind::First => {
                own.holds(bytes, limits.address(), now)
                    && common.take(bytes, limits.common(), now)
                    && own.take(bytes, limits.address(), now)
            }
        }
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        let shared = self.shared.lock();
        shared.map_or(0, |shared| shared.addresses.len())
    }
}

impl Shared {
    /// Whether there is a bucket for a source, made if there is room for it.
    fn remembers(&mut self, source: IpAddr, limits: &FreeLimits, now: Instant) -> bool {
        if self.addresses.contains_key(&source) {
            return true;
        }
        let rested = |at: Instant| now.saturating_duration_since(at) >= SWEEP;
        if self.addresses.len() >= limits.addresses && self.swept.is_none_or(rested) {
            self.swept = Some(now);
            self.addresses
                .retain(|_, bucket| !bucket.is_full(limits.address(), now));
        }
        let has_room = self.addresses.len() < limits.addresses;
        if has_room {
            let bucket = Bucket::full(limits.address(), now);
            self.addresses.insert(source, bucket);
        }
        has_room
    }
}

/// What stands for everybody who has the same addresses to choose from; `None` for a virtual one.
fn source(from: SocketAddr) -> Option<IpAddr> {
    match from.ip().to_canonical() {
        IpAddr::V4(_) if is_carried(from) => None,
        IpAddr::V4(ip) => Some(IpAddr::V4(ip)),
        IpAddr::V6(ip) => {
            let kept = ip.to_bits() >> 72 << 72;
            Some(IpAddr::V6(Ipv6Addr::from_bits(kept)))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_source_is_what_one_customer_has() {
        let check = |at: &str, expect: Option<&str>| {
            let expect = expect.map(|ip| ip.parse::<IpAddr>().unwrap());
            assert_eq!(source(at.parse().unwrap()), expect, "{at}");
        };
        check("203.0.113.7:1", Some("203.0.113.7"));
        check("[::ffff:203.0.113.7]:9", Some("203.0.113.7"));
        check("[2001:db8:1:2ff:3::4]:9", Some("2001:db8:1:200::"));
        check("240.0.0.1:1", None);
    }
}
