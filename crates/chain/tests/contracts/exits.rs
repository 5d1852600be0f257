//! Consumers leave, alone and against everybody's wish, but not before their Hermes had its time.

use alloy::primitives::Address;
use wayfare_chain::ExitConsent;
use wayfare_chain::bindings::Vault;
use wayfare_identity::Signer;
use wayfare_payment::{Amount, Chain};

use crate::net::{EXIT_DELAY, Net, refused, wei};

pub(crate) async fn hermes_collects_while_a_consumer_leaves(net: &Net) {
    let (alice, sender) = (net.actor("alice").await, net.actor("sender").await);
    net.deposit(alice.address(), 1_000).await;
    alice.vault.request_exit(net.hermes).await.unwrap();
    let due = net.consumer_account(alice.address()).await.exit_at.unwrap();
    assert!(due >= net.owner.wallet().chain_time().await.unwrap() + EXIT_DELAY);

    // A promise from before, held by Hermes, in the delay.
    sender
        .vault
        .collect(alice.address(), net.consumer_order(&alice.signer, 300, 1))
        .await
        .unwrap();
    refused(
        alice.vault.finalize_exit(net.hermes, alice.address()).await,
        "too early",
    );
    net.pass(EXIT_DELAY - 1_000).await;
    refused(
        alice.vault.finalize_exit(net.hermes, alice.address()).await,
        "too early",
    );
    // A deposit in the delay cancels nothing and leaves with the rest.
    net.deposit(alice.address(), 50).await;
    net.pass(1_000).await;
    assert_eq!(
        alice
            .vault
            .finalize_exit(net.hermes, alice.address())
            .await
            .unwrap(),
        wei(750)
    );
    assert_eq!(net.tokens(alice.address()).await, wei(750));

    // Too late: nothing is left, and what was collected stays collected.
    let late = net.collect_call(alice.address(), &net.consumer_order(&alice.signer, 900, 2));
    refused(sender.call(&late).await, "the account is empty");
    let account = net.consumer_account(alice.address()).await;
    assert_eq!(
        (account.balance, account.collected, account.exit_at),
        (Amount::ZERO, wei(300), None)
    );
    refused(
        alice.vault.finalize_exit(net.hermes, alice.address()).await,
        "nothing was requested",
    );
    net.assert_conserved(&[alice.address()], &[]).await;

    // The same account can be used again; the promise's total goes on.
    net.deposit(alice.address(), 600).await;
    sender.call(&late).await.unwrap();
    assert_eq!(
        net.consumer_account(alice.address()).await.collected,
        wei(900)
    );
    net.assert_conserved(&[alice.address()], &[]).await;
}

pub(crate) async fn an_exit_needs_its_delay_and_its_owner(net: &Net) {
    let (alice, mallory) = (net.actor("alice").await, net.actor("mallory").await);
    net.deposit(alice.address(), 1_000).await;
    refused(
        alice.vault.finalize_exit(net.hermes, alice.address()).await,
        "nothing was requested",
    );
    alice.vault.request_exit(net.hermes).await.unwrap();
    let due = net.consumer_account(alice.address()).await.exit_at;
    // Asking again neither fails in the client nor moves the date on chain.
    let again = Vault::requestExitCall {
        hermesId: net.hermes,
    };
    refused(alice.call(&again).await, "an exit is already pending");
    alice.vault.request_exit(net.hermes).await.unwrap();
    assert_eq!(net.consumer_account(alice.address()).await.exit_at, due);
    net.pass(EXIT_DELAY).await;
    refused(
        mallory
            .vault
            .finalize_exit(net.hermes, mallory.address())
            .await,
        "nothing was requested",
    );
    refused(
        alice.vault.finalize_exit(net.hermes, Address::ZERO).await,
        "an address is zero",
    );
    refused(
        alice.vault.finalize_exit(net.hermes, net.vault).await,
        "an address is zero",
    );
    // Never swept: the exit does it.
    assert_eq!(
        alice
            .vault
            .finalize_exit(net.hermes, mallory.address())
            .await
            .unwrap(),
        wei(1_000)
    );
}

pub(crate) async fn an_exit_by_signature_cannot_be_repeated(net: &Net) {
    // Alice has a key and no coin at all; anybody carries her messages.
    let alice = crate::net::key("alice without coin");
    let relayer = net.actor("relayer").await;
    let domain = net.owner.domain();
    net.deposit(alice.address(), 1_000).await;
    let now = net.owner.wallet().chain_time().await.unwrap();
    let nonce = net
        .owner
        .exit_nonce(alice.address(), net.hermes)
        .await
        .unwrap();
    let consent = ExitConsent {
        consumer: alice.address(),
        hermes: net.hermes,
        nonce,
        deadline: now + 3_600,
    };
    let signature = alice.sign_digest(consent.request_digest(&domain)).unwrap();

    let forged = relayer
        .signer
        .sign_digest(consent.request_digest(&domain))
        .unwrap();
    refused(
        relayer.vault.request_exit_for(consent, &forged).await,
        "the signature is of",
    );
    let late = ExitConsent {
        deadline: now - 1,
        ..consent
    };
    let late_signature = alice.sign_digest(late.request_digest(&domain)).unwrap();
    refused(
        relayer.vault.request_exit_for(late, &late_signature).await,
        "too late",
    );
    relayer
        .vault
        .request_exit_for(consent, &signature)
        .await
        .unwrap();

    net.pass(EXIT_DELAY).await;
    let end = ExitConsent {
        nonce: nonce + 1,
        deadline: now + 2 * EXIT_DELAY,
        ..consent
    };
    let end_signature = alice
        .sign_digest(end.final_digest(alice.address(), &domain))
        .unwrap();
    let thief = relayer.address();
    refused(
        relayer
            .vault
            .finalize_exit_for(end, thief, &end_signature)
            .await,
        "the signature is of",
    );
    let paid = relayer
        .vault
        .finalize_exit_for(end, alice.address(), &end_signature)
        .await
        .unwrap();
    assert_eq!(
        (paid, net.tokens(alice.address()).await),
        (wei(1_000), wei(1_000))
    );

    // The old messages are used up.
    let replay = ExitConsent {
        deadline: now + 3_600,
        ..consent
    };
    assert!(
        relayer
            .vault
            .request_exit_for(replay, &signature)
            .await
            .is_err()
    );
    assert_eq!(net.consumer_account(alice.address()).await.exit_at, None);
}

pub(crate) async fn an_exit_can_be_taken_back(net: &Net) {
    let alice = net.actor("alice").await;
    net.deposit(alice.address(), 1_000).await;
    refused(
        alice.vault.cancel_exit(net.hermes).await,
        "nothing was requested",
    );
    alice.vault.request_exit(net.hermes).await.unwrap();
    alice.vault.cancel_exit(net.hermes).await.unwrap();
    net.pass(EXIT_DELAY).await;
    refused(
        alice.vault.finalize_exit(net.hermes, alice.address()).await,
        "nothing was requested",
    );
    assert_eq!(net.consumer_account(alice.address()).await.exit_at, None);
    // A new request starts a whole new delay.
    alice.vault.request_exit(net.hermes).await.unwrap();
    refused(
        alice.vault.finalize_exit(net.hermes, alice.address()).await,
        "too early",
    );
}
