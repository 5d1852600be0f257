//! A consumer's channel locks nothing: what its owner can do with it, and that its Hermes loses no more than the cap.

use alloy::primitives::Address;
use serde_json::json;
use wayfare_chain::mysterium::{ChannelImplementation, MysteriumClient, Takings};
use wayfare_payment::{Amount, Chain, ConsumerAccount, Promise};

use crate::net::{Actor, HERMES_STAKE, Net, preimage, wei};

/// The Hermes, which counts on 150 of a channel at most.
fn house(net: &Net) -> MysteriumClient {
    let takings = Takings::new(net.hermes, 0);
    net.owner.clone().for_hermes(wei(150), takings)
}

/// Alice's own cheque, which pays nearly all of it to whoever sends it.
pub(crate) async fn drain(net: &Net, alice: &Actor, by: &Actor, amount: u128, fee: u128) {
    let promise = Promise {
        fee: wei(fee),
        ..net.consumer_order(&alice.signer, amount, 2).promise.promise
    };
    let signed = promise.sign(&alice.signer).unwrap();
    let call = ChannelImplementation::settlePromiseCall {
        amount: promise.amount.units(),
        fee: promise.fee.units(),
        preimage: preimage(2).0,
        signature: signed.signature.as_bytes().to_vec().into(),
    };
    let channel = net
        .owner
        .deposit_address(alice.address(), net.hermes)
        .unwrap();
    by.call(channel, &call).await.unwrap();
}

#[tokio::test]
async fn a_channel_that_empties_itself_costs_its_hermes_at_most_the_cap() {
    let net = Net::new().await;
    let house = house(&net);
    let (alice, ann) = (net.registered("alice").await, net.registered("ann").await);
    let mallory = net.actor("mallory").await;
    for consumer in [alice.address(), ann.address()] {
        net.top_up(consumer, 1_000).await;
    }
    let account = |consumer: Address| {
        let house = house.clone();
        async move { house.consumer(consumer, net.hermes).await.unwrap() }
    };
    let fresh = ConsumerAccount {
        balance: wei(150),
        collected: Amount::ZERO,
        exit_at: None,
    };
    assert_eq!(account(alice.address()).await, fresh);
    // Alice signs 150 away, which is as far as her Hermes goes, and takes the rest and those with a cheque of her own.
    let honest = net.consumer_order(&alice.signer, 150, 1);
    drain(&net, &alice, &mallory, 1_000, 999).await;
    assert_eq!(net.tokens(mallory.address()).await, wei(999));
    assert_eq!(net.tokens(net.hermes).await, wei(HERMES_STAKE + 1));
    // Her channel says that 1000 were settled. The Hermes got one, and promises nothing more for her.
    let state = house
        .consumer_state(alice.address(), net.hermes)
        .await
        .unwrap();
    assert_eq!(state.settled, wei(1_000));
    let broken = ConsumerAccount {
        balance: Amount::ZERO,
        collected: wei(1),
        exit_at: Some(0),
    };
    assert_eq!(account(alice.address()).await, broken);
    // New money does not mend it.
    net.top_up(alice.address(), 500).await;
    assert_eq!(account(alice.address()).await, broken);
    // Nothing can be had for the honest promise, and nothing is tried.
    let collected = house.collect(alice.address(), honest).await.unwrap();
    assert_eq!(collected.transaction, None);
    // Others go on: what was collected is no exposure any more.
    let order = net.consumer_order(&ann.signer, 140, 1);
    house.collect(ann.address(), order).await.unwrap();
    let served = ConsumerAccount {
        balance: wei(150),
        collected: wei(140),
        exit_at: None,
    };
    assert_eq!(account(ann.address()).await, served);
}

#[tokio::test]
async fn a_drain_that_the_chain_takes_back_is_forgiven() {
    let net = Net::new().await;
    let house = house(&net);
    let (alice, mallory) = (net.registered("alice").await, net.actor("mallory").await);
    net.top_up(alice.address(), 1_000).await;
    let order = net.consumer_order(&alice.signer, 100, 1);
    house.collect(alice.address(), order).await.unwrap();
    let account = || async { house.consumer(alice.address(), net.hermes).await.unwrap() };
    let before = account().await;
    let snapshot = net.raw("evm_snapshot", json!([])).await;
    drain(&net, &alice, &mallory, 900, 1).await;
    let drained = account().await;
    assert_eq!((drained.collected, drained.exit_at), (wei(899), Some(0)));
    net.raw("evm_revert", json!([snapshot])).await;
    assert_eq!(account().await, before);
    assert_eq!(before.exit_at, None);
}

#[tokio::test]
async fn takings_survive_a_restart_and_a_long_chain() {
    let net = Net::new().await;
    let alice = net.registered("alice").await;
    net.top_up(alice.address(), 1_000).await;
    let channel = net
        .owner
        .deposit_address(alice.address(), net.hermes)
        .unwrap();
    let (wallet, token) = (net.owner.wallet(), net.deployment.token);
    let mut takings = Takings::new(net.hermes, 0);
    let order = net.consumer_order(&alice.signer, 100, 1);
    net.owner.collect(alice.address(), order).await.unwrap();
    takings.catch_up(wallet, token).await.unwrap();
    assert_eq!(takings.of(channel), wei(100));
    assert!(takings.past().1.is_empty());
    // More blocks than one request reads.
    for _ in 0..1_100 {
        net.raw("evm_mine", json!([])).await;
    }
    let order = net.consumer_order(&alice.signer, 250, 2);
    net.owner.collect(alice.address(), order).await.unwrap();
    for _ in 0..2 {
        takings.catch_up(wallet, token).await.unwrap();
        assert_eq!(takings.of(channel), wei(250));
    }
    let (block, past) = takings.past();
    assert_eq!(past.get(&channel), Some(&wei(100)));
    let mut again = Takings::restore(net.hermes, block, past.clone());
    again.catch_up(wallet, token).await.unwrap();
    assert_eq!(again.of(channel), wei(250));
    let mut late = Takings::new(net.hermes, 0);
    late.catch_up(wallet, token).await.unwrap();
    assert_eq!(late.of(channel), wei(250));
}
