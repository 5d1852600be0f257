//! The ledger on RocksDB, for one machine. It refuses to acknowledge what a power loss could undo, and to open what is damaged,
//! newer than itself or in another process's hands.
//!
//! All tables share one key space, a leading byte apart: one memory table and one log, so that a ledger embedded in an app costs
//! a few MiB. One thread writes (see `writer`); reads go straight to the database, which shows only what was flushed.

mod backup;
mod failure;
mod files;
mod record;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode,
    Options, ReadOptions, WriteOptions,
};
use tokio::sync::{mpsc, oneshot};
use wayfare_payment::{Batch, Ledger, LedgerError, PortFuture, Row, Table};

pub use self::backup::Verified;
use self::failure::{of_disk, of_rocks};
use self::files::{Mark, Owner};
use self::writer::{Request, Writer};
use crate::rules::{SCHEMA_KEY, SCHEMA_VERSION, admit};

/// How much a [`RocksLedger`] may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerOptions {
    /// Bytes that gather in memory before they become a table; the log holds at most four times as much. 4 MiB.
    pub write_buffer: usize,
    /// Bytes of table blocks kept in memory. 4 MiB.
    pub block_cache: usize,
    /// Batches that may wait for the writer; further commits wait for a place. 256, at worst 256 MiB
    /// ([`BATCH_LIMIT`](crate::BATCH_LIMIT) each), usually 256 KiB.
    pub queue: usize,
    /// Batches that share one flush. 256.
    pub group: usize,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self {
            write_buffer: 4 << 20,
            block_cache: 4 << 20,
            queue: 256,
            group: 256,
        }
    }
}

/// Records on disk. Dropping it writes what still waits and blocks until the files are closed.
#[derive(Debug)]
pub struct RocksLedger {
    path: PathBuf,
    /// `None` only while it is being dropped.
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    db: Arc<DB>,
    // Last, so that the folder is given up after the database was closed.
    _owner: Owner,
}

