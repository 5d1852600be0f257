//! The rows of batched calls, packed as the vault reads them. It refuses to send them.

use alloy::primitives::{Address, Bytes};
use wayfare_identity::Signature;
use wayfare_payment::{Amount, ChainError, Preimage};

/// Bytes of a row with a promise: account 20 ‖ amount 12 ‖ R 32 ‖ signature 65.
const SETTLE_ROW: usize = 129;
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
        packed.extend_from_slice(row.signature.as_bytes());
    }
    Ok(packed.into())
}

/// Packs payees and their totals for `settleSheet`.
///
/// # Errors
/// [`ChainError::Refused`] when an amount does not fit into 96 bits.
pub fn sheet_rows(rows: impl IntoIterator<Item = (Address, Amount)>) -> Result<Bytes, ChainError> {
    let rows = rows.into_iter();
    let mut packed = Vec::with_capacity(rows.size_hint().0 * SHEET_ROW);
    for (payee, amount) in rows {
        packed.extend_from_slice(payee.as_slice());
        packed.extend_from_slice(&narrow(amount)?);
    }
    Ok(packed.into())
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
    use alloy::primitives::U256;

    use super::*;

    #[test]
    fn a_row_holds_what_a_slot_holds_and_no_more() {
        let most = (U256::from(1) << 96) - U256::from(1);
        let payee = Address::repeat_byte(7);
        let rows = sheet_rows([(payee, Amount::new(most))]).unwrap();
        assert_eq!(rows[..20], [7; 20]);
        assert_eq!(rows[20..], [0xff; 12]);
        assert!(sheet_rows([(payee, Amount::new(most + U256::from(1)))]).is_err());
    }
}
