//! Promises: once, twice, after a restart, from many at a time, and with a deposit that changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use wayfare_api::RefusalCode;
use wayfare_hermes::{Audit, Depth, Hermes, HermesConfig, Ports, RocksLedger, StartError, check};
use wayfare_identity::{Address, Signer};
use wayfare_payment::{Amount, ChannelId, IssueRefusal, Ledger};
use wayfare_store::{LedgerOptions, MemoryLedger};

use crate::doubles::{Session, Vault, config, issuer, key, open, units};

fn on_disk(folder: &tempfile::TempDir) -> Arc<RocksLedger> {
    Arc::new(RocksLedger::open(folder.path().join("ledger"), LedgerOptions::default()).unwrap())
}

async fn audited(ledger: &dyn Ledger) -> Amount {
    let audit = Audit {
        issuer: issuer(),
        operator: key("operator").address(),
        depth: Depth::Signatures,
    };
    let report = check(ledger, audit).await.unwrap();
    assert_eq!(report.findings, []);
    report.promised
}

#[tokio::test]
async fn a_promise_survives_a_restart_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Arc::new(Vault::default());
    let session = Session::new("consumer", "provider", 1);
    vault.change(session.consumer.address(), |account| {
        account.balance = units(1_000)
    });

    let (hermes, client) = open(config(), on_disk(&folder), vault.clone()).await;
    let terms = client.describe().await.unwrap().terms;
    assert_eq!(
        (terms.operator, terms.fee_basis_points),
        (key("operator").address(), 250)
    );
    let first = session.issue(&client, 10).await;
    assert_eq!(
        session.issue(&client, 10).await,
        first,
        "the same payment again"
    );
    session.reveal(&client, 10).await;
    session.reveal(&client, 10).await;
    let second = session.issue(&client, 25).await;
    assert_eq!(hermes.totals().await.unwrap().promised, units(25));
    hermes.shutdown().await.unwrap();

    let (hermes, client) = open(config(), on_disk(&folder), vault).await;
    assert_eq!(session.issue(&client, 25).await, second, "after a restart");
    let error = client.issue(&session.pay(40)).await.unwrap_err();
    assert_eq!(
        error.refusal().unwrap().issue_refusal(),
        Some(IssueRefusal::RevealFirst)
    );
    session.reveal(&client, 25).await;
    let third = session.issue(&client, 40).await;
    assert_eq!(third.promise.promise.amount, units(40));
    assert_eq!(third.receipt.receipt.sequence, 3);
    assert_eq!(
        third.receipt.receipt.previous,
        second.receipt.receipt.digest(&issuer().domain())
    );

    let channel = ChannelId::of_provider(session.provider, issuer().hermes);
    let state = client.provider_state(channel).await.unwrap();
    assert_eq!(
        (state.promised, state.last),
        (units(40), Some(third.promise))
    );
    let state = client
        .consumer_state(session.consumer.address())
        .await
        .unwrap();
    assert_eq!(
        (state.promised, state.deposit, state.exit_at),
        (units(40), units(1_000), None)
    );
    hermes.shutdown().await.unwrap();
    assert_eq!(audited(on_disk(&folder).as_ref()).await, units(40));
}

#[tokio::test]
async fn many_consumers_and_providers_are_served_at_a_time() {
    const CONSUMERS: u64 = 24;
    const PAYMENTS: u128 = 5;
    let folder = tempfile::tempdir().unwrap();
    let vault = Arc::new(Vault::default());
    let ledger = on_disk(&folder);
    let (hermes, client) = open(config(), ledger.clone(), vault.clone()).await;
    let begun = Instant::now();
    let paying = (0..CONSUMERS).map(|n| {
        let session = Session::new(&format!("consumer {n}"), &format!("provider {n}"), n);
        vault.change(session.consumer.address(), |account| {
            account.balance = units(PAYMENTS * 10)
        });
        let client = client.clone();
        tokio::spawn(async move {
            for payment in 1..=PAYMENTS {
                session.issue(&client, payment * 10).await;
                session.reveal(&client, payment * 10).await;
            }
            let error = client
                .issue(&session.pay(PAYMENTS * 10 + 1))
                .await
                .unwrap_err();
            assert_eq!(error.refusal().unwrap().code, RefusalCode::Unfunded);
        })
    });
    for paid in paying.collect::<Vec<_>>() {
        paid.await.unwrap();
    }
    let promises = u128::from(CONSUMERS) * PAYMENTS;
    println!(
        "{promises} promises issued and revealed in {:?}",
        begun.elapsed()
    );
    hermes.shutdown().await.unwrap();
    assert_eq!(audited(ledger.as_ref()).await, units(promises * 10));
}

