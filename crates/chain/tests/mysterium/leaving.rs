//! Consumers leave: at once with their Hermes' consent, alone only from a channel of the first version.

use alloy::primitives::{Address, U256};
use wayfare_chain::mysterium::{ChannelImplementation, FastExit, Message, Version};
use wayfare_payment::{Amount, Chain};

use crate::net::{Net, Terms, refused, wei};

const DAY: u64 = 24 * 60 * 60;

fn purse() -> Address {
    Address::repeat_byte(0xAB)
}

#[tokio::test]
async fn a_fast_exit_needs_both_and_leaves_what_is_owed() {
    let net = Net::new().await;
    let alice = net.registered("alice").await;
    let hermes = net.client(net.operator.clone());
    net.top_up(alice.address(), 1_000).await;
    let exit = alice
        .client
        .fast_exit_terms(alice.address(), net.hermes, wei(800), purse())
        .await
        .unwrap();
    // 300 are signed away and not collected: 800 of 1000 is too much.
    refused(
        hermes.consent_to_exit(&exit, wei(300)).await,
        "800 is too much",
    );
    let later = FastExit {
        valid_until: exit.valid_until + 3_600,
        ..exit
    };
    refused(
        hermes.consent_to_exit(&later, Amount::ZERO).await,
        "600 seconds at most",
    );
    let consent = hermes.consent_to_exit(&exit, wei(200)).await.unwrap();
    let message = alice.client.fast_exit_message(&exit).unwrap();
    let wish = message.sign(&alice.signer).unwrap();
    // Neither can stand for the other.
    refused(
        alice.client.fast_exit(&exit, &wish, &wish).await,
        "signed by",
    );
    refused(
        alice.client.fast_exit(&exit, &consent, &consent).await,
        "signed by",
    );
    alice
        .client
        .fast_exit(&exit, &wish, &consent)
        .await
        .unwrap();
    assert_eq!(net.tokens(purse()).await, wei(800));
    let channel = alice
        .client
        .consumer_state(alice.address(), net.hermes)
        .await
        .unwrap();
    assert_eq!(channel.tokens, wei(200));
    // Used up: the nonce moved.
    let again = alice.client.fast_exit(&exit, &wish, &consent).await;
    refused(again, "consent");
}

#[tokio::test]
async fn a_consent_dies_with_its_nonce_and_its_time() {
    let net = Net::new().await;
    let alice = net.registered("alice").await;
    let hermes = net.client(net.operator.clone());
    net.top_up(alice.address(), 1_000).await;
    let terms = || async {
        let client = &alice.client;
        client
            .fast_exit_terms(alice.address(), net.hermes, wei(100), purse())
            .await
            .unwrap()
    };
    let exit = terms().await;
    let consent = hermes.consent_to_exit(&exit, Amount::ZERO).await.unwrap();
    let wish = alice
        .client
        .fast_exit_message(&exit)
        .unwrap()
        .sign(&alice.signer)
        .unwrap();
    // Another message of the same owner uses the same nonce.
    let channel = alice
        .client
        .deposit_address(alice.address(), net.hermes)
        .unwrap();
    let destination = Message::FundsDestination {
        channel,
        destination: purse(),
        nonce: exit.nonce,
    };
    let call = ChannelImplementation::setFundsDestinationByChequeCall {
        destination: purse(),
        signature: destination
            .sign(&alice.signer)
            .unwrap()
            .as_bytes()
            .to_vec()
            .into(),
    };
    alice.call(channel, &call).await.unwrap();
    refused(
        alice.client.fast_exit(&exit, &wish, &consent).await,
        "consent",
    );
    let exit = terms().await;
    assert_eq!(exit.nonce, U256::from(1));
    let consent = hermes.consent_to_exit(&exit, Amount::ZERO).await.unwrap();
    let wish = alice
        .client
        .fast_exit_message(&exit)
        .unwrap()
        .sign(&alice.signer)
        .unwrap();
    net.pass(601).await;
    refused(
        alice.client.fast_exit(&exit, &wish, &consent).await,
        "too late",
    );
    assert_eq!(net.tokens(purse()).await, Amount::ZERO);
}

#[tokio::test]
async fn a_channel_of_the_first_version_is_left_alone_after_four_days() {
    let net = Net::with(Terms {
        version: Version::First,
        ..Terms::default()
    })
    .await;
    let alice = net.registered("alice").await;
    net.top_up(alice.address(), 1_000).await;
    alice
        .client
        .request_exit(net.hermes, purse())
        .await
        .unwrap()
        .unwrap();
    let again = alice.client.request_exit(net.hermes, purse()).await;
    assert_eq!(again.unwrap(), None);
    let account = net
        .owner
        .consumer(alice.address(), net.hermes)
        .await
        .unwrap();
    let now = net.owner.wallet().chain_time().await.unwrap();
    let due = account.exit_at.unwrap();
    assert!(due > now + 3 * DAY && due <= now + 4 * DAY);
    assert!(
        net.owner
            .finalize_exit(alice.address(), net.hermes)
            .await
            .is_err()
    );
    // The Hermes collects meanwhile.
    let order = net.consumer_order(&alice.signer, 400, 1);
    net.owner.collect(alice.address(), order).await.unwrap();
    net.pass(4 * DAY).await;
    net.owner
        .finalize_exit(alice.address(), net.hermes)
        .await
        .unwrap();
    assert_eq!(net.tokens(purse()).await, wei(600));
    let account = net
        .owner
        .consumer(alice.address(), net.hermes)
        .await
        .unwrap();
    assert_eq!(
        (account.balance, account.collected, account.exit_at),
        (Amount::ZERO, wei(400), None)
    );
}

#[tokio::test]
async fn an_exit_alone_is_sent_by_anybody_with_a_signature() {
    let net = Net::with(Terms {
        version: Version::First,
        ..Terms::default()
    })
    .await;
    let (alice, relayer) = (net.registered("alice").await, net.actor("relayer").await);
    net.top_up(alice.address(), 10).await;
    let until = net.owner.wallet().chain_time().await.unwrap() + 100;
    let message = alice
        .client
        .exit_message(alice.address(), net.hermes, purse(), until)
        .unwrap();
    let signature = message.sign(&alice.signer).unwrap();
    let send = |beneficiary| {
        relayer
            .client
            .request_exit_for(alice.address(), net.hermes, beneficiary, until, &signature)
    };
    refused(send(relayer.address()).await, "signed by");
    send(purse()).await.unwrap();
    let account = net
        .owner
        .consumer(alice.address(), net.hermes)
        .await
        .unwrap();
    assert!(account.exit_at.is_some());
}

#[tokio::test]
async fn later_channels_are_not_left_alone() {
    for version in [Version::Second, Version::Third] {
        let net = Net::with(Terms {
            version,
            ..Terms::default()
        })
        .await;
        let alice = net.registered("alice").await;
        let height = net.owner.wallet().block_number().await.unwrap();
        refused(
            alice.client.request_exit(net.hermes, purse()).await,
            "only with its consent",
        );
        refused(
            alice
                .client
                .finalize_exit(alice.address(), net.hermes)
                .await,
            "only with its consent",
        );
        assert_eq!(net.owner.wallet().block_number().await.unwrap(), height);
    }
}
