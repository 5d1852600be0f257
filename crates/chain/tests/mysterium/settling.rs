//! Settlements: caps, purses, refusals, and what a Hermes' state does to them. Balances are to the wei.

use alloy::primitives::{Address, U256};
use wayfare_chain::mysterium::{HermesImplementation, Status, withdrawal_channel};
use wayfare_identity::Signer;
use wayfare_payment::{Chain, ChannelId, Promise};

use crate::net::{HERMES_STAKE, MOST_STAKE, Net, Terms, key, preimage, refused, wei};

#[tokio::test]
async fn a_sum_above_the_cap_takes_several_transactions() {
    let net = Net::new().await;
    let bob = net.registered("bob").await;
    net.float(100_000).await;
    let before = bob.client.wallet().block_number().await.unwrap();
    let settled = bob
        .client
        .settle(net.provider_order(bob.address(), 25_001, 1))
        .await
        .unwrap();
    assert_eq!(settled.total, wei(25_001));
    let after = bob.client.wallet().block_number().await.unwrap();
    assert_eq!(after - before, 3);
    // 8000, 8000, and 5001 less 1000.2, which is 1001.
    assert_eq!(net.tokens(bob.address()).await, wei(8_000 + 8_000 + 4_000));
    // A stake lifts the cap: what was three is one.
    net.token
        .mint(bob.address(), wei(3 * MOST_STAKE))
        .await
        .unwrap();
    bob.client
        .increase_stake(bob.address(), net.hermes, wei(3 * MOST_STAKE))
        .await
        .unwrap();
    let before = bob.client.wallet().block_number().await.unwrap();
    let order = net.provider_order(bob.address(), 50_001, 2);
    bob.client.settle(order).await.unwrap();
    let after = bob.client.wallet().block_number().await.unwrap();
    assert_eq!(after - before, 1);
    assert_eq!(net.tokens(bob.address()).await, wei(20_000 + 20_000));
}

#[tokio::test]
async fn a_hermes_without_money_pays_what_it_has_and_the_rest_later() {
    let net = Net::new().await;
    let bob = net.registered("bob").await;
    let order = net.provider_order(bob.address(), 1_000, 1);
    // The contract would take it, pay nothing and show the preimage.
    refused(bob.client.settle(order).await, "0 free; 1000 is owed");
    net.float(300).await;
    // Not worth its gas, then worth it.
    let choosy = bob.client.clone().with_least_payout(wei(301));
    refused(choosy.settle(order).await, "300 free; 1000 is owed");
    let choosy = bob.client.clone().with_least_payout(wei(300));
    let height = bob.client.wallet().block_number().await.unwrap();
    let settled = choosy.settle(order).await.unwrap();
    assert_eq!(settled.total, wei(300));
    assert_eq!(net.tokens(bob.address()).await, wei(240));
    // One transaction: what the Hermes kept is not asked for at once.
    let now = bob.client.wallet().block_number().await.unwrap();
    assert_eq!(now, height + 1);
    assert_eq!(net.state().await.available, wei(60));
    net.float(1_000).await;
    let settled = bob.client.settle(order).await.unwrap();
    assert_eq!(settled.total, wei(1_000));
    // 240, and 700 less a fifth.
    assert_eq!(net.tokens(bob.address()).await, wei(240 + 560));
}

