//! The order of an answer. It refuses to let anything decide that is free to claim, before what had to be shown.
//!
//! First by tier (reached, unknown, failing). Within a tier in rounds: each network and each identity gets one entry a round, so
//! the first of each comes before the second of any. Within a round by how much an entry has served its asker (by powers of two,
//! so that price still counts), then by price, then by a secret number.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use wayfare_identity::{Address, U256};
use wayfare_payment::Price;

use super::crowd::Prefix;
use super::slot::{Slot, Tier};
use crate::Proposal;

type Merit = (Tier, Reverse<u32>, u128, u64);

/// A proposal that fits, and what its place depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    merit: Merit,
    prefix: Prefix,
    proposal: &'a Proposal,
}

impl<'a> Candidate<'a> {
    pub(super) fn new(slot: &Slot, proposal: &'a Proposal, now: u64) -> Self {
        let served = slot.served().checked_ilog2().map_or(0, |log| log + 1);
        let merit = (
            slot.tier(now),
            Reverse(served),
            hourly(&proposal.price),
            slot.tie(),
        );
        Self {
            merit,
            prefix: slot.prefix(),
            proposal,
        }
    }
}

/// The best `want`, best first.
pub(super) fn ranked(mut candidates: Vec<Candidate<'_>>, want: usize) -> Vec<&Proposal> {
    candidates.sort_unstable_by_key(|candidate| candidate.merit);
    let mut best = Vec::with_capacity(want.min(candidates.len()));
    for tier in candidates.chunk_by(|a, b| a.merit.0 == b.merit.0) {
        let missing = want - best.len();
        if missing == 0 {
            break;
        }
        best.extend(in_rounds(tier, missing));
    }
    best
}

fn in_rounds<'a>(sorted: &[Candidate<'a>], want: usize) -> impl Iterator<Item = &'a Proposal> {
    let mut networks: BTreeMap<Prefix, usize> = BTreeMap::new();
    let mut identities: BTreeMap<Address, usize> = BTreeMap::new();
    // Rounds from `want` on share the last place: hardly anything of them is ever shown.
    let mut rounds: Vec<Vec<&Proposal>> = vec![Vec::new(); want + 1];
    for candidate in sorted {
        let network = networks.entry(candidate.prefix).or_default();
        // Of a crowd, `want` are enough; this bounds the cost of a flood out of a few networks.
        if *network >= want && rounds[want].len() >= want {
            continue;
        }
        let identity = identities.entry(candidate.proposal.provider).or_default();
        let round = (*network).max(*identity).min(want);
        *network += 1;
        *identity += 1;
        if rounds[round].len() < want {
            rounds[round].push(candidate.proposal);
        }
        if rounds[0].len() >= want {
            break;
        }
    }
    rounds.into_iter().flatten().take(want)
}

/// What an hour with one GiB of traffic costs, in units; [`u128::MAX`] for more than that.
fn hourly(price: &Price) -> u128 {
    let sum: U256 = price.per_hour.saturating_add(price.per_gib).units();
    u128::try_from(sum).unwrap_or(u128::MAX)
}
