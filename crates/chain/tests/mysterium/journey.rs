//! The way of money through the deployed contracts, one step after the other, to the wei.

use alloy::primitives::Address;
use wayfare_chain::mysterium::{
    Deployment, KnownHermes, MysteriumClient, Registration, Registry, Status, Version,
};
use wayfare_identity::Signer;
use wayfare_payment::{Amount, Chain, ChainError, ChannelId};

use crate::net::{FEE_BPS, HERMES_STAKE, MOST_STAKE, Net, key, refused, wei};

#[tokio::test]
async fn a_top_up_pays_a_provider() {
    let net = Net::new().await;
    let (alice, bob) = (net.actor("alice").await, net.registered("bob").await);
    let channel = net
        .owner
        .deposit_address(alice.address(), net.hermes)
        .unwrap();

    // Tokens arrive before there is a contract; without one nobody could collect, so they do not count.
    net.top_up(alice.address(), 1_000).await;
    let account = alice
        .client
        .consumer(alice.address(), net.hermes)
        .await
        .unwrap();
    assert_eq!(account.balance, Amount::ZERO);
    alice
        .client
        .register(net.hermes, Address::ZERO)
        .await
        .unwrap()
        .unwrap();
    let account = alice
        .client
        .consumer(alice.address(), net.hermes)
        .await
        .unwrap();
    assert_eq!(
        (account.balance, account.collected, account.exit_at),
        (wei(1_000), Amount::ZERO, None)
    );
    // Nobody named: earnings go back to the channel.
    assert_eq!(
        net.owner.beneficiary(alice.address()).await.unwrap(),
        channel
    );

    // The consumer's promise reaches the Hermes.
    let collected = net
        .owner
        .collect(alice.address(), net.consumer_order(&alice.signer, 600, 1))
        .await
        .unwrap();
    assert_eq!(collected.total, wei(600));
    assert!(collected.transaction.is_some());
    assert_eq!(net.tokens(channel).await, wei(400));
    assert_eq!(net.tokens(net.hermes).await, wei(HERMES_STAKE + 600));
    let hermes = net.owner.hermes(net.hermes).await.unwrap();
    assert_eq!(hermes.operator, net.operator.address());
    assert_eq!(
        (hermes.fee_basis_points, hermes.collateral, hermes.free),
        (FEE_BPS, Amount::ZERO, wei(600))
    );
    assert!(!hermes.leaving);

    // The Hermes' promise reaches the provider: 501 less a fifth, which is 100.2 and so 101.
    let settled = bob
        .client
        .settle(net.provider_order(bob.address(), 501, 2))
        .await
        .unwrap();
    assert_eq!(settled.total, wei(501));
    assert_eq!(net.tokens(bob.address()).await, wei(400));
    assert_eq!(net.tokens(net.hermes).await, wei(HERMES_STAKE + 200));
    assert_eq!(net.settled(bob.address()).await, wei(501));
}

#[tokio::test]
async fn promises_in_any_order_settle_to_the_largest() {
    let net = Net::new().await;
    let (alice, bob) = (net.registered("alice").await, net.registered("bob").await);
    net.top_up(alice.address(), 15).await;
    net.float(100).await;
    for (units, r, total, sends) in [
        (11, 1, 11, true),
        (15, 2, 15, true),
        (9, 3, 15, false),
        (15, 2, 15, false),
    ] {
        let order = net.consumer_order(&alice.signer, units, r);
        let collected = net.owner.collect(alice.address(), order).await.unwrap();
        assert_eq!(
            (collected.total, collected.transaction.is_some()),
            (wei(total), sends)
        );
        let order = net.provider_order(bob.address(), units, r);
        let settled = bob.client.settle(order).await.unwrap();
        assert_eq!(
            (settled.total, settled.transaction.is_some()),
            (wei(total), sends)
        );
    }
    // 11 less 3 (2.2 rounded up), then 4 less 1.
    assert_eq!(net.tokens(bob.address()).await, wei(8 + 3));
}

#[tokio::test]
async fn what_somebody_else_settled_counts_as_settled() {
    let net = Net::new().await;
    let (bob, carol) = (net.registered("bob").await, net.actor("carol").await);
    net.float(1_000).await;
    let order = net.provider_order(bob.address(), 500, 1);
    let (one, two) = tokio::join!(
        bob.client.settle(order),
        carol.client.settle_for(bob.address(), order)
    );
    assert_eq!(
        (one.unwrap().total, two.unwrap().total),
        (wei(500), wei(500))
    );
    assert_eq!(net.tokens(bob.address()).await, wei(400));
    assert_eq!(net.tokens(carol.address()).await, Amount::ZERO);
}

#[tokio::test]
async fn derived_addresses_are_the_registrys_own() {
    for version in [Version::First, Version::Second, Version::Third] {
        let net = Net::with(crate::net::Terms {
            version,
            ..Default::default()
        })
        .await;
        let identity = key("somebody").address();
        let call = Registry::getChannelAddressCall {
            identity,
            hermes: net.hermes,
        };
        let registry = net.deployment.registry;
        let theirs = net.owner.wallet().read(registry, &call).await.unwrap();
        assert_eq!(
            net.owner.deposit_address(identity, net.hermes).unwrap(),
            theirs
        );
        assert_eq!(
            net.owner.consumer_channel(identity, net.hermes),
            ChannelId::of_deposit(theirs)
        );
        let call = Registry::getHermesImplementationCall {
            version: alloy::primitives::U256::from(version.number()),
        };
        let implementation = net.owner.wallet().read(registry, &call).await.unwrap();
        let ours = wayfare_chain::mysterium::hermes_address(
            registry,
            net.operator.address(),
            implementation,
        );
        assert_eq!(ours, net.hermes);
    }
}

