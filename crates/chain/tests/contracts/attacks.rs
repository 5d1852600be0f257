//! Forged, bent and repeated promises.

use alloy::primitives::{Address, Bytes, U256};
use wayfare_chain::bindings::Vault;
use wayfare_payment::{Amount, Chain, ChannelId, Promise};

use crate::net::{Net, preimage, refused, wei};

/// Half the curve's order times two: s' = n - s is the mirror of s.
const ORDER: &str = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

/// Signatures that say the same as a good one, or almost, and are refused; with the reason.
fn bent(good: &[u8; 65]) -> Vec<(Bytes, &'static str)> {
    let order: U256 = ORDER.parse().unwrap();
    let mut high = *good;
    let mirrored = order - U256::from_be_slice(&good[32..64]);
    high[32..64].copy_from_slice(&mirrored.to_be_bytes::<32>());
    high[64] = 27 + 28 - good[64];
    let with_v = |v: u8| {
        let mut bytes = *good;
        bytes[64] = v;
        bytes
    };
    let mut nobody = *good;
    nobody[..32].fill(0);
    vec![
        (high.to_vec().into(), "malleable"),
        (with_v(good[64] - 27).to_vec().into(), "v must be 27 or 28"),
        (with_v(29).to_vec().into(), "v must be 27 or 28"),
        (with_v(27 + 28 - good[64]).to_vec().into(), ""),
        (good[..64].to_vec().into(), "65 bytes"),
        ([good.as_slice(), &[0]].concat().into(), "65 bytes"),
        (Bytes::new(), "65 bytes"),
        (nobody.to_vec().into(), "recovers to nobody"),
    ]
}

pub(crate) async fn a_third_party_cannot_settle_for_a_payee(net: &Net) {
    let (bob, mallory) = (net.actor("bob").await, net.actor("mallory").await);
    net.collateral(1_000).await;
    let order = net.provider_order(bob.address(), 500, 1);
    let mut stolen = order;
    stolen.beneficiary = mallory.address();
    refused(
        mallory.call(&net.settle_call(&stolen)).await,
        "wrong key, amount, channel",
    );
    // Not even in the payee's own favour, and not by the operator.
    refused(
        mallory.call(&net.settle_call(&order)).await,
        "wrong key, amount, channel",
    );
    // The client knows before it spends gas.
    refused(mallory.vault.settle(order).await, "is for channel");
    assert_eq!(net.settled(bob.address()).await, Amount::ZERO);
    bob.vault.settle(order).await.unwrap();
}

pub(crate) async fn settlements_cannot_be_replayed(net: &Net) {
    let bob = net.actor("bob").await;
    net.collateral(1_000).await;
    let order = net.provider_order(bob.address(), 500, 1);
    bob.vault.settle(order).await.unwrap();
    refused(
        bob.call(&net.settle_call(&order)).await,
        "nothing is owed: 500 is promised and 500 is already paid",
    );
    // The client reads the chain and is content.
    let again = bob.vault.settle(order).await.unwrap();
    assert_eq!((again.transaction, again.total), (None, wei(500)));
    let smaller = net.provider_order(bob.address(), 499, 2);
    refused(
        bob.call(&net.settle_call(&smaller)).await,
        "nothing is owed",
    );
    assert_eq!(net.tokens(bob.address()).await, wei(475));
}

pub(crate) async fn bent_promises_of_a_hermes_are_refused(net: &Net) {
    let bob = net.actor("bob").await;
    net.collateral(1_000).await;
    let order = net.provider_order(bob.address(), 500, 1);
    let good = net.settle_call(&order);
    for (signature, why) in bent(order.promise.signature.as_bytes()) {
        refused(
            bob.call(&Vault::settleCall {
                hermesSig: signature,
                ..good.clone()
            })
            .await,
            why,
        );
    }
    let wrong = "wrong key, amount, channel, chain or preimage";
    refused(
        bob.call(&Vault::settleCall {
            R: preimage(2).0,
            ..good.clone()
        })
        .await,
        wrong,
    );
    refused(
        bob.call(&Vault::settleCall {
            amount: U256::from(501),
            ..good.clone()
        })
        .await,
        wrong,
    );
    refused(
        bob.call(&Vault::settleCall {
            fee: U256::from(1),
            ..good.clone()
        })
        .await,
        wrong,
    );
    // Another chain's promise, and one that the payee signed itself.
    let channel = ChannelId::of_provider(bob.address(), net.hermes);
    let elsewhere = Promise {
        chain_id: 137,
        ..net.promise(channel, 500, 1)
    }
    .sign(&net.operator)
    .unwrap();
    refused(
        bob.call(&net.settle_call(&net.order(elsewhere, 1, bob.address())))
            .await,
        wrong,
    );
    let own = net.promise(channel, 500, 1).sign(&bob.signer).unwrap();
    refused(
        bob.call(&net.settle_call(&net.order(own, 1, bob.address())))
            .await,
        wrong,
    );
    // More than a slot holds.
    let huge = Promise {
        amount: Amount::MAX,
        ..net.promise(channel, 0, 1)
    }
    .sign(&net.operator)
    .unwrap();
    let paid = bob
        .vault
        .settle(net.order(huge, 1, bob.address()))
        .await
        .unwrap();
    assert_eq!(paid.total, wei(1_000), "capped by what there is");
    net.assert_conserved(&[], &[bob.address()]).await;
}

