//! From RocksDB's errors to the ledger's: damage, another process, or the disk. It refuses to lose the path or the cause.

use std::fmt::Display;
use std::path::Path;

use rocksdb::ErrorKind;
use wayfare_payment::LedgerError;

/// RocksDB's error, sorted.
pub(super) fn of_rocks(path: &Path, error: &rocksdb::Error) -> LedgerError {
    let text = error.as_ref();
    let path = path.display();
    match error.kind() {
        ErrorKind::Corruption => LedgerError::Corrupt(format!("{path}: {text}")),
        // A file that RocksDB itself had listed.
        ErrorKind::IOError if text.contains("No such file or directory") => {
            LedgerError::Corrupt(format!("{path}: {text}"))
        }
        ErrorKind::NotFound
        | ErrorKind::NotSupported
        | ErrorKind::InvalidArgument
        | ErrorKind::IOError
        | ErrorKind::MergeInProgress
        | ErrorKind::Incomplete
        | ErrorKind::ShutdownInProgress
        | ErrorKind::TimedOut
        | ErrorKind::Aborted
        | ErrorKind::Busy
        | ErrorKind::Expired
        | ErrorKind::TryAgain
        | ErrorKind::CompactionTooLarge
        | ErrorKind::ColumnFamilyDropped
        | ErrorKind::Unknown => LedgerError::Failed(format!("{path}: {text}")),
    }
}

/// The operating system's error at `path`.
pub(super) fn of_disk(path: &Path, error: impl Display) -> LedgerError {
    LedgerError::Failed(format!("{}: {error}", path.display()))
}
