//! Batches: as good as their singles, and one bad item sinks nobody.

use alloy::primitives::{Address, Bytes};
use wayfare_chain::mysterium::{Batch, Item, MOST_ITEMS, deploy_batcher};
use wayfare_payment::{Amount, ChainError};

use crate::net::{Actor, HERMES_STAKE, Net, key, refused, wei};

fn item(net: &Net, provider: &Actor, units: u128, r: u8) -> Item {
    Item {
        party: provider.address(),
        order: net.provider_order(provider.address(), units, r),
    }
}

#[tokio::test]
async fn a_batch_of_settlements_reports_what_failed_and_settles_the_rest() {
    let net = Net::new().await;
    let batcher = deploy_batcher(net.owner.wallet()).await.unwrap();
    let (bob, ben, bea) = (
        net.registered("bob").await,
        net.registered("ben").await,
        net.registered("bea").await,
    );
    let stranger = net.actor("stranger").await;
    net.float(100_000).await;
    let mut forged = item(&net, &ben, 70, 2);
    forged.order.promise = forged.order.promise.promise.sign(&ben.signer).unwrap();
    let items = [
        item(&net, &bob, 501, 1),
        forged,
        // Sound, and the contract refuses it: it was never registered.
        item(&net, &stranger, 30, 3),
        item(&net, &ben, 1_000, 4),
        // Twice the same provider, once too small by then.
        item(&net, &ben, 900, 5),
        // Above the cap: in two items.
        item(&net, &bea, 15_000, 6),
        item(&net, &bea, 15_000, 6),
    ];
    let batched = stranger
        .client
        .settle_batch(batcher, net.hermes, &items)
        .await
        .unwrap();
    let failed: Vec<usize> = batched
        .outcomes
        .iter()
        .enumerate()
        .filter_map(|(place, outcome)| outcome.is_err().then_some(place))
        .collect();
    assert_eq!(failed, [1, 2, 4], "{batched:?}");
    let said = |place: usize| batched.outcomes[place].clone().unwrap_err();
    assert!(said(1).contains("signed by"), "{}", said(1));
    assert!(said(2).contains("not registered"), "{}", said(2));
    assert_eq!(net.tokens(bob.address()).await, wei(400));
    assert_eq!(net.tokens(ben.address()).await, wei(800));
    assert_eq!(net.tokens(bea.address()).await, wei(8_000 + 4_000));
    let paid = 400 + 800 + 12_000;
    assert_eq!(
        net.tokens(net.hermes).await,
        wei(HERMES_STAKE + 100_000 - paid)
    );
    for who in [batcher, stranger.address()] {
        assert_eq!(net.tokens(who).await, Amount::ZERO);
    }
}

#[tokio::test]
async fn a_batch_of_collections_reports_what_failed_and_collects_the_rest() {
    let net = Net::new().await;
    let batcher = deploy_batcher(net.owner.wallet()).await.unwrap();
    let (alice, ann) = (net.registered("alice").await, net.registered("ann").await);
    let unopened = key("unopened");
    for consumer in [alice.address(), ann.address()] {
        net.top_up(consumer, 1_000).await;
    }
    let of = |consumer: &wayfare_identity::LocalSigner, units, r| Item {
        party: wayfare_identity::Signer::address(consumer),
        order: net.consumer_order(consumer, units, r),
    };
    let items = [
        of(&alice.signer, 600, 1),
        of(&unopened, 5, 2),
        of(&ann.signer, 2_000, 3),
    ];
    let batched = net.owner.collect_batch(batcher, &items).await.unwrap();
    assert!(batched.outcomes[0].is_ok() && batched.outcomes[2].is_ok());
    let said = batched.outcomes[1].clone().unwrap_err();
    assert!(said.contains("no contract at"), "{said}");
    assert_eq!(net.tokens(net.hermes).await, wei(HERMES_STAKE + 1_600));
    // Ann promised more than she has: the rest of the promise stays good.
    net.top_up(ann.address(), 300).await;
    let batched = net.owner.collect_batch(batcher, &items[2..]).await.unwrap();
    assert_eq!(batched.outcomes, [Ok(())]);
    let channel = net
        .owner
        .consumer_state(ann.address(), net.hermes)
        .await
        .unwrap();
    assert_eq!(channel.settled, wei(1_300));
}

#[tokio::test]
async fn a_batch_short_of_gas_fails_as_a_whole() {
    let net = Net::new().await;
    let batcher = deploy_batcher(net.owner.wallet()).await.unwrap();
    let bob = net.registered("bob").await;
    net.float(10_000).await;
    let one = item(&net, &bob, 100, 1).order;
    let bytes = [
        bob.address().as_slice(),
        &100u128.to_be_bytes(),
        one.preimage.0.as_slice(),
        one.promise.signature.as_bytes(),
    ]
    .concat();
    let call = Batch::settleCall {
        hermes: net.hermes,
        items: Bytes::from(bytes.clone()),
    };
    let sent = net
        .owner
        .wallet()
        .call_with_gas(batcher, &call, 150_000)
        .await;
    refused(sent, "gas ends at item 0");
    assert_eq!(net.settled(bob.address()).await, Amount::ZERO);
    // So an estimate is high enough here, whatever the items do.
    bob.call(batcher, &call).await.unwrap();
    assert_eq!(net.tokens(bob.address()).await, wei(80));
    // Torn bytes and a Hermes that is not there.
    let torn = Batch::settleCall {
        hermes: net.hermes,
        items: Bytes::from(bytes[1..].to_vec()),
    };
    refused(bob.call(batcher, &torn).await, "132 bytes");
    let nowhere = Batch::settleCall {
        hermes: Address::repeat_byte(3),
        items: Bytes::from(bytes),
    };
    refused(bob.call(batcher, &nowhere).await, "no contract at");
}

#[tokio::test]
async fn a_batch_has_bounds() {
    let net = Net::new().await;
    let bob = net.registered("bob").await;
    net.float(10_000).await;
    let nobody = Address::repeat_byte(5);
    let one = item(&net, &bob, 100, 1);
    assert_eq!(
        bob.client.settle_batch(nobody, net.hermes, &[one]).await,
        Err(ChainError::NoContract(nobody))
    );
    let batcher = deploy_batcher(net.owner.wallet()).await.unwrap();
    let many = vec![one; MOST_ITEMS + 1];
    refused(
        bob.client.settle_batch(batcher, net.hermes, &many).await,
        "at most",
    );
    let none = bob
        .client
        .settle_batch(batcher, net.hermes, &[])
        .await
        .unwrap();
    assert_eq!((none.transaction, none.gas), (None, 0));
    let huge = Item {
        party: bob.address(),
        order: {
            let mut promise = one.order.promise.promise;
            promise.amount = Amount::MAX;
            net.order(promise.sign(&net.operator).unwrap(), 1, bob.address())
        },
    };
    let batched = bob
        .client
        .settle_batch(batcher, net.hermes, &[huge])
        .await
        .unwrap();
    assert!(batched.outcomes[0].is_err() && batched.transaction.is_none());
}
