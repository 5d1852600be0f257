//! The agreements of a collector, and running answers to what is asked of all of them: what they may yet add to the Hermes' debt,
//! which is due first, which have payments on their way. Thousands of sessions ask for each packet and each payment, so nobody
//! counts them one by one.
//!
//! It refuses to decide: what an agreement is owed and when is its own affair. INVARIANT: an agreement changes only within
//! [`Book::edit`], which renews the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Index;
use std::time::Instant;

use wayfare_identity::{U256, U512};

use super::Patience;
use super::earning::Earning;
use crate::{AgreementId, Amount, Deadline, Usage};

/// What the answers contain of one agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Part {
    claim: Amount,
    due: Option<Instant>,
    /// It has payments that wait for the Hermes.
    waits: bool,
    /// One of them may be tried at any time.
    ready: bool,
    /// The soonest of those that may be tried later.
    retry: Option<Instant>,
    ended: bool,
    /// Its first invoice did not go out yet.
    unasked: bool,
}

impl Part {
    fn of(earning: &Earning, patience: &Patience) -> Self {
        let durable = || earning.pending.iter().filter(|pending| pending.durable);
        Self {
            claim: earning.claim(),
            due: earning.deadline(patience).map(|deadline| deadline.at),
            waits: !earning.pending.is_empty(),
            ready: durable().any(|pending| pending.not_before.is_none()),
            retry: durable().filter_map(|pending| pending.not_before).min(),
            ended: earning.ended_at.is_some(),
            unasked: earning.accepted().is_zero() && earning.next_total().is_some(),
        }
    }
}

/// All agreements. About 400 bytes each beside the agreement itself.
#[derive(Debug)]
pub(super) struct Book {
    patience: Patience,
    earnings: BTreeMap<AgreementId, (Earning, Part)>,
    /// The sum of all claims, in twice the width: it cannot overflow, so what was added can be taken away.
    claims: U512,
    due: BTreeSet<(Instant, AgreementId)>,
    waiting: BTreeSet<AgreementId>,
    ready: BTreeSet<AgreementId>,
    retries: BTreeSet<(Instant, AgreementId)>,
    ended: BTreeSet<AgreementId>,
    unasked: BTreeSet<AgreementId>,
    stirred: BTreeSet<AgreementId>,
}

impl Book {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            earnings: BTreeMap::new(),
            claims: U512::ZERO,
            due: BTreeSet::new(),
            waiting: BTreeSet::new(),
            ready: BTreeSet::new(),
            retries: BTreeSet::new(),
            ended: BTreeSet::new(),
            unasked: BTreeSet::new(),
            stirred: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.earnings.len()
    }

    pub(super) fn get(&self, id: &AgreementId) -> Option<&Earning> {
        self.earnings.get(id).map(|(earning, _)| earning)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Earning> {
        self.earnings.values().map(|(earning, _)| earning)
    }

    pub(super) fn insert(&mut self, id: AgreementId, earning: Earning) {
        self.remove(&id);
        self.earnings.insert(id, (earning, Part::default()));
        self.edit(id, |_| ());
    }

    pub(super) fn remove(&mut self, id: &AgreementId) -> Option<Earning> {
        let (earning, part) = self.earnings.remove(id)?;
        self.renew(*id, part, Part::default());
        self.stirred.remove(id);
        Some(earning)
    }

    /// Takes note of usage. The caller asks at once whether an invoice is due.
    pub(super) fn count(&mut self, id: AgreementId, usage: &Usage) -> Option<()> {
        self.change(id, |earning| earning.count(usage))
    }

    /// Changes an agreement, which is then looked at with the next [`Book::attention`].
    pub(super) fn edit<R>(
        &mut self,
        id: AgreementId,
        change: impl FnOnce(&mut Earning) -> R,
    ) -> Option<R> {
        let outcome = self.change(id, change)?;
        self.stirred.insert(id);
        Some(outcome)
    }

    fn change<R>(&mut self, id: AgreementId, change: impl FnOnce(&mut Earning) -> R) -> Option<R> {
        let (earning, part) = self.earnings.get_mut(&id)?;
        let outcome = change(earning);
        let is = Part::of(earning, &self.patience);
        let was = std::mem::replace(part, is);
        if was != is {
            self.renew(id, was, is);
        }
        Some(outcome)
    }

    fn renew(&mut self, id: AgreementId, was: Part, is: Part) {
        self.claims -= U512::from(was.claim.units());
        self.claims += U512::from(is.claim.units());
        move_moment(&mut self.due, id, was.due, is.due);
        move_moment(&mut self.retries, id, was.retry, is.retry);
        for (set, was, is) in [
            (&mut self.waiting, was.waits, is.waits),
            (&mut self.ready, was.ready, is.ready),
            (&mut self.ended, was.ended, is.ended),
            (&mut self.unasked, was.unasked, is.unasked),
        ] {
            match (was, is) {
                (false, true) => _ = set.insert(id),
                (true, false) => _ = set.remove(&id),
                (true, true) | (false, false) => {}
            }
        }
    }

    /// What all of them may yet add to the Hermes' debt.
    pub(super) fn claims(&self) -> Amount {
        Amount::new(U256::saturating_from(self.claims))
    }

    /// The first deadline of all.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        let (_, id) = self.due.first()?;
        self.get(id)?.deadline(&self.patience)
    }

    /// Those of which something may have become due since the last time: edited, due by time, without their first invoice, ended.
    pub(super) fn attention(&mut self, now: Instant) -> BTreeSet<AgreementId> {
        let mut ids = std::mem::take(&mut self.stirred);
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        ids.extend(due.map(|(_, id)| *id));
        ids.extend(&self.unasked);
        ids.extend(&self.ended);
        ids
    }

    /// Those that were closed.
    pub(super) fn ended(&self) -> impl Iterator<Item = AgreementId> {
        self.ended.iter().copied()
    }

    /// Those that have payments on their way to the Hermes.
    pub(super) fn waiting(&self) -> &BTreeSet<AgreementId> {
        &self.waiting
    }

    /// When the first payment that has to wait may be tried, if none is tried before `not_before`.
    pub(super) fn next_try(&self, not_before: Option<Instant>) -> Option<Instant> {
        if not_before.is_some() && !self.ready.is_empty() {
            return not_before;
        }
        let (first, _) = self.retries.first()?;
        Some(not_before.map_or(*first, |at| at.max(*first)))
    }
}

impl Index<&AgreementId> for Book {
    type Output = Earning;

    fn index(&self, id: &AgreementId) -> &Earning {
        &self.earnings[id].0
    }
}

fn move_moment(
    set: &mut BTreeSet<(Instant, AgreementId)>,
    id: AgreementId,
    was: Option<Instant>,
    is: Option<Instant>,
) {
    if was == is {
        return;
    }
    if let Some(at) = was {
        set.remove(&(at, id));
    }
    if let Some(at) = is {
        set.insert((at, id));
    }
}

#[cfg(test)]
impl Book {
    /// Counts one by one.
    pub(super) fn audit(&self) {
        let mut fresh = Self::new(self.patience);
        for (id, (earning, part)) in &self.earnings {
            let is = Part::of(earning, &self.patience);
            assert_eq!(*part, is, "changed behind the book's back");
            fresh.renew(*id, Part::default(), is);
        }
        assert_eq!(self.claims, fresh.claims);
        assert_eq!((&self.due, &self.retries), (&fresh.due, &fresh.retries));
        assert_eq!((&self.waiting, &self.ready), (&fresh.waiting, &fresh.ready));
        assert_eq!((&self.ended, &self.unasked), (&fresh.ended, &fresh.unasked));
    }
}
