//! Settlements that somebody else sends, for a fee that the payee agreed to.

use wayfare_chain::SettleConsent;
use wayfare_identity::{Signature, Signer};
use wayfare_payment::{Amount, Chain, ChannelId, Promise, SettleOrder};

use crate::net::{Net, key, refused, wei};

/// A Hermes' promise of `units` with a fee for the relayer.
fn order_with_fee(
    net: &Net,
    payee: alloy::primitives::Address,
    units: u128,
    fee: u128,
    r: u8,
) -> SettleOrder {
    let promise = net.promise(ChannelId::of_provider(payee, net.hermes), units, r);
    let signed = Promise {
        fee: wei(fee),
        ..promise
    }
    .sign(&net.operator)
    .unwrap();
    net.order(signed, r, payee)
}

async fn consent(
    net: &Net,
    payee: &dyn Signer,
    caller: &dyn Signer,
    units: u128,
    max_fee: u128,
) -> SettleConsent {
    SettleConsent {
        payee: payee.address(),
        hermes: net.hermes,
        caller: caller.address(),
        beneficiary: payee.address(),
        amount: wei(units),
        max_fee: wei(max_fee),
        deadline: net.owner.wallet().chain_time().await.unwrap() + 3_600,
    }
}

fn signed(net: &Net, by: &dyn Signer, consent: &SettleConsent) -> Signature {
    by.sign_digest(consent.digest(&net.owner.domain())).unwrap()
}

pub(crate) async fn a_relayer_earns_the_consented_fee_once(net: &Net) {
    // Bob has no coin at all.
    let (bob, relayer) = (key("bob without coin"), net.actor("relayer").await);
    net.collateral(1_000).await;
    let order = order_with_fee(net, bob.address(), 500, 30, 1);
    let agreed = consent(net, &bob, &relayer.signer, 500, 30).await;
    let signature = signed(net, &bob, &agreed);
    let settled = relayer
        .vault
        .settle_for(agreed, order, &signature)
        .await
        .unwrap();
    assert_eq!(settled.total, wei(500));
    assert_eq!(net.tokens(relayer.address()).await, wei(30));
    assert_eq!(net.tokens(bob.address()).await, wei(500 - 25 - 30));
    // Again: the chain says it is done, and nobody is paid twice.
    let again = relayer
        .vault
        .settle_for(agreed, order, &signature)
        .await
        .unwrap();
    assert_eq!(again.transaction, None);
    assert_eq!(net.tokens(relayer.address()).await, wei(30));
    net.assert_conserved(&[], &[bob.address()]).await;
}

pub(crate) async fn a_relayed_settlement_with_a_fee_is_whole_or_nothing(net: &Net) {
    let (bob, relayer) = (net.actor("bob").await, net.actor("relayer").await);
    net.collateral(100).await;
    let order = order_with_fee(net, bob.address(), 500, 30, 1);
    let agreed = consent(net, &bob.signer, &relayer.signer, 500, 30).await;
    let signature = signed(net, &bob.signer, &agreed);
    refused(
        relayer.vault.settle_for(agreed, order, &signature).await,
        "the Hermes has 100 and owes 500",
    );
    assert_eq!(net.settled(bob.address()).await, Amount::ZERO);
    // Without a fee a part may be relayed; and the payee may always take a part itself.
    let free = net.provider_order(bob.address(), 500, 2);
    assert_eq!(
        relayer
            .vault
            .settle_for(agreed, free, &signature)
            .await
            .unwrap()
            .total,
        wei(100)
    );
    net.collateral(1_000).await;
    assert_eq!(bob.vault.settle(order).await.unwrap().total, wei(500));
    assert_eq!(
        net.tokens(relayer.address()).await,
        Amount::ZERO,
        "the payee's own settlement costs it no fee"
    );
    // A fee that eats the whole payment.
    let greedy = order_with_fee(net, bob.address(), 510, 10, 3);
    let agreed = consent(net, &bob.signer, &relayer.signer, 510, 10).await;
    let signature = signed(net, &bob.signer, &agreed);
    relayer
        .vault
        .settle_for(agreed, greedy, &signature)
        .await
        .unwrap();
    let greedier = order_with_fee(net, bob.address(), 520, 11, 4);
    let agreed = consent(net, &bob.signer, &relayer.signer, 520, 11).await;
    let signature = signed(net, &bob.signer, &agreed);
    refused(
        relayer.vault.settle_for(agreed, greedier, &signature).await,
        "is more than the 10 that is paid out",
    );
    net.assert_conserved(&[], &[bob.address()]).await;
}

pub(crate) async fn consents_name_caller_beneficiary_amount_and_deadline(net: &Net) {
    let (bob, relayer, mallory) = (
        net.actor("bob").await,
        net.actor("relayer").await,
        net.actor("mallory").await,
    );
    net.collateral(1_000).await;
    let order = order_with_fee(net, bob.address(), 500, 30, 1);
    let agreed = consent(net, &bob.signer, &relayer.signer, 500, 30).await;
    let signature = signed(net, &bob.signer, &agreed);
    let not_agreed = "the signature is of";
    // Mallory saw the transaction and sends it first.
    refused(
        mallory.vault.settle_for(agreed, order, &signature).await,
        not_agreed,
    );
    let redirected = SettleConsent {
        beneficiary: relayer.address(),
        ..agreed
    };
    refused(
        relayer
            .vault
            .settle_for(redirected, order, &signature)
            .await,
        not_agreed,
    );
    let longer = SettleConsent {
        deadline: agreed.deadline + 1,
        ..agreed
    };
    refused(
        relayer.vault.settle_for(longer, order, &signature).await,
        not_agreed,
    );
    let dearer = order_with_fee(net, bob.address(), 500, 31, 1);
    refused(
        relayer.vault.settle_for(agreed, dearer, &signature).await,
        "above the 30 that the payee agreed to",
    );
    let raised = SettleConsent {
        max_fee: wei(31),
        ..agreed
    };
    refused(
        relayer.vault.settle_for(raised, dearer, &signature).await,
        not_agreed,
    );
    let more = order_with_fee(net, bob.address(), 600, 30, 2);
    refused(
        relayer.vault.settle_for(agreed, more, &signature).await,
        not_agreed,
    );
    let own = signed(net, &relayer.signer, &agreed);
    refused(
        relayer.vault.settle_for(agreed, order, &own).await,
        not_agreed,
    );
    net.pass(3_601).await;
    refused(
        relayer.vault.settle_for(agreed, order, &signature).await,
        "too late",
    );
    assert_eq!(net.tokens(net.vault).await, wei(1_000));
    assert_eq!(bob.vault.settle(order).await.unwrap().total, wei(500));
}
