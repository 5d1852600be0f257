//! Many at once, through the client: mandates, batches, sheets, credits, and the direct channel's relayer.

use std::time::Duration;

use wayfare_chain::{
    Ceiling, DirectClient, DrawConsent, Mandate, SettleRow, Sheet, deploy_direct, sheet_rows,
};
use wayfare_identity::{LocalSigner, Signer};
use wayfare_payment::{Amount, Chain, ChannelId, Promise, SettleOrder};

use crate::net::{Actor, EXIT_DELAY, Net, key, preimage, refused, wei};

fn row(account: alloy::primitives::Address, order: &SettleOrder) -> SettleRow {
    SettleRow {
        account,
        amount: order.promise.promise.amount,
        preimage: order.preimage,
        signature: order.promise.signature,
    }
}

/// A relayer with a number, and payees without coin who gave it a mandate.
async fn crowd(net: &Net) -> (Actor, Vec<LocalSigner>) {
    let relayer = net.actor("relayer").await;
    relayer.vault.register_caller().await.unwrap();
    let deadline = net.owner.wallet().chain_time().await.unwrap() + 3_600;
    let payees: Vec<LocalSigner> = (0..3).map(|n| key(&format!("payee {n}"))).collect();
    for payee in &payees {
        let mandate = Mandate {
            payee: payee.address(),
            hermes: net.hermes,
            caller: relayer.address(),
            methods: Mandate::PAY_OUT | Mandate::CREDIT,
            until_day: u16::MAX,
            nonce: relayer.vault.mandate_nonce(payee.address()).await.unwrap(),
            deadline,
        };
        let signature = payee
            .sign_digest(mandate.digest(&net.owner.domain()))
            .unwrap();
        let given = relayer.vault.give_mandate_for(mandate, &signature).await;
        given.unwrap();
    }
    (relayer, payees)
}

pub(crate) async fn a_batch_collects_and_settles_for_many(net: &Net) {
    let (relayer, payees) = crowd(net).await;
    let consumers = [key("alice"), key("carol")];
    for consumer in &consumers {
        let funds = net.token.mint(net.owner.wallet().address(), wei(1_000));
        funds.await.unwrap();
        let deposited = net
            .owner
            .deposit(consumer.address(), net.hermes, wei(1_000));
        deposited.await.unwrap();
        let account = net.consumer_account(consumer.address()).await;
        assert_eq!(account.balance, wei(1_000));
    }
    let rows = consumers
        .each_ref()
        .map(|consumer| row(consumer.address(), &net.consumer_order(consumer, 600, 1)));
    net.owner.collect_many(net.hermes, rows).await.unwrap();
    assert_eq!(net.hermes_account().await.free, wei(1_200));

    let rows = payees.iter().map(|payee| {
        row(
            payee.address(),
            &net.provider_order(payee.address(), 200, 2),
        )
    });
    let rows: Vec<SettleRow> = rows.collect();
    let sent = relayer
        .vault
        .settle_many(net.hermes, Mandate::PAY_OUT, rows.clone());
    let (moved, _) = sent.await.unwrap();
    assert_eq!(moved, wei(600));
    for payee in &payees {
        assert_eq!(net.tokens(payee.address()).await, wei(190));
    }
    let again = relayer
        .vault
        .settle_many(net.hermes, Mandate::PAY_OUT, rows)
        .await;
    refused(again, "");
    let rows = payees.iter().map(|payee| (payee.address(), wei(300)));
    let sheet = Sheet {
        hermes: net.hermes,
        rows: sheet_rows(rows).unwrap(),
    };
    let signature = net
        .operator
        .sign_digest(sheet.digest(&net.owner.domain()))
        .unwrap();
    let sent = relayer
        .vault
        .settle_sheet(&sheet, Mandate::CREDIT, &signature);
    assert_eq!(sent.await.unwrap().0, wei(300));
    for payee in &payees {
        let credit = relayer.vault.credit(payee.address(), net.hermes).await;
        assert_eq!(credit.unwrap(), wei(95));
    }
    let everybody: Vec<_> = payees.iter().map(LocalSigner::address).collect();
    net.assert_conserved(&consumers.each_ref().map(LocalSigner::address), &everybody)
        .await;
}

