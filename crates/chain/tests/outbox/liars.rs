//! Servers that lie: with a second one beside them nothing untrue is believed, written or shown; alone, only what fits what is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolCall;
use serde_json::{Value, json};
use wayfare_chain::bindings::Vault;
use wayfare_chain::devchain::Told;
use wayfare_chain::{Endpoint, VaultClient};
use wayfare_payment::{Amount, Chain, ChainError, JobState};

use crate::net::{Actor, wei};
use crate::notebook::Notebook;
use crate::world::{World, assert_true, endpoint, is_confirmed, is_sent, newest, open, seen_by};

fn hasty(urls: &[&String]) -> Endpoint {
    let urls: Vec<String> = urls.iter().map(|url| (*url).clone()).collect();
    Endpoint {
        confirm_timeout: Duration::from_millis(300),
        ..endpoint(&urls)
    }
}

/// A receipt for whatever is asked for, in the newest block.
fn false_receipt(truth: &Value, asked: &Value, head: &Value, from: Address) -> Value {
    if !truth.is_null() {
        return truth.clone();
    }
    json!({
        "type": "0x2", "status": "0x1", "cumulativeGasUsed": "0x5208", "logs": [],
        "logsBloom": format!("0x{}", "0".repeat(512)),
        "transactionHash": asked[0], "transactionIndex": "0x0",
        "blockHash": head["hash"], "blockNumber": head["number"],
        "gasUsed": "0x5208", "effectiveGasPrice": "0x1", "from": from,
        "to": Address::repeat_byte(7), "contractAddress": null,
    })
}

async fn forger(world: &mut World, from: Address) -> String {
    let chain = world.chain.clone();
    world
        .server(move |method, params, truth| {
            if method != "eth_getTransactionReceipt" {
                return Told::Answer(truth);
            }
            let head = chain
                .call("eth_getBlockByNumber", &json!(["latest", false]))
                .unwrap();
            Told::Answer(truth.map(|truth| false_receipt(&truth, params, &head, from)))
        })
        .await
}

#[tokio::test]
async fn a_lying_rpc_with_false_receipts_makes_nothing_look_done() {
    let mut world = World::new().await;
    let alice = world.net.actor("alice").await;
    let (liar, honest) = (
        forger(&mut world, alice.address()).await,
        world.honest().await,
    );
    world.withhold(true);
    for urls in [[&liar, &honest], [&honest, &liar]] {
        let notes = Arc::new(Notebook::new());
        let wallet = open(hasty(&urls), &alice.signer, &notes).await;
        let told = wallet
            .send_native(Address::repeat_byte(7), U256::from(5))
            .await;
        assert!(matches!(told, Err(ChainError::Pending(_))), "{told:?}");
        let view = newest(&wallet, |view| {
            let why = view.waiting.clone().unwrap_or_default();
            is_sent(view) && why.contains(liar.as_str()) && why.contains(honest.as_str())
        })
        .await;
        assert!(view.waiting.unwrap().contains("contradict"));
        assert_true(&world, &wallet, &notes).await;
        world.tell("wayfare_forget", json!([]));
    }
    // A third server decides: the true state is shown, and the transaction is done when it is.
    let second = world.honest().await;
    let notes = Arc::new(Notebook::new());
    let wallet = open(endpoint(&[liar, honest, second]), &alice.signer, &notes).await;
    let sending = tokio::spawn({
        let wallet = wallet.clone();
        async move {
            wallet
                .send_native(Address::repeat_byte(9), U256::from(5))
                .await
        }
    });
    newest(&wallet, is_sent).await;
    assert_true(&world, &wallet, &notes).await;
    while !sending.is_finished() {
        world.mine(1);
        tokio::task::yield_now().await;
    }
    sending.await.unwrap().unwrap();
    newest(&wallet, is_confirmed).await;
    assert_true(&world, &wallet, &notes).await;
}

#[tokio::test]
async fn alone_a_server_cannot_pass_off_another_receipt_or_another_block() {
    let mut world = World::new().await;
    let alice = world.net.actor("alice").await;
    let lies: [(&str, Value); 4] = [
        ("transactionHash", json!(B256::repeat_byte(1))),
        ("blockHash", json!(B256::repeat_byte(2))),
        ("from", json!(Address::repeat_byte(3))),
        ("blockNumber", json!("0xffffff")),
    ];
    for (field, lie) in lies {
        let chain = world.chain.clone();
        let from = alice.address();
        let liar = world
            .server(move |method, params, truth| {
                if method != "eth_getTransactionReceipt" {
                    return Told::Answer(truth);
                }
                let head = chain
                    .call("eth_getBlockByNumber", &json!(["latest", false]))
                    .unwrap();
                let mut told = false_receipt(&Value::Null, params, &head, from);
                told[field] = lie.clone();
                Told::Answer(Ok(told))
            })
            .await;
        world.withhold(true);
        let notes = Arc::new(Notebook::new());
        let wallet = open(hasty(&[&liar]), &alice.signer, &notes).await;
        let told = wallet
            .send_native(Address::repeat_byte(7), U256::from(5))
            .await;
        assert!(
            matches!(told, Err(ChainError::Pending(_))),
            "{field}: {told:?}"
        );
        newest(&wallet, is_sent).await;
        assert_true(&world, &wallet, &notes).await;
        world.tell("wayfare_forget", json!([]));
    }
}

