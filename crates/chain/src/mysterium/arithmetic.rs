//! What a settlement on the deployed contracts pays, to the wei, before it is sent. Rounding, caps and refusals are those of the
//! contracts; the order of the checks too. It refuses to ask a chain: everything that was read is an argument.

use wayfare_payment::Amount;

/// What a Hermes is doing, as its contract numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Opens channels and settles.
    Active,
    /// Settles, and opens no channels.
    Paused,
    /// Held too little for a stake: settles no more until that is mended.
    Punished,
    /// Settles no more.
    Closed,
}

impl Status {
    /// From the contract's number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Active),
            1 => Some(Self::Paused),
            2 => Some(Self::Punished),
            3 => Some(Self::Closed),
            _ => None,
        }
    }

    /// Whether promises can be cashed.
    #[must_use]
    pub fn settles(self) -> bool {
        match self {
            Self::Active | Self::Paused => true,
            Self::Punished | Self::Closed => false,
        }
    }
}

/// Where a settlement's money goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the beneficiary, less the Hermes' share.
    Beneficiary,
    /// To the provider's stake, less the Hermes' share.
    Stake,
    /// From the withdrawal channel, of which the Hermes keeps nothing.
    Withdrawal,
}

/// What a settlement depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    /// Of the Hermes.
    pub status: Status,
    /// Free to be paid out.
    pub available: Amount,
    /// The least stake with which a channel is settled for the first time.
    pub least_stake: Amount,
    /// The most that one settlement pays, unless the stake is higher.
    pub most_stake: Amount,
    /// The share that the Hermes keeps now, in 1/10,000.
    pub fee_basis_points: u16,
    /// Of the channel.
    pub settled: Amount,
    /// Of the channel.
    pub stake: Amount,
}

/// What one settlement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payout {
    /// By how much the channel's total grows.
    pub settled: Amount,
    /// What the beneficiary, or the stake, gets of it.
    pub sent: Amount,
    /// What the Hermes keeps.
    pub kept: Amount,
    /// Whether it puts the Hermes under punishment: this one still pays, the next does not.
    pub punishes: bool,
}

/// Why a settlement would be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unpayable {
    /// Punished or closed.
    #[error("the Hermes settles nothing while it is {0:?}")]
    NotActive(Status),
    /// Only before the first settlement.
    #[error("a first settlement needs a stake of {least}, this channel has {stake}")]
    StakeTooSmall {
        /// What there is.
        stake: Amount,
        /// What the Hermes asks for.
        least: Amount,
    },
    /// All of it is settled, or what is left does not exceed the transaction's fee.
    #[error("nothing is owed: {settled} is settled already")]
    NothingOwed {
        /// So far.
        settled: Amount,
    },
    /// What can be paid does not cover what is kept of it.
    #[error("what the Hermes has free, {available}, does not cover the fees")]
    FeesExceed {
        /// Free to be paid out.
        available: Amount,
    },
}

/// The share that a Hermes keeps: `ceil(floor(sum · fee / 100) / 100)`; `None` when the contract would overflow.
#[must_use]
pub fn hermes_fee(sum: Amount, basis_points: u16) -> Option<Amount> {
    let product = sum
        .units()
        .checked_mul(wayfare_identity::U256::from(basis_points))?;
    Some(Amount::new(product).mul_div_down(1, 100).mul_div_up(1, 100))
}

