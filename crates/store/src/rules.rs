//! The rules that every home of the ledger obeys alike. It refuses to touch any storage.

use std::fmt::Write as _;

use wayfare_payment::{Batch, Entry, Expect, LedgerError, Table};

/// The schema that this release writes, and the newest that it reads.
pub const SCHEMA_VERSION: u32 = 1;

/// The key of [`Table::Schema`] under which the version lies: a `u32`, little-endian.
pub const SCHEMA_KEY: &[u8] = b"version";

/// The largest batch, in bytes of keys and records: 1 MiB. The records of the payment machines are below 1 KiB each, so a
/// thousand of them fit.
pub const BATCH_LIMIT: usize = 1 << 20;

/// Refuses what no ledger takes. Nothing has been written when this fails.
pub(crate) fn admit(batch: &Batch) -> Result<(), LedgerError> {
    let size: usize = batch.0.iter().map(size).sum();
    if size > BATCH_LIMIT {
        return Err(LedgerError::Failed(format!(
            "a batch of {size} bytes is over the limit of {BATCH_LIMIT}; nothing was written, split it"
        )));
    }
    if batch
        .0
        .iter()
        .any(|entry| entry.table == Table::Schema && entry.key == SCHEMA_KEY)
    {
        return Err(LedgerError::Failed(
            "the schema version is the ledger's own record; nothing was written".to_owned(),
        ));
    }
    Ok(())
}

/// Whether the record that an entry replaces is the one it expects.
///
/// # Errors
/// [`LedgerError::Conflict`] when it is not.
pub(crate) fn satisfied(entry: &Entry, current: Option<&[u8]>) -> Result<(), LedgerError> {
    let holds = match &entry.expect {
        Expect::Anything => true,
        Expect::Absent => current.is_none(),
        Expect::Exactly(record) => current == Some(record.as_slice()),
    };
    if holds {
        Ok(())
    } else {
        Err(LedgerError::Conflict {
            table: entry.table,
            key: hex(&entry.key),
        })
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn size(entry: &Entry) -> usize {
    let expected = match &entry.expect {
        Expect::Anything | Expect::Absent => 0,
        Expect::Exactly(record) => record.len(),
    };
    entry.key.len() + entry.value.as_ref().map_or(0, Vec::len) + expected
}