#[tokio::test]
async fn the_beneficiary_of_an_order_becomes_the_registered_one() {
    let net = Net::new().await;
    let (bob, carol) = (net.registered("bob").await, net.registered("carol").await);
    net.float(10_000).await;
    let purse = Address::repeat_byte(0xCC);
    let mut order = net.provider_order(bob.address(), 1_000, 1);
    order.beneficiary = purse;
    bob.client.settle(order).await.unwrap();
    assert_eq!(net.tokens(purse).await, wei(800));
    assert_eq!(net.owner.beneficiary(bob.address()).await.unwrap(), purse);
    // The nonce is everybody's.
    carol.client.set_beneficiary(purse).await.unwrap().unwrap();
    assert_eq!(carol.client.set_beneficiary(purse).await.unwrap(), None);
    let mut order = net.provider_order(bob.address(), 2_000, 2);
    order.beneficiary = bob.address();
    bob.client.settle(order).await.unwrap();
    assert_eq!(net.tokens(bob.address()).await, wei(800));
    // Nobody's address burns.
    let mut order = net.provider_order(bob.address(), 3_000, 3);
    order.beneficiary = Address::ZERO;
    refused(bob.client.settle(order).await, "burnt");
}

#[tokio::test]
async fn two_identities_that_change_their_beneficiary_at_once_both_do() {
    let net = Net::new().await;
    let (bob, carol) = (net.registered("bob").await, net.registered("carol").await);
    net.float(10_000).await;
    let purse = Address::repeat_byte(0xCC);
    let mut order = net.provider_order(bob.address(), 1_000, 1);
    order.beneficiary = purse;
    // One nonce for both: whoever comes second signs again.
    let (changed, settled) = tokio::join!(
        carol.client.set_beneficiary(purse),
        bob.client.settle(order)
    );
    assert!(changed.unwrap().is_some());
    assert_eq!(settled.unwrap().total, wei(1_000));
    for identity in [bob.address(), carol.address()] {
        assert_eq!(net.owner.beneficiary(identity).await.unwrap(), purse);
    }
    assert_eq!(net.tokens(purse).await, wei(800));
}

#[tokio::test]
async fn a_settlement_becomes_stake_and_comes_back() {
    let net = Net::new().await;
    let bob = net.registered("bob").await;
    net.float(10_000).await;
    let mut order = net.provider_order(bob.address(), 1_001, 1);
    order.beneficiary = net.hermes;
    let settled = bob.client.settle(order).await.unwrap();
    assert_eq!(settled.total, wei(1_001));
    // 1001 less 200.2, which is 201.
    let channel = net
        .owner
        .provider_channel(bob.address(), net.hermes)
        .await
        .unwrap();
    assert_eq!((channel.settled, channel.stake), (wei(1_001), wei(800)));
    let state = net.state().await;
    assert_eq!(
        (state.total_stake, state.available),
        (wei(800), wei(10_000 - 800))
    );
    assert_eq!(net.tokens(net.hermes).await, wei(HERMES_STAKE + 10_000));
    bob.client
        .decrease_stake(net.hermes, wei(300))
        .await
        .unwrap();
    bob.client
        .decrease_stake(net.hermes, wei(100))
        .await
        .unwrap();
    assert_eq!(net.tokens(bob.address()).await, wei(400));
    let channel = net
        .owner
        .provider_channel(bob.address(), net.hermes)
        .await
        .unwrap();
    assert_eq!((channel.stake, channel.nonce), (wei(400), U256::from(2)));
    assert_eq!(net.state().await.total_stake, wei(400));
}

#[tokio::test]
async fn a_withdrawal_pays_anybody_and_keeps_nothing() {
    let net = Net::new().await;
    let (dora, relayer) = (key("dora"), net.actor("relayer").await);
    net.float(20_000).await;
    let purse = Address::repeat_byte(0xDD);
    let channel = withdrawal_channel(dora.address(), net.hermes);
    let promise = net.promise(channel, 15_000, 4).sign(&net.operator).unwrap();
    let order = net.order(promise, 4, purse);
    let wish = net
        .owner
        .withdrawal(dora.address(), net.hermes, wei(15_000), preimage(4), purse);
    let signature = wish.sign(&dora).unwrap();
    // Above the cap: twice.
    let settled = relayer
        .client
        .pay_and_settle(dora.address(), order, &signature)
        .await
        .unwrap();
    assert_eq!(settled.total, wei(15_000));
    assert_eq!(net.tokens(purse).await, wei(15_000));
    assert!(!net.owner.is_registered(dora.address()).await.unwrap());
    let forged = wish.sign(&net.operator).unwrap();
    let sent = relayer
        .client
        .pay_and_settle(dora.address(), order, &forged)
        .await;
    refused(sent, "signed by");
}

