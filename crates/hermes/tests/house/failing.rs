//! A ledger that fails under a Hermes, and what is left of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wayfare_hermes::HermesError;
use wayfare_identity::Signer;
use wayfare_payment::{Batch, Ledger, LedgerError, PortFuture, Row, Table};
use wayfare_store::MemoryLedger;

use crate::doubles::{Session, Vault, config, open, units};

/// Breaks when told to. What it is given then may or may not be kept: here it is.
#[derive(Debug, Default)]
struct Breaking {
    inner: MemoryLedger,
    broken: AtomicBool,
}

impl Ledger for Breaking {
    fn commit(&self, batch: Batch) -> PortFuture<'_, Result<(), LedgerError>> {
        Box::pin(async move {
            self.inner.commit(batch).await?;
            if self.broken.load(Ordering::SeqCst) {
                return Err(LedgerError::Failed("the disk is gone".into()));
            }
            Ok(())
        })
    }

    fn read<'a>(
        &'a self,
        table: Table,
        key: &'a [u8],
    ) -> PortFuture<'a, Result<Option<Vec<u8>>, LedgerError>> {
        self.inner.read(table, key)
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> PortFuture<'a, Result<Vec<Row>, LedgerError>> {
        self.inner.scan(table, after, limit)
    }
}

#[tokio::test]
async fn a_failed_write_stops_the_hermes_and_the_next_one_keeps_the_promise() {
    let vault = Arc::new(Vault::default());
    let ledger = Arc::new(Breaking::default());
    let session = Session::new("consumer", "provider", 1);
    vault.change(session.consumer.address(), |account| {
        account.balance = units(100)
    });
    let (hermes, client) = open(config(), ledger.clone(), vault.clone()).await;
    session.issue(&client, 10).await;
    session.reveal(&client, 10).await;

    ledger.broken.store(true, Ordering::SeqCst);
    client.issue(&session.pay(20)).await.unwrap_err();
    let error = hermes.stopped().await.unwrap_err();
    assert!(
        matches!(&error, HermesError::Ledger(LedgerError::Failed(_))),
        "{error}"
    );
    client.describe().await.unwrap_err();

    ledger.broken.store(false, Ordering::SeqCst);
    let (hermes, client) = open(config(), ledger, vault).await;
    let reply = session.issue(&client, 20).await;
    assert_eq!(
        (reply.promise.promise.amount, reply.receipt.receipt.sequence),
        (units(20), 2)
    );
    assert_eq!(hermes.totals().await.unwrap().promised, units(20));
    hermes.shutdown().await.unwrap();
}
