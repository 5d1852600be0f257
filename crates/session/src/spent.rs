//! Agreements that were used. An agreement's preimages follow from its id and total: used again, old payments would fit the new
//! invoices, and the Hermes would answer them with old promises. It refuses to grow without end.

use std::collections::{BTreeSet, VecDeque};

use wayfare_payment::AgreementId;

/// Ended agreements that are remembered, so that none is used twice; 32 bytes each, twice: 4 MiB.
const MAX_SPENT: usize = 65_536;

/// The last of them, in the order in which they ended.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    known: BTreeSet<AgreementId>,
    in_order: VecDeque<AgreementId>,
}

impl Spent {
    pub(crate) fn contains(&self, id: AgreementId) -> bool {
        self.known.contains(&id)
    }

    pub(crate) fn insert(&mut self, id: AgreementId) {
        if !self.known.insert(id) {
            return;
        }
        self.in_order.push_back(id);
        if self.in_order.len() > MAX_SPENT
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