#[tokio::test]
async fn bent_orders_are_refused_before_they_are_sent() {
    let net = Net::new().await;
    let (alice, bob) = (net.registered("alice").await, net.registered("bob").await);
    net.top_up(alice.address(), 1_000).await;
    net.float(1_000).await;
    let good = net.provider_order(bob.address(), 500, 1);
    let bend = |bend: fn(&mut Promise)| {
        let mut promise = good.promise.promise;
        bend(&mut promise);
        net.order(promise.sign(&net.operator).unwrap(), 1, bob.address())
    };
    let height = net.owner.wallet().block_number().await.unwrap();
    let cases = [
        (bend(|it| it.fee = wei(1)), "pays 1 to whoever sends it"),
        (bend(|it| it.chain_id = 1), "for chain 1"),
        (
            bend(|it| it.channel = ChannelId::of_deposit(Address::ZERO)),
            "is for channel",
        ),
        (
            bend(|it| it.hashlock = preimage(9).hashlock()),
            "does not open",
        ),
        (
            net.order(
                good.promise.promise.sign(&bob.signer).unwrap(),
                1,
                bob.address(),
            ),
            "signed by",
        ),
    ];
    for (order, why) in cases {
        refused(bob.client.settle(order).await, why);
    }
    let mut order = net.consumer_order(&alice.signer, 500, 1);
    order.promise.promise.fee = wei(1);
    order.promise = order.promise.promise.sign(&alice.signer).unwrap();
    refused(
        net.owner.collect(alice.address(), order).await,
        "pays 1 to whoever sends it",
    );
    let order = net.consumer_order(&bob.signer, 500, 1);
    refused(
        net.owner.collect(alice.address(), order).await,
        "is for channel",
    );
    let stranger = key("stranger");
    let order = net.consumer_order(&stranger, 5, 1);
    refused(
        net.owner.collect(stranger.address(), order).await,
        "not opened",
    );
    let order = net.consumer_order(&bob.signer, 5, 1);
    refused(net.owner.collect(bob.address(), order).await, "is empty");
    let carol = net.actor("carol").await;
    let order = net.provider_order(carol.address(), 5, 1);
    refused(carol.client.settle(order).await, "is not registered");
    // Nothing of all this was sent; the one block is carol's coin.
    let now = net.owner.wallet().block_number().await.unwrap();
    assert_eq!(now, height + 1);
}

#[tokio::test]
async fn a_first_settlement_may_need_a_stake() {
    let net = Net::with(Terms {
        least_stake: 50,
        ..Terms::default()
    })
    .await;
    let bob = net.registered("bob").await;
    net.float(1_000).await;
    let order = net.provider_order(bob.address(), 100, 1);
    refused(bob.client.settle(order).await, "needs a stake of 50");
    // Into the stake it goes without one, and then the channel has been settled before.
    let mut into_stake = order;
    into_stake.beneficiary = net.hermes;
    bob.client.settle(into_stake).await.unwrap();
    let order = net.provider_order(bob.address(), 200, 2);
    bob.client.settle(order).await.unwrap();
    assert_eq!(net.tokens(bob.address()).await, wei(80));
}

