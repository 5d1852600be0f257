//! Attacks of safety.md that need numbers rather than weather.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use wayfare_identity::{Address, B256, LocalSigner, SecretKey, Signer, U256};
use wayfare_payment::{
    Agreement, AgreementId, Amount, ChannelId, Collector, CollectorConfig, CollectorOutput,
    ConsumerAccount, Exchange, HermesAccount, IssueReply, IssueRequest, Issuer, IssuerConfig,
    IssuerOutput, Patience, Preimage, Price, Promise, SignedAgreement, Usage,
};
use wayfare_sim::payment_world::mutate_reply;
use wayfare_sim::{Chance, Clock, SimVault};

/// As safety.md demands.
const MUTATIONS: u64 = 10_000;
const CHAIN: u64 = 31_337;
const HERMES: Address = Address::repeat_byte(0xee);
const VAULT: Address = Address::repeat_byte(0xaa);
const ID: AgreementId = AgreementId(U256::ONE);

fn signer(seed: u8) -> Arc<dyn Signer> {
    Arc::new(LocalSigner::new(SecretKey::from_bytes([seed; 32]).unwrap()))
}

struct Scene {
    clock: Clock,
    consumer: Arc<dyn Signer>,
    provider: Arc<dyn Signer>,
    operator: Arc<dyn Signer>,
    config: IssuerConfig,
    collector: Collector,
    issuer: Issuer,
}

impl Scene {
    fn new() -> Self {
        let (consumer, provider, operator) = (signer(1), signer(2), signer(3));
        let clock = Clock::new();
        let config = IssuerConfig {
            hermes: HERMES,
            chain_id: CHAIN,
            vault: VAULT,
            locked_cap: Amount::MAX,
        };
        let mut collector = Collector::new(CollectorConfig {
            provider: provider.address(),
            hermes: HERMES,
            chain_id: CHAIN,
            vault: VAULT,
            secret: B256::repeat_byte(5),
            fee_cap_basis_points: 100,
            own_cap: Amount::ZERO,
            credit_cap: Amount::MAX,
            patience: Patience::default(),
        });
        let account = HermesAccount {
            operator: operator.address(),
            fee_basis_points: 0,
            collateral: Amount::from_units(1 << 40),
            free: Amount::ZERO,
            leaving: false,
        };
        collector.handle_hermes(account, clock.now());
        let agreement = Agreement {
            id: ID,
            consumer: consumer.address(),
            provider: provider.address(),
            hermes: HERMES,
            chain_id: CHAIN,
            vault: VAULT,
            consumer_channel: SimVault::consumer_channel(consumer.address(), HERMES),
            price: Price {
                per_hour: Amount::ZERO,
                per_gib: Amount::from_units(1 << 30),
            },
            chunk: Amount::from_units(1_000),
            chunk_limit: Amount::from_units(1_000),
        };
        let digest = agreement.digest();
        let terms = SignedAgreement {
            agreement,
            consumer_signature: consumer.sign_digest(digest).unwrap(),
            provider_signature: provider.sign_digest(digest).unwrap(),
        };
        collector.open(terms, clock.now()).unwrap();
        let issuer = Issuer::new(config, Arc::clone(&operator));
        Self {
            clock,
            consumer,
            provider,
            operator,
            config,
            collector,
            issuer,
        }
    }

    fn payment(&self, total: u128) -> Exchange {
        let amount = Amount::from_units(total);
        let promise = Promise {
            chain_id: CHAIN,
            channel: SimVault::consumer_channel(self.consumer.address(), HERMES),
            amount,
            fee: Amount::ZERO,
            hashlock: Preimage::derive(&B256::repeat_byte(5), ID.0, amount).hashlock(),
        };
        let by = self.consumer.as_ref();
        Exchange::sign(
            by,
            promise.sign(by).unwrap(),
            ID,
            amount,
            self.provider.address(),
            HERMES,
        )
        .unwrap()
    }