pub(crate) async fn an_operator_books_credit_by_its_own_transaction(net: &Net) {
    net.collateral(1_000).await;
    let (operator, bob) = (net.actor("operator").await, net.actor("bob").await);
    assert_eq!(operator.address(), net.operator.address());
    let totals = [(bob.address(), wei(400))];
    let sent = operator.vault.credit_totals(net.hermes, totals).await;
    refused(sent, "");
    let given = bob
        .vault
        .give_mandate(net.hermes, net.hermes, Mandate::CREDIT, u16::MAX);
    given.await.unwrap();
    let sent = operator.vault.credit_totals(net.hermes, totals).await;
    assert_eq!(sent.unwrap().0, wei(380));
    assert_eq!(
        bob.vault.credit(bob.address(), net.hermes).await.unwrap(),
        wei(380)
    );
    assert_eq!(net.settled(bob.address()).await, wei(400));
    let took = bob.vault.withdraw_credit(net.hermes, bob.address()).await;
    took.unwrap();
    assert_eq!(net.tokens(bob.address()).await, wei(380));
}

pub(crate) async fn ones_own_settlement_goes_the_short_way(net: &Net) {
    net.collateral(1_000).await;
    let (bob, carol) = (net.actor("bob").await, key("carol").address());
    // To itself, into credit, and to another: one client call, whatever the way.
    let mut order = net.provider_order(bob.address(), 100, 1);
    let settled = bob.vault.settle(order).await.unwrap();
    assert_eq!(
        (settled.total, settled.transaction.is_some()),
        (wei(100), true)
    );
    let again = bob.vault.settle(order).await.unwrap();
    assert_eq!((again.total, again.transaction), (wei(100), None));
    order = net.provider_order(bob.address(), 300, 2);
    order.beneficiary = net.vault;
    assert_eq!(bob.vault.settle(order).await.unwrap().total, wei(300));
    order = net.provider_order(bob.address(), 400, 3);
    order.beneficiary = carol;
    assert_eq!(bob.vault.settle(order).await.unwrap().total, wei(400));
    let credit = bob.vault.credit(bob.address(), net.hermes).await.unwrap();
    assert_eq!(
        (
            net.tokens(bob.address()).await,
            credit,
            net.tokens(carol).await
        ),
        (wei(95), wei(190), wei(95))
    );
    net.assert_conserved(&[], &[bob.address()]).await;
}

pub(crate) async fn a_relayer_draws_for_a_provider_and_earns_its_fee(net: &Net) {
    let (payer, relayer) = (net.actor("payer").await, net.actor("relayer").await);
    // No coin at all.
    let provider = key("provider without coin");
    let (token, delay) = (net.token.address(), Duration::from_secs(EXIT_DELAY));
    let deployed = deploy_direct(net.owner.wallet(), token, delay).await;
    let contract = deployed.unwrap();
    let mine = DirectClient::new(payer.vault.wallet().clone(), contract);
    let theirs = DirectClient::new(relayer.vault.wallet().clone(), contract);
    net.token.mint(payer.address(), wei(1_000)).await.unwrap();
    mine.lock(provider.address(), wei(1_000)).await.unwrap();
    let channel: ChannelId = mine.channel(payer.address(), provider.address());
    let promise = Promise {
        fee: wei(30),
        ..net.promise(channel, 500, 1)
    };
    let ceiling = Ceiling {
        payer: payer.address(),
        promise: promise.sign(&payer.signer).unwrap(),
        preimage: preimage(1),
    };
    let consent = DrawConsent {
        provider: provider.address(),
        payer: payer.address(),
        caller: relayer.address(),
        beneficiary: provider.address(),
        total: wei(400),
        max_fee: wei(29),
        deadline: net.owner.wallet().chain_time().await.unwrap() + 3_600,
    };
    let domain = mine.domain();
    let sign = |consent: &DrawConsent| provider.sign_digest(consent.digest(&domain)).unwrap();
    let dear = theirs.draw_for(consent, &ceiling, &sign(&consent)).await;
    refused(dear, "");
    let consent = DrawConsent {
        max_fee: wei(30),
        ..consent
    };
    let stolen = mine.draw_for(consent, &ceiling, &sign(&consent)).await;
    refused(stolen, "");
    let drawn = theirs.draw_for(consent, &ceiling, &sign(&consent)).await;
    drawn.unwrap();
    assert_eq!(
        (
            net.tokens(provider.address()).await,
            net.tokens(relayer.address()).await
        ),
        (wei(370), wei(30))
    );
    let account = mine.account(payer.address(), provider.address()).await;
    let account = account.unwrap();
    assert_eq!((account.drawn, account.locked), (wei(400), wei(1_000)));
    mine.request_unlock(provider.address()).await.unwrap();
    let early = mine.unlock(provider.address(), payer.address()).await;
    refused(early, "");
    net.pass(EXIT_DELAY).await;
    let unlocked = mine.unlock(provider.address(), payer.address()).await;
    unlocked.unwrap();
    assert_eq!(net.tokens(payer.address()).await, wei(600));
    assert_eq!(net.tokens(contract).await, Amount::ZERO);
}
