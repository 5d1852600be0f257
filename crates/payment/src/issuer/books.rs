//! What a Hermes keeps of one consumer, and the rule by which its promises cover its payments.
//!
//! Every payment carries a cumulative promise, and the Hermes can collect the largest one whose preimage it knows. Which preimages
//! it will learn is up to providers, one of whom may be the consumer's friend. So the promises have to suffice **whichever subset
//! is revealed**: ordered by amount, each promise has to cover its own payment and all those with smaller promises. Honest consumers
//! meet this in every order of arrival, since a cumulative promise counts all that were signed before it.

use crate::record::{IssuerConsumerRecord, Outstanding};
use crate::{Amount, ChannelId, IssueRefusal, Preimage, SignedPromise};

/// Payments of one consumer whose preimages are not known yet: one for each provider that is being paid. Bounds the record to
/// about 5 KiB.
const MAX_OUTSTANDING: usize = 64;

#[derive(Debug)]
pub(super) struct ConsumerBook {
    pub(super) record: IssuerConsumerRecord,
}

impl ConsumerBook {
    pub(super) fn new(record: IssuerConsumerRecord) -> Self {
        Self { record }
    }

    /// A preimage became known: the promise it opens can be collected, and stands for all smaller ones.
    pub(super) fn unlock(&mut self, promise: &SignedPromise, preimage: Preimage) {
        let record = &mut self.record;
        let amount = promise.promise.amount;
        if amount <= record.covered.amount {
            return;
        }
        let below = record.outstanding.iter().filter(|o| o.amount <= amount);
        let sum = below.fold(record.covered.increment, |sum, o| {
            sum.saturating_add(o.increment)
        });
        record.outstanding.retain(|o| o.amount > amount);
        record.covered = Outstanding {
            amount,
            increment: sum,
        };
        record.collectable = Some((*promise, preimage));
    }
}

/// Accepts a payment of `increment` that comes with `promise`, on top of what the book holds, up to `limit` in all and
/// `locked_cap` not yet collectable: the book's next state.
pub(super) fn accept(
    book: Option<&ConsumerBook>,
    channel: ChannelId,
    promise: &SignedPromise,
    increment: Amount,
    limit: Amount,
    locked_cap: Amount,
) -> Result<IssuerConsumerRecord, IssueRefusal> {
    let fresh = || IssuerConsumerRecord {
        channel,
        accepted: Amount::ZERO,
        covered: Outstanding {
            amount: Amount::ZERO,
            increment: Amount::ZERO,
        },
        outstanding: Vec::new(),
        largest: *promise,
        collectable: None,
    };
    let mut record = book.map_or_else(fresh, |book| book.record.clone());
    let amount = promise.promise.amount;
    record.accepted = record
        .accepted
        .checked_add(increment)
        .ok_or(IssueRefusal::Overflow)?;
    if amount > record.covered.amount {
        let place = record.outstanding.partition_point(|o| o.amount <= amount);
        record
            .outstanding
            .insert(place, Outstanding { amount, increment });
    } else {
        record.covered.increment = record.covered.increment.saturating_add(increment);
    }
    if !covers(&record) {
        return Err(IssueRefusal::NotCovered);
    }
    if record.accepted > limit {
        return Err(IssueRefusal::OverDeposit);
    }
    let locked = record
        .outstanding
        .iter()
        .fold(Amount::ZERO, |sum, o| sum.saturating_add(o.increment));
    if record.outstanding.len() > MAX_OUTSTANDING || locked > locked_cap {
        return Err(IssueRefusal::Crowded);
    }
    if amount > record.largest.promise.amount {
        record.largest = *promise;
    }
    Ok(record)
}

