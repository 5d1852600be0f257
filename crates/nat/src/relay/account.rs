//! What passed for an opener of channels, and how far its credit goes. It outlives the opener's channels, so that who comes back is
//! who left. Refuses to know money: bytes are allowed by whoever was paid for them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wayfare_identity::NodeId;

use super::bucket::Bucket;
use super::free::{Free, FreeLimits, Kind};

/// How long an account is kept after its last channel.
const KEPT: Duration = Duration::from_secs(600);
/// Accounts beyond one for each channel: those that pay without a channel, and those whose channels have gone. About 300 bytes
/// each.
const SPARE: usize = 8_192;

/// An opener's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountUse {
    /// Who opens the channels.
    pub node: NodeId,
    /// Its channels now.
    pub channels: usize,
    /// Bytes that passed from it, and to it, on all its channels since the account was made. Heads of frames included.
    pub bytes: [u64; 2],
    /// Bytes that did not pass for want of credit.
    pub refused: u64,
    /// Up to which sum of `bytes` its credit goes; 0 for one that does not pay.
    pub allowed: u64,
}

#[derive(Debug)]
pub(super) struct Account {
    passed: [AtomicU64; 2],
    allowed: AtomicU64,
    refused: AtomicU64,
    unpaid: Mutex<Unpaid>,
}

#[derive(Debug)]
struct Unpaid {
    /// What is left of the opener's first bytes.
    first: u64,
    trickle: Bucket,
}

impl Account {
    fn new(limits: &FreeLimits, now: Instant) -> Self {
        Self {
            passed: [AtomicU64::new(0), AtomicU64::new(0)],
            allowed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unpaid: Mutex::new(Unpaid {
                first: limits.opener,
                // So that what passed is never more than the first bytes and the trickle since.
                trickle: Bucket::empty(now),
            }),
        }
    }

    /// Whether `bytes` pass for the opener, which is at `from` and sent them itself if `side` is 0. Credit is used first: who pays
    /// leaves to others what is free. The last train of a credit passes as a whole.
    pub(super) fn pass(
        &self,
        free: &Free,
        from: SocketAddr,
        side: usize,
        bytes: u64,
        now: Instant,
    ) -> bool {
        let passes =
            self.total() < self.allowed.load(Relaxed) || self.pass_unpaid(free, from, bytes, now);
        let counter = if passes {
            &self.passed[side]
        } else {
            &self.refused
        };
        counter.fetch_add(bytes, Relaxed);
        passes
    }

    fn pass_unpaid(&self, free: &Free, from: SocketAddr, bytes: u64, now: Instant) -> bool {
        let mut unpaid = self.unpaid.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes <= unpaid.first && free.take(from, Kind::First, bytes, now) {
            unpaid.first -= bytes;
            return true;
        }
        let rate = free.limits.trickle();
        unpaid.trickle.holds(bytes, rate, now)
            && free.take(from, Kind::Trickle, bytes, now)
            && unpaid.trickle.take(bytes, rate, now)
    }

    fn bytes(&self) -> [u64; 2] {
        [0, 1].map(|side| self.passed[side].load(Relaxed))
    }

    fn total(&self) -> u64 {
        let [from, to] = self.bytes();
        from.saturating_add(to)
    }
}

/// All accounts of a relay with a price.
#[derive(Debug)]
pub(super) struct Accounts {
    limits: FreeLimits,
    most: usize,
    of: BTreeMap<NodeId, Entry>,
}

#[derive(Debug)]
struct Entry {
    account: Arc<Account>,
    channels: usize,
    /// Enrolled by whoever is paid: not forgotten.
    pays: bool,
    /// Seen without channels since.
    idle: Option<Instant>,
}

impl Entry {
    fn is_spare(&self) -> bool {
        self.channels == 0 && !self.pays
    }
}

impl Accounts {
    pub(super) fn new(limits: FreeLimits, channels: usize) -> Self {
        Self {
            limits,
            most: channels.saturating_add(SPARE),
            of: BTreeMap::new(),
        }
    }

    /// The account of an opener, for one more channel; `None` if there is no room for it.
    pub(super) fn open(&mut self, node: NodeId, now: Instant) -> Option<Arc<Account>> {
        let entry = self.entry(node, now)?;
        entry.channels += 1;
        entry.idle = None;
        Some(Arc::clone(&entry.account))
    }

    /// A channel of an opener is closed.
    pub(super) fn close(&mut self, node: NodeId) {
        if let Some(entry) = self.of.get_mut(&node) {
            entry.channels = entry.channels.saturating_sub(1);
        }
    }

    /// From now on an opener pays: what passed so far. `None` if there is no room for it.
    pub(super) fn enroll(&mut self, node: NodeId, now: Instant) -> Option<[u64; 2]> {
        let entry = self.entry(node, now)?;
        entry.pays = true;
        Some(entry.account.bytes())
    }

    /// An opener's credit goes so far, if it pays.
    pub(super) fn allow(&self, node: NodeId, bytes: u64) {
        if let Some(entry) = self.of.get(&node)
            && entry.pays
        {
            entry.account.allowed.store(bytes, Relaxed);
        }
    }

    /// An opener pays no longer.
    pub(super) fn dismiss(&mut self, node: NodeId) {
        if let Some(entry) = self.of.get_mut(&node) {
            entry.pays = false;
            entry.account.allowed.store(0, Relaxed);
        }
    }

    /// Forgets who had no channel for long.
    pub(super) fn refresh(&mut self, now: Instant) {
        self.of.retain(|_, entry| {
            if !entry.is_spare() {
                entry.idle = None;
                return true;
            }
            let since = *entry.idle.get_or_insert(now);
            now.saturating_duration_since(since) < KEPT
        });
    }

    pub(super) fn shown(&self, node: NodeId) -> Option<AccountUse> {
        self.of.get(&node).map(|entry| shown(node, entry))
    }

    pub(super) fn all(&self) -> Vec<AccountUse> {
        let all = self.of.iter().map(|(node, entry)| shown(*node, entry));
        all.collect()
    }

    /// Who is forgotten for want of room gets his first bytes again when he comes back; his address does not.
    fn entry(&mut self, node: NodeId, now: Instant) -> Option<&mut Entry> {
        if !self.of.contains_key(&node) && self.of.len() >= self.most {
            self.of.retain(|_, entry| !entry.is_spare());
            if self.of.len() >= self.most {
                return None;
            }
        }
        let limits = &self.limits;
        let entry = self.of.entry(node).or_insert_with(|| Entry {
            account: Arc::new(Account::new(limits, now)),
            channels: 0,
            pays: false,
            idle: None,
        });
        Some(entry)
    }
}

fn shown(node: NodeId, entry: &Entry) -> AccountUse {
    AccountUse {
        node,
        channels: entry.channels,
        bytes: entry.account.bytes(),
        refused: entry.account.refused.load(Relaxed),
        allowed: entry.account.allowed.load(Relaxed),
    }
}
