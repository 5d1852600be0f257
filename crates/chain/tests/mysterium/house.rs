//! The Hermes' own machine on this back end: what it promises to providers is never more than what it was paid, plus the cap.

use alloy::primitives::{Address, U256};
use std::sync::Arc;
use wayfare_chain::mysterium::{MysteriumClient, Takings};
use wayfare_identity::{LocalSigner, Signer};
use wayfare_payment::{
    AgreementId, Amount, Chain, ChannelId, Exchange, IssueRefusal, IssueRequest, Issuer,
    IssuerConfig, IssuerOutput, SettleOrder,
};

use crate::net::{CHAIN_ID, Net, preimage, wei};

const CAP: u128 = 150;

struct House<'a> {
    net: &'a Net,
    issuer: Issuer,
    client: MysteriumClient,
    consumer: LocalSigner,
    provider: Address,
    paid: u128,
    r: u8,
}

impl<'a> House<'a> {
    fn new(net: &'a Net, consumer: &LocalSigner, provider: Address) -> Self {
        let config = IssuerConfig {
            hermes: net.hermes,
            chain_id: CHAIN_ID,
            // The receipts' domain: the Hermes' contract, as there is no vault.
            vault: net.hermes,
            locked_cap: Amount::MAX,
        };
        let takings = Takings::new(net.hermes, 0);
        Self {
            net,
            issuer: Issuer::new(config, Arc::new(net.operator.clone())),
            client: net.owner.clone().for_hermes(wei(CAP), takings),
            consumer: consumer.clone(),
            provider,
            paid: 0,
            r: 0,
        }
    }

    /// The consumer pays `units` more; the answer is the provider's order, or why there is none.
    async fn pay(&mut self, units: u128) -> Result<SettleOrder, IssueRefusal> {
        let consumer = self.consumer.address();
        let channel = self.client.consumer_channel(consumer, self.net.hermes);
        let (total, r) = (self.paid + units, self.r + 1);
        let promise = self.net.promise(channel, total, r);
        let exchange = Exchange::sign(
            &self.consumer,
            promise.sign(&self.consumer).unwrap(),
            AgreementId(U256::from(1)),
            wei(total),
            self.provider,
            self.net.hermes,
        );
        let request = IssueRequest {
            consumer,
            exchange: exchange.unwrap(),
        };
        let deposit = self.client.consumer(consumer, self.net.hermes).await;
        self.issuer
            .handle_request(&request, channel, &deposit.unwrap());
        let reply = match self.outputs()[..] {
            [IssuerOutput::Answer { reply, .. }] => reply,
            [IssuerOutput::Refused { why, .. }] => return Err(why),
            ref other => panic!("{other:?}"),
        };
        let provider = ChannelId::of_provider(self.provider, self.net.hermes);
        self.issuer.handle_reveal(provider, preimage(r));
        assert!(matches!(
            self.outputs()[..],
            [IssuerOutput::Acknowledged { .. }]
        ));
        (self.paid, self.r) = (total, r);
        Ok(self.net.order(reply.promise, r, self.provider))
    }

    fn outputs(&mut self) -> Vec<IssuerOutput> {
        let mut rest = Vec::new();
        while let Some(output) = self.issuer.poll_output() {
            match output {
                IssuerOutput::Persist { ticket, .. } => self.issuer.handle_durable(ticket),
                other => rest.push(other),
            }
        }
        rest
    }

    async fn collect(&self) -> Amount {
        let debt = self.issuer.collectable(self.consumer.address()).unwrap();
        let order = SettleOrder {
            hermes: self.net.hermes,
            beneficiary: self.net.hermes,
            promise: debt.promise,
            preimage: debt.preimage,
        };
        let collected = self.client.collect(debt.consumer, order).await;
        collected.unwrap().total
    }

    /// INVARIANT: what the Hermes has promised is covered by what it was paid, up to the cap.
    async fn assert_exposed_at_most_the_cap(&self) {
        let account = self
            .client
            .consumer(self.consumer.address(), self.net.hermes)
            .await
            .unwrap();
        let exposure = self
            .issuer
            .total_promised()
            .saturating_sub(account.collected);
        assert!(exposure <= wei(CAP), "{exposure}");
    }
}

#[tokio::test]
async fn a_hermes_promises_no_more_than_it_was_paid_and_the_cap() {
    let net = Net::new().await;
    let (alice, bob) = (net.registered("alice").await, net.registered("bob").await);
    net.top_up(alice.address(), 1_000).await;
    let mut house = House::new(&net, &alice.signer, bob.address());
    let mut last = None;
    for _ in 0..3 {
        // 40, 80, 120 are within the cap, 160 is not, until what came before is collected.
        for _ in 0..3 {
            last = Some(house.pay(40).await.unwrap());
            house.assert_exposed_at_most_the_cap().await;
        }
        assert_eq!(house.pay(40).await, Err(IssueRefusal::OverDeposit));
        assert_eq!(house.collect().await, wei(house.paid));
    }
    // 360 less a fifth.
    let settled = bob.client.settle(last.unwrap()).await.unwrap();
    assert_eq!(settled.total, wei(360));
    assert_eq!(net.tokens(bob.address()).await, wei(288));
    // Then the channel empties itself, and nothing more is promised, whatever is sent to it.
    house.pay(100).await.unwrap();
    let mallory = net.actor("mallory").await;
    crate::draining::drain(&net, &alice, &mallory, 1_000, 640).await;
    net.top_up(alice.address(), 1_000).await;
    assert_eq!(house.pay(1).await, Err(IssueRefusal::ExitPending));
    house.assert_exposed_at_most_the_cap().await;
}
