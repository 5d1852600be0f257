//! Relayers: they earn what was agreed and lose nothing, and a payee never depends on one.

use std::sync::Arc;

use alloy::primitives::Address;
use serde_json::json;
use wayfare_chain::{Relay, RelayRefusal, RelayRequest, RelayTerms, Relayer};
use wayfare_identity::{LocalSigner, Signer};
use wayfare_payment::{
    Amount, ChainError, ChannelId, PortFuture, Promise, Purpose, SettleOrder, Settled,
};

use crate::net::{Actor, Net, key, wei};
use crate::notebook::Notebook;
use crate::world::{World, assert_true, endpoint, is_confirmed, newest, open, seen_by};

/// One coin is worth 200,000 of the token's smallest unit, so that some 100,000 gas at 2 gwei cost some 40.
fn terms() -> RelayTerms {
    RelayTerms {
        coin_price: wei(200_000),
        margin_percent: 10,
        least_time: 60,
    }
}

fn order(net: &Net, payee: Address, units: u128, fee: u128) -> SettleOrder {
    let promise = net.promise(ChannelId::of_provider(payee, net.hermes), units, 1);
    let signed = Promise {
        fee: wei(fee),
        ..promise
    }
    .sign(&net.operator)
    .unwrap();
    net.order(signed, 1, payee)
}

async fn request(
    world: &World,
    payee: &LocalSigner,
    relayer: Address,
    fee: u128,
    seconds: u64,
) -> RelayRequest {
    let now = world.net.owner.wallet().chain_time().await.unwrap();
    RelayRequest::sign(
        payee,
        &world.net.owner.domain(),
        order(&world.net, payee.address(), 10_000, fee),
        relayer,
        wei(fee),
        now + seconds,
    )
    .unwrap()
}

/// A relayer that does not keep what it says.
#[derive(Debug)]
struct Boaster;

impl Relay for Boaster {
    fn relay<'a>(
        &'a self,
        request: &'a RelayRequest,
    ) -> PortFuture<'a, Result<Settled, RelayRefusal>> {
        let total = request.consent.amount;
        Box::pin(async move {
            Ok(Settled {
                transaction: None,
                total,
                gas: 1,
            })
        })
    }
}

/// A relayer that is never heard of again.
#[derive(Debug)]
struct Sleeper;

impl Relay for Sleeper {
    fn relay<'a>(
        &'a self,
        _request: &'a RelayRequest,
    ) -> PortFuture<'a, Result<Settled, RelayRefusal>> {
        Box::pin(std::future::pending())
    }
}

async fn relayer(world: &World) -> (Actor, Relayer, Arc<Notebook>) {
    let actor = world.net.actor("relayer").await;
    let notes = Arc::new(Notebook::new());
    let wallet = open(endpoint([&world.net.url]), &actor.signer, &notes).await;
    let relayer = Relayer::new(seen_by(&actor, wallet), terms());
    (actor, relayer, notes)
}

#[tokio::test]
async fn a_relayer_settles_for_a_payee_without_coin_and_earns_its_gas() {
    let world = World::new().await;
    world.net.collateral(100_000).await;
    let bob = key("bob without coin");
    let (actor, relayer, notes) = relayer(&world).await;
    let request = request(&world, &bob, relayer.address(), 100, 3_600).await;
    let cost = relayer.check(&request).await.unwrap();
    assert!(cost > Amount::ZERO && cost <= wei(100), "{cost}");
    let own = crate::net::wallet(&world.net.url, bob.clone());
    let client = wayfare_chain::VaultClient::new(own, world.net.vault);
    let settled = client.settle_through(&relayer, &request).await.unwrap();
    assert_eq!(settled.total, wei(10_000));
    assert_eq!(world.net.tokens(relayer.address()).await, wei(100));
    assert_eq!(
        world.net.tokens(bob.address()).await,
        wei(10_000 - 500 - 100)
    );
    let history = open(
        endpoint([&world.net.url]),
        &actor.signer,
        &Arc::new(notes.reopened()),
    )
    .await;
    let view = newest(&history, is_confirmed).await;
    assert!(matches!(view.purpose, Purpose::Relay { amount, .. } if amount == wei(10_000)));
    assert_true(&world, &history, &notes).await;
    // Again: it is settled, and nothing is sent.
    let again = client.settle_through(&relayer, &request).await.unwrap();
    assert_eq!(again.total, wei(10_000));
    assert_eq!(world.net.tokens(relayer.address()).await, wei(100));
}

