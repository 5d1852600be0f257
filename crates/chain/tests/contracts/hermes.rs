//! A Hermes' collateral, solvency and keys.

use alloy::primitives::{Address, U256};
use wayfare_chain::bindings::Vault;
use wayfare_identity::Signer;
use wayfare_payment::{Amount, Chain, ChannelId};

use crate::net::{COLLATERAL_DELAY, Net, key, refused, wei};

pub(crate) async fn collateral_leaves_only_with_notice_and_within_its_window(net: &Net) {
    let mallory = net.actor("mallory").await;
    net.collateral(1_000).await;
    let owner = net.owner.wallet().address();
    refused(
        net.owner.withdraw_collateral().await,
        "nothing was requested",
    );
    refused(
        net.owner.request_collateral(wei(1_001)).await,
        "1000 is available, 1001 was asked for",
    );
    // Another owner's Hermes is another Hermes.
    refused(
        mallory.vault.request_collateral(wei(1)).await,
        "not a registered",
    );

    net.owner.request_collateral(wei(400)).await.unwrap();
    let account = net.hermes_account().await;
    assert!(account.leaving);
    assert_eq!(
        account.collateral,
        wei(600),
        "what is under notice cannot be counted on"
    );
    net.pass(COLLATERAL_DELAY - 1_000).await;
    refused(net.owner.withdraw_collateral().await, "too early");
    // A notice is no option for ever: after a week it lapses.
    net.pass(1_000 + 8 * 24 * 60 * 60).await;
    refused(net.owner.withdraw_collateral().await, "too late");

    net.owner.request_collateral(wei(400)).await.unwrap();
    net.pass(COLLATERAL_DELAY).await;
    net.owner.withdraw_collateral().await.unwrap();
    assert_eq!(net.tokens(owner).await, wei(400));
    let account = net.hermes_account().await;
    assert_eq!((account.collateral, account.leaving), (wei(600), false));
    refused(
        net.owner.withdraw_collateral().await,
        "nothing was requested",
    );
    net.assert_conserved(&[], &[]).await;
}

pub(crate) async fn collateral_under_notice_still_pays(net: &Net) {
    let bob = net.actor("bob").await;
    net.collateral(1_000).await;
    net.owner.request_collateral(wei(1_000)).await.unwrap();
    net.pass(COLLATERAL_DELAY).await;
    let settled = bob
        .vault
        .settle(net.provider_order(bob.address(), 800, 1))
        .await
        .unwrap();
    assert_eq!(settled.total, wei(800));
    // The owner gets what is left: 200, while its fee of 40 stays in free.
    let before = net.tokens(net.owner.wallet().address()).await;
    net.owner.withdraw_collateral().await.unwrap();
    let gained = net
        .tokens(net.owner.wallet().address())
        .await
        .checked_sub(before)
        .unwrap();
    assert_eq!(gained, wei(240));
    net.assert_conserved(&[], &[bob.address()]).await;
}

pub(crate) async fn an_insolvent_hermes_pays_what_it_has_and_the_rest_later(net: &Net) {
    let (alice, bob) = (net.actor("alice").await, net.actor("bob").await);
    net.collateral(100).await;
    let order = net.provider_order(bob.address(), 1_000, 1);
    let first = bob.vault.settle(order).await.unwrap();
    assert_eq!(
        first.total,
        wei(100),
        "the total advances only by what was paid"
    );
    assert_eq!(net.tokens(bob.address()).await, wei(95));

    // Money comes in from a consumer; the same promise goes on where it stopped.
    net.deposit(alice.address(), 400).await;
    bob.vault
        .collect(alice.address(), net.consumer_order(&alice.signer, 400, 2))
        .await
        .unwrap();
    let second = bob.vault.settle(order).await.unwrap();
    // 400 and the 5 that the Hermes had kept.
    assert_eq!(second.total, wei(505));
    net.collateral(10_000).await;
    let third = bob.vault.settle(order).await.unwrap();
    assert_eq!(third.total, wei(1_000));
    refused(bob.call(&net.settle_call(&order)).await, "nothing is owed");
    net.assert_conserved(&[alice.address()], &[bob.address()])
        .await;

    let carol = net.actor("carol").await;
    let read = Vault::solvencyCall {
        hermesId: net.hermes,
    };
    let available = net
        .owner
        .wallet()
        .read(net.vault, &read)
        .await
        .unwrap()
        .available;
    assert_eq!(available, U256::from(100 + 400 + 10_000 - (95 + 385 + 471)));
    let everything = net.provider_order(carol.address(), 1_000_000, 3);
    for _ in 0..20 {
        if carol.vault.settle(everything).await.is_err() {
            break;
        }
    }
    refused(
        carol.call(&net.settle_call(&everything)).await,
        "the Hermes has 0",
    );
    net.assert_conserved(&[alice.address()], &[bob.address(), carol.address()])
        .await;
}