/// What settling a promise of `amount` does.
///
/// # Errors
/// [`Unpayable`], when the contract would refuse.
pub fn payout(books: &Books, amount: Amount, fee: Amount, way: Way) -> Result<Payout, Unpayable> {
    if !books.status.settles() {
        return Err(Unpayable::NotActive(books.status));
    }
    let first = books.settled.is_zero() && books.stake < books.least_stake;
    if first && way == Way::Beneficiary {
        return Err(Unpayable::StakeTooSmall {
            stake: books.stake,
            least: books.least_stake,
        });
    }
    let settled = books.settled;
    let owed = amount.checked_sub(settled).filter(|owed| *owed > fee);
    let owed = owed.ok_or(Unpayable::NothingOwed { settled })?;
    let cap = books.most_stake.max(books.stake);
    let paid = owed.min(books.available).min(cap);
    let exceed = Unpayable::FeesExceed {
        available: books.available,
    };
    let kept = match way {
        Way::Withdrawal => Amount::ZERO,
        Way::Beneficiary | Way::Stake => hermes_fee(paid, books.fee_basis_points).ok_or(exceed)?,
    };
    let sent = paid
        .checked_sub(fee)
        .and_then(|rest| rest.checked_sub(kept));
    Ok(Payout {
        settled: paid,
        sent: sent.ok_or(exceed)?,
        kept,
        punishes: books.available < books.stake,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BOOKS: Books = Books {
        status: Status::Active,
        available: Amount::ZERO,
        least_stake: Amount::ZERO,
        most_stake: Amount::ZERO,
        fee_basis_points: 2_000,
        settled: Amount::ZERO,
        stake: Amount::ZERO,
    };

    fn units(units: u128) -> Amount {
        Amount::from_units(units)
    }

    #[test]
    fn the_share_is_rounded_down_and_then_up() {
        let check = |sum, fee, expect| {
            assert_eq!(hermes_fee(units(sum), fee), Some(units(expect)), "{sum}");
        };
        check(0, 2_000, 0);
        // 1 · 2000 / 100 = 20, and 20 / 100 is rounded up.
        check(1, 2_000, 1);
        check(5, 2_000, 1);
        check(6, 2_000, 2);
        // 1 · 50 / 100 is rounded down to nothing first.
        check(1, 50, 0);
        check(2, 50, 1);
        check(10_000, 1, 1);
        assert_eq!(hermes_fee(Amount::MAX, 2), None);
    }

    #[test]
    fn one_settlement_pays_the_least_of_debt_cap_and_free_money() {
        let check = |available, most, stake, expect: u128| {
            let books = Books {
                available: units(available),
                most_stake: units(most),
                stake: units(stake),
                settled: units(100),
                ..BOOKS
            };
            let paid = payout(&books, units(1_100), Amount::ZERO, Way::Withdrawal).unwrap();
            assert_eq!(paid.settled, units(expect), "{books:?}");
        };
        check(5_000, 5_000, 0, 1_000);
        check(300, 5_000, 0, 300);
        check(5_000, 400, 0, 400);
        check(5_000, 400, 700, 700);
        check(0, 400, 0, 0);
    }

    #[test]
    fn refusals_are_the_contracts() {
        let books = Books {
            available: units(50),
            most_stake: units(1_000),
            least_stake: units(10),
            ..BOOKS
        };
        let pay = |books: &Books, fee, way| payout(books, units(100), units(fee), way);
        assert!(matches!(
            pay(&books, 0, Way::Beneficiary),
            Err(Unpayable::StakeTooSmall { .. })
        ));
        assert!(pay(&books, 0, Way::Stake).is_ok());
        assert!(pay(&books, 0, Way::Withdrawal).is_ok());
        let settled = Books {
            settled: units(1),
            ..books
        };
        assert!(matches!(
            pay(&settled, 99, Way::Beneficiary),
            Err(Unpayable::NothingOwed { .. })
        ));
        // 50 is paid at most, of which 10 are kept.
        assert!(matches!(
            pay(&settled, 41, Way::Beneficiary),
            Err(Unpayable::FeesExceed { .. })
        ));
        assert_eq!(
            pay(&settled, 40, Way::Beneficiary).unwrap().sent,
            Amount::ZERO
        );
        for status in [Status::Punished, Status::Closed] {
            let books = Books { status, ..settled };
            assert_eq!(
                pay(&books, 0, Way::Beneficiary),
                Err(Unpayable::NotActive(status))
            );
        }
    }
}
