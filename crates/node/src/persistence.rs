//! Durable writes in flight: committed in the order in which the machine asked for them, several at a time.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use wayfare_payment::{Batch, Ledger, LedgerError, Row, Table, Ticket};

/// Rows read at a time when a machine is restored.
const PAGE: usize = 1_024;

/// The writes of one machine.
#[derive(Debug)]
pub(crate) struct Persistence {
    ledger: Arc<dyn Ledger>,
    running: FuturesOrdered<BoxFuture<'static, (Ticket, Result<(), LedgerError>)>>,
}

impl Persistence {
    pub(crate) fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self {
            ledger,
            running: FuturesOrdered::new(),
        }
    }

    /// Starts a write.
    pub(crate) fn push(&mut self, ticket: Ticket, batch: Batch) {
        let ledger = Arc::clone(&self.ledger);
        self.running.push_back(Box::pin(
            async move { (ticket, ledger.commit(batch).await) },
        ));
    }

    /// The next finished write; waits for ever while there is none.
    ///
    /// # Errors
    /// The ledger failed: its owner must stop, since nothing about the write is known.
    pub(crate) async fn next(&mut self) -> Result<Ticket, LedgerError> {
        match self.running.next().await {
            Some((ticket, result)) => result.map(|()| ticket),
            None => std::future::pending().await,
        }
    }
}

/// Reads whole tables, for a machine to be restored from.
pub(crate) async fn load(
    ledger: &dyn Ledger,
    tables: &[Table],
) -> Result<Vec<(Table, Row)>, LedgerError> {
    let mut rows = Vec::new();
    for table in tables {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = ledger.scan(*table, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            rows.extend(page.into_iter().map(|row| (*table, row)));
        }
    }
    Ok(rows)
}
