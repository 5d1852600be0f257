//! Events are read back, each once, and taken back when the chain takes them back.

use alloy::primitives::Address;
use serde_json::json;
use wayfare_chain::mysterium::{Alarm, Change, Event, Vigil, Watch};
use wayfare_identity::Signer;
use wayfare_payment::{Amount, Chain, ChannelId};

use crate::net::{Net, preimage, wei};

fn appeared(changes: &[Change]) -> Vec<Event> {
    let events = changes.iter().map(|change| match change {
        Change::Appeared(sighting) => sighting.event,
        Change::Vanished(sighting) => panic!("nothing was taken back: {sighting:?}"),
    });
    events.collect()
}

#[tokio::test]
async fn events_are_seen_once_each() {
    let net = Net::new().await;
    let (alice, bob) = (net.registered("alice").await, net.registered("bob").await);
    let operator = net.actor("operator").await;
    net.top_up(alice.address(), 500).await;
    let channel = net
        .owner
        .deposit_address(alice.address(), net.hermes)
        .unwrap();
    let mut watch = Watch::new(net.hermes, 0);
    watch.follow(channel);
    assert_eq!(watch.look(&net.owner).await.unwrap(), []);
    let order = net.consumer_order(&alice.signer, 500, 1);
    net.owner.collect(alice.address(), order).await.unwrap();
    let settled = bob
        .client
        .settle(net.provider_order(bob.address(), 101, 2))
        .await
        .unwrap();
    let changes = watch.look(&net.owner).await.unwrap();
    let Some(Change::Appeared(last)) = changes.last() else {
        panic!("{changes:?}");
    };
    assert_eq!(Some(last.transaction), settled.transaction);
    assert_eq!(
        appeared(&changes),
        [
            Event::Moved {
                channel,
                to: net.hermes,
                amount: wei(500)
            },
            Event::PromiseSettled {
                identity: bob.address(),
                channel: ChannelId::of_provider(bob.address(), net.hermes),
                beneficiary: bob.address(),
                sent: wei(80),
                fees: wei(21),
                preimage: preimage(2),
            }
        ]
    );
    assert_eq!(watch.look(&net.owner).await.unwrap(), []);
    let client = &operator.client;
    client.announce_fee(net.hermes, 100).await.unwrap();
    client
        .withdraw(net.hermes, bob.address(), wei(1), Amount::ZERO)
        .await
        .unwrap();
    net.token.mint(bob.address(), wei(9)).await.unwrap();
    bob.client
        .increase_stake(bob.address(), net.hermes, wei(9))
        .await
        .unwrap();
    client.close(net.hermes).await.unwrap();
    let changes = watch.look(&net.owner).await.unwrap();
    assert_eq!(
        appeared(&changes),
        [
            Event::FeeAnnounced,
            Event::FundsWithdrawn,
            Event::StakeChanged,
            Event::Closed
        ]
    );
    let mut late = Watch::new(net.hermes, 0);
    assert_eq!(late.look(&net.owner).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_reorganisation_takes_events_back_and_brings_others() {
    let net = Net::new().await;
    let (bob, ben) = (net.registered("bob").await, net.registered("ben").await);
    net.float(1_000).await;
    let mut watch = Watch::new(net.hermes, 0);
    let bobs = net.provider_order(bob.address(), 100, 1);
    bob.client.settle(bobs).await.unwrap();
    assert_eq!(watch.look(&net.owner).await.unwrap().len(), 1);
    let snapshot = net.raw("evm_snapshot", json!([])).await;
    let second = net.provider_order(bob.address(), 200, 2);
    bob.client.settle(second).await.unwrap();
    let first_look = watch.look(&net.owner).await.unwrap();
    let [Change::Appeared(lost)] = first_look[..] else {
        panic!("{first_look:?}");
    };
    assert_eq!(net.settled(bob.address()).await, wei(200));

    // The chain goes back, and another settlement takes the place of the lost one.
    net.raw("evm_revert", json!([snapshot])).await;
    let others = net.provider_order(ben.address(), 50, 3);
    ben.client.settle(others).await.unwrap();
    let changes = watch.look(&net.owner).await.unwrap();
    let [Change::Vanished(gone), Change::Appeared(new)] = changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(gone, lost);
    let Event::PromiseSettled { identity, .. } = new.event else {
        panic!("{new:?}");
    };
    assert_eq!((identity, new.block), (ben.address(), lost.block));
    // What the chain lost is settled again with the same promise: by this call, or by the wallet, which looks after what it sent.
    let again = bob.client.settle(second).await.unwrap();
    assert_eq!(again.total, wei(200));
    assert_eq!(watch.look(&net.owner).await.unwrap().len(), 1);
    assert_eq!(watch.look(&net.owner).await.unwrap(), []);
}

#[tokio::test]
async fn a_chain_that_only_goes_back_takes_events_back() {
    let net = Net::new().await;
    let bob = net.registered("bob").await;
    net.float(1_000).await;
    let mut watch = Watch::new(net.hermes, 0);
    watch.look(&net.owner).await.unwrap();
    let snapshot = net.raw("evm_snapshot", json!([])).await;
    for n in 1..=3 {
        let order = net.provider_order(bob.address(), 100 * u128::from(n), n);
        bob.client.settle(order).await.unwrap();
    }
    assert_eq!(watch.look(&net.owner).await.unwrap().len(), 3);
    net.raw("evm_revert", json!([snapshot])).await;
    let changes = watch.look(&net.owner).await.unwrap();
    assert_eq!(changes.len(), 3);
    assert!(changes.iter().all(|it| matches!(it, Change::Vanished(_))));
}

#[tokio::test]
async fn what_an_owner_does_raises_the_alarm() {
    let net = Net::new().await;
    let alice = net.registered("alice").await;
    let operator = net.actor("operator").await;
    net.float(1_000).await;
    net.top_up(alice.address(), 100).await;
    let channel = net
        .owner
        .deposit_address(alice.address(), net.hermes)
        .unwrap();
    let (mut watch, mut vigil) = (Watch::new(net.hermes, 0), Vigil::new(net.hermes));
    watch.follow(channel);
    let observe = async |watch: &mut Watch, vigil: &mut Vigil| {
        let changes = watch.look(&net.owner).await.unwrap();
        vigil.observe(net.state().await, &changes, wei(500))
    };
    assert_eq!(observe(&mut watch, &mut vigil).await, []);
    let purse = Address::repeat_byte(1);
    operator
        .client
        .withdraw(net.hermes, purse, wei(450), wei(500))
        .await
        .unwrap();
    let low = Alarm::FreeLow {
        available: wei(550),
        owed: wei(500),
    };
    assert_eq!(
        observe(&mut watch, &mut vigil).await,
        [Alarm::FundsWithdrawn, low]
    );
    operator.client.pause(net.hermes).await.unwrap();
    // Alice leaves with the operator's consent; her Hermes is told all the same.
    let exit = alice
        .client
        .fast_exit_terms(alice.address(), net.hermes, wei(60), purse)
        .await
        .unwrap();
    let message = alice.client.fast_exit_message(&exit).unwrap();
    let (wish, consent) = (
        message.sign(&alice.signer).unwrap(),
        message.sign(&net.operator).unwrap(),
    );
    alice
        .client
        .fast_exit(&exit, &wish, &consent)
        .await
        .unwrap();
    let drained = Alarm::Drained {
        channel,
        amount: wei(60),
    };
    let paused = Alarm::Status(wayfare_chain::mysterium::Status::Paused);
    assert_eq!(observe(&mut watch, &mut vigil).await, [drained, paused]);
    assert_eq!(observe(&mut watch, &mut vigil).await, []);
    assert_eq!(net.state().await.operator, net.operator.address());
}
