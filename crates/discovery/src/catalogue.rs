//! The catalogue: verified proposals until they expire, one for each service of each node. It refuses to be flooded: every
//! identity has a quota, the whole has a bound, and identities, which cost nothing, buy no place before a node that was reached.
//!
//! **What the ranking holds.** Entries that were reached (see [`Evidence`]) come before all that were not, so any number of
//! made-up proposals is behind every reached one. Among the reached, each network prefix and each identity gets its first entry
//! before any gets its second; an attacker who really answers from `p` prefixes is thus at most `p` places ahead of an honest
//! node alone in its prefix. **What it does not hold.** A node that nobody has reached yet stands in the crowd of the
//! unreached; [`Catalogue::unproven`] says whom to try next, in an order that no proposal can choose. A place is no praise:
//! reached only means that somebody answered there with the node's key.

mod crowd;
mod ranking;
mod slot;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;

use wayfare_identity::{Address, NodeId, keccak256};

use self::crowd::Crowds;
use self::ranking::{Candidate, ranked};
use self::slot::{Slot, Tier};
use crate::{Proposal, Query, ServiceType, Withdrawal};

/// What distinguishes proposals: one node of one provider offers each service once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalKey {
    /// The provider.
    pub provider: Address,
    /// Its node.
    pub node: NodeId,
    /// The service.
    pub service: ServiceType,
}

/// The bounds of a catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in all. 131,072: about 100 MiB as proposals usually are, 1 GiB if every one were as large as it may be.
    pub entries: usize,
    /// Entries of one identity. 64.
    pub per_identity: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1 << 17,
            per_identity: 64,
        }
    }
}

/// What happened to a proposal that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The first under its key.
    New,
    /// It replaced an older one.
    Replaced,
    /// It was there already.
    Known,
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its time was over before it came.
    #[error("the proposal expired at {0}")]
    Expired(u64),
    /// A newer one, or a withdrawal, came before.
    #[error(
        "the proposal is not newer than number {newest}: sign it with a higher sequence number"
    )]
    Stale {
        /// The highest sequence number seen.
        newest: u64,
    },
    /// The identity has its share.
    #[error("this provider already has {0} entries, the most that one identity may have")]
    Quota(usize),
    /// No place, and no other network has more places than its own.
    #[error("the catalogue is full ({0} entries): try again later")]
    Full(usize),
}

/// What the catalogue's owner found out by itself. Never what somebody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The node answered at this address and proved its node key. The address must be one of the proposal's contacts.
    Reached(SocketAddr),
    /// A session over this address came to a good end. Says also that it was reached.
    Served(SocketAddr),
    /// It was tried, and did not answer or did not serve.
    Failed,
}

/// Verified proposals. Nothing here is ever unverified: [`Proposal`]s come from [`SignedProposal::verify`](crate::SignedProposal::verify).
#[derive(Debug, Clone)]
pub struct Catalogue {
    limits: Limits,
    seed: [u8; 32],
    slots: BTreeMap<ProposalKey, Slot>,
    held: BTreeMap<Address, usize>,
    crowds: Crowds,
}

impl Catalogue {
    /// An empty catalogue. The seed, which must be secret, orders what is equal otherwise.
    #[must_use]
    pub fn new(limits: Limits, seed: [u8; 32]) -> Self {
        Self {
            limits,
            seed,
            slots: BTreeMap::new(),
            held: BTreeMap::new(),
            crowds: Crowds::default(),
        }
    }

