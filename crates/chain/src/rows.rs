//! The rows of batched calls, packed as the vault reads them. It refuses to send them.

use alloy::primitives::{Address, B256, Bytes, U256};
use wayfare_identity::Signature;
use wayfare_payment::{Amount, ChainError, Preimage};

/// Bytes of a row with a promise: account 20 ‖ amount 12 ‖ R 32 ‖ r 32 ‖ vs 32.
const SETTLE_ROW: usize = 128;
/// Bytes of a row of a sheet: payee 20 ‖ amount 12.
const SHEET_ROW: usize = 32;
/// Amounts have 96 bits in a row, as in the vault's slots.
const AMOUNT: usize = 12;

/// A promise without a fee in a batch: of a Hermes to a payee, or of a consumer to a Hermes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleRow {
    /// The payee, or the consumer.
    pub account: Address,
    /// The promise's cumulative amount.
    pub amount: Amount,
    /// What opens its hashlock.
    pub preimage: Preimage,
    /// The promise's signature.
    pub signature: Signature,
}

/// Packs promises for `settleMany` and `collectMany`.
///
/// # Errors
/// [`ChainError::Refused`] when an amount does not fit into 96 bits.
pub fn settle_rows(rows: impl IntoIterator<Item = SettleRow>) -> Result<Bytes, ChainError> {
    let rows = rows.into_iter();
    let mut packed = Vec::with_capacity(rows.size_hint().0 * SETTLE_ROW);
    for row in rows {
        packed.extend_from_slice(row.account.as_slice());
        packed.extend_from_slice(&narrow(row.amount)?);
        packed.extend_from_slice(row.preimage.0.as_slice());
        let (r, vs) = compact(&row.signature);
        packed.extend_from_slice(r.as_slice());
        packed.extend_from_slice(vs.as_slice());
    }
    Ok(packed.into())
}

/// Packs payees and their totals for `settleSheet` and `creditTotalsMany`, rounded by [`sheet_total`].
///
/// # Errors
/// [`ChainError::Refused`] when an amount does not fit into 96 bits.
pub fn sheet_rows(rows: impl IntoIterator<Item = (Address, Amount)>) -> Result<Bytes, ChainError> {
    let rows = rows.into_iter();
    let mut packed = Vec::with_capacity(rows.size_hint().0 * SHEET_ROW);
    for (payee, amount) in rows {
        packed.extend_from_slice(payee.as_slice());
        packed.extend_from_slice(&narrow(sheet_total(amount))?);
    }
    Ok(packed.into())
}

/// What a sheet settles of a total: from 2^64 units on, the multiple of 2^32 below it. A zero byte of calldata costs a quarter of
/// another, so four of them save 48 gas of each row's 6,000. What is left over, less than five thousand-millionths of a token
/// with 18 decimals, stays promised, and is in the next total or in a settlement of the payee's own.
#[must_use]
pub fn sheet_total(promised: Amount) -> Amount {
    let units = promised.units();
    if units >> 64 == U256::ZERO {
        return promised;
    }
    Amount::new(units >> 32 << 32)
}

/// An account and an amount in one word, as short calls of the vault take them.
pub(crate) fn word(account: Address, amount: Amount) -> Result<B256, ChainError> {
    let mut word = B256::ZERO;
    word.0[..20].copy_from_slice(account.as_slice());
    word.0[20..].copy_from_slice(&narrow(amount)?);
    Ok(word)
}

/// What such a word holds, as events of the vault carry it.
#[must_use]
pub fn unpacked(word: B256) -> (Address, Amount) {
    let (account, amount) = word.0.split_at(20);
    (
        Address::from_slice(account),
        Amount::new(U256::from_be_slice(amount)),
    )
}

/// The two words of EIP-2098: r, and s with v - 27 as its top bit.
pub(crate) fn compact(signature: &Signature) -> (B256, B256) {
    let bytes = signature.as_bytes();
    let (r, mut vs) = (
        B256::from_slice(&bytes[..32]),
        B256::from_slice(&bytes[32..64]),
    );
    if bytes[64] == 28 {
        vs.0[0] |= 0x80;
    }
    (r, vs)
}

fn narrow(amount: Amount) -> Result<[u8; AMOUNT], ChainError> {
    let wide = amount.units().to_be_bytes::<32>();
    let (over, low) = wide.split_at(32 - AMOUNT);
    if over.iter().any(|byte| *byte != 0) {
        return Err(ChainError::Refused(format!(
            "{amount} is more than a row can hold (2^96 - 1)"
        )));
    }
    Ok(low.try_into().expect("the split leaves twelve bytes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_row_holds_what_a_slot_holds_and_no_more() {
        let most = (U256::from(1) << 96) - U256::from(1);
        let payee = Address::repeat_byte(7);
        let rows = sheet_rows([(payee, Amount::new(most))]).unwrap();
        assert_eq!(rows[..20], [7; 20]);
        assert_eq!(rows[20..28], [0xff; 8]);
        assert_eq!(rows[28..], [0; 4], "rounded down");
        let word = word(payee, Amount::new(most)).unwrap();
        assert_eq!(unpacked(word), (payee, Amount::new(most)));
        assert!(sheet_rows([(payee, Amount::new(most + U256::from(1)))]).is_err());
    }

    #[test]
    fn a_small_total_is_settled_to_the_last_unit() {
        let units = Amount::from_units((1 << 64) - 1);
        assert_eq!(sheet_total(units), units);
        let units = Amount::from_units((1 << 64) + (1 << 32) + 5);
        assert_eq!(
            sheet_total(units),
            Amount::from_units((1 << 64) + (1 << 32))
        );
    }
}
