//! Chance from the operating system: the only place of this crate that asks for it.

use crate::NodeError;

/// Random bytes.
///
/// # Errors
/// The system has no generator: nothing that needs a key can go on.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], NodeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| NodeError::Chance(error.to_string()))?;
    Ok(bytes)
}
