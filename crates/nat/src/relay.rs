//! A relay's board: which channels are open between whom, and where a frame goes. Frames are passed on as they came; nobody
//! here can read them.
//!
//! Admission is bounded three ways: channels altogether, channels of one peer, and bytes a second of a channel. It refuses to
//! send to an address that is not the one from which the peer's own authenticated connection comes, and to pass an opener's frames
//! on before the callee has taken its call. Openers choose their channels' numbers: of a stranger's they learn only that it is
//! taken, for frames pass between the addresses of its ends and no others.
//!
//! A relay with a price keeps an account of each opener besides: what passes is what the credit covers, or what is free
//! ([`FreeLimits`]). It refuses to know prices: [`RelayBoard::allow`] is told bytes.

mod account;
mod bucket;
mod free;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use wayfare_identity::NodeId;

pub use self::account::AccountUse;
use self::account::{Account, Accounts};
use self::bucket::{Bucket, Rate};
use self::free::Free;
pub use self::free::FreeLimits;

/// What a relay gives away. The worst case in memory is about 300 bytes for each channel, and for each idle peer what `cargo xtask
/// bench relay` measures: about 150 KB, so 1.8 GB with all places taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Peers connected at a time; who comes then is told so and turned away.
    pub peers: usize,
    /// Channels open at a time, of all peers.
    pub channels: usize,
    /// Channels that one peer may have opened.
    pub channels_of_peer: usize,
    /// Bytes a second of one channel, both directions together; a second's worth may come at once.
    pub bytes_per_second: u64,
    /// What openers get who do not pay; `None`: the relay has no price and carries everything.
    pub free: Option<FreeLimits>,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            peers: 12_288,
            channels: 10_000,
            channels_of_peer: 64,
            bytes_per_second: 125_000_000,
            free: None,
        }
    }
}

impl RelayLimits {
    fn rate(&self) -> Rate {
        Rate {
            per_second: self.bytes_per_second,
            most: self.bytes_per_second,
        }
    }
}

/// Why a relay opens no channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayRefusal {
    /// All its channels are taken.
    #[error("the relay has no channel left: try another one")]
    Full,
    /// This peer has as many as it may.
    #[error("too many channels of one node are open at this relay")]
    TooMany,
    /// The other node is not connected to this relay.
    #[error("the node is not connected to this relay")]
    Absent,
    /// Both ends would be the same.
    #[error("a node needs no relay to itself")]
    Oneself,
    /// The opener chose a number that is somebody's.
    #[error("this channel's number is taken")]
    Taken,
}

/// The open channels of a relay.
#[derive(Debug)]
pub struct RelayBoard {
    limits: RelayLimits,
    channels: RwLock<Channels>,
    free: Option<Free>,
}

#[derive(Debug, Default)]
struct Channels {
    open: HashMap<u32, Channel>,
    opened_by: BTreeMap<NodeId, usize>,
    /// Of a relay with a price.
    accounts: Option<Accounts>,
}

/// One way between two peers.
#[derive(Debug)]
struct Channel {
    ends: [End; 2],
    passing: Mutex<Passing>,
    /// The opener's, at a relay with a price.
    account: Option<Arc<Account>>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    node: NodeId,
    at: SocketAddr,
}

/// What passes: a bucket of a second's worth, and totals.
#[derive(Debug)]
struct Passing {
    /// The callee has taken the call, as it says or as its frames show.
    answered: bool,
    bucket: Bucket,
    used: Instant,
    bytes: [u64; 2],
    refused: u64,
}

/// A channel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelUse {
    /// Its number.
    pub channel: u32,
    /// Who opened it, and the other.
    pub nodes: [NodeId; 2],
    /// Bytes from each of them.
    pub bytes: [u64; 2],
    /// Bytes that exceeded the rate, or the opener's credit.
    pub refused: u64,
}