#[tokio::test]
async fn what_was_pinned_is_compared_with_the_registry() {
    let net = Net::new().await;
    let with = |bend: fn(&mut Deployment)| {
        let mut deployment = net.deployment.clone();
        bend(&mut deployment);
        MysteriumClient::new(net.owner.wallet().clone(), deployment)
    };
    let nobody = Address::repeat_byte(9);
    refused(
        with(|it| it.token = Address::repeat_byte(9)).check().await,
        "as token",
    );
    refused(
        with(|it| it.hermes[0].channel_implementation = Address::repeat_byte(9))
            .check()
            .await,
        "as channel implementation",
    );
    refused(
        with(|it| it.hermes[0].version = Version::First)
            .check()
            .await,
        "of version 2",
    );
    assert_eq!(
        with(|it| it.hermes[0].id = Address::repeat_byte(9))
            .check()
            .await,
        Err(ChainError::UnknownHermes(nobody))
    );
    assert_eq!(
        with(|it| it.registry = Address::repeat_byte(9))
            .check()
            .await,
        Err(ChainError::NoContract(nobody))
    );
    assert_eq!(
        with(|it| it.chain_id = 137).check().await,
        Err(ChainError::WrongChain {
            expected: 137,
            found: crate::net::CHAIN_ID
        })
    );
    // Nothing is said about a Hermes that is not known, and nothing can be promised to it.
    assert_eq!(
        net.owner.deposit_address(nobody, nobody),
        Err(ChainError::UnknownHermes(nobody))
    );
    assert_eq!(
        net.owner.hermes(nobody).await,
        Err(ChainError::UnknownHermes(nobody))
    );
    assert_eq!(
        net.owner.consumer_channel(nobody, nobody),
        ChannelId::of_deposit(Address::ZERO)
    );
}

#[tokio::test]
async fn a_registration_takes_stake_and_fee_from_the_deposit() {
    let net = Net::new().await;
    let (dora, relayer) = (key("dora"), net.actor("relayer").await);
    let terms = Registration {
        identity: dora.address(),
        hermes: net.hermes,
        stake: wei(70),
        fee: wei(5),
        beneficiary: Address::repeat_byte(7),
    };
    let signature = net.owner.registration(&terms).sign(&dora).unwrap();
    let short = relayer.client.register_for(&terms, &signature).await;
    refused(short, "75 is to be taken");
    net.top_up(dora.address(), 100).await;
    // The contract would register whoever the signature is of.
    let bent = Registration {
        fee: wei(6),
        ..terms
    };
    refused(
        relayer.client.register_for(&bent, &signature).await,
        "signed by",
    );
    relayer
        .client
        .register_for(&terms, &signature)
        .await
        .unwrap()
        .unwrap();
    let channel = net
        .owner
        .consumer_state(dora.address(), net.hermes)
        .await
        .unwrap();
    assert_eq!((channel.opened, channel.tokens), (true, wei(25)));
    assert_eq!(net.tokens(relayer.address()).await, wei(5));
    assert_eq!(net.tokens(net.hermes).await, wei(HERMES_STAKE + 70));
    assert_eq!(
        net.owner.beneficiary(dora.address()).await.unwrap(),
        terms.beneficiary
    );
    let provider = net
        .owner
        .provider_channel(dora.address(), net.hermes)
        .await
        .unwrap();
    assert_eq!((provider.stake, provider.settled), (wei(70), Amount::ZERO));
    let state = net.state().await;
    assert_eq!(
        (state.total_stake, state.available, state.stake),
        (wei(70), Amount::ZERO, wei(HERMES_STAKE))
    );
    assert_eq!(
        (state.least_stake, state.most_stake, state.status),
        (Amount::ZERO, wei(MOST_STAKE), Status::Active)
    );
    // Once more costs nothing.
    assert_eq!(
        relayer
            .client
            .register_for(&terms, &signature)
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn a_registered_identity_opens_a_channel_at_a_further_hermes() {
    let net = Net::new().await;
    let alice = net.registered("alice").await;
    let second = wayfare_chain::mysterium::HermesTerms {
        operator: key("another operator").address(),
        stake: wei(HERMES_STAKE),
        fee_basis_points: 0,
        least_stake: Amount::ZERO,
        most_stake: wei(1),
    };
    net.token
        .mint(net.owner.wallet().address(), wei(HERMES_STAKE))
        .await
        .unwrap();
    let id = net.owner.register_hermes(&second, "").await.unwrap();
    let mut deployment = net.deployment.clone();
    deployment.hermes.push(KnownHermes {
        id,
        ..deployment.hermes[0]
    });
    let client = MysteriumClient::new(alice.client.wallet().clone(), deployment);
    client.check().await.unwrap();
    assert!(client.register(id, Address::ZERO).await.unwrap().is_some());
    assert!(client.register(id, Address::ZERO).await.unwrap().is_none());
    let channel = client.consumer_state(alice.address(), id).await.unwrap();
    assert!(channel.opened);
    // The first registration's beneficiary stays.
    assert_eq!(
        client.beneficiary(alice.address()).await.unwrap(),
        alice.address()
    );
}