#[tokio::test]
async fn a_stake_above_the_free_money_punishes_the_hermes() {
    let net = Net::new().await;
    let (bob, ben) = (net.registered("bob").await, net.registered("ben").await);
    net.token.mint(bob.address(), wei(500)).await.unwrap();
    bob.client
        .increase_stake(bob.address(), net.hermes, wei(500))
        .await
        .unwrap();
    net.float(200).await;
    // 200 is free and 500 is at stake: this one is still paid, in part.
    let order = net.provider_order(bob.address(), 400, 1);
    let settled = bob.client.settle(order).await.unwrap();
    assert_eq!(settled.total, wei(200));
    assert_eq!(net.tokens(bob.address()).await, wei(160));
    let state = net.state().await;
    assert_eq!(state.status, Status::Punished);
    assert!(net.owner.hermes(net.hermes).await.unwrap().leaving);
    let order = net.provider_order(ben.address(), 10, 1);
    refused(ben.client.settle(order).await, "while it is Punished");
    // Stake comes out at any time, and the punishment ends once the Hermes holds what it must.
    bob.client
        .decrease_stake(net.hermes, wei(500))
        .await
        .unwrap();
    bob.client.resolve_emergency(net.hermes).await.unwrap();
    ben.client.settle(order).await.unwrap();
    assert_eq!(net.tokens(ben.address()).await, wei(8));
    let call = HermesImplementation::punishmentCall {};
    let fine = net.owner.wallet().read(net.hermes, &call).await.unwrap();
    assert!(!fine.activationTime.is_zero());
}

#[tokio::test]
async fn a_fee_change_holds_after_three_days_and_is_seen_before() {
    let net = Net::new().await;
    let bob = net.registered("bob").await;
    net.float(10_000).await;
    let operator = net.actor("operator").await;
    operator
        .client
        .announce_fee(net.hermes, 3_000)
        .await
        .unwrap();
    let state = net.state().await;
    assert_eq!(
        (state.fee_basis_points, state.next_fee_basis_points),
        (2_000, 3_000)
    );
    assert_eq!(
        net.owner.hermes(net.hermes).await.unwrap().fee_basis_points,
        3_000
    );
    bob.client
        .settle(net.provider_order(bob.address(), 100, 1))
        .await
        .unwrap();
    assert_eq!(net.tokens(bob.address()).await, wei(80));
    net.pass(3 * 24 * 60 * 60).await;
    assert_eq!(net.state().await.fee_basis_points, 3_000);
    bob.client
        .settle(net.provider_order(bob.address(), 200, 2))
        .await
        .unwrap();
    assert_eq!(net.tokens(bob.address()).await, wei(80 + 70));
}

#[tokio::test]
async fn a_paused_hermes_settles_and_a_closed_one_does_not() {
    let net = Net::new().await;
    let bob = net.registered("bob").await;
    net.float(10_000).await;
    // Of the third version the owner is the operator.
    let operator = net.actor("operator").await;
    operator.client.pause(net.hermes).await.unwrap();
    assert!(net.owner.hermes(net.hermes).await.unwrap().leaving);
    let ann = net.actor("ann").await;
    let registered = ann.client.register(net.hermes, Address::ZERO).await;
    refused(registered, "while it is Paused");
    bob.client
        .settle(net.provider_order(bob.address(), 100, 1))
        .await
        .unwrap();
    operator.client.activate(net.hermes).await.unwrap();
    let purse = Address::repeat_byte(0xEE);
    // What is owed stays, though the contract would let all of it go.
    let withdraw = |sum, owed| {
        operator
            .client
            .withdraw(net.hermes, purse, wei(sum), wei(owed))
    };
    refused(withdraw(9_500, 500).await, "is too much");
    withdraw(9_420, 500).await.unwrap();
    assert_eq!(net.tokens(purse).await, wei(9_420));
    assert_eq!(net.state().await.available, wei(500));
    operator.client.close(net.hermes).await.unwrap();
    let order = net.provider_order(bob.address(), 200, 2);
    refused(bob.client.settle(order).await, "while it is Closed");
    assert!(operator.client.stake_back(net.hermes, purse).await.is_err());
    net.pass(300 * 24 * 60 * 60).await;
    operator.client.stake_back(net.hermes, purse).await.unwrap();
    assert_eq!(net.tokens(purse).await, wei(9_420 + HERMES_STAKE));
}
