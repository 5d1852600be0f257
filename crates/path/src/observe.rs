//! "How do you see me?": a question that any node answers to anybody, without state and without amplification.
//! It refuses to answer at more length than was asked, and more often than a source may ask.
//!
//! ```text
//! question 05 00 00 00 | 3 | transaction 16 | zeros 27                    48 bytes
//! reply    05 00 00 00 | 4 | transaction 16 | address 16, port 2 | cookie 8    47 bytes
//! ```
//! The cookie shows later, to whoever answered, that the question came from one who receives at that address.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::candidate::{canonical, is_usable};
use crate::hash;
use crate::probe::{PROBE_HEAD, ProbeKind, address_from_bytes, address_to_bytes};

/// Bytes of a question: more than of the reply, so that nothing is gained by asking in another's name.
pub const OBSERVE_LEN: usize = 48;

/// Bytes of a reply.
pub const OBSERVED_LEN: usize = 47;

/// Shows that somebody receives at an address: [`Cookies`] of whoever gave it know it again.
pub type Cookie = [u8; 8];

/// A question with a transaction that nobody can guess, by which the reply is believed.
#[must_use]
pub fn observe_request(transaction: [u8; 16]) -> [u8; OBSERVE_LEN] {
    let mut bytes = [0; OBSERVE_LEN];
    bytes[..4].copy_from_slice(&PROBE_HEAD);
    bytes[4] = ProbeKind::Observe.code();
    bytes[5..21].copy_from_slice(&transaction);
    bytes
}

/// The reply to a question that came `from` there, with a cookie for that address; `None` if it is no question.
#[must_use]
pub fn observe_reply(
    from: SocketAddr,
    bytes: &[u8],
    cookies: &Cookies,
    now: Instant,
) -> Option<[u8; OBSERVED_LEN]> {
    if ProbeKind::of(bytes)? != ProbeKind::Observe || !is_usable(canonical(from)) {
        return None;
    }
    let mut reply = [0; OBSERVED_LEN];
    reply[..4].copy_from_slice(&PROBE_HEAD);
    reply[4] = ProbeKind::Observed.code();
    reply[5..21].copy_from_slice(&bytes[5..21]);
    reply[21..39].copy_from_slice(&address_to_bytes(from));
    reply[39..].copy_from_slice(&cookies.give(from, now));
    Some(reply)
}

/// What a reply says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Of the question; whoever asked compares it with its own.
    pub transaction: [u8; 16],
    /// Where the other saw us.
    pub seen: SocketAddr,
    /// Shows it that we receive there.
    pub cookie: Cookie,
}

/// What a reply says, if it is one.
#[must_use]
pub fn observe_result(bytes: &[u8]) -> Option<Observed> {
    if ProbeKind::of(bytes)? != ProbeKind::Observed {
        return None;
    }
    let transaction = bytes.get(5..21)?.try_into().ok()?;
    let seen = address_from_bytes(bytes.get(21..39)?)?;
    let cookie = bytes.get(39..)?.try_into().ok()?;
    is_usable(seen).then_some(Observed {
        transaction,
        seen,
        cookie,
    })
}

/// A cookie holds for the rest of the period in which it was given, and for one more: 5 to 10 minutes.
const COOKIE_PERIOD: Duration = Duration::from_secs(300);

/// Cookies for addresses: keyed hashes, so nothing is remembered. Nobody makes one for an address at which it does not receive.
pub struct Cookies {
    key: Zeroizing<[u8; 32]>,
    began: Instant,
}

impl Cookies {
    /// `seed` must be random and secret.
    #[must_use]
    pub fn new(seed: [u8; 32], now: Instant) -> Self {
        Self {
            key: Zeroizing::new(seed),
            began: now,
        }
    }

    fn give(&self, to: SocketAddr, now: Instant) -> Cookie {
        self.of_period(to, self.period(now))
    }

    /// Whether we gave this cookie to that address lately.
    #[must_use]
    pub fn know(&self, cookie: Cookie, of: SocketAddr, now: Instant) -> bool {
        let period = self.period(now);
        let periods = [Some(period), period.checked_sub(1)];
        periods.into_iter().flatten().any(|period| {
            // Without a branch on where they differ.
            let ours = self.of_period(of, period);
            ours.iter().zip(cookie).fold(0, |all, (a, b)| all | (a ^ b)) == 0
        })
    }

    fn period(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / COOKIE_PERIOD.as_secs()
    }

    fn of_period(&self, address: SocketAddr, period: u64) -> Cookie {
        let address = address_to_bytes(canonical(address));
        let hash = hash::keyed_32(&self.key, &[b"cookie", &address, &period.to_be_bytes()]);
        let mut cookie = [0; 8];
        cookie.copy_from_slice(&hash[..8]);
        cookie
    }
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cookies").finish_non_exhaustive()
    }
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
        let now = Instant::now();
        let cookies = Cookies::new([5; 32], now);
        let reply = |bytes: &[u8]| observe_reply(from, bytes, &cookies, now);
        let replied = reply(&question).unwrap();
        let observed = observe_result(&replied).unwrap();
        assert_eq!((observed.transaction, observed.seen), ([7; 16], from));
        assert!(replied.len() <= question.len());
        assert_eq!(reply(&replied), None);
        assert_eq!(reply(&question[..47]), None);
        assert_eq!(observe_result(&question), None);
        assert_eq!(observe_result(&replied[..39]), None);
    }

    #[test]
    fn a_cookie_holds_for_its_address_and_a_while() {
        let now = Instant::now();
        let cookies = Cookies::new([5; 32], now);
        let here: SocketAddr = "[2001:db8::1]:7".parse().unwrap();
        let cookie = cookies.give(here, now);
        assert!(cookies.know(cookie, here, now));
        assert!(cookies.know(cookie, here, now + COOKIE_PERIOD));
        assert!(!cookies.know(cookie, here, now + COOKIE_PERIOD * 2));
        let elsewhere: SocketAddr = "[2001:db8::1]:8".parse().unwrap();
        assert!(!cookies.know(cookie, elsewhere, now));
        assert!(!Cookies::new([6; 32], now).know(cookie, here, now));
        // An IPv4 address is the same on a socket of both families.
        let plain: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:7".parse().unwrap();
        assert!(cookies.know(cookies.give(mapped, now), plain, now));
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