/// INVARIANT: ordered by amount, every promise covers its own payment and all before it.
pub(super) fn covers(record: &IssuerConsumerRecord) -> bool {
    let mut sum = record.covered.increment;
    if sum > record.covered.amount {
        return false;
    }
    record.outstanding.iter().all(|o| {
        sum = sum.saturating_add(o.increment);
        sum <= o.amount
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use wayfare_identity::{Address, B256, LocalSigner, SecretKey};

    use super::*;
    use crate::{Hashlock, Promise};

    fn promise(amount: u128) -> SignedPromise {
        let signer = LocalSigner::new(SecretKey::from_bytes([1; 32]).unwrap());
        let channel = ChannelId::of_deposit(Address::ZERO);
        let (fee, hashlock) = (Amount::ZERO, Hashlock(B256::ZERO));
        Promise {
            chain_id: 1,
            channel,
            amount: Amount::from_units(amount),
            fee,
            hashlock,
        }
        .sign(&signer)
        .unwrap()
    }

    /// Accepts (amount, increment) one after the other, with an ample deposit.
    fn run(payments: &[(u128, u128)]) -> Result<ConsumerBook, IssueRefusal> {
        let channel = ChannelId::of_deposit(Address::ZERO);
        let mut book = None;
        for (amount, increment) in payments {
            let next = accept(
                book.as_ref(),
                channel,
                &promise(*amount),
                Amount::from_units(*increment),
                Amount::MAX,
                Amount::MAX,
            )?;
            book = Some(ConsumerBook::new(next));
        }
        Ok(book.unwrap())
    }

    #[test]
    fn promises_cover_payments_in_whatever_order_they_arrive() {
        for payments in [
            vec![(10, 10), (25, 15), (30, 5)],
            vec![(30, 5), (10, 10), (25, 15)],
            vec![(25, 15), (30, 5)],
        ] {
            run(&payments).unwrap();
        }
    }

    #[test]
    fn a_large_promise_that_stays_locked_covers_nobody_else() {
        // To a friend who never reveals: much promised, little paid. Then to an honest provider: the opposite.
        assert_eq!(
            run(&[(1000, 1), (1, 400)]).unwrap_err(),
            IssueRefusal::NotCovered
        );
        assert_eq!(
            run(&[(100, 100), (100, 100)]).unwrap_err(),
            IssueRefusal::NotCovered
        );
        assert_eq!(run(&[(10, 11)]).unwrap_err(), IssueRefusal::NotCovered);
    }

    #[test]
    fn what_is_locked_is_capped_until_it_is_revealed() {
        let channel = ChannelId::of_deposit(Address::ZERO);
        let cap = Amount::from_units(50);
        let pay = |book: Option<&ConsumerBook>, amount, increment| {
            accept(
                book,
                channel,
                &promise(amount),
                Amount::from_units(increment),
                Amount::MAX,
                cap,
            )
        };
        assert_eq!(pay(None, 51, 51).unwrap_err(), IssueRefusal::Crowded);
        let mut book = ConsumerBook::new(pay(None, 30, 30).unwrap());
        assert_eq!(pay(Some(&book), 51, 21).unwrap_err(), IssueRefusal::Crowded);
        book.unlock(&promise(30), Preimage(B256::ZERO));
        pay(Some(&book), 80, 50).unwrap();
    }

    proptest! {
        /// Whatever is accepted: for every set of revealed preimages, what can be collected is at least what was paid out with them.
        #[test]
        fn every_subset_of_preimages_is_covered(
            payments in proptest::collection::vec((1u128..60, 1u128..30), 1..8), mask in any::<u8>(),
        ) {
            let channel = ChannelId::of_deposit(Address::ZERO);
            let mut book: Option<ConsumerBook> = None;
            let mut revealed = Vec::new();
            for (index, (amount, increment)) in payments.iter().enumerate() {
                let signed = promise(*amount);
                let Ok(next) = accept(book.as_ref(), channel, &signed, Amount::from_units(*increment), Amount::MAX, Amount::MAX) else { continue };
                let mut next = ConsumerBook::new(next);
                if mask & (1 << index) != 0 {
                    next.unlock(&signed, Preimage(B256::ZERO));
                    revealed.push((*amount, *increment));
                }
                book = Some(next);
            }
            let owed: u128 = revealed.iter().map(|(_, increment)| increment).sum();
            let collectable = revealed.iter().map(|(amount, _)| *amount).max().unwrap_or(0);
            prop_assert!(collectable >= owed, "{collectable} < {owed}");
            if let Some((held, _)) = book.and_then(|book| book.record.collectable) {
                prop_assert_eq!(held.promise.amount, Amount::from_units(collectable));
            }
        }
    }
}
