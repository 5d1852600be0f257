//! What each operation costs, held to a table, so that a dearer contract is a decision and not an accident.
//! Amounts are of everyday size: calldata is priced by its non-zero bytes.

use wayfare_identity::Signer;
use wayfare_payment::Chain;

use crate::net::{Net, wei};

const TOKEN: u128 = 1_000_000_000_000_000_000;

pub(crate) async fn gas_stays_within_the_table(net: &Net) {
    let (alice, bob) = (net.actor("alice").await, net.actor("bob").await);
    net.collateral(1_000 * TOKEN).await;
    net.deposit(alice.address(), 100 * TOKEN).await;
    let mut table = Vec::new();
    let mut row = |what: &'static str, gas: u64, most: u64| table.push((what, gas, most));

    let first_sweep = net.owner.sweep(alice.address(), net.hermes).await.unwrap();
    row("sweep, first", first_sweep.gas_used, 145_000);
    net.deposit(alice.address(), 100 * TOKEN).await;
    row(
        "sweep, next",
        net.owner
            .sweep(alice.address(), net.hermes)
            .await
            .unwrap()
            .gas_used,
        60_000,
    );

    for (what, r, most) in [
        ("collect, first", 1u8, 60_000),
        ("collect, next", 2, 47_000),
    ] {
        let order = net.consumer_order(&alice.signer, u128::from(r) * 12_345 * TOKEN / 1_000, r);
        row(
            what,
            bob.vault.collect(alice.address(), order).await.unwrap().gas,
            most,
        );
    }
    for (what, r, most) in [
        ("settle, first, new holder", 1u8, 100_000),
        ("settle, next", 2, 60_000),
    ] {
        let order = net.provider_order(bob.address(), u128::from(r) * 9_876 * TOKEN / 1_000, r);
        row(what, bob.vault.settle(order).await.unwrap().gas, most);
    }
    let mut order = net.provider_order(bob.address(), 30 * TOKEN, 3);
    order.beneficiary = net.vault;
    row(
        "settle into credit, first",
        bob.vault.settle(order).await.unwrap().gas,
        60_000,
    );
    let mut order = net.provider_order(bob.address(), 31 * TOKEN, 4);
    order.beneficiary = net.vault;
    row(
        "settle into credit, next",
        bob.vault.settle(order).await.unwrap().gas,
        47_000,
    );

    for (what, gas, most) in &table {
        println!("{what:<28} {gas:>8}  (at most {most})");
    }
    for (what, gas, most) in table {
        assert!(
            gas <= most,
            "{what} takes {gas} gas, the table allows {most}"
        );
    }
    assert_eq!(net.hermes_account().await.operator, net.operator.address());
    assert!(net.tokens(bob.address()).await > wei(0));
}
