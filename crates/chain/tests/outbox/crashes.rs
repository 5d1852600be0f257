//! Power failures, two programs of one key, servers that die: no nonce twice, nothing lost, nothing done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, U256};
use serde_json::{Value, json};
use wayfare_chain::devchain::Told;
use wayfare_chain::{Endpoint, Wallet};
use wayfare_payment::{Chain, ChainError, JobState};

use crate::net::wei;
use crate::notebook::Notebook;
use crate::world::{
    World, assert_true, begin_sending, endpoint, is_confirmed, is_sent, newest, open, seen_by,
};

#[tokio::test]
async fn after_a_crash_at_any_write_the_same_bytes_go_on_and_settle_once() {
    let world = World::new().await;
    let bob = world.net.actor("bob").await;
    world.net.collateral(100_000).await;
    // Queued, sent, confirmed: after the last there is nothing left to lose.
    for commits in 0..4 {
        let amount = 500 * (commits as u128 + 1);
        let order = world
            .net
            .provider_order(bob.address(), amount, commits as u8 + 1);
        let nonce = world.transactions_of(bob.address());
        let notes = Arc::new(Notebook::failing_after(commits));
        let urls = [world.net.url.clone()];
        let first = open(endpoint(&urls), &bob.signer, &notes).await;
        let told = seen_by(&bob, first.clone()).settle(order).await;
        if commits < 3 {
            let why = told.unwrap_err();
            assert!(why.to_string().contains("ledger failed"), "{why}");
        } else {
            told.unwrap();
        }
        drop(first);

        let notes = Arc::new(notes.reopened());
        let again = open(endpoint(&urls), &bob.signer, &notes).await;
        let settled = seen_by(&bob, again.clone()).settle(order).await.unwrap();
        assert_eq!(settled.total, wei(amount));
        assert_eq!(
            world.transactions_of(bob.address()),
            nonce + 1,
            "one transaction, after {commits} writes"
        );
        if !again.transactions().await.unwrap().is_empty() {
            newest(&again, is_confirmed).await;
        }
        assert_true(&world, &again, &notes).await;
    }
}

#[tokio::test]
async fn what_was_in_circulation_at_a_crash_is_sent_again_to_the_byte() {
    let world = World::new().await;
    let alice = world.net.actor("alice").await;
    let notes = Arc::new(Notebook::new());
    let urls = [world.net.url.clone()];
    world.withhold(true);
    let wallet = open(endpoint(&urls), &alice.signer, &notes).await;
    let sending = tokio::spawn({
        let wallet = wallet.clone();
        async move {
            wallet
                .send_native(Address::repeat_byte(7), U256::from(5))
                .await
        }
    });
    let before = newest(&wallet, is_sent).await;
    sending.abort();
    drop(wallet);
    world.tell("wayfare_forget", json!([]));
    let wallet = open(endpoint(&urls), &alice.signer, &Arc::new(notes.reopened())).await;
    while world.tell("wayfare_waits", json!([before.hash])) != true {
        tokio::task::yield_now().await;
    }
    world.mine(1);
    let after = newest(&wallet, is_confirmed).await;
    assert_eq!(after.hash, before.hash);
    assert_eq!(world.transactions_of(alice.address()), 1);
}

#[tokio::test]
async fn two_jobs_at_once_are_both_done_in_their_order() {
    let world = World::new().await;
    let alice = world.net.actor("alice").await;
    let notes = Arc::new(Notebook::new());
    let wallet = open(endpoint([&world.net.url]), &alice.signer, &notes).await;
    world.withhold(true);
    let to = Address::repeat_byte(7);
    let (one, two) = (wallet.clone(), wallet.clone());
    let first = tokio::spawn(async move { one.send_native(to, U256::from(1)).await });
    newest(&wallet, is_sent).await;
    let second = tokio::spawn(async move { two.send_native(to, U256::from(2)).await });
    let last = newest(&wallet, |view| view.job.0 == 1 && is_sent(view)).await;
    while world.tell("wayfare_waits", json!([last.hash])) != true {
        tokio::task::yield_now().await;
    }
    world.mine(1);
    let (first, second) = (
        first.await.unwrap().unwrap(),
        second.await.unwrap().unwrap(),
    );
    assert!(first.block_number < second.block_number);
    assert_eq!(wallet.native_balance(to).await.unwrap(), U256::from(3));
    assert_true(&world, &wallet, &notes).await;
}

#[tokio::test]
async fn a_server_that_dies_between_sending_and_answering_costs_nothing() {
    let mut world = World::new().await;
    let alice = world.net.actor("alice").await;
    let notes = Arc::new(Notebook::new());
    let once = AtomicBool::new(false);
    let dying = world
        .server(move |method, _, truth| {
            if method == "eth_sendRawTransaction" && !once.swap(true, Ordering::SeqCst) {
                Told::Broken
            } else {
                Told::Answer(truth)
            }
        })
        .await;
    let wallet = open(endpoint(&[dying]), &alice.signer, &notes).await;
    let to = Address::repeat_byte(7);
    wallet.send_native(to, U256::from(5)).await.unwrap();
    assert_eq!(wallet.native_balance(to).await.unwrap(), U256::from(5));
    assert_eq!(world.transactions_of(alice.address()), 1);
    assert_true(&world, &wallet, &notes).await;
}

