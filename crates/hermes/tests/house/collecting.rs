//! Collecting from consumers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wayfare_hermes::HermesConfig;
use wayfare_identity::Signer;
use wayfare_store::MemoryLedger;

use crate::doubles::{Session, Vault, config, open, units};

async fn collected(vault: &Vault) {
    let noticed = tokio::time::timeout(Duration::from_secs(20), vault.collected.notified()).await;
    noticed.expect("the debt is collected");
}

fn watchful() -> HermesConfig {
    HermesConfig {
        watch_every: Duration::from_millis(20),
        ..config()
    }
}

#[tokio::test]
async fn a_debt_is_collected_at_the_threshold_and_not_before() {
    let vault = Arc::new(Vault::default());
    let session = Session::new("consumer", "provider", 1);
    let consumer = session.consumer.address();
    vault.change(consumer, |account| account.balance = units(1_000));
    let (hermes, client) = open(watchful(), Arc::new(MemoryLedger::new()), vault.clone()).await;
    session.issue(&client, 99).await;
    session.reveal(&client, 99).await;
    let looks = vault.looks.load(Ordering::SeqCst);
    // Five rounds have looked at the debt and left it.
    let looked = async {
        while vault.looks.load(Ordering::SeqCst) < looks + 5 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looked)
        .await
        .expect("rounds go on");
    assert_eq!(vault.account(consumer).collected, units(0));
    session.issue(&client, 150).await;
    session.reveal(&client, 150).await;
    collected(&vault).await;
    assert_eq!(vault.account(consumer).collected, units(150));
    hermes.shutdown().await.unwrap();
}

#[tokio::test]
async fn whoever_leaves_pays_first() {
    let vault = Arc::new(Vault::default());
    let session = Session::new("consumer", "provider", 1);
    let consumer = session.consumer.address();
    vault.change(consumer, |account| account.balance = units(1_000));
    let (hermes, client) = open(watchful(), Arc::new(MemoryLedger::new()), vault.clone()).await;
    session.issue(&client, 7).await;
    session.reveal(&client, 7).await;
    vault.change(consumer, |account| account.exit_at = Some(1));
    collected(&vault).await;
    assert_eq!(vault.account(consumer).collected, units(7));
    hermes.shutdown().await.unwrap();
}

#[tokio::test]
async fn everything_is_collected_when_told_to_and_what_is_locked_is_not() {
    let vault = Arc::new(Vault::default());
    let (paid, locked) = (
        Session::new("a", "provider", 1),
        Session::new("b", "other", 2),
    );
    for session in [&paid, &locked] {
        vault.change(session.consumer.address(), |account| {
            account.balance = units(50)
        });
    }
    let (hermes, client) = open(config(), Arc::new(MemoryLedger::new()), vault.clone()).await;
    assert_eq!(hermes.collect_now().await.unwrap(), []);
    paid.issue(&client, 40).await;
    paid.reveal(&client, 40).await;
    locked.issue(&client, 40).await;
    let collections = hermes.collect_now().await.unwrap();
    assert_eq!(collections.len(), 1);
    assert_eq!(
        (collections[0].consumer, collections[0].owed),
        (paid.consumer.address(), units(40))
    );
    assert_eq!(collections[0].outcome.as_ref().unwrap().1, units(40));
    assert_eq!(hermes.collect_now().await.unwrap(), [], "once is enough");
    assert_eq!(vault.account(locked.consumer.address()).collected, units(0));
    hermes.shutdown().await.unwrap();
}