    /// Takes a proposal. A place that is needed for it is taken from the most crowded network, never from an entry that was
    /// reached.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn insert(&mut self, proposal: Proposal, now: u64) -> Result<Inserted, Refused> {
        if proposal.expires_at <= now {
            return Err(Refused::Expired(proposal.expires_at));
        }
        let key = proposal.key();
        if let Some(slot) = self.slots.get_mut(&key) {
            if slot.holds(&proposal) {
                return Ok(Inserted::Known);
            }
            if slot.sequence() >= proposal.sequence {
                return Err(Refused::Stale {
                    newest: slot.sequence(),
                });
            }
            self.crowds.leave(slot.prefix(), slot.tie(), &key);
            slot.replace(proposal);
            self.crowds.join(slot.prefix(), slot.tie(), key);
            return Ok(Inserted::Replaced);
        }
        let held = self.held.get(&key.provider).copied().unwrap_or_default();
        if held >= self.limits.per_identity {
            return Err(Refused::Quota(held));
        }
        let slot = Slot::new(proposal, tie(&self.seed, &key));
        if self.slots.len() >= self.limits.entries {
            let victim = self.crowds.victim(slot.prefix(), |key| {
                self.slots
                    .get(key)
                    .is_some_and(|slot| slot.tier(now) != Tier::Reached)
            });
            let victim = victim.ok_or(Refused::Full(self.slots.len()))?;
            self.remove(&victim);
        }
        self.crowds.join(slot.prefix(), slot.tie(), key.clone());
        *self.held.entry(key.provider).or_default() += 1;
        self.slots.insert(key, slot);
        Ok(Inserted::New)
    }

    /// Takes a proposal back; `false` when there was none that the withdrawal covers. Older copies of it are refused from now on
    /// until all of them have expired.
    pub fn withdraw(&mut self, withdrawal: &Withdrawal, now: u64) -> bool {
        self.slots
            .get_mut(&withdrawal.key)
            .is_some_and(|slot| slot.withdraw(withdrawal.sequence, now))
    }

    /// Notes what was found out about an entry; `false` when there is no such entry, or the address is none of its contacts.
    pub fn record(&mut self, key: &ProposalKey, evidence: Evidence, now: u64) -> bool {
        let Some(slot) = self.slots.get_mut(key) else {
            return false;
        };
        self.crowds.leave(slot.prefix(), slot.tie(), key);
        let noted = slot.record(evidence, now);
        self.crowds.join(slot.prefix(), slot.tie(), key.clone());
        noted
    }

    /// Forgets what is over; says how many entries went. Call it every minute or so: queries never show what is over, this only
    /// gives the memory back.
    pub fn expire(&mut self, now: u64) -> usize {
        let over: Vec<ProposalKey> = self
            .slots
            .iter_mut()
            .filter_map(|(key, slot)| slot.expire(now).then(|| key.clone()))
            .collect();
        for key in &over {
            self.remove(key);
        }
        over.len()
    }

    /// The best proposals that fit and are in force, best first; how they are ranked is told at the head of this module.
    #[must_use]
    pub fn query(&self, query: &Query, now: u64) -> Vec<&Proposal> {
        let fitting = self.slots.values().filter_map(|slot| {
            let proposal = slot
                .in_force(now)
                .filter(|proposal| query.matches(proposal))?;
            Some(Candidate::new(slot, proposal, now))
        });
        let (skip, limit) = query.page();
        let mut best = ranked(fitting.collect(), skip + limit);
        best.drain(..skip.min(best.len()));
        best
    }

    /// Whom to try to reach next: those in force that were not reached of late, the longest untried first, in an order
    /// that nobody outside knows.
    #[must_use]
    pub fn unproven(&self, now: u64, limit: usize) -> Vec<&Proposal> {
        let mut waiting: Vec<(u64, u64, &Proposal)> = self
            .slots
            .values()
            .filter(|slot| slot.tier(now) != Tier::Reached)
            .filter_map(|slot| Some((slot.tried_at(), slot.tie(), slot.in_force(now)?)))
            .collect();
        waiting.sort_unstable_by_key(|(tried_at, tie, _)| (*tried_at, *tie));
        waiting
            .into_iter()
            .take(limit)
            .map(|(_, _, proposal)| proposal)
            .collect()
    }

    /// The proposal under a key, if it is in force.
    #[must_use]
    pub fn find(&self, key: &ProposalKey, now: u64) -> Option<&Proposal> {
        self.slots.get(key)?.in_force(now)
    }

    /// Entries in memory, those included that are only remembered so that they do not come back.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn remove(&mut self, key: &ProposalKey) {
        let Some(slot) = self.slots.remove(key) else {
            return;
        };
        self.crowds.leave(slot.prefix(), slot.tie(), key);
        if let Entry::Occupied(mut held) = self.held.entry(key.provider) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

/// A number that nobody can aim for without the seed.
fn tie(seed: &[u8; 32], key: &ProposalKey) -> u64 {
    let bytes = [
        seed.as_slice(),
        key.provider.as_slice(),
        &key.node.0,
        key.service.as_str().as_bytes(),
    ]
    .concat();
    let hash = keccak256(bytes);
    u64::from_be_bytes(*hash.0.first_chunk().expect("32 bytes are more than 8"))
}
