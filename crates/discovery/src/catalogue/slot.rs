//! One place in the catalogue: a proposal, or the memory of one, and what is known about it. It refuses an older proposal to
//! come back.

use std::net::SocketAddr;

use super::Evidence;
use super::crowd::Prefix;
use crate::{MAX_LIFETIME, MAX_SKEW, Proposal};

/// How long an entry counts as reached, in seconds: as long as the longest proposal lives.
const REACHED_FOR: u64 = MAX_LIFETIME;

/// After so many failures in a row an entry goes behind those never tried: one may be bad luck, and so may two.
const FAILING: u32 = 3;

/// The three classes of the ranking, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    /// Answered at one of its addresses with its key, not long ago.
    Reached,
    /// Nothing is known.
    Unknown,
    /// Did not answer the last times.
    Failing,
}

#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// `None` after it expired or was withdrawn.
    proposal: Option<Proposal>,
    /// The highest seen; it outlives the proposal.
    sequence: u64,
    /// When every proposal with a lower sequence has expired.
    forget_at: u64,
    tie: u64,
    prefix: Prefix,
    reached: Option<(SocketAddr, u64)>,
    tried_at: u64,
    served: u32,
    failures: u32,
}

impl Slot {
    pub(super) fn new(proposal: Proposal, tie: u64) -> Self {
        Self {
            sequence: proposal.sequence,
            forget_at: forget_at(&proposal),
            tie,
            prefix: Prefix::of(proposal.contact.first()),
            reached: None,
            tried_at: 0,
            served: 0,
            failures: 0,
            proposal: Some(proposal),
        }
    }

    pub(super) fn holds(&self, proposal: &Proposal) -> bool {
        self.proposal.as_ref() == Some(proposal)
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn tie(&self) -> u64 {
        self.tie
    }

    /// The network of the address where it was reached, else of the first that it names.
    pub(super) fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// Unix seconds; 0 for never.
    pub(super) fn tried_at(&self) -> u64 {
        self.tried_at
    }

    /// Sessions that came to a good end.
    pub(super) fn served(&self) -> u32 {
        self.served
    }

    pub(super) fn in_force(&self, now: u64) -> Option<&Proposal> {
        self.proposal
            .as_ref()
            .filter(|proposal| proposal.expires_at > now)
    }

    pub(super) fn tier(&self, now: u64) -> Tier {
        if self.failures >= FAILING {
            return Tier::Failing;
        }
        match self.reached {
            Some((_, at)) if now < at.saturating_add(REACHED_FOR) => Tier::Reached,
            Some(_) | None => Tier::Unknown,
        }
    }

    /// A newer proposal. What was proven stays proven only if the address is still named; failures stay in any case.
    pub(super) fn replace(&mut self, proposal: Proposal) {
        self.sequence = proposal.sequence;
        self.forget_at = self.forget_at.max(forget_at(&proposal));
        if self
            .reached
            .is_some_and(|(contact, _)| !proposal.contact.contains(&contact))
        {
            self.reached = None;
            self.served = 0;
        }
        self.prefix = match self.reached {
            Some((contact, _)) => Prefix::of(Some(&contact)),
            None => Prefix::of(proposal.contact.first()),
        };
        self.proposal = Some(proposal);
    }

    pub(super) fn withdraw(&mut self, sequence: u64, now: u64) -> bool {
        if sequence < self.sequence {
            return false;
        }
        self.sequence = sequence;
        // Whatever was issued up to now has expired by then.
        self.forget_at = self
            .forget_at
            .max(now.saturating_add(MAX_SKEW + MAX_LIFETIME));
        self.proposal.take().is_some()
    }

    pub(super) fn record(&mut self, evidence: Evidence, now: u64) -> bool {
        let (contact, served) = match evidence {
            Evidence::Reached(contact) => (contact, 0),
            Evidence::Served(contact) => (contact, 1),
            Evidence::Failed => {
                self.tried_at = now;
                self.failures = self.failures.saturating_add(1);
                return true;
            }
        };
        if !self
            .proposal
            .as_ref()
            .is_some_and(|proposal| proposal.contact.contains(&contact))
        {
            return false;
        }
        self.tried_at = now;
        self.failures = 0;
        self.served = self.served.saturating_add(served);
        self.reached = Some((contact, now));
        self.prefix = Prefix::of(Some(&contact));
        true
    }

    /// Drops a proposal that is over; `true` when the place itself is not needed any more.
    pub(super) fn expire(&mut self, now: u64) -> bool {
        if self.in_force(now).is_none() {
            self.proposal = None;
        }
        self.proposal.is_none() && self.forget_at <= now
    }
}

/// Honest sequence numbers grow with time, so whatever is older was issued earlier, and lives no longer than this.
fn forget_at(proposal: &Proposal) -> u64 {
    proposal.issued_at.saturating_add(MAX_LIFETIME)
}
