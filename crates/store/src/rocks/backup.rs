//! Copies of a ledger: made while it is in use, and put back into an empty place. It refuses to overwrite anything and to hand
//! over a copy that it has not read from end to end.

use std::fs::File;
use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{IteratorMode, ReadOptions};
use wayfare_payment::LedgerError;

use super::failure::{of_disk, of_rocks};
use super::{LedgerOptions, RocksLedger, record};

/// What [`RocksLedger::verify`] has read without finding damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Records of all tables, the schema version included.
    pub records: u64,
}

impl RocksLedger {
    /// Reads every record and its checksum. Blocks; memory use does not grow.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] with the first file or record that is damaged.
    pub fn verify(&self) -> Result<Verified, LedgerError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut records = 0;
        for item in self.db.iterator_opt(IteratorMode::Start, options) {
            let (place, sealed) = item.map_err(|error| of_rocks(&self.path, &error))?;
            record::open(&place, &sealed)?;
            records += 1;
        }
        Ok(Verified { records })
    }

    /// Copies the ledger as it is now into the folder `to`, which must not exist, while commits go on. On the same file system
    /// the tables are hard links, so this takes hardly any space. Blocks.
    ///
    /// # Errors
    /// [`LedgerError::Failed`] when `to` exists or cannot be written.
    pub fn backup(&self, to: &Path) -> Result<(), LedgerError> {
        let checkpoint = Checkpoint::new(&self.db).map_err(|error| of_rocks(&self.path, &error))?;
        checkpoint
            .create_checkpoint(to)
            .map_err(|error| of_rocks(to, &error))
    }

    /// Puts the backup `from` into the folder `to`, which must not exist, after reading the copy from end to end. Blocks.
    ///
    /// A restored ledger is as old as its backup: whoever signed since then must not go on before it has learnt, from the other
    /// side, what it signed.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] when the backup is damaged, [`LedgerError::Failed`] when `to` exists or cannot be written.
    pub fn restore(from: &Path, to: &Path) -> Result<Verified, LedgerError> {
        if to.exists() {
            return Err(of_disk(
                to,
                "it exists already; name a folder that does not",
            ));
        }
        let partial = beside(to);
        let copied = copy(from, &partial).and_then(|()| {
            let ledger = Self::open(&partial, LedgerOptions::default())?;
            ledger.verify()
        });
        let moved = copied.and_then(|verified| {
            std::fs::rename(&partial, to).map_err(|error| of_disk(to, error))?;
            sync(
                to.parent()
                    .filter(|parent| !parent.as_os_str().is_empty())
                    .unwrap_or(Path::new(".")),
            )?;
            Ok(verified)
        });
        if moved.is_err() {
            // Whatever stays of it is told by the error that made us give up.
            let _ = std::fs::remove_dir_all(&partial);
        }
        moved
    }
}

/// `folder.partial`, where a copy grows.
fn beside(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Copies the files of one folder, durably.
fn copy(from: &Path, to: &Path) -> Result<(), LedgerError> {
    if !from.join("CURRENT").exists() {
        return Err(LedgerError::Corrupt(format!(
            "{}: no backup is here: the file CURRENT is missing",
            from.display()
        )));
    }
    std::fs::create_dir(to).map_err(|error| of_disk(to, error))?;
    for entry in std::fs::read_dir(from).map_err(|error| of_disk(from, error))? {
        let source = entry.map_err(|error| of_disk(from, error))?.path();
        if !source.is_file() {
            continue;
        }
        let Some(name) = source.file_name() else {
            continue;
        };
        let target = to.join(name);
        std::fs::copy(&source, &target).map_err(|error| of_disk(&source, error))?;
        sync(&target)?;
    }
    sync(to)
}

fn sync(path: &Path) -> Result<(), LedgerError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| of_disk(path, error))
}
