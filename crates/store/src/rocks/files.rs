//! What guards the folder around RocksDB: the lock of its owner, and the mark of what was acknowledged. It refuses to open a
//! folder from which files are missing.
//!
//! RocksDB must forgive a log that ends early, because a power loss tears the write that was going on. A log that lost
//! *acknowledged* writes at its end (a flipped length byte, a truncated or deleted file, a disk that lies about flushing) looks
//! the same to it. The mark tells them apart: after each group's fsync the sequence number reached is written to a small file,
//! without a second fsync. The mark survives the process's death at once and a power loss some seconds later; it may lag, never
//! lead. A ledger that ends before its mark has lost something.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use wayfare_payment::LedgerError;

use super::failure::of_disk;
use super::record::CRC32C;

const OWNER: &str = "OWNER";
const MARK: &str = "ACKNOWLEDGED";
/// Sequence number (8, little-endian) and its CRC-32C (4): within one sector, so never torn.
const MARK_SIZE: usize = 12;

/// The exclusive right to a folder, as long as it lives.
#[derive(Debug)]
pub(super) struct Owner(#[expect(dead_code, reason = "held for its lock")] File);

/// Takes the folder, or says who is in the way.
pub(super) fn take(folder: &Path) -> Result<Owner, LedgerError> {
    let path = folder.join(OWNER);
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path);
    let file = file.map_err(|error| of_disk(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Owner(file)),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Busy(folder.display().to_string())),
        Err(TryLockError::Error(error)) => Err(of_disk(&path, error)),
    }
}

/// Whether there is a ledger in the folder.
///
/// # Errors
/// [`LedgerError::Corrupt`] when only pieces of one are there: RocksDB would begin a new database on top of them.
pub(super) fn survey(folder: &Path) -> Result<bool, LedgerError> {
    let (mut current, mut pieces) = (false, false);
    for entry in std::fs::read_dir(folder).map_err(|error| of_disk(folder, error))? {
        let name = PathBuf::from(entry.map_err(|error| of_disk(folder, error))?.file_name());
        current |= name.as_os_str() == "CURRENT";
        pieces |= name
            .extension()
            .is_some_and(|extension| extension == "log" || extension == "sst");
    }
    if pieces && !current {
        return Err(LedgerError::Corrupt(format!(
            "{}: it is missing, but its tables or logs are there",
            folder.join("CURRENT").display()
        )));
    }
    Ok(current)
}

/// The mark of what was acknowledged.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    path: PathBuf,
}

impl Mark {
    /// Opens or creates the mark of a folder; with the sequence number in it, if any.
    pub(super) fn open(folder: &Path) -> Result<(Self, Option<u64>), LedgerError> {
        let path = folder.join(MARK);
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path);
        let mut file = file.map_err(|error| of_disk(&path, error))?;
        let mut bytes = Vec::with_capacity(MARK_SIZE);
        file.read_to_end(&mut bytes)
            .map_err(|error| of_disk(&path, error))?;
        let reached = parse(&bytes).ok_or_else(|| {
            LedgerError::Corrupt(format!(
                "{}: its checksum is wrong; if a backup agrees with the rest of the ledger, delete this file",
                path.display()
            ))
        })?;
        Ok((Self { file, path }, reached))
    }

    /// Notes that everything up to `sequence` was acknowledged. A failure here loses no record, only a later warning.
    pub(super) fn note(&mut self, sequence: u64) {
        let mut bytes = [0; MARK_SIZE];
        bytes[..8].copy_from_slice(&sequence.to_le_bytes());
        bytes[8..].copy_from_slice(&CRC32C.checksum(&sequence.to_le_bytes()).to_le_bytes());
        let written = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(&bytes));
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "the ledger's mark was not written");
        }
    }

    /// Makes the mark durable, when the ledger is put away.
    pub(super) fn settle(&self) {
        if let Err(error) = self.file.sync_data() {
            tracing::warn!(path = %self.path.display(), %error, "the ledger's mark was not flushed");
        }
    }
}

/// `None` for a damaged mark, `Some(None)` for a mark that was never written (empty, or zeros after a power loss).
fn parse(bytes: &[u8]) -> Option<Option<u64>> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Some(None);
    }
    let (sequence, rest) = bytes.split_first_chunk::<8>()?;
    let sum: [u8; 4] = rest.try_into().ok()?;
    (CRC32C.checksum(sequence) == u32::from_le_bytes(sum))
        .then(|| Some(u64::from_le_bytes(*sequence)))
}
