//! A ledger in memory, for tests and throw-away nodes. It refuses to outlive its process.

use std::collections::BTreeMap;
use std::future::ready;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wayfare_payment::{Batch, Ledger, LedgerError, PortFuture, Row, Table};

use crate::rules::{SCHEMA_KEY, SCHEMA_VERSION, admit, satisfied};

type Records = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Records in memory. Clones share them, so that a test can restart a machine over the same ledger.
#[derive(Debug, Clone)]
pub struct MemoryLedger(Arc<Mutex<Records>>);

impl MemoryLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        let version = SCHEMA_VERSION.to_le_bytes().to_vec();
        let records = Records::from([((Table::Schema, SCHEMA_KEY.to_vec()), version)]);
        Self(Arc::new(Mutex::new(records)))
    }

    /// INVARIANT: no code panics between two changes of one batch, so a poisoned lock guards whole batches.
    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, batch: Batch) -> Result<(), LedgerError> {
        admit(&batch)?;
        let mut records = self.records();
        let mut staged: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>> = BTreeMap::new();
        for entry in batch.0 {
            let place = (entry.table, entry.key.clone());
            let current = match staged.get(&place) {
                Some(change) => change.as_deref(),
                None => records.get(&place).map(Vec::as_slice),
            };
            satisfied(&entry, current)?;
            staged.insert(place, entry.value);
        }
        for (place, change) in staged {
            match change {
                Some(record) => records.insert(place, record),
                None => records.remove(&place),
            };
        }
        Ok(())
    }

    fn rows(&self, table: Table, after: Option<&[u8]>, limit: usize) -> Vec<Row> {
        let start = match after {
            Some(key) => Bound::Excluded((table, key.to_vec())),
            None => Bound::Included((table, Vec::new())),
        };
        let records = self.records();
        let range = records.range((start, Bound::Unbounded));
        range
            .take_while(|((of, _), _)| *of == table)
            .take(limit)
            .map(|((_, key), record)| (key.clone(), record.clone()))
            .collect()
    }
}

impl Default for MemoryLedger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger for MemoryLedger {
    fn commit(&self, batch: Batch) -> PortFuture<'_, Result<(), LedgerError>> {
        Box::pin(async move { self.apply(batch) })
    }

    fn read<'a>(
        &'a self,
        table: Table,
        key: &'a [u8],
    ) -> PortFuture<'a, Result<Option<Vec<u8>>, LedgerError>> {
        Box::pin(ready(Ok(self
            .records()
            .get(&(table, key.to_vec()))
            .cloned())))
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> PortFuture<'a, Result<Vec<Row>, LedgerError>> {
        Box::pin(ready(Ok(self.rows(table, after, limit))))
    }
}