impl RelayBoard {
    /// A board without channels.
    #[must_use]
    pub fn new(limits: RelayLimits) -> Self {
        let channels = Channels {
            accounts: limits.free.map(|free| Accounts::new(free, limits.channels)),
            ..Channels::default()
        };
        Self {
            limits,
            channels: RwLock::new(channels),
            free: limits.free.map(Free::new),
        }
    }

    /// Opens a channel of this number between two nodes, each where its connection comes from.
    ///
    /// # Errors
    /// [`RelayRefusal`].
    pub(crate) fn open(
        &self,
        from: (NodeId, SocketAddr),
        to: (NodeId, SocketAddr),
        number: u32,
        now: Instant,
    ) -> Result<(), RelayRefusal> {
        if from.0 == to.0 {
            return Err(RelayRefusal::Oneself);
        }
        let mut channels = self.write();
        if channels.open.len() >= self.limits.channels {
            return Err(RelayRefusal::Full);
        }
        let opened = channels.opened_by.get(&from.0).copied().unwrap_or(0);
        if opened >= self.limits.channels_of_peer {
            return Err(RelayRefusal::TooMany);
        }
        if channels.open.contains_key(&number) {
            return Err(RelayRefusal::Taken);
        }
        let account = match &mut channels.accounts {
            Some(accounts) => Some(accounts.open(from.0, now).ok_or(RelayRefusal::Full)?),
            None => None,
        };
        let end = |(node, at)| End { node, at };
        channels.open.insert(
            number,
            Channel {
                ends: [end(from), end(to)],
                passing: Mutex::new(Passing {
                    answered: false,
                    bucket: Bucket::full(self.limits.rate(), now),
                    used: now,
                    bytes: [0; 2],
                    refused: 0,
                }),
                account,
            },
        );
        *channels.opened_by.entry(from.0).or_default() += 1;
        Ok(())
    }

    /// The callee has taken the call.
    pub(crate) fn answered(&self, number: u32) {
        if let Some(channel) = self.read().open.get(&number) {
            channel.passing().answered = true;
        }
    }

    /// Whether the first datagrams of an opener, of so many bytes, may be rung with: they count as frames.
    pub(crate) fn admit_first(&self, number: u32, bytes: usize, now: Instant) -> bool {
        let channels = self.read();
        let channel = channels.open.get(&number);
        channel.is_some_and(|channel| self.pass(channel, 0, bytes, now))
    }

    /// Closes a channel if `node` is one of its ends; tells the other.
    pub(crate) fn close(&self, number: u32, node: NodeId) -> Option<NodeId> {
        let mut channels = self.write();
        let ends = channels.open.get(&number)?.ends;
        let other = other_end(&ends, node)?;
        channels.remove(number);
        Some(other)
    }

    /// The node at the other end of a channel.
    pub(crate) fn other(&self, number: u32, node: NodeId) -> Option<NodeId> {
        let channels = self.read();
        other_end(&channels.open.get(&number)?.ends, node)
    }

    /// Where a frame that came from `from` goes, if its channel is open, `from` is one of its ends, and its rate and
    /// its opener's account allow it.
    pub fn forward(
        &self,
        from: SocketAddr,
        number: u32,
        bytes: usize,
        now: Instant,
    ) -> Option<SocketAddr> {
        let channels = self.read();
        let channel = channels.open.get(&number)?;
        let side = channel.ends.iter().position(|end| end.at == from)?;
        {
            let mut passing = channel.passing();
            passing.answered |= side == 1;
            if !passing.answered {
                return None;
            }
        }
        let passes = self.pass(channel, side, bytes, now);
        passes.then_some(channel.ends[1 - side].at)
    }

    /// Whether bytes from one end pass; they are counted.
    fn pass(&self, channel: &Channel, side: usize, bytes: usize, now: Instant) -> bool {
        let mut passing = channel.passing();
        passing.used = now;
        let bytes = bytes as u64;
        let allowed = || match (&channel.account, &self.free) {
            (Some(account), Some(free)) => account.pass(free, channel.ends[0].at, side, bytes, now),
            (None, _) | (_, None) => true,
        };
        if !passing.bucket.take(bytes, self.limits.rate(), now) || !allowed() {
            passing.refused = passing.refused.saturating_add(bytes);
            return false;
        }
        passing.bytes[side] = passing.bytes[side].saturating_add(bytes);
        true
    }

