//! A ledger in memory that can lose power after a number of commits. It refuses to be fast.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use wayfare_payment::{Batch, Ledger, LedgerError, PortFuture, Row, Table};

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Notebook {
    rows: Mutex<Rows>,
    commits_left: AtomicUsize,
}

impl Notebook {
    pub(crate) fn new() -> Self {
        Self::until_power_fails(Rows::new(), usize::MAX)
    }

    fn until_power_fails(rows: Rows, commits: usize) -> Self {
        Self {
            rows: Mutex::new(rows),
            commits_left: AtomicUsize::new(commits),
        }
    }

    /// One that works for so many commits and fails from then on.
    pub(crate) fn failing_after(commits: usize) -> Self {
        Self::until_power_fails(Rows::new(), commits)
    }

    /// What survives, in a notebook that works.
    pub(crate) fn reopened(&self) -> Self {
        Self::until_power_fails(self.rows.lock().unwrap().clone(), usize::MAX)
    }
}

impl Ledger for Notebook {
    fn commit(&self, batch: Batch) -> PortFuture<'_, Result<(), LedgerError>> {
        let left = self
            .commits_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if left.is_err() {
            let failed = LedgerError::Failed("the power is gone".to_owned());
            return Box::pin(ready(Err(failed)));
        }
        let mut rows = self.rows.lock().unwrap();
        for entry in batch.0 {
            match entry.value {
                Some(value) => rows.insert((entry.table, entry.key), value),
                None => rows.remove(&(entry.table, entry.key)),
            };
        }
        Box::pin(ready(Ok(())))
    }

    fn read<'a>(
        &'a self,
        table: Table,
        key: &'a [u8],
    ) -> PortFuture<'a, Result<Option<Vec<u8>>, LedgerError>> {
        let found = self
            .rows
            .lock()
            .unwrap()
            .get(&(table, key.to_vec()))
            .cloned();
        Box::pin(ready(Ok(found)))
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> PortFuture<'a, Result<Vec<Row>, LedgerError>> {
        let rows = self.rows.lock().unwrap();
        let found = rows
            .iter()
            .filter(|((of, key), _)| {
                *of == table && after.is_none_or(|after| key.as_slice() > after)
            })
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        Box::pin(ready(Ok(found)))
    }
}