#[tokio::test]
async fn a_deposit_is_remembered_but_looked_up_again_before_somebody_is_turned_away() {
    let vault = Arc::new(Vault::default());
    let session = Session::new("consumer", "provider", 1);
    let consumer = session.consumer.address();
    vault.change(consumer, |account| account.balance = units(10));
    let patient = HermesConfig {
        account_age: Duration::from_secs(3_600),
        ..config()
    };
    let (hermes, client) = open(patient, Arc::new(MemoryLedger::new()), vault.clone()).await;
    session.issue(&client, 5).await;
    session.issue(&client, 5).await;
    assert_eq!(vault.looks.load(Ordering::SeqCst), 1, "remembered");
    session.reveal(&client, 5).await;

    let error = client.issue(&session.pay(20)).await.unwrap_err();
    assert_eq!(
        error.refusal().unwrap().issue_refusal(),
        Some(IssueRefusal::OverDeposit)
    );
    vault.change(consumer, |account| account.balance = units(100));
    session.issue(&client, 20).await;
    session.reveal(&client, 20).await;

    vault.change(consumer, |account| account.exit_at = Some(99));
    let looks = vault.looks.load(Ordering::SeqCst);
    vault.down.store(true, Ordering::SeqCst);
    session.issue(&client, 30).await;
    assert_eq!(
        vault.looks.load(Ordering::SeqCst),
        looks,
        "what is remembered is enough while it is young"
    );
    session.reveal(&client, 30).await;
    let error = client.issue(&session.pay(1_000)).await.unwrap_err();
    assert_eq!(
        error.refusal().unwrap().code,
        RefusalCode::Chain,
        "nobody is turned away on an old look"
    );
    assert!(error.is_transient());
    vault.down.store(false, Ordering::SeqCst);
    let error = client.issue(&session.pay(1_000)).await.unwrap_err();
    assert_eq!(
        error.refusal().unwrap().issue_refusal(),
        Some(IssueRefusal::ExitPending)
    );
    hermes.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_wrong_preimage_is_refused_and_draining_is_told() {
    let vault = Arc::new(Vault::default());
    let session = Session::new("consumer", "provider", 1);
    vault.change(session.consumer.address(), |account| {
        account.balance = units(10)
    });
    let (hermes, client) = open(config(), Arc::new(MemoryLedger::new()), vault).await;
    session.issue(&client, 5).await;
    let channel = ChannelId::of_provider(session.provider, issuer().hermes);
    let lock = session.pay(5).request.exchange.promise.promise.hashlock;
    let wrong = wayfare_payment::Preimage(wayfare_identity::B256::ZERO);
    for hashlock in [lock, wrong.hashlock()] {
        let error = client.reveal(channel, hashlock, wrong).await.unwrap_err();
        assert_eq!(
            error.refusal().unwrap().issue_refusal(),
            Some(IssueRefusal::WrongPreimage)
        );
    }
    assert!(!client.describe().await.unwrap().terms.draining);
    hermes.drain();
    assert!(client.describe().await.unwrap().terms.draining);
    session.reveal(&client, 5).await;
    hermes.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_key_or_a_hermes_that_the_chain_does_not_know_starts_nothing() {
    let ports = |operator: &str| Ports {
        ledger: Arc::new(MemoryLedger::new()),
        chain: Arc::new(Vault::default()),
        operator: Arc::new(key(operator)),
    };
    let listener = || async { tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap() };
    let error = Hermes::start(config(), ports("stranger"), listener().await)
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::WrongOperator { .. }), "{error}");
    let mut elsewhere = config();
    elsewhere.issuer.hermes = Address::ZERO;
    let error = Hermes::start(elsewhere, ports("operator"), listener().await)
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::Chain(_)), "{error}");
}

#[tokio::test]
async fn nobody_but_the_provider_moves_the_providers_channel() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Arc::new(Vault::default());
    let session = Session::new("consumer", "provider", 1);
    vault.change(session.consumer.address(), |account| {
        account.balance = units(1_000)
    });
    let (hermes, client) = open(config(), on_disk(&folder), vault).await;
    let mut forged = session.pay(10);
    forged.provider_signature = forged
        .request
        .sign(&session.consumer, issuer().vault)
        .unwrap()
        .provider_signature;
    let error = client.issue(&forged).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, RefusalCode::Signature);
    let channel = ChannelId::of_provider(session.provider, session.hermes);
    assert_eq!(client.provider_state(channel).await.unwrap().last, None);
    session.issue(&client, 10).await;
    hermes.shutdown().await.unwrap();
}