pub(crate) async fn bent_promises_of_a_consumer_are_refused(net: &Net) {
    let (alice, mallory) = (net.actor("alice").await, net.actor("mallory").await);
    net.deposit(alice.address(), 1_000).await;
    let order = net.consumer_order(&alice.signer, 500, 1);
    let good = net.collect_call(alice.address(), &order);
    for (signature, why) in bent(order.promise.signature.as_bytes()) {
        refused(
            mallory
                .call(&Vault::collectCall {
                    sig: signature,
                    ..good.clone()
                })
                .await,
            why,
        );
    }
    let wrong = "wrong key, amount, channel, chain or preimage";
    refused(
        mallory
            .call(&Vault::collectCall {
                R: preimage(2).0,
                ..good.clone()
            })
            .await,
        wrong,
    );
    refused(
        mallory
            .call(&Vault::collectCall {
                amount: U256::from(501),
                ..good.clone()
            })
            .await,
        wrong,
    );
    refused(
        mallory
            .call(&Vault::collectCall {
                consumer_: mallory.address(),
                ..good.clone()
            })
            .await,
        wrong,
    );
    let channel = net.owner.consumer_channel(alice.address(), net.hermes);
    let elsewhere = Promise {
        chain_id: 137,
        ..net.promise(channel, 500, 1)
    }
    .sign(&alice.signer)
    .unwrap();
    let order_elsewhere = net.order(elsewhere, 1, Address::ZERO);
    refused(
        mallory
            .call(&net.collect_call(alice.address(), &order_elsewhere))
            .await,
        wrong,
    );
    // A promise on a provider's channel of the same pair is not one on the consumer's.
    let provider_channel = ChannelId::of_provider(alice.address(), net.hermes);
    let crossed = net
        .promise(provider_channel, 500, 1)
        .sign(&alice.signer)
        .unwrap();
    let crossed = net.order(crossed, 1, Address::ZERO);
    refused(
        mallory
            .call(&net.collect_call(alice.address(), &crossed))
            .await,
        wrong,
    );

    // The good one is paid whoever sends it, to the Hermes, once.
    mallory.call(&good).await.unwrap();
    refused(
        mallory.call(&good).await,
        "nothing is owed: 500 is promised and 500 is already paid",
    );
    let again = mallory.vault.collect(alice.address(), order).await.unwrap();
    assert_eq!((again.transaction, again.total), (None, wei(500)));
    assert_eq!(net.tokens(mallory.address()).await, Amount::ZERO);
    assert_eq!(net.hermes_account().await.free, wei(500));
    // Over the deposit: paid up to it, and no further.
    let over = mallory
        .vault
        .collect(alice.address(), net.consumer_order(&alice.signer, 5_000, 3))
        .await
        .unwrap();
    assert_eq!(over.total, wei(1_000));
    let more = net.collect_call(
        alice.address(),
        &net.consumer_order(&alice.signer, 5_000, 3),
    );
    refused(mallory.call(&more).await, "the account is empty");
    net.assert_conserved(&[alice.address()], &[]).await;
}

pub(crate) async fn a_consumers_promise_with_a_fee_is_refused(net: &Net) {
    let (alice, mallory) = (net.actor("alice").await, net.actor("mallory").await);
    net.deposit(alice.address(), 1_000).await;
    let channel = net.owner.consumer_channel(alice.address(), net.hermes);
    let with_fee = Promise {
        fee: wei(10),
        ..net.promise(channel, 500, 1)
    }
    .sign(&alice.signer)
    .unwrap();
    let order = net.order(with_fee, 1, Address::ZERO);
    refused(
        mallory
            .call(&net.collect_call(alice.address(), &order))
            .await,
        "must carry no fee",
    );
}

pub(crate) async fn unknown_hermes_and_zero_addresses_are_refused(net: &Net) {
    let bob = net.actor("bob").await;
    net.collateral(1_000).await;
    let nowhere = Address::repeat_byte(9);
    let good = net.settle_call(&net.provider_order(bob.address(), 500, 1));
    refused(
        bob.call(&Vault::settleCall {
            beneficiary: Address::ZERO,
            ..good.clone()
        })
        .await,
        "an address is zero",
    );
    refused(
        bob.call(&Vault::settleCall {
            hermesId: nowhere,
            ..good
        })
        .await,
        "wrong key",
    );
    refused(
        bob.call(&Vault::addCollateralCall {
            hermesId: nowhere,
            amount: U256::from(1),
        })
        .await,
        "not a registered",
    );
    refused(
        bob.call(&Vault::registerHermesCall {
            operator: Address::ZERO,
            feeBps: 0,
        })
        .await,
        "an address is zero",
    );
    let told = net.owner.hermes(nowhere).await.unwrap_err();
    assert_eq!(told, wayfare_payment::ChainError::UnknownHermes(nowhere));
    let order = net.consumer_order(&bob.signer, 5, 1);
    let collect = Vault::collectCall {
        hermesId: nowhere,
        ..net.collect_call(bob.address(), &order)
    };
    refused(bob.call(&collect).await, "not a registered");
}
