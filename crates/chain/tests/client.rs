//! The client against a chain that misbehaves: what is told, to whom, and what is not lost.
#![allow(clippy::unwrap_used)]

// Not every file of tests uses everything of the shared set-up.
#[allow(dead_code)]
#[path = "contracts/net.rs"]
mod net;

use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use net::{CHAIN_ID, Net, key, wallet, wei};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wayfare_chain::{Endpoint, VaultClient, Wallet};
use wayfare_identity::Signer;
use wayfare_payment::{Amount, Chain, ChainError};

#[tokio::test]
async fn concurrent_senders_of_one_key_never_share_a_nonce() {
    let net = Net::embedded().await;
    let to = |n: u8| Address::repeat_byte(n);
    let sends = (1..=30).map(|n| net.owner.wallet().send_native(to(n), U256::from(n)));
    let receipts = futures_join(sends).await;
    let mut hashes: Vec<B256> = receipts
        .iter()
        .map(|receipt| receipt.transaction_hash)
        .collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 30);
    for n in 1..=30 {
        assert_eq!(
            net.owner.wallet().native_balance(to(n)).await.unwrap(),
            U256::from(n)
        );
    }
}

async fn futures_join<T: std::fmt::Debug>(
    all: impl Iterator<Item = impl Future<Output = Result<T, ChainError>>>,
) -> Vec<T> {
    let mut pinned: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in pinned.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(outcome) = future.as_mut().poll(context)
            {
                *slot = Some(outcome.unwrap());
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().map(Option::unwrap).collect()
}

#[tokio::test]
async fn two_wallets_of_one_key_recover_from_a_taken_nonce() {
    let net = Net::embedded().await;
    let alice = net.actor("alice").await;
    let twin = wallet(&net.url, alice.signer.clone());
    let one = (0..10).map(|_| {
        alice
            .vault
            .wallet()
            .send_native(Address::ZERO, U256::from(1))
    });
    let two = (0..10).map(|_| twin.send_native(Address::ZERO, U256::from(1)));
    let (one, two) = tokio::join!(futures_join(one), futures_join(two));
    assert_eq!(one.len() + two.len(), 20);
}

#[tokio::test]
async fn a_wrong_set_up_is_named() {
    let net = Net::embedded().await;
    let signer = || std::sync::Arc::new(key("alice"));
    let at = |url: &str, chain_id| Wallet::new(Endpoint::new(url, chain_id), signer());

    let other = VaultClient::new(at(&net.url, 137).unwrap(), net.vault);
    assert_eq!(
        other.check().await.unwrap_err(),
        ChainError::WrongChain {
            expected: 137,
            found: CHAIN_ID
        }
    );
    let nowhere = Address::repeat_byte(8);
    let empty = VaultClient::new(at(&net.url, CHAIN_ID).unwrap(), nowhere);
    assert_eq!(
        empty.check().await.unwrap_err(),
        ChainError::NoContract(nowhere)
    );
    assert_eq!(
        empty.hermes(net.hermes).await.unwrap_err(),
        ChainError::NoContract(nowhere)
    );
    // The token is a contract, but no vault.
    let token = VaultClient::new(at(&net.url, CHAIN_ID).unwrap(), net.token.address());
    assert!(token.check().await.is_err());
    for url in ["not a url", "ftp://host", "https://host"] {
        let why = at(url, CHAIN_ID).unwrap_err().to_string();
        assert!(why.contains(url), "{why}");
    }
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let gone = VaultClient::new(
        at(&format!("http://{closed}"), CHAIN_ID).unwrap(),
        net.vault,
    );
    assert!(matches!(
        gone.check().await.unwrap_err(),
        ChainError::Unreachable(_)
    ));
}

#[tokio::test]
async fn a_sender_without_coin_is_told_so() {
    let net = Net::embedded().await;
    let poor = key("poor");
    let client = VaultClient::new(wallet(&net.url, poor.clone()), net.vault);
    let told = client.request_exit(net.hermes).await.unwrap_err();
    assert_eq!(
        told,
        ChainError::NoGas {
            account: poor.address()
        }
    );
}

#[tokio::test]
async fn gas_above_the_cap_is_not_paid() {
    let net = Net::embedded().await;
    let endpoint = Endpoint {
        gas_price_cap: Some(1),
        confirm_timeout: Duration::from_millis(50),
        ..Endpoint::new(net.url.as_str(), CHAIN_ID)
    };
    let alice = net.actor("alice").await;
    let frugal = Wallet::new(endpoint, std::sync::Arc::new(alice.signer)).unwrap();
    let sent = frugal.send_native(Address::ZERO, U256::ZERO).await;
    let Err(ChainError::Waiting(why)) = sent else {
        panic!("{sent:?}");
    };
    assert!(why.contains("the cap is 1"), "{why}");
    assert_eq!(frugal.transactions().await.unwrap()[0].hash, None);
}

#[tokio::test]
async fn what_somebody_else_settled_counts_as_settled() {
    let net = Net::embedded().await;
    let bob = net.actor("bob").await;
    net.collateral(1_000).await;
    let order = net.provider_order(bob.address(), 500, 1);
    // Two programs of the same provider, at once: both are content, one paid for gas or both did.
    let other = VaultClient::new(wallet(&net.url, bob.signer.clone()), net.vault);
    let (one, two) = tokio::join!(bob.vault.settle(order), other.settle(order));
    assert_eq!(
        (one.unwrap().total, two.unwrap().total),
        (wei(500), wei(500))
    );
    assert_eq!(net.tokens(bob.address()).await, wei(475));
}

#[tokio::test]
async fn confirmations_are_counted_and_a_missing_one_is_pending() {
    let net = Net::embedded().await;
    let alice = net.actor("alice").await;
    let patient = |timeout| Endpoint {
        confirmations: 3,
        confirm_timeout: timeout,
        poll: Duration::from_millis(2),
        ..Endpoint::new(net.url.as_str(), CHAIN_ID)
    };
    let signer = std::sync::Arc::new(alice.signer.clone());
    let hasty = Wallet::new(patient(Duration::from_millis(50)), signer.clone()).unwrap();
    let ChainError::Pending(_) = hasty
        .send_native(Address::ZERO, U256::ZERO)
        .await
        .unwrap_err()
    else {
        panic!("one confirmation is not three");
    };
    let wallet = Wallet::new(patient(Duration::from_secs(20)), signer).unwrap();
    let start = wallet.block_number().await.unwrap();
    let sent = wallet.send_native(Address::ZERO, U256::ZERO);
    let mined = async {
        // Two more blocks, once the transaction has its own.
        while wallet.block_number().await.unwrap() == start {
            tokio::task::yield_now().await;
        }
        net.raw("evm_mine", serde_json::json!([])).await;
        net.raw("evm_mine", serde_json::json!([])).await;
    };
    let (receipt, ()) = tokio::join!(sent, mined);
    assert_eq!(receipt.unwrap().block_number, Some(start + 1));
    assert_eq!(wallet.block_number().await.unwrap(), start + 3);
}

/// A server that takes connections and says nothing, or nonsense.
async fn bad_server(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            if let Some(answer) = answer {
                let length = answer.len();
                let reply = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
                );
                let _ = stream.write_all(reply.as_bytes()).await;
            }
            held.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn silent_and_babbling_servers_are_unreachable_and_nothing_panics() {
    let answers = [
        None,
        Some(""),
        Some("<html>"),
        Some("{}"),
        Some("[]"),
        Some(r#"{"jsonrpc":"2.0","id":0,"result":"0x"}"#),
    ];
    for answer in answers {
        let url = bad_server(answer).await;
        let endpoint = Endpoint {
            call_timeout: Duration::from_millis(100),
            ..Endpoint::new(url, CHAIN_ID)
        };
        let wallet = Wallet::new(endpoint, std::sync::Arc::new(key("alice"))).unwrap();
        let client = VaultClient::new(wallet, Address::repeat_byte(1));
        let told = client.check().await.unwrap_err();
        assert!(
            matches!(
                told,
                ChainError::Unreachable(_) | ChainError::WrongChain { .. }
            ),
            "{answer:?}: {told:?}"
        );
        assert!(client.consumer(Address::ZERO, Address::ZERO).await.is_err());
    }
}

#[tokio::test]
async fn a_reorganisation_that_loses_a_settlement_lets_it_be_sent_again() {
    let net = Net::embedded().await;
    let bob = net.actor("bob").await;
    net.collateral(1_000).await;
    let order = net.provider_order(bob.address(), 500, 1);
    let snapshot = net.raw("evm_snapshot", serde_json::json!([])).await;
    bob.vault.settle(order).await.unwrap();
    net.raw("evm_revert", serde_json::json!([snapshot])).await;
    assert_eq!(net.settled(bob.address()).await, Amount::ZERO);
    let again = bob.vault.settle(order).await.unwrap();
    assert!(again.transaction.is_some());
    assert_eq!(net.tokens(bob.address()).await, wei(475));
}
