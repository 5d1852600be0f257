//! The one thread that writes: it takes all batches that wait, writes them as one, flushes once, and then answers them all. It
//! refuses to answer before the flush, and to go on after a failed one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rocksdb::{DB, WriteBatch, WriteOptions};
use tokio::sync::{mpsc, oneshot};
use wayfare_payment::{Batch, Expect, LedgerError};

use super::failure::of_rocks;
use super::files::Mark;
use super::record::{open, place, seal};
use crate::rules::satisfied;

pub(super) type Answer = Result<(), LedgerError>;

/// A batch that waits, and who waits for it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) batch: Batch,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Records as the batches accepted so far in this group leave them; `None` is a deletion.
type Staged = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// The state of the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) db: Arc<DB>,
    pub(super) path: PathBuf,
    pub(super) mark: Mark,
    pub(super) group: usize,
    /// Why nothing is written any more.
    pub(super) stopped: Option<LedgerError>,
}

impl Writer {
    /// Serves the queue until its last sender is gone and it is empty, then puts everything into tables.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            let mut group = vec![first];
            while group.len() < self.group
                && let Ok(next) = queue.try_recv()
            {
                group.push(next);
            }
            self.serve(group);
        }
        if self.stopped.is_none()
            && let Err(error) = self.db.flush()
        {
            // Nothing is lost: the log still has it.
            tracing::warn!(path = %self.path.display(), %error, "the ledger's memory table was not flushed");
        }
        self.mark.settle();
    }

    fn serve(&mut self, group: Vec<Request>) {
        let (batches, waiting): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|request| (request.batch, request.answer))
            .unzip();
        let verdicts = match self.write(batches) {
            Ok(verdicts) => verdicts,
            Err(error) => vec![Err(error); waiting.len()],
        };
        for (answer, verdict) in waiting.into_iter().zip(verdicts) {
            // Whoever went away meanwhile does not want to know.
            let _ = answer.send(verdict);
        }
    }

    /// One verdict for each batch, or the failure that befell them all. A conflict, too, is told only after the flush: what it
    /// conflicts with may be in the same group.
    fn write(&mut self, batches: Vec<Batch>) -> Result<Vec<Answer>, LedgerError> {
        if let Some(failure) = &self.stopped {
            return Err(failure.clone());
        }
        let mut staged = Staged::new();
        let verdicts: Vec<Answer> = batches
            .into_iter()
            .map(|batch| {
                self.judge(&staged, batch)
                    .map(|changes| staged.extend(changes))
            })
            .collect();
        if staged.is_empty() {
            return Ok(verdicts);
        }
        if let Err(error) = self.flush(staged) {
            tracing::error!(path = %self.path.display(), %error, "the ledger stops: a write failed");
            return Err(self.stopped.insert(error).clone());
        }
        self.mark.note(self.db.latest_sequence_number());
        Ok(verdicts)
    }

    /// What a batch changes, if all that it expects holds.
    fn judge(&self, staged: &Staged, batch: Batch) -> Result<Staged, LedgerError> {
        let mut changes = Staged::new();
        for entry in batch.0 {
            let place = place(entry.table, &entry.key);
            let known = changes.get(&place).or_else(|| staged.get(&place));
            match known {
                Some(record) => satisfied(&entry, record.as_deref())?,
                None if entry.expect == Expect::Anything => {}
                None => {
                    let sealed = self
                        .db
                        .get_pinned(&place)
                        .map_err(|error| of_rocks(&self.path, &error))?;
                    let record = sealed
                        .as_deref()
                        .map(|sealed| open(&place, sealed))
                        .transpose()?;
                    satisfied(&entry, record)?;
                }
            }
            changes.insert(place, entry.value);
        }
        Ok(changes)
    }

    fn flush(&self, staged: Staged) -> Result<(), LedgerError> {
        let mut write = WriteBatch::default();
        for (place, record) in staged {
            match record {
                Some(record) => write.put(&place, seal(&place, &record)),
                None => write.delete(&place),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db
            .write_opt(write, &options)
            .map_err(|error| of_rocks(&self.path, &error))
    }
}
