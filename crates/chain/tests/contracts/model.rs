//! Random operations against a reference model of a few lines: after each one the vault holds what it owes, and every account
//! stands where the model says. The seed is printed with every failure.

use alloy::primitives::{U256, keccak256};
use wayfare_payment::{Amount, Chain};

use crate::net::{Actor, COLLATERAL_DELAY, EXIT_DELAY, FEE_BPS, Net, wei};

/// Operations in one run: enough for each kind to meet each other kind, and short enough for a chain in a test.
const STEPS: u32 = 80;
const SEED: u64 = 0x5EED_0001;

/// What the contract should do, in ordinary arithmetic.
#[derive(Debug, Default, Clone)]
struct Model {
    balance: [u128; 2],
    collected: [u128; 2],
    promised_by: [u128; 2],
    leaving: [bool; 2],
    settled: [u128; 2],
    promised_to: [u128; 2],
    credit: [u128; 2],
    free: u128,
    collateral: u128,
}

impl Model {
    fn collect(&mut self, who: usize) -> bool {
        let paid =
            (self.promised_by[who].saturating_sub(self.collected[who])).min(self.balance[who]);
        self.collected[who] += paid;
        self.balance[who] -= paid;
        self.free += paid;
        paid > 0
    }

    fn settle(&mut self, who: usize, keep: bool) -> bool {
        let owed = self.promised_to[who].saturating_sub(self.settled[who]);
        let paid = owed.min(self.free + self.collateral);
        let leaves = paid - paid * u128::from(FEE_BPS) / 10_000;
        let from_free = leaves.min(self.free);
        self.free -= from_free;
        self.collateral -= leaves - from_free;
        self.settled[who] += paid;
        if keep {
            self.credit[who] += leaves;
        }
        paid > 0
    }
}

struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 = U256::from_be_bytes(keccak256(self.0.to_be_bytes()).0).as_limbs()[0];
        self.0 % bound
    }
}

pub(crate) async fn money_is_conserved_over_random_operations(net: &Net) {
    let consumers = [net.actor("alice").await, net.actor("ann").await];
    let providers = [net.actor("bob").await, net.actor("ben").await];
    let mut dice = Dice(SEED);
    let mut model = Model::default();
    for step in 0..STEPS {
        let operation = dice.roll(9);
        let who = dice.roll(2) as usize;
        let units = u128::from(dice.roll(1_000)) + 1;
        let context =
            format!("seed {SEED:#x}, step {step}, operation {operation}, who {who}, units {units}");
        perform(
            net,
            &mut model,
            &consumers,
            &providers,
            (operation, who, units),
            &context,
        )
        .await;
        agree(net, &model, &consumers, &providers, &context).await;
    }
    assert!(
        model.settled.iter().all(|settled| *settled > 0),
        "a run that settles nothing proves nothing: {model:?}"
    );
}

async fn perform(
    net: &Net,
    model: &mut Model,
    consumers: &[Actor; 2],
    providers: &[Actor; 2],
    (operation, who, units): (u64, usize, u128),
    context: &str,
) {
    let (consumer, provider) = (&consumers[who], &providers[who]);
    match operation {
        0 | 1 => {
            net.deposit(consumer.address(), units).await;
            model.balance[who] += units;
        }
        2 => {
            net.collateral(units).await;
            model.collateral += units;
        }
        3 | 4 => {
            model.promised_by[who] += units;
            let order = net.consumer_order(&consumer.signer, model.promised_by[who], 7);
            let sent = provider
                .call(&net.collect_call(consumer.address(), &order))
                .await;
            assert_eq!(sent.is_ok(), model.collect(who), "{context}: {sent:?}");
        }
        5 | 6 => {
            model.promised_to[who] += units;
            let mut order = net.provider_order(provider.address(), model.promised_to[who], 7);
            let keep = operation == 6;
            if keep {
                order.beneficiary = net.vault;
            }
            let sent = provider.call(&net.settle_call(&order)).await;
            assert_eq!(sent.is_ok(), model.settle(who, keep), "{context}: {sent:?}");
        }
        7 if model.leaving[who] => {
            net.pass(EXIT_DELAY).await;
            let paid = consumer
                .vault
                .finalize_exit(net.hermes, consumer.address())
                .await
                .unwrap();
            assert_eq!(paid, wei(model.balance[who]), "{context}");
            model.balance[who] = 0;
            model.leaving[who] = false;
        }
        7 => {
            consumer.vault.request_exit(net.hermes).await.unwrap();
            model.leaving[who] = true;
        }
        _ => {
            let notice = units.min(model.collateral) / 2;
            if notice > 0 {
                net.owner.request_collateral(wei(notice)).await.unwrap();
                net.pass(COLLATERAL_DELAY).await;
                net.owner.withdraw_collateral().await.unwrap();
                model.collateral -= notice;
            }
        }
    }
}

async fn agree(
    net: &Net,
    model: &Model,
    consumers: &[Actor; 2],
    providers: &[Actor; 2],
    context: &str,
) {
    net.assert_conserved(
        &[consumers[0].address(), consumers[1].address()],
        &[providers[0].address(), providers[1].address()],
    )
    .await;
    let hermes = net.hermes_account().await;
    let (free, collateral) = (hermes.free, hermes.collateral);
    assert_eq!(
        (free, collateral),
        (wei(model.free), wei(model.collateral)),
        "{context}"
    );
    for who in 0..2 {
        let account = net.consumer_account(consumers[who].address()).await;
        let expect = (wei(model.balance[who]), wei(model.collected[who]));
        assert_eq!((account.balance, account.collected), expect, "{context}");
        assert_eq!(account.exit_at.is_some(), model.leaving[who], "{context}");
        let provider = providers[who].address();
        let settled: Amount = net
            .owner
            .provider(provider, net.hermes)
            .await
            .unwrap()
            .settled;
        assert_eq!(settled, wei(model.settled[who]), "{context}");
        assert_eq!(
            net.owner.credit(provider, net.hermes).await.unwrap(),
            wei(model.credit[who]),
            "{context}"
        );
    }
}