pub(crate) async fn a_hermes_takes_its_earnings_only_with_notice(net: &Net) {
    let (alice, bob) = (net.actor("alice").await, net.actor("bob").await);
    net.deposit(alice.address(), 1_000).await;
    bob.vault
        .collect(alice.address(), net.consumer_order(&alice.signer, 1_000, 1))
        .await
        .unwrap();
    refused(net.owner.retain(wei(1_001)).await, "1000 is available");
    net.owner.retain(wei(1_000)).await.unwrap();
    let account = net.hermes_account().await;
    assert_eq!(
        (account.free, account.collateral),
        (Amount::ZERO, wei(1_000))
    );
    refused(
        net.owner.withdraw_collateral().await,
        "nothing was requested",
    );
    // The provider is paid from there as well.
    assert_eq!(
        bob.vault
            .settle(net.provider_order(bob.address(), 900, 1))
            .await
            .unwrap()
            .total,
        wei(900)
    );
    net.assert_conserved(&[alice.address()], &[bob.address()])
        .await;
}

pub(crate) async fn operator_keys_rotate_with_a_delay(net: &Net) {
    let bob = net.actor("bob").await;
    net.collateral(1_000).await;
    let (second, third) = (key("second operator"), key("third operator"));
    let channel = ChannelId::of_provider(bob.address(), net.hermes);
    let signed = |by: &wayfare_identity::LocalSigner, units: u128| {
        net.order(
            net.promise(channel, units, 1).sign(by).unwrap(),
            1,
            bob.address(),
        )
    };
    net.owner.rotate_operator(second.address()).await.unwrap();
    assert_eq!(net.hermes_account().await.operator, net.operator.address());
    refused(
        bob.vault.settle(signed(&second, 10)).await,
        "the signature is of",
    );
    net.pass(COLLATERAL_DELAY).await;
    assert_eq!(net.hermes_account().await.operator, second.address());
    bob.vault.settle(signed(&second, 10)).await.unwrap();
    bob.vault.settle(signed(&net.operator, 20)).await.unwrap();

    net.owner.rotate_operator(third.address()).await.unwrap();
    bob.vault.settle(signed(&net.operator, 30)).await.unwrap();
    bob.vault.settle(signed(&second, 40)).await.unwrap();
    refused(
        bob.vault.settle(signed(&third, 50)).await,
        "the signature is of",
    );
    net.pass(COLLATERAL_DELAY).await;
    bob.vault.settle(signed(&third, 50)).await.unwrap();
    bob.vault.settle(signed(&second, 60)).await.unwrap();
    // Two rotations away the first key is worthless, once the third rotation has begun.
    net.owner
        .rotate_operator(key("fourth operator").address())
        .await
        .unwrap();
    refused(
        bob.vault.settle(signed(&net.operator, 70)).await,
        "the signature is of",
    );
    assert_eq!(net.settled(bob.address()).await, wei(60));
    let is_operator = |key| Vault::isOperatorCall {
        hermesId: net.hermes,
        key,
    };
    for (key, expect) in [
        (third.address(), true),
        (net.operator.address(), false),
        (Address::ZERO, false),
    ] {
        assert_eq!(
            net.owner
                .wallet()
                .read(net.vault, &is_operator(key))
                .await
                .unwrap(),
            expect
        );
    }
}

pub(crate) async fn registration_is_once_and_its_fee_bounded(net: &Net) {
    let carol = net.actor("carol").await;
    refused(
        net.owner.register_hermes(carol.address(), 0).await,
        "already registered",
    );
    refused(
        carol.vault.register_hermes(carol.address(), 2_001).await,
        "above the most, 2000/10000",
    );
    let id = carol
        .vault
        .register_hermes(carol.address(), 2_000)
        .await
        .unwrap();
    let account = net.owner.hermes(id).await.unwrap();
    assert_eq!(
        (account.operator, account.fee_basis_points),
        (carol.address(), 2_000)
    );
    assert_eq!(
        (account.free, account.collateral, account.leaving),
        (Amount::ZERO, Amount::ZERO, false)
    );
}
