//! What networks do by themselves: reorganisations, stuck transactions, gas that is dear for a while.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, U256};
use serde_json::json;
use wayfare_chain::{Endpoint, VaultClient};
use wayfare_payment::{Amount, Chain, ChainError, JobState, Purpose};

use crate::net::wei;
use crate::notebook::Notebook;
use crate::world::{
    World, assert_true, begin_sending, endpoint, is_confirmed, is_sent, newest, open, seen_by,
};

#[tokio::test]
async fn a_reorganisation_of_twelve_blocks_leaves_ledger_and_view_true() {
    // Servers that keep what was taken back, and servers that forget it.
    for keep in [true, false] {
        let world = World::new().await;
        let bob = world.net.actor("bob").await;
        world.net.collateral(1_000).await;
        let order = world.net.provider_order(bob.address(), 500, 1);
        let ledger = Arc::new(Notebook::new());
        let wallet = open(endpoint([&world.net.url]), &bob.signer, &ledger).await;
        let vault = seen_by(&bob, wallet.clone());

        let before = world.tell("evm_snapshot", json!([]));
        assert_eq!(vault.settle(order).await.unwrap().total, wei(500));
        world.mine(11);
        let told = newest(&wallet, is_confirmed).await;
        assert!(matches!(told.purpose, Purpose::Settle { amount, .. } if amount == wei(500)));
        assert_true(&world, &wallet, &ledger).await;

        world.withhold(true);
        assert_eq!(
            world.tell("wayfare_reorganise", json!([before, keep])),
            true
        );
        let taken_back = newest(&wallet, is_sent).await;
        assert_eq!(taken_back.reorganised, 1);
        assert_eq!(taken_back.hash, told.hash, "the same bytes are sent again");
        assert_eq!(world.net.settled(bob.address()).await, Amount::ZERO);
        assert_true(&world, &wallet, &ledger).await;

        // It is sent again by itself; the server may have forgotten it.
        while world.tell("wayfare_waits", json!([told.hash])) != true {
            tokio::task::yield_now().await;
        }
        world.mine(1);
        let again = newest(&wallet, is_confirmed).await;
        assert_eq!(again.hash, told.hash);
        assert_ne!(again.state, told.state, "in another block");
        assert_eq!(world.net.settled(bob.address()).await, wei(500));
        assert_eq!(world.net.tokens(bob.address()).await, wei(475), "once");
        assert_true(&world, &wallet, &ledger).await;
    }
}

#[tokio::test]
async fn a_settlement_asked_for_after_a_reorganisation_is_the_same_transaction() {
    let world = World::new().await;
    let bob = world.net.actor("bob").await;
    world.net.collateral(1_000).await;
    let order = world.net.provider_order(bob.address(), 500, 1);
    let ledger = Arc::new(Notebook::new());
    let wallet = open(endpoint([&world.net.url]), &bob.signer, &ledger).await;
    let vault = seen_by(&bob, wallet.clone());
    let before = world.tell("evm_snapshot", json!([]));
    let first = vault.settle(order).await.unwrap();
    world.tell("wayfare_reorganise", json!([before, false]));
    let second = vault.settle(order).await.unwrap();
    assert_eq!(first.transaction, second.transaction);
    assert_eq!(wallet.transactions().await.unwrap().len(), 1);
    assert_eq!(world.net.tokens(bob.address()).await, wei(475));
    assert_true(&world, &wallet, &ledger).await;
}

#[tokio::test]
async fn a_stuck_transaction_is_replaced_and_leaves_ledger_and_view_true() {
    let world = World::new().await;
    let alice = world.net.actor("alice").await;
    let ledger = Arc::new(Notebook::new());
    let hasty = Endpoint {
        stuck_after: Duration::from_millis(30),
        ..endpoint([&world.net.url])
    };
    let wallet = open(hasty, &alice.signer, &ledger).await;
    world.withhold(true);
    let to = Address::repeat_byte(7);
    let sending = begin_sending(&wallet, to);
    let first = newest(&wallet, is_sent).await;
    let replaced = newest(&wallet, |view| is_sent(view) && view.replaced >= 2).await;
    assert_ne!(first.hash, replaced.hash);
    assert_true(&world, &wallet, &ledger).await;
    // Whichever of them a block takes, it is the job's.
    while !sending.is_finished() {
        world.mine(1);
        tokio::task::yield_now().await;
    }
    let receipt = sending.await.unwrap().unwrap();
    let done = newest(&wallet, is_confirmed).await;
    assert_eq!(done.hash, Some(receipt.transaction_hash));
    let paid = U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price);
    assert_eq!(done.paid, Some(paid));
    assert_eq!(world.transactions_of(alice.address()), 1);
    assert_eq!(wallet.native_balance(to).await.unwrap(), U256::from(5));
    assert_true(&world, &wallet, &ledger).await;
}

