//! Money's way through the vault when everybody behaves.

use alloy::primitives::{U256, keccak256};
use wayfare_chain::bindings::Vault::{self, VaultEvents};
use wayfare_payment::{Amount, Chain, ChannelId};

use crate::net::{FEE_BPS, Net, preimage, refused, wei};

pub(crate) async fn a_deposit_pays_a_provider(net: &Net) {
    let (alice, bob, hermes) = (
        net.actor("alice").await,
        net.actor("bob").await,
        net.actor("sender").await,
    );
    net.deposit(alice.address(), 1_000).await;
    assert_eq!(
        net.consumer_account(alice.address()).await.balance,
        wei(1_000),
        "unswept tokens count"
    );
    let from = net.owner.wallet().block_number().await.unwrap();

    let collected = hermes
        .vault
        .collect(alice.address(), net.consumer_order(&alice.signer, 600, 1))
        .await
        .unwrap();
    assert_eq!(collected.total, wei(600));
    let account = net.consumer_account(alice.address()).await;
    assert_eq!((account.balance, account.collected), (wei(400), wei(600)));
    assert_eq!(net.hermes_account().await.free, wei(600));

    let settled = bob
        .vault
        .settle(net.provider_order(bob.address(), 500, 1))
        .await
        .unwrap();
    assert_eq!(settled.total, wei(500));
    assert!(settled.transaction.is_some() && settled.gas > 21_000);
    // 5 % of 500 stays with the Hermes.
    assert_eq!(net.tokens(bob.address()).await, wei(475));
    assert_eq!(net.hermes_account().await.free, wei(125));
    assert_eq!(net.settled(bob.address()).await, wei(500));
    net.assert_conserved(&[alice.address()], &[bob.address()])
        .await;

    let seen = net.owner.events(from + 1).await.unwrap();
    let told: Vec<_> = seen.iter().map(|seen| &seen.event).collect();
    let [
        VaultEvents::Deposited(deposit),
        VaultEvents::Collected(collect),
        VaultEvents::Settled(settle),
    ] = told[..]
    else {
        panic!("unexpected events {told:?}");
    };
    assert_eq!(
        (
            wayfare_chain::unpacked(deposit.consumerAndAmount),
            deposit.hermes
        ),
        ((alice.address(), wei(1_000)), net.hermes)
    );
    assert_eq!(
        (collect.amount, collect.R),
        (U256::from(600), preimage(1).0)
    );
    assert_eq!(
        (settle.payee, settle.amountPaid),
        (bob.address(), U256::from(500))
    );
    assert_eq!(
        (settle.totalSettled, settle.R),
        (U256::from(500), preimage(1).0)
    );
}

pub(crate) async fn derived_addresses_and_digests_are_the_contracts_own(net: &Net) {
    let (wallet, vault) = (net.owner.wallet(), net.vault);
    for n in 0..20u8 {
        let consumer = crate::net::key(&format!("consumer {n}"));
        let who = wayfare_identity::Signer::address(&consumer);
        let call = Vault::depositAddressCall {
            consumer_: who,
            hermesId: net.hermes,
        };
        let theirs = wallet.read(vault, &call).await.unwrap();
        assert_eq!(net.owner.deposit_address(who, net.hermes), theirs);
        let call = Vault::providerChannelCall {
            payee: who,
            hermesId: net.hermes,
        };
        let channel = ChannelId::of_provider(who, net.hermes);
        assert_eq!(channel.0, wallet.read(vault, &call).await.unwrap());
        let promise = net.promise(channel, u128::from(n).pow(9), n);
        let call = Vault::promiseDigestCall {
            channelId: channel.0,
            amount: promise.amount.units(),
            fee: U256::ZERO,
            R: preimage(n).0,
        };
        assert_eq!(promise.digest(), wallet.read(vault, &call).await.unwrap());
    }
    assert_eq!(
        net.owner.domain().separator(),
        wallet
            .read(vault, &Vault::domainSeparatorCall {})
            .await
            .unwrap()
    );
    let owner = Vault::hermesIdOfCall {
        owner: wallet.address(),
    };
    assert_eq!(net.hermes, wallet.read(vault, &owner).await.unwrap());
    assert_eq!(net.hermes_account().await.fee_basis_points, FEE_BPS);
}

pub(crate) async fn promises_in_any_order_settle_to_the_largest(net: &Net) {
    let bob = net.actor("bob").await;
    net.collateral(100).await;
    for (units, total) in [(11, 11), (15, 15), (9, 15)] {
        let settled = bob
            .vault
            .settle(net.provider_order(bob.address(), units, units as u8))
            .await
            .unwrap();
        assert_eq!(settled.total, wei(total));
    }
    assert_eq!(net.settled(bob.address()).await, wei(15));
}

pub(crate) async fn a_deposit_address_works_again_and_refuses_everything_else(net: &Net) {
    let alice = net.actor("alice").await;
    let deposit = net.owner.deposit_address(alice.address(), net.hermes);
    // Nothing there: nothing happens, nothing is deployed.
    net.owner.sweep(alice.address(), net.hermes).await.unwrap();
    for (units, total) in [(5, 5), (7, 12)] {
        net.deposit(alice.address(), units).await;
        // Anybody may sweep.
        net.owner.sweep(alice.address(), net.hermes).await.unwrap();
        assert_eq!(net.tokens(deposit).await, Amount::ZERO);
        assert_eq!(net.tokens(net.vault).await, wei(total));
        assert_eq!(
            net.consumer_account(alice.address()).await.balance,
            wei(total)
        );
    }
    let code = net
        .raw("eth_getCode", serde_json::json!([deposit, "latest"]))
        .await;
    assert_eq!(code, "0xfe", "what stays is one INVALID opcode");
    assert!(
        net.owner
            .wallet()
            .send_native(deposit, U256::from(1))
            .await
            .is_err(),
        "it takes no coin"
    );
    net.assert_conserved(&[alice.address()], &[]).await;
}

pub(crate) async fn credit_stays_in_the_vault_until_it_is_withdrawn(net: &Net) {
    let bob = net.actor("bob").await;
    net.collateral(1_000).await;
    let mut order = net.provider_order(bob.address(), 400, 1);
    order.beneficiary = net.vault;
    bob.vault.settle(order).await.unwrap();
    assert_eq!(
        net.owner.credit(bob.address(), net.hermes).await.unwrap(),
        wei(380)
    );
    net.assert_conserved(&[], &[bob.address()]).await;
    let mallory = net.actor("mallory").await;
    refused(
        mallory
            .vault
            .withdraw_credit(net.hermes, mallory.address())
            .await,
        "account is empty",
    );
    let elsewhere = alloy::primitives::Address::from_word(keccak256("elsewhere"));
    bob.vault
        .withdraw_credit(net.hermes, elsewhere)
        .await
        .unwrap();
    assert_eq!(net.tokens(elsewhere).await, wei(380));
    refused(
        bob.vault.withdraw_credit(net.hermes, elsewhere).await,
        "account is empty",
    );
    net.assert_conserved(&[], &[bob.address()]).await;
}