#[tokio::test]
async fn a_relayer_sends_nothing_that_is_not_its_own_in_time_and_worth_the_gas() {
    let world = World::new().await;
    world.net.collateral(100_000).await;
    let bob = key("bob without coin");
    let (actor, relayer, _notes) = relayer(&world).await;
    let me = relayer.address();
    let good = request(&world, &bob, me, 100, 3_600).await;

    let other = request(&world, &bob, Address::repeat_byte(5), 100, 3_600).await;
    let late = request(&world, &bob, me, 100, 30).await;
    let cheap = request(&world, &bob, me, 1, 3_600).await;
    let mut forged = good;
    forged.signature = cheap.signature;
    let mut dearer = good;
    dearer.consent.max_fee = wei(99);
    let mut diverted = good;
    diverted.order.beneficiary = me;
    type Expected = fn(&RelayRefusal) -> bool;
    let cases: [(RelayRequest, Expected); 6] = [
        (other, |why| matches!(why, RelayRefusal::AnotherRelayer(_))),
        (late, |why| matches!(why, RelayRefusal::TooLate { .. })),
        (cheap, |why| matches!(why, RelayRefusal::FeeTooLow { .. })),
        (forged, |why| matches!(why, RelayRefusal::NotSigned(_))),
        (dearer, |why| matches!(why, RelayRefusal::Mismatch(_))),
        (diverted, |why| matches!(why, RelayRefusal::Mismatch(_))),
    ];
    for (request, expected) in cases {
        let why = relayer.relay(&request).await.unwrap_err();
        assert!(expected(&why), "{why:?}");
    }
    // Gas that has become dear makes a good fee a bad one.
    world.tell("wayfare_setBaseFee", json!(["0x174876e800"]));
    world.mine(1);
    let why = relayer.relay(&good).await.unwrap_err();
    assert!(matches!(why, RelayRefusal::FeeTooLow { .. }), "{why:?}");
    world.tell("wayfare_setBaseFee", json!(["0x3b9aca00"]));
    world.mine(1);
    // A Hermes that cannot pay: found out before gas is spent.
    let mut poor = good;
    poor.order = order(&world.net, bob.address(), 1_000_000, 100);
    poor = RelayRequest::sign(
        &bob,
        &world.net.owner.domain(),
        poor.order,
        me,
        wei(100),
        good.consent.deadline,
    )
    .unwrap();
    let why = relayer.relay(&poor).await.unwrap_err();
    assert!(
        matches!(&why, RelayRefusal::Chain(ChainError::Refused(why)) if why.contains("owes")),
        "{why:?}"
    );
    assert_eq!(
        world.transactions_of(actor.address()),
        0,
        "no gas was spent"
    );
    assert!(relayer.relay(&good).await.is_ok());
}

#[tokio::test]
async fn sending_oneself_always_works_when_a_relayer_sleeps_lies_or_refuses() {
    for (case, seconds) in [(0, 120), (1, 120), (2, 3_600)] {
        let world = World::new().await;
        world.net.collateral(100_000).await;
        let bob = world.net.actor("bob").await;
        let (_, honest, _) = relayer(&world).await;
        let fee = if case == 2 { 1 } else { 100 };
        let request = request(&world, &bob.signer, honest.address(), fee, seconds).await;
        let relay: Box<dyn Relay> = match case {
            0 => Box::new(Sleeper),
            1 => Box::new(Boaster),
            _ => Box::new(honest.clone()),
        };
        let waiting = tokio::spawn({
            let vault = bob.vault.clone();
            async move { vault.settle_through(relay.as_ref(), &request).await }
        });
        if case < 2 {
            // It is waited for until the consent is void, and no longer.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            assert!(
                !waiting.is_finished(),
                "nothing is done before the deadline"
            );
            world.net.pass(seconds + 1).await;
        }
        let settled = waiting.await.unwrap().unwrap();
        assert!(settled.transaction.is_some(), "{case}");
        assert_eq!(settled.total, wei(10_000));
        assert_eq!(world.net.tokens(bob.address()).await, wei(9_500), "no fee");
        let late = honest.relay(&request).await.unwrap_err();
        assert!(
            matches!(late, RelayRefusal::TooLate { .. } | RelayRefusal::Chain(_)),
            "{late:?}"
        );
        assert_eq!(world.net.tokens(honest.address()).await, Amount::ZERO);
    }
}
