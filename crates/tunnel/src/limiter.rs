//! Load and fairness: when handshakes become too many, and how many one source may make then.
//! It refuses to hold an unproven source: an entry exists only for an address that returned a cookie.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::timers::elapsed;

/// Load is measured over this long and, once seen, assumed for this long.
const LOAD_PERIOD: Duration = Duration::from_secs(1);

/// Counts handshake messages with a right MAC1: each would cost up to four x25519 operations (≈ 0.2 ms).
pub(crate) struct Load {
    per_second: u32,
    seen: u32,
    period_start: Option<Instant>,
    loaded_until: Option<Instant>,
    pub(crate) forced: bool,
}

impl Load {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            seen: 0,
            period_start: None,
            loaded_until: None,
            forced: false,
        }
    }

    /// Counts one handshake message and says whether we are under load.
    pub(crate) fn note(&mut self, now: Instant) -> bool {
        if self
            .period_start
            .is_none_or(|start| elapsed(start, now) >= LOAD_PERIOD)
        {
            self.period_start = Some(now);
            self.seen = 0;
        }
        self.seen = self.seen.saturating_add(1);
        if self.seen > self.per_second {
            self.loaded_until = Some(now + LOAD_PERIOD);
        }
        self.is_loaded(now)
    }

    pub(crate) fn is_loaded(&self, now: Instant) -> bool {
        self.forced || self.loaded_until.is_some_and(|until| now < until)
    }
}

/// A source may make this many handshakes at once …
const BURST: u32 = 10;
/// … and then one each 50 ms (20 a second): far above one peer's need (one each 120 s, a retry each 5 s), and room for
/// a household behind one address.
const REFILL: Duration = Duration::from_millis(50);

/// A token bucket per source while under load. Bounded: `max_sources` entries of about 64 bytes.
pub(crate) struct SourceLimiter {
    buckets: BTreeMap<IpAddr, Bucket>,
    max_sources: usize,
    swept: Option<Instant>,
}

struct Bucket {
    tokens: u32,
    since: Instant,
}

impl SourceLimiter {
    pub(crate) fn new(max_sources: usize) -> Self {
        Self {
            buckets: BTreeMap::new(),
            max_sources,
            swept: None,
        }
    }

    /// Takes a token of `from`'s bucket, if there is one.
    pub(crate) fn admit(&mut self, from: SocketAddr, now: Instant) -> bool {
        let source = source_of(from);
        if !self.buckets.contains_key(&source) && self.buckets.len() >= self.max_sources {
            self.sweep(now);
            if self.buckets.len() >= self.max_sources {
                return false;
            }
        }
        let bucket = self.buckets.entry(source).or_insert(Bucket {
            tokens: BURST,
            since: now,
        });
        bucket.refill(now);
        if bucket.tokens == 0 {
            return false;
        }
        bucket.tokens -= 1;
        true
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Forgets sources whose bucket is full again: they are as good as unknown. At most once per refill, so that a
    /// full table costs one pass each 50 ms and not one per message.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|last| elapsed(last, now) < REFILL) {
            return;
        }
        self.swept = Some(now);
        self.buckets.retain(|_, bucket| {
            bucket.refill(now);
            bucket.tokens < BURST
        });
    }
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let due = u32::try_from(elapsed(self.since, now).as_nanos() / REFILL.as_nanos())
            .unwrap_or(u32::MAX);
        if due >= BURST - self.tokens {
            (self.tokens, self.since) = (BURST, now);
        } else {
            self.tokens += due;
            self.since += REFILL * due;
        }
    }
}

/// One IPv4 address, or one IPv6 /64: what one customer of an access provider has at least.
fn source_of(from: SocketAddr) -> IpAddr {
    match from.ip() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::instant;

    #[test]
    fn load_is_counted_per_second_and_ends() {
        let (mut load, now) = (Load::new(3), instant());
        assert!((0..3).all(|_| !load.note(now)));
        assert!(load.note(now));
        assert!(load.is_loaded(now + Duration::from_millis(999)));
        assert!(!load.is_loaded(now + LOAD_PERIOD));
        assert!(!load.note(now + LOAD_PERIOD));
    }

    #[test]
    fn one_source_runs_dry_and_another_does_not() {
        let (mut limiter, now) = (SourceLimiter::new(10), instant());
        let (flood, honest) = (
            SocketAddr::from(([10, 0, 0, 1], 1)),
            SocketAddr::from(([10, 0, 0, 2], 1)),
        );
        let admitted = (0..1_000).filter(|_| limiter.admit(flood, now)).count();
        assert_eq!(admitted, BURST as usize);
        assert!(limiter.admit(honest, now));
        assert!(!limiter.admit(flood, now + REFILL / 2));
        assert!(limiter.admit(flood, now + REFILL));
        assert!(!limiter.admit(flood, now + REFILL));
    }

    #[test]
    fn a_whole_64_is_one_source() {
        let (mut limiter, now) = (SourceLimiter::new(10), instant());
        let from = |low: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, low], 9));
        assert_eq!(
            (0..100)
                .filter(|low| limiter.admit(from(*low), now))
                .count(),
            BURST as usize
        );
    }

    #[test]
    fn the_table_is_bounded_and_recovers() {
        let (mut limiter, now) = (SourceLimiter::new(100), instant());
        let from = |i: u32| SocketAddr::from((i.to_be_bytes(), 9));
        assert_eq!(
            (0..10_000).filter(|i| limiter.admit(from(*i), now)).count(),
            100
        );
        assert_eq!(limiter.buckets.len(), 100);
        let later = now + REFILL;
        assert!(
            limiter.admit(from(1 << 20), later),
            "full buckets are forgotten"
        );
    }
}