#[tokio::test]
async fn a_dead_server_is_replaced_by_the_next_and_a_wrong_one_is_never_used() {
    let mut world = World::new().await;
    let alice = world.net.actor("alice").await;
    let dead = "http://127.0.0.1:1".to_owned();
    let foreign = world
        .server(|method, _, truth| match method {
            "eth_chainId" => Told::Answer(Ok(json!("0x89"))),
            "eth_call" | "eth_getBalance" | "eth_sendRawTransaction" => {
                panic!("it serves another chain and is asked")
            }
            _ => Told::Answer(truth),
        })
        .await;
    let silent = world.server(|_, _, _| Told::Silence).await;
    let honest = world.honest().await;
    let notes = Arc::new(Notebook::new());
    let patient = Endpoint {
        call_timeout: Duration::from_millis(500),
        ..endpoint(&[dead, foreign, silent, honest])
    };
    let wallet = open(patient, &alice.signer, &notes).await;
    let to = Address::repeat_byte(7);
    wallet.send_native(to, U256::from(5)).await.unwrap();
    assert_eq!(wallet.native_balance(to).await.unwrap(), U256::from(5));
    assert_true(&world, &wallet, &notes).await;
}

#[tokio::test]
async fn a_nonce_taken_by_another_program_is_given_up_and_the_money_moves_once() {
    let world = World::new().await;
    let alice = world.net.actor("alice").await;
    let notes = Arc::new(Notebook::new());
    let wallet = open(endpoint([&world.net.url]), &alice.signer, &notes).await;
    world.withhold(true);
    let (to, other) = (Address::repeat_byte(7), Address::repeat_byte(8));
    let sending = begin_sending(&wallet, to);
    let before = newest(&wallet, is_sent).await;
    // The server loses ours; another program with the same key is faster with the same nonce.
    world.tell("wayfare_forget", json!([]));
    world.withhold(false);
    let twin = Wallet::new(endpoint([&world.net.url]), Arc::new(alice.signer.clone()));
    twin.unwrap()
        .send_native(other, U256::from(1))
        .await
        .unwrap();
    sending.await.unwrap().unwrap();
    let after = newest(&wallet, is_confirmed).await;
    assert_ne!(after.hash, before.hash);
    assert_eq!(world.transactions_of(alice.address()), 2);
    assert_eq!(wallet.native_balance(to).await.unwrap(), U256::from(5));
    assert_true(&world, &wallet, &notes).await;
}

#[tokio::test]
async fn a_withdrawn_transaction_moves_nothing() {
    let world = World::new().await;
    let alice = world.net.actor("alice").await;
    let notes = Arc::new(Notebook::new());
    let wallet = open(endpoint([&world.net.url]), &alice.signer, &notes).await;
    world.withhold(true);
    let to = Address::repeat_byte(7);
    let sending = begin_sending(&wallet, to);
    let sent = newest(&wallet, is_sent).await;
    wallet
        .withdraw(sent.job, "the user changed his mind")
        .await
        .unwrap();
    let cancelled = newest(&wallet, |view| is_sent(view) && view.hash != sent.hash).await;
    while world.tell("wayfare_waits", json!([cancelled.hash])) != true {
        tokio::task::yield_now().await;
    }
    world.mine(1);
    let told = sending.await.unwrap().unwrap_err();
    assert!(matches!(&told, ChainError::Refused(why) if why.contains("changed his mind")));
    let view = newest(&wallet, |view| matches!(view.state, JobState::Failed(_))).await;
    assert!(
        view.paid.is_some_and(|paid| paid > U256::ZERO),
        "it cost gas"
    );
    assert_eq!(wallet.native_balance(to).await.unwrap(), U256::ZERO);
    assert_eq!(world.transactions_of(alice.address()), 1);
    assert_true(&world, &wallet, &notes).await;
}

#[tokio::test]
async fn a_reverted_settlement_says_why() {
    let world = World::new().await;
    let alice = world.net.actor("alice").await;
    let notes = Arc::new(Notebook::new());
    let wallet = open(endpoint([&world.net.url]), &alice.signer, &notes).await;
    // An explicit gas limit skips the estimate, so it is mined and reverts.
    let call = wayfare_chain::bindings::Vault::cancelExitCall {
        hermesId: world.net.hermes,
    };
    let told = wallet
        .call_with_gas(world.net.vault, &call, 200_000)
        .await
        .unwrap_err();
    let view = newest(&wallet, |view| matches!(view.state, JobState::Failed(_))).await;
    let JobState::Failed(why) = &view.state else {
        panic!("{view:?}");
    };
    assert_eq!(told, ChainError::Refused(why.to_string()));
    assert!(why.to_string().contains("nothing was requested"), "{why}");
    assert!(view.paid.is_some());
    let hash: Value = json!(view.hash);
    assert_eq!(
        world.tell("eth_getTransactionReceipt", json!([hash]))["status"],
        "0x0"
    );
    assert_true(&world, &wallet, &notes).await;
}
