//! Budgets that several agreements share: that of a session is for its exit and for the relays on the way there together. It refuses
//! to judge an invoice: the payer does, by the budget that it was told last.

use std::collections::BTreeMap;

use wayfare_payment::{AgreementId, Amount, Payer, SignedAgreement};

/// What an agreement is paid out of.
#[derive(Debug)]
pub(super) enum Purse {
    /// A budget of its own; `None`: no limit.
    Own(Option<Amount>),
    /// That of another agreement.
    Of(AgreementId),
}

/// One budget.
#[derive(Debug)]
struct Shared {
    budget: Amount,
    /// By agreements that are over.
    spent: Amount,
}

/// The budgets of running agreements. An agreement without a limit is not in here.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    shared: BTreeMap<AgreementId, Shared>,
    /// Whose budget each is paid out of.
    members: BTreeMap<AgreementId, (SignedAgreement, AgreementId)>,
}

impl Budgets {
    /// What an agreement may cost that begins now.
    pub(super) fn open(
        &mut self,
        terms: &SignedAgreement,
        purse: Purse,
        payer: &Payer,
    ) -> Option<Amount> {
        let id = terms.agreement.id;
        let owner = match purse {
            Purse::Own(budget) => {
                let spent = Amount::ZERO;
                self.shared.insert(
                    id,
                    Shared {
                        budget: budget?,
                        spent,
                    },
                );
                id
            }
            Purse::Of(owner) => owner,
        };
        self.shared.get(&owner)?;
        self.members.insert(id, (*terms, owner));
        self.left(id, payer)
    }

    /// Tells the payer what an agreement may cost in all, after what the others have cost.
    pub(super) fn renew(&self, id: AgreementId, payer: &mut Payer) {
        let Some((terms, owner)) = self.members.get(&id) else {
            return;
        };
        let shared = self.shared.get(owner);
        let alone = self.members.len() == 1 && shared.is_none_or(|it| it.spent.is_zero());
        if !alone && let Err(error) = payer.open(*terms, self.left(id, payer)) {
            tracing::debug!(%error, "an agreement that is over was billed");
        }
    }

    /// An agreement is over; what it cost stays spent.
    pub(super) fn close(&mut self, id: AgreementId, payer: &Payer) {
        let Some((_, owner)) = self.members.remove(&id) else {
            return;
        };
        if self.members.values().all(|(_, of)| *of != owner) {
            self.shared.remove(&owner);
        } else if let Some(shared) = self.shared.get_mut(&owner) {
            let paid = payer.paid(id).unwrap_or_default();
            shared.spent = shared.spent.saturating_add(paid);
        }
    }

    fn left(&self, id: AgreementId, payer: &Payer) -> Option<Amount> {
        let (_, owner) = self.members.get(&id)?;
        let shared = self.shared.get(owner)?;
        let others = self.members.iter();
        let others = others.filter(|(other, (_, of))| *other != &id && of == owner);
        let paid = others.filter_map(|(other, _)| payer.paid(*other));
        let paid = paid.fold(shared.spent, Amount::saturating_add);
        Some(shared.budget.saturating_sub(paid))
    }
}