impl RocksLedger {
    /// Opens the ledger in folder `path`, or begins one there. Blocks while the log is read back.
    ///
    /// # Errors
    /// [`LedgerError::Busy`] when another process (or this one) has it open, [`LedgerError::Corrupt`] when files or records are
    /// damaged or missing, [`LedgerError::Newer`], or [`LedgerError::Failed`] with the cause, for example a missing permission.
    pub fn open(path: impl AsRef<Path>, options: LedgerOptions) -> Result<Self, LedgerError> {
        let path = path.as_ref().to_path_buf();
        std::fs::create_dir_all(&path).map_err(|error| of_disk(&path, error))?;
        let owner = files::take(&path)?;
        let begun = files::survey(&path)?;
        let (mark, acknowledged) = Mark::open(&path)?;
        let db = DB::open(&settings(&options), &path).map_err(|error| of_rocks(&path, &error))?;
        let db = Arc::new(db);
        if let Some(acknowledged) = acknowledged {
            demand(&path, acknowledged, db.latest_sequence_number())?;
        }
        check_schema(&db, &path, begun)?;

        let (sender, receiver) = mpsc::channel(options.queue.max(1));
        let writer = Writer {
            db: Arc::clone(&db),
            path: path.clone(),
            mark,
            group: options.group.max(1),
            stopped: None,
        };
        let writer = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(receiver));
        let writer = writer.map_err(|error| of_disk(&path, error))?;
        Ok(Self {
            path,
            queue: Some(sender),
            writer: Some(writer),
            db,
            _owner: owner,
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn submit(&self, batch: Batch) -> Result<(), LedgerError> {
        admit(&batch)?;
        let gone = || {
            LedgerError::Failed(format!(
                "{}: the writing thread is gone",
                self.path.display()
            ))
        };
        let (answer, verdict) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue
            .send(Request { batch, answer })
            .await
            .map_err(|_| gone())?;
        verdict.await.map_err(|_| gone())?
    }

    fn look_up(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        let place = record::place(table, key);
        let sealed = self
            .db
            .get_pinned(&place)
            .map_err(|error| of_rocks(&self.path, &error))?;
        sealed
            .map(|sealed| record::open(&place, &sealed).map(<[u8]>::to_vec))
            .transpose()
    }

    fn rows(
        &self,
        table: Table,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, LedgerError> {
        let mut start = record::place(table, after.unwrap_or_default());
        if after.is_some() {
            // The next key after `key` in the order of bytes.
            start.push(0);
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound([table as u8 + 1]);
        let iterator = self
            .db
            .iterator_opt(IteratorMode::From(&start, Direction::Forward), options);
        iterator
            .take(limit)
            .map(|item| {
                let (place, sealed) = item.map_err(|error| of_rocks(&self.path, &error))?;
                let record = record::open(&place, &sealed)?;
                Ok((place[1..].to_vec(), record.to_vec()))
            })
            .collect()
    }
}

impl Ledger for RocksLedger {
    fn commit(&self, batch: Batch) -> PortFuture<'_, Result<(), LedgerError>> {
        Box::pin(self.submit(batch))
    }

    fn read<'a>(
        &'a self,
        table: Table,
        key: &'a [u8],
    ) -> PortFuture<'a, Result<Option<Vec<u8>>, LedgerError>> {
        Box::pin(async move { self.look_up(table, key) })
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> PortFuture<'a, Result<Vec<Row>, LedgerError>> {
        Box::pin(async move { self.rows(table, after, limit) })
    }
}

impl Drop for RocksLedger {
    fn drop(&mut self) {
        // The writer ends when the queue has no sender.
        self.queue = None;
        if self
            .writer
            .take()
            .is_some_and(|writer| writer.join().is_err())
        {
            tracing::error!(path = %self.path.display(), "the ledger's writing thread panicked");
        }
    }
}

fn settings(options: &LedgerOptions) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(options.block_cache));
    blocks.set_bloom_filter(10.0, false);
    let mut settings = Options::default();
    settings.create_if_missing(true);
    settings.set_block_based_table_factory(&blocks);
    settings.set_compression_type(DBCompressionType::Lz4);
    settings.set_write_buffer_size(options.write_buffer);
    settings.set_max_write_buffer_number(2);
    settings.set_max_total_wal_size(options.write_buffer as u64 * 4);
    settings.set_max_open_files(64);
    settings.set_max_background_jobs(2);
    // RocksDB's own diary.
    settings.set_keep_log_file_num(2);
    settings.set_max_log_file_size(1 << 20);
    settings.set_paranoid_checks(true);
    settings.set_track_and_verify_wals_in_manifest(true);
    // A damaged log is refused, except at its very end, which a power loss may have torn; `files::Mark` watches that end.
    settings.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    settings
}

/// Refuses a database that ends before what was acknowledged.
fn demand(path: &Path, acknowledged: u64, reached: u64) -> Result<(), LedgerError> {
    if reached >= acknowledged {
        return Ok(());
    }
    Err(LedgerError::Corrupt(format!(
        "{}: the write-ahead log (*.log) lost its end: it reaches write {reached}, but write {acknowledged} was \
         acknowledged; restore a backup",
        path.display()
    )))
}

fn check_schema(db: &DB, path: &Path, begun: bool) -> Result<(), LedgerError> {
    let place = record::place(Table::Schema, SCHEMA_KEY);
    let Some(sealed) = db
        .get_pinned(&place)
        .map_err(|error| of_rocks(path, &error))?
    else {
        // A crash may have come between the creation of the database and its first record.
        if begun && db.iterator(IteratorMode::Start).next().is_some() {
            return Err(LedgerError::Corrupt(format!(
                "{}: it has records but no schema version: not a ledger, or a damaged one",
                path.display()
            )));
        }
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        let version = record::seal(&place, &SCHEMA_VERSION.to_le_bytes());
        return db
            .put_opt(&place, version, &durable)
            .map_err(|error| of_rocks(path, &error));
    };
    let version = record::open(&place, &sealed)?;
    let found = u32::from_le_bytes(version.try_into().map_err(|_| {
        LedgerError::Corrupt(format!(
            "{}: the schema version has {} bytes",
            path.display(),
            version.len()
        ))
    })?);
    if found > SCHEMA_VERSION {
        return Err(LedgerError::Newer {
            found,
            known: SCHEMA_VERSION,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