    /// Pays, and returns the honest answer of the Hermes, not yet delivered.
    fn pay(&mut self, total: u128) -> IssueReply {
        let exchange = self.payment(total);
        self.collector.handle_exchange(exchange, self.clock.now());
        assert!(
            self.drain()
                .iter()
                .any(|output| matches!(output, CollectorOutput::Issue(_)))
        );
        let consumer = self.consumer.address();
        let account = ConsumerAccount {
            balance: Amount::from_units(1 << 40),
            ..ConsumerAccount::default()
        };
        let channel = exchange.promise.promise.channel;
        self.issuer
            .handle_request(&IssueRequest { consumer, exchange }, channel, &account);
        loop {
            match self.issuer.poll_output().unwrap() {
                IssuerOutput::Persist { ticket, .. } => self.issuer.handle_durable(ticket),
                IssuerOutput::Answer { reply, .. } => return reply,
                other => panic!("{other:?}"),
            }
        }
    }

    fn drain(&mut self) -> Vec<CollectorOutput> {
        let mut said = Vec::new();
        while let Some(output) = self.collector.poll_output() {
            if let CollectorOutput::Persist { ticket, .. } = &output {
                self.collector.handle_durable(*ticket, self.clock.now());
            }
            said.push(output);
        }
        said
    }

    fn reveal(&mut self, outputs: &[CollectorOutput]) -> usize {
        let mut reveals = 0;
        for output in outputs {
            if let CollectorOutput::Reveal {
                channel,
                hashlock,
                preimage,
            } = output
            {
                self.issuer.handle_reveal(*channel, *preimage);
                while let Some(output) = self.issuer.poll_output() {
                    if let IssuerOutput::Persist { ticket, .. } = output {
                        self.issuer.handle_durable(ticket);
                    }
                }
                self.collector.handle_revealed(*hashlock, self.clock.now());
                reveals += 1;
            }
        }
        reveals
    }
}

#[test]
fn no_preimage_for_ten_thousand_altered_replies() {
    let mut scene = Scene::new();
    scene.drain();
    let first = scene.pay(1_000);
    scene.collector.handle_issued(first, scene.clock.now());
    let outputs = scene.drain();
    assert_eq!(scene.reveal(&outputs), 1);

    scene.collector.handle_usage(
        ID,
        &Usage {
            down: 1_500,
            ..Usage::default()
        },
        scene.clock.now(),
    );
    let honest = scene.pay(1_500);
    let mut chance = Chance::new(1);
    let domain = scene.config.domain();
    for round in 0..MUTATIONS {
        let altered = mutate_reply(honest, scene.operator.as_ref(), &domain, &mut chance);
        assert_ne!(altered, honest);
        scene.collector.handle_issued(altered, scene.clock.now());
        let said = scene.drain();
        let only_complaints = said
            .iter()
            .all(|output| matches!(output, CollectorOutput::WrongReply(_)));
        assert!(
            only_complaints && !said.is_empty(),
            "round {round}: {altered:?} brings {said:?}"
        );
    }
    // The control: the honest answer is still good for a reveal.
    scene.collector.handle_issued(honest, scene.clock.now());
    let outputs = scene.drain();
    assert_eq!(scene.reveal(&outputs), 1);
    assert_eq!(scene.collector.promised(), Amount::from_units(1_500));
}

#[test]
fn the_reply_of_another_channel_is_worth_nothing() {
    let mut scene = Scene::new();
    scene.drain();
    let honest = scene.pay(1_000);
    let channel = ChannelId::of_provider(scene.consumer.address(), HERMES);
    let promise = Promise {
        channel,
        ..honest.promise.promise
    }
    .sign(scene.operator.as_ref())
    .unwrap();
    scene
        .collector
        .handle_issued(IssueReply { promise, ..honest }, scene.clock.now());
    let outputs = scene.drain();
    assert_eq!(scene.reveal(&outputs), 0);
}
