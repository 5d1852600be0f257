//! How a record lies in RocksDB: `table ‖ key → record ‖ CRC-32C`. It refuses to hand out a record whose checksum is wrong.
//!
//! RocksDB checks its own blocks; this checksum covers the way there and back (memory, compaction, somebody's editor), and binds
//! a record to its key, so that a record under a foreign key is found out too.

use crc::{CRC_32_ISCSI, Crc};
use wayfare_payment::{LedgerError, Table};

use crate::rules::hex;

/// CRC-32C (Castagnoli).
pub(super) const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

const CHECKSUM: usize = size_of::<u32>();

/// `table ‖ key`: one byte keeps the tables apart and in the order of their numbers.
pub(super) fn place(table: Table, key: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(1 + key.len());
    place.push(table as u8);
    place.extend_from_slice(key);
    place
}

/// Appends the checksum.
pub(super) fn seal(place: &[u8], record: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(record.len() + CHECKSUM);
    sealed.extend_from_slice(record);
    sealed.extend_from_slice(&checksum(place, record).to_le_bytes());
    sealed
}

/// Checks and strips the checksum.
///
/// # Errors
/// [`LedgerError::Corrupt`] with the table and the key.
pub(super) fn open<'a>(place: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], LedgerError> {
    match sealed.split_last_chunk::<CHECKSUM>() {
        Some((record, sum)) if u32::from_le_bytes(*sum) == checksum(place, record) => Ok(record),
        Some(_) => Err(damaged(place, "its checksum is wrong")),
        None => Err(damaged(place, "it is too short for a checksum")),
    }
}

fn checksum(place: &[u8], record: &[u8]) -> u32 {
    let mut digest = CRC32C.digest();
    digest.update(&(place.len() as u64).to_le_bytes());
    digest.update(place);
    digest.update(record);
    digest.finalize()
}

fn damaged(place: &[u8], why: &str) -> LedgerError {
    let (table, key) = place.split_first().map_or((None, place), |(number, key)| {
        (
            Table::ALL.into_iter().find(|table| *table as u8 == *number),
            key,
        )
    });
    let table = table.map_or_else(
        || "an unknown table".to_owned(),
        |table| format!("table {table:?}"),
    );
    LedgerError::Corrupt(format!("the record under {} in {table}: {why}", hex(key)))
}
