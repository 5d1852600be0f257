//! What the operations cost in gas on the double, by name, for whoever keeps a table. The double is not the deployed contracts:
//! its figures say that our batcher adds little, not what the others' code takes.

use std::collections::BTreeMap;

use alloy::primitives::{Address, Bytes};
use wayfare_chain::mysterium::{Batch, Item, Registration, deploy_batcher};
use wayfare_identity::{LocalSigner, Signer};
use wayfare_payment::{Amount, Chain};

use crate::net::{Net, Terms, key, wei};

const TOKEN: u128 = 1_000_000_000_000_000_000;
const ITEMS: u64 = 100;
/// Two pushes, 1,024 words to hash, and their memory.
const HASHING: u64 = 5 + 30 + 6 * 1_024 + 3 * 1_024 + 1_024 * 1_024 / 512;

/// Identities that the batches pay and collect from, registered, with a deposit.
async fn crowd(net: &Net) -> Vec<LocalSigner> {
    let mut crowd = Vec::new();
    for n in 0..ITEMS {
        let signer = key(&format!("crowd {n}"));
        let terms = Registration {
            identity: signer.address(),
            hermes: net.hermes,
            stake: Amount::ZERO,
            fee: Amount::ZERO,
            beneficiary: signer.address(),
        };
        let signature = net.owner.registration(&terms).sign(&signer).unwrap();
        net.owner.register_for(&terms, &signature).await.unwrap();
        net.top_up(signer.address(), 1_000 * TOKEN).await;
        crowd.push(signer);
    }
    crowd
}

/// Gas by name; of a batch, for each item.
pub(crate) async fn measure() -> BTreeMap<&'static str, u64> {
    let net = Net::with(Terms {
        most_stake: 100 * TOKEN,
        ..Terms::default()
    })
    .await;
    let mut table = BTreeMap::new();
    let batcher = deploy_batcher(net.owner.wallet()).await.unwrap();
    net.float(1_000_000 * TOKEN).await;
    let bob = net.actor("bob").await;
    let registered = bob.client.register(net.hermes, bob.address()).await;
    table.insert("mysterium_register", registered.unwrap().unwrap().gas_used);
    net.top_up(bob.address(), 1_000 * TOKEN).await;
    for (name, collect, n) in [
        ("mysterium_settle_first", "mysterium_collect_first", 1u8),
        ("mysterium_settle", "mysterium_collect", 2),
    ] {
        let units = u128::from(n) * 12_345 * TOKEN / 1_000;
        let order = net.provider_order(bob.address(), units, n);
        table.insert(name, bob.client.settle(order).await.unwrap().gas);
        let order = net.consumer_order(&bob.signer, units, n);
        let collected = net.owner.collect(bob.address(), order).await.unwrap();
        table.insert(collect, collected.gas);
    }
    let crowd = crowd(&net).await;
    for (name, collect, n) in [
        (
            "mysterium_batch100_first",
            "mysterium_collect100_first",
            1u8,
        ),
        ("mysterium_batch100", "mysterium_collect100", 2),
    ] {
        let units = u128::from(n) * 9_876 * TOKEN / 1_000;
        let item = |order, signer: &LocalSigner| Item {
            party: signer.address(),
            order,
        };
        let items: Vec<Item> = crowd
            .iter()
            .map(|it| item(net.provider_order(it.address(), units, n), it))
            .collect();
        let batched = net.owner.settle_batch(batcher, net.hermes, &items).await;
        let batched = batched.unwrap();
        assert!(batched.outcomes.iter().all(Result::is_ok), "{batched:?}");
        table.insert(name, batched.gas / ITEMS);
        let items: Vec<Item> = crowd
            .iter()
            .map(|it| item(net.consumer_order(it, units, n), it))
            .collect();
        let batched = net.owner.collect_batch(batcher, &items).await.unwrap();
        assert!(batched.outcomes.iter().all(Result::is_ok), "{batched:?}");
        table.insert(collect, batched.gas / ITEMS);
    }
    // What calldata and batcher add to an item: the same bytes to a contract that hashes 32 KiB. One that does nothing would
    // be below the floor that calldata has for itself.
    let hash = Bytes::from_static(&[
        0x65, 0x61, 0x80, 0x00, 0x5f, 0x20, 0x00, 0x5f, 0x52, 0x60, 0x06, 0x60, 0x1a, 0xf3,
    ]);
    let hashing = net.owner.wallet().deploy(hash).await.unwrap();
    let bytes: Vec<u8> = crowd
        .iter()
        .flat_map(|it| {
            let order = net.provider_order(it.address(), 3 * 9_876 * TOKEN / 1_000, 3);
            let amount = u128::try_from(order.promise.promise.amount.units()).unwrap();
            [
                it.address().as_slice(),
                &amount.to_be_bytes(),
                order.preimage.0.as_slice(),
                order.promise.signature.as_bytes(),
            ]
            .concat()
        })
        .collect();
    let call = Batch::settleCall {
        hermes: hashing,
        items: bytes.into(),
    };
    let sent = net.owner.wallet().call_with_gas(batcher, &call, 2_000_000);
    table.insert(
        "mysterium_batch100_overhead",
        sent.await.unwrap().gas_used / ITEMS - HASHING,
    );
    // To the wei: each was paid four fifths of what was promised, rounded against it.
    let promised = 2 * 9_876 * TOKEN / 1_000;
    for signer in &crowd {
        assert_eq!(net.settled(signer.address()).await, wei(promised));
        assert_eq!(net.tokens(signer.address()).await, wei(promised * 4 / 5));
    }
    assert_eq!(net.tokens(Address::ZERO).await, Amount::ZERO);
    table
}

#[tokio::test]
async fn gas_of_a_batch_of_a_hundred_stays_below_its_bar() {
    let table = measure().await;
    // For `cargo xtask bench gas`.
    println!("gas {}", serde_json::to_string(&table).unwrap());
    for (name, most) in [
        ("mysterium_batch100", 38_500),
        ("mysterium_collect100", 38_500),
        ("mysterium_batch100_first", 80_000),
        ("mysterium_collect100_first", 80_000),
    ] {
        assert!(table[name] <= most, "{name} takes {} gas", table[name]);
    }
}
