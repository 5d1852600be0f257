//! "How do you see me?": a question that any node answers to anybody, without state and without amplification.
//! It refuses to answer at more length than was asked, and more often than a source may ask.
//!
//! ```text
//! question 05 00 00 00 | 3 | transaction 16 | zeros 27                    48 bytes
//! reply    05 00 00 00 | 4 | transaction 16 | address 16, port 2          39 bytes
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::candidate::{canonical, is_usable};
use crate::hash;
use crate::probe::{PROBE_HEAD, ProbeKind, address_from_bytes, address_to_bytes};

/// Bytes of a question: more than of the reply, so that nothing is gained by asking in another's name.
pub const OBSERVE_LEN: usize = 48;

/// Bytes of a reply.
pub const OBSERVED_LEN: usize = 39;

/// A question with a transaction that nobody can guess, by which the reply is believed.
#[must_use]
pub fn observe_request(transaction: [u8; 16]) -> [u8; OBSERVE_LEN] {
    let mut bytes = [0; OBSERVE_LEN];
    bytes[..4].copy_from_slice(&PROBE_HEAD);
    bytes[4] = ProbeKind::Observe.code();
    bytes[5..21].copy_from_slice(&transaction);
    bytes
}

/// The reply to a question that came `from` there; `None` if it is no question.
#[must_use]
pub fn observe_reply(from: SocketAddr, bytes: &[u8]) -> Option<[u8; OBSERVED_LEN]> {
    if ProbeKind::of(bytes)? != ProbeKind::Observe || !is_usable(canonical(from)) {
        return None;
    }
    let mut reply = [0; OBSERVED_LEN];
    reply[..4].copy_from_slice(&PROBE_HEAD);
    reply[4] = ProbeKind::Observed.code();
    reply[5..21].copy_from_slice(&bytes[5..21]);
    reply[21..].copy_from_slice(&address_to_bytes(from));
    Some(reply)
}

/// The transaction of a reply, and where the other saw us. The caller compares the transaction with its own.
#[must_use]
pub fn observe_result(bytes: &[u8]) -> Option<([u8; 16], SocketAddr)> {
    if ProbeKind::of(bytes)? != ProbeKind::Observed {
        return None;
    }
    let transaction = bytes.get(5..21)?.try_into().ok()?;
    let seen = address_from_bytes(bytes.get(21..)?)?;
    is_usable(seen).then_some((transaction, seen))
}

/// Slots of the limiter: 1,024 × 24 bytes, 24 KiB, whatever comes in.
const SLOTS: usize = 1024;
/// A source may ask this often at once,
const BURST: u32 = 16;
/// and again after this long for each question: 8 a second, enough for a household behind one address.
const REFILL: Duration = Duration::from_millis(125);

/// How often each source IP (each /64 of IPv6) may ask. Sources that fall on one slot share it; the slots are chosen
/// with a secret, so nobody can aim at another's.
pub struct ObserveLimiter {
    key: Zeroizing<[u8; 32]>,
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy)]
struct Slot {
    left: u32,
    since: Instant,
}

impl ObserveLimiter {
    /// `seed` must be random and secret.
    #[must_use]
    pub fn new(seed: [u8; 32], now: Instant) -> Self {
        let slot = Slot {
            left: BURST,
            since: now,
        };
        Self {
            key: Zeroizing::new(seed),
            slots: vec![slot; SLOTS].into_boxed_slice(),
        }
    }

    /// Whether a question of this source may be answered now; it counts.
    pub fn admit(&mut self, from: IpAddr, now: Instant) -> bool {
        let prefix = match from.to_canonical() {
            IpAddr::V4(ip) => (u64::from(u32::from(ip))).to_be_bytes(),
            IpAddr::V6(ip) => {
                let mut prefix = [0; 8];
                prefix.copy_from_slice(&ip.octets()[..8]);
                prefix
            }
        };
        let hash = hash::keyed_32(&self.key, &[&prefix]);
        let slot = &mut self.slots[usize::from(u16::from_le_bytes([hash[0], hash[1]])) % SLOTS];
        let refills = now.saturating_duration_since(slot.since).as_millis() / REFILL.as_millis();
        if refills > 0 {
            let refills = u32::try_from(refills).unwrap_or(u32::MAX);
            slot.left = slot.left.saturating_add(refills).min(BURST);
            slot.since = now;
        }
        let admitted = slot.left > 0;
        slot.left = slot.left.saturating_sub(1);
        admitted
    }
}

impl std::fmt::Debug for ObserveLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObserveLimiter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(
        clippy::disallowed_methods,
        reason = "an `Instant` can only begin with the clock"
    )]
    use super::*;

    #[test]
    fn a_question_is_answered_with_where_it_came_from() {
        let from: SocketAddr = "192.0.2.1:4242".parse().unwrap();
        let question = observe_request([7; 16]);
        let reply = observe_reply(from, &question).unwrap();
        assert_eq!(observe_result(&reply), Some(([7; 16], from)));
        assert!(reply.len() <= question.len());
        assert_eq!(observe_reply(from, &reply), None);
        assert_eq!(observe_reply(from, &question[..47]), None);
        assert_eq!(observe_result(&question), None);
    }

    #[test]
    fn a_source_that_asks_too_often_waits_and_others_do_not() {
        let now = Instant::now();
        let mut limiter = ObserveLimiter::new([3; 32], now);
        let (loud, quiet) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let answered = (0..100).filter(|_| limiter.admit(loud, now)).count();
        assert_eq!(answered, BURST as usize);
        assert!(limiter.admit(quiet, now));
        assert!(!limiter.admit(loud, now + REFILL / 2));
        assert!(limiter.admit(loud, now + REFILL));
        assert!(!limiter.admit(loud, now + REFILL));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let now = Instant::now();
        let mut limiter = ObserveLimiter::new([3; 32], now);
        let answered = (0..100u16)
            .filter(|n| {
                let ip = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, *n);
                limiter.admit(ip.into(), now)
            })
            .count();
        assert_eq!(answered, BURST as usize);
    }
}