/// A server that says of every provider that this much is settled.
async fn boaster(world: &mut World, settled: u128) -> String {
    world
        .server(move |method, params, truth| {
            let input = params[0]["input"].as_str().unwrap_or_default();
            let selector = format!("0x{}", alloy::hex::encode(Vault::providerCall::SELECTOR));
            if method == "eth_call" && input.starts_with(&selector) {
                // The account's words, of which settled is one: all of them say the same.
                let words = truth.map(|told| {
                    let count = (told.as_str().unwrap_or("0x").len() - 2) / 64;
                    json!(format!("0x{}", format!("{settled:064x}").repeat(count)))
                });
                return Told::Answer(words);
            }
            Told::Answer(truth)
        })
        .await
}

async fn settles(actor: &Actor, world: &World, urls: &[&String]) -> (VaultClient, Arc<Notebook>) {
    let notes = Arc::new(Notebook::new());
    let _ = world;
    let wallet = open(hasty(urls), &actor.signer, &notes).await;
    (seen_by(actor, wallet), notes)
}

#[tokio::test]
async fn a_lying_rpc_with_a_false_total_settles_nothing_and_hides_nothing() {
    let mut world = World::new().await;
    let bob = world.net.actor("bob").await;
    world.net.collateral(1_000).await;
    let order = world.net.provider_order(bob.address(), 500, 1);
    let (liar, honest) = (boaster(&mut world, 500).await, world.honest().await);
    let (vault, notes) = settles(&bob, &world, &[&liar, &honest]).await;
    let read = vault.provider(bob.address(), world.net.hermes).await;
    let told = vault.settle(order).await.unwrap_err();
    for error in [read.unwrap_err(), told] {
        let ChainError::Contradiction(why) = &error else {
            panic!("{error:?}");
        };
        assert!(why.contains(&liar) && why.contains(&honest), "{why}");
    }
    assert_eq!(vault.wallet().transactions().await.unwrap(), []);
    assert_true(&world, vault.wallet(), &notes).await;

    // With a third one the truth has a majority.
    let second = world.honest().await;
    let (vault, notes) = settles(&bob, &world, &[&liar, &honest, &second]).await;
    let settled = vault.settle(order).await.unwrap();
    assert!(settled.transaction.is_some());
    assert_eq!(world.net.settled(bob.address()).await, wei(500));
    assert_true(&world, vault.wallet(), &notes).await;
}

#[tokio::test]
async fn a_false_balance_and_a_stale_head_are_contradictions_that_name_both() {
    let mut world = World::new().await;
    let honest = world.honest().await;
    let rich = world
        .server(|method, _, truth| match method {
            "eth_getBalance" => Told::Answer(Ok(json!("0xffffffff"))),
            _ => Told::Answer(truth),
        })
        .await;
    let alice = world.net.actor("alice").await;
    let notes = Arc::new(Notebook::new());
    let wallet = open(hasty(&[&rich, &honest]), &alice.signer, &notes).await;
    let told = wallet
        .native_balance(Address::repeat_byte(7))
        .await
        .unwrap_err();
    assert!(
        matches!(&told, ChainError::Contradiction(why) if why.contains(&rich) && why.contains(&honest)),
        "{told}"
    );

    // One shows the chain as it was forty blocks ago.
    let frozen = world.tell("eth_getBlockByNumber", json!(["latest", false]));
    world.mine(40);
    let (old, number) = (frozen.clone(), frozen["number"].clone());
    let stale = world
        .server(move |method, params, truth| match method {
            "eth_blockNumber" => Told::Answer(Ok(number.clone())),
            "eth_getBlockByNumber" if params[0] == "latest" => Told::Answer(Ok(old.clone())),
            "eth_getBalance" => Told::Answer(Ok(json!("0x0"))),
            _ => Told::Answer(truth),
        })
        .await;
    let wallet = open(hasty(&[&stale, &honest]), &alice.signer, &notes).await;
    let told = wallet.native_balance(alice.address()).await.unwrap_err();
    assert!(
        matches!(&told, ChainError::Contradiction(why) if why.contains("newest blocks")),
        "{told}"
    );
    let told = wallet
        .send_native(Address::repeat_byte(7), U256::from(1))
        .await;
    assert!(
        matches!(told, Err(ChainError::Contradiction(_))),
        "{told:?}"
    );
    assert_eq!(world.transactions_of(alice.address()), 0);
    let view = newest(&wallet, |view| matches!(view.state, JobState::Failed(_))).await;
    assert_eq!(view.hash, None);
    assert_true(&world, &wallet, &notes).await;
}

#[tokio::test]
async fn a_server_that_takes_a_settlement_back_by_lying_is_not_believed() {
    let mut world = World::new().await;
    let bob = world.net.actor("bob").await;
    world.net.collateral(1_000).await;
    let order = world.net.provider_order(bob.address(), 500, 1);
    let lies = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let (now_lies, counted) = (Arc::clone(&lies), Arc::clone(&asked));
    let liar = world
        .server(move |method, _, truth| {
            if !now_lies.load(Ordering::SeqCst) {
                return Told::Answer(truth);
            }
            match method {
                "eth_getTransactionReceipt" => {
                    counted.fetch_add(1, Ordering::SeqCst);
                    Told::Answer(Ok(Value::Null))
                }
                "eth_getTransactionCount" => Told::Answer(Ok(json!("0x0"))),
                _ => Told::Answer(truth),
            }
        })
        .await;
    let honest = world.honest().await;
    let (vault, notes) = settles(&bob, &world, &[&liar, &honest]).await;
    vault.settle(order).await.unwrap();
    lies.store(true, Ordering::SeqCst);
    while asked.load(Ordering::SeqCst) < 5 {
        tokio::task::yield_now().await;
    }
    let view = &vault.wallet().transactions().await.unwrap()[0];
    assert!(is_confirmed(view) && view.reorganised == 0, "{view:?}");
    assert_true(&world, vault.wallet(), &notes).await;
    assert_eq!(
        world.net.settled(bob.address()).await,
        Amount::from_units(500)
    );
}