#[tokio::test]
async fn a_gas_spike_is_waited_out_and_leaves_ledger_and_view_true() {
    let world = World::new().await;
    let bob = world.net.actor("bob").await;
    world.net.collateral(1_000).await;
    let order = world.net.provider_order(bob.address(), 500, 1);
    let ledger = Arc::new(Notebook::new());
    let gwei = 1_000_000_000_u128;
    let frugal = Endpoint {
        gas_price_cap: Some(5 * gwei),
        stuck_after: Duration::from_millis(30),
        confirm_timeout: Duration::from_millis(300),
        ..endpoint([&world.net.url])
    };
    let wallet = open(frugal, &bob.signer, &ledger).await;
    let vault = seen_by(&bob, wallet.clone());

    // In circulation when the spike comes: it is not replaced above the cap, and says so.
    world.withhold(true);
    let sent = wallet.send_native(Address::repeat_byte(7), U256::from(1));
    let Err(ChainError::Pending(hash)) = sent.await else {
        panic!("nothing mines it");
    };
    world.tell("wayfare_setBaseFee", json!([format!("{:#x}", 100 * gwei)]));
    world.withhold(false);
    world.mine(3);
    let stuck = newest(&wallet, |view| {
        is_sent(view)
            && view
                .waiting
                .as_ref()
                .is_some_and(|why| why.contains("the cap is"))
    })
    .await;
    let known: Vec<_> = wallet.transactions().await.unwrap();
    assert!(known[0].hash == Some(hash) || stuck.replaced > 0);

    // Asked for during the spike: it waits in the queue, unsigned, and the caller is told why.
    let told = vault.settle(order).await.unwrap_err();
    assert!(
        matches!(&told, ChainError::Waiting(why) if why.contains("the cap is 5000000000")),
        "{told}"
    );
    let waits = newest(&wallet, |view| view.state == JobState::Queued).await;
    assert!(waits.waiting.unwrap().contains("the cap is 5000000000"));
    assert_eq!(waits.hash, None);
    assert_true(&world, &wallet, &ledger).await;

    // It is over: both go, and nobody had to ask again.
    world.tell("wayfare_setBaseFee", json!([format!("{gwei:#x}")]));
    world.mine(1);
    newest(&wallet, is_confirmed).await;
    assert_eq!(world.net.settled(bob.address()).await, wei(500));
    assert_true(&world, &wallet, &ledger).await;
    assert!(
        wallet
            .transactions()
            .await
            .unwrap()
            .iter()
            .all(is_confirmed)
    );
}

#[tokio::test]
async fn what_another_settled_is_shown_as_settled_by_another() {
    let world = World::new().await;
    let bob = world.net.actor("bob").await;
    world.net.collateral(1_000).await;
    let order = world.net.provider_order(bob.address(), 500, 1);
    let ledger = Arc::new(Notebook::new());
    let hasty = Endpoint {
        confirm_timeout: Duration::from_millis(100),
        stuck_after: Duration::from_millis(30),
        gas_price_cap: Some(10_000_000_000_000),
        ..endpoint([&world.net.url])
    };
    let wallet = open(hasty, &bob.signer, &ledger).await;
    let vault: VaultClient = seen_by(&bob, wallet.clone());
    world.withhold(true);
    let pending = vault.settle(order).await.unwrap_err();
    assert!(matches!(pending, ChainError::Pending(_)), "{pending}");
    // The server forgets ours, and another program of the same key settles with the same nonce.
    let view = newest(&wallet, is_sent).await;
    world.tell("wayfare_forget", json!([]));
    world.withhold(false);
    let other = bob.vault.settle(order).await;
    assert_eq!(other.unwrap().total, wei(500));
    let told = vault.settle(order).await.unwrap();
    assert_eq!((told.transaction, told.total), (None, wei(500)));
    let ours = newest(&wallet, |now| {
        now.job == view.job && now.state != JobState::Queued && !is_sent(now)
    })
    .await;
    // Ours may have been the very same bytes as the other's: then it is ours.
    assert!(
        is_confirmed(&ours) || ours.state == JobState::SettledByAnother,
        "{ours:?}"
    );
    assert_eq!(world.net.tokens(bob.address()).await, wei(475));
    assert_true(&world, &wallet, &ledger).await;
}
