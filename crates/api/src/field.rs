//! Readers of single fields: bytes of the right length become nouns, anything else names the field.

use wayfare_identity::{Address, B256, Signature, U256};
use wayfare_payment::Amount;

use crate::Malformed;

pub(crate) fn array<const N: usize>(field: &str, bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| {
        Malformed::new(
            field,
            format!("{N} bytes are expected, not {}", bytes.len()),
        )
    })
}

pub(crate) fn address(field: &str, bytes: &[u8]) -> Result<Address, Malformed> {
    array(field, bytes).map(Address::new)
}

pub(crate) fn word(field: &str, bytes: &[u8]) -> Result<B256, Malformed> {
    array(field, bytes).map(B256::new)
}

pub(crate) fn uint(field: &str, bytes: &[u8]) -> Result<U256, Malformed> {
    array(field, bytes).map(U256::from_be_bytes::<32>)
}

pub(crate) fn amount(field: &str, bytes: &[u8]) -> Result<Amount, Malformed> {
    uint(field, bytes).map(Amount::new)
}

pub(crate) fn signature(field: &str, bytes: &[u8]) -> Result<Signature, Malformed> {
    Signature::from_slice(bytes).map_err(|cause| Malformed::new(field, cause.to_string()))
}

/// A message inside another.
pub(crate) fn nested<P, T>(field: &str, message: Option<P>) -> Result<T, Malformed>
where
    T: TryFrom<P, Error = Malformed>,
{
    let message = message.ok_or_else(|| Malformed::new(field, "it is missing"))?;
    T::try_from(message).map_err(|malformed| malformed.within(field))
}

/// Text of at most `limit` bytes without control characters.
pub(crate) fn text(field: &str, text: String, limit: usize) -> Result<String, Malformed> {
    if text.len() > limit {
        return Err(Malformed::new(
            field,
            format!("at most {limit} bytes are allowed, not {}", text.len()),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Malformed::new(field, "control characters are not allowed"));
    }
    Ok(text)
}

/// 32 bytes, big-endian.
pub(crate) fn of_uint(value: U256) -> Vec<u8> {
    value.to_be_bytes::<32>().to_vec()
}

/// 32 bytes, big-endian.
pub(crate) fn of_amount(amount: Amount) -> Vec<u8> {
    of_uint(amount.units())
}