    /// Follows one peer at once: what it says is often said because it moved.
    pub(crate) fn follow(&self, node: NodeId, at: SocketAddr) {
        let mut channels = self.write();
        let ends = channels.open.values_mut().flat_map(|one| &mut one.ends);
        for end in ends.filter(|end| end.node == node) {
            end.at = at;
        }
    }

    /// Follows the peers to where they are now, and closes channels of those who left or said nothing for `patience`. `at`
    /// tells where a node is.
    pub(crate) fn refresh(
        &self,
        at: impl Fn(NodeId) -> Option<SocketAddr>,
        patience: Duration,
        now: Instant,
    ) {
        let mut channels = self.write();
        let mut gone = Vec::new();
        for (number, channel) in &mut channels.open {
            let passing = channel
                .passing
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            let mut over = now.saturating_duration_since(passing.used) > patience;
            for end in &mut channel.ends {
                match at(end.node) {
                    Some(at) => end.at = at,
                    None => over = true,
                }
            }
            if over {
                gone.push(*number);
            }
        }
        for number in gone {
            channels.remove(number);
        }
        if let Some(accounts) = &mut channels.accounts {
            accounts.refresh(now);
        }
    }

    /// From now on a node pays for what it opens: how many bytes have passed from it and to it so far. Its account is kept until
    /// [`dismiss`](Self::dismiss). `None`: there is no room for it, or this relay has no price.
    pub fn enroll(&self, node: NodeId, now: Instant) -> Option<[u64; 2]> {
        self.write().accounts.as_mut()?.enroll(node, now)
    }

    /// The credit of a node that pays goes so far: to this sum of the bytes that have passed for it since its account was made.
    pub fn allow(&self, node: NodeId, bytes: u64) {
        if let Some(accounts) = &self.read().accounts {
            accounts.allow(node, bytes);
        }
    }

    /// A node pays no longer. Its channels stay, and get what is free.
    pub fn dismiss(&self, node: NodeId) {
        if let Some(accounts) = &mut self.write().accounts {
            accounts.dismiss(node);
        }
    }

    /// The numbers of one opener; `None` if it opened nothing lately, or this relay has no price.
    #[must_use]
    pub fn account(&self, node: NodeId) -> Option<AccountUse> {
        self.read().accounts.as_ref()?.shown(node)
    }

    /// The numbers of all openers; none if this relay has no price.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountUse> {
        let channels = self.read();
        let accounts = channels.accounts.as_ref();
        accounts.map_or_else(Vec::new, Accounts::all)
    }

    /// The open channels and what passed.
    #[must_use]
    pub fn used(&self) -> Vec<ChannelUse> {
        let channels = self.read();
        let told = channels.open.iter().map(|(number, channel)| {
            let passing = channel.passing();
            ChannelUse {
                channel: *number,
                nodes: channel.ends.map(|end| end.node),
                bytes: passing.bytes,
                refused: passing.refused,
            }
        });
        told.collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Channels> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Channels> {
        self.channels
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    fn passing(&self) -> MutexGuard<'_, Passing> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channels {
    fn remove(&mut self, number: u32) {
        let Some(channel) = self.open.remove(&number) else {
            return;
        };
        let opener = channel.ends[0].node;
        if let Some(accounts) = &mut self.accounts {
            accounts.close(opener);
        }
        if let Some(count) = self.opened_by.get_mut(&opener) {
            *count -= 1;
            if *count == 0 {
                self.opened_by.remove(&opener);
            }
        }
    }
}

fn other_end(ends: &[End; 2], node: NodeId) -> Option<NodeId> {
    match ends.map(|end| end.node) {
        [a, b] if a == node => Some(b),
        [a, b] if b == node => Some(a),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
