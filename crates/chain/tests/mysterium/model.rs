//! Random operations on the double against a model of a few lines, which has its own state and the client's own arithmetic: after
//! each one every balance, total and status stands where the model says. The seed is printed with every failure.

use alloy::primitives::{Address, U256, keccak256};
use wayfare_chain::mysterium::{
    Books, ChannelImplementation, HermesImplementation as H, Message, Status, Way, payout,
};
use wayfare_identity::Signer;
use wayfare_payment::{Amount, ChannelId, SettleOrder};

use crate::net::{Actor, FEE_BPS, HERMES_STAKE, Net, Terms, preimage, wei};

/// Operations in one run: enough for each kind to meet each other kind.
const STEPS: u32 = 120;
const SEEDS: [u64; 4] = [0x5EED_0001, 0x5EED_0002, 0x5EED_0003, 0x5EED_0004];
const MOST: u128 = 700;
const THREE_DAYS: u64 = 3 * 24 * 60 * 60;

struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 = U256::from_be_bytes(keccak256(self.0.to_be_bytes()).0).as_limbs()[0];
        self.0 % bound
    }
}

/// What the contracts should do, in ordinary arithmetic.
#[derive(Debug, Clone, Default)]
struct Model {
    /// Tokens of the Hermes contract, its own stake included.
    held: u128,
    total_stake: u128,
    fee: u16,
    punished: bool,
    settled: [u128; 2],
    stake: [u128; 2],
    /// Tokens that a provider got.
    paid: [u128; 2],
    promised_to: [u128; 2],
    /// Of the channels of consumers.
    tokens: [u128; 2],
    collected: [u128; 2],
    promised_by: [u128; 2],
    /// What whoever sends the transactions got in fees.
    tips: u128,
}

impl Model {
    fn available(&self) -> u128 {
        self.held.saturating_sub(HERMES_STAKE + self.total_stake)
    }

    fn settle(&mut self, who: usize, amount: u128, tip: u128, way: Way) -> bool {
        let status = if self.punished {
            Status::Punished
        } else {
            Status::Active
        };
        let books = Books {
            status,
            available: wei(self.available()),
            least_stake: Amount::ZERO,
            most_stake: wei(MOST),
            fee_basis_points: self.fee,
            settled: wei(self.settled[who]),
            stake: wei(self.stake[who]),
        };
        let Ok(done) = payout(&books, wei(amount), wei(tip), way) else {
            return false;
        };
        let units = |amount: Amount| u128::try_from(amount.units()).unwrap();
        self.settled[who] += units(done.settled);
        self.punished |= done.punishes;
        self.held -= tip;
        self.tips += tip;
        if way == Way::Stake {
            self.stake[who] += units(done.sent);
            self.total_stake += units(done.sent);
        } else {
            self.held -= units(done.sent);
            self.paid[who] += units(done.sent);
        }
        true
    }

    /// Capped to the balance; nothing for a promise that is not above what is collected.
    fn collect(&mut self, who: usize, amount: u128, tip: u128) -> bool {
        let Some(owed) = amount.checked_sub(self.collected[who]).filter(|it| *it > 0) else {
            return false;
        };
        let moved = owed.min(self.tokens[who]);
        if moved < tip {
            return false;
        }
        self.collected[who] += moved;
        self.tokens[who] -= moved;
        self.held += moved - tip;
        self.tips += tip;
        true
    }
}

#[tokio::test]
async fn the_double_and_the_model_agree_over_random_operations() {
    for seed in SEEDS {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let net = Net::with(Terms {
        most_stake: MOST,
        ..Terms::default()
    })
    .await;
    let consumers = [net.registered("alice").await, net.registered("ann").await];
    let providers = [net.registered("bob").await, net.registered("ben").await];
    let operator = net.actor("operator").await;
    let sender = net.actor("sender").await;
    let mut dice = Dice(seed);
    let mut model = Model {
        held: HERMES_STAKE,
        fee: FEE_BPS,
        ..Model::default()
    };
    let mut settlements = 0;
    for step in 0..STEPS {
        let operation = dice.roll(12);
        let who = usize::try_from(dice.roll(2)).unwrap();
        let units = u128::from(dice.roll(1_200)) + 1;
        let tip = u128::from(dice.roll(3)) * 7;
        let context = format!(
            "seed {seed:#x}, step {step}, operation {operation}, who {who}, units {units}, tip {tip}"
        );
        let (consumer, provider) = (&consumers[who], &providers[who]);
        match operation {
            0 | 1 => {
                net.top_up(consumer.address(), units).await;
                model.tokens[who] += units;
            }
            2 => {
                net.float(units / 2).await;
                model.held += units / 2;
            }
            3 | 4 => {
                model.promised_by[who] += units;
                let sent = collect(&net, &sender, consumer, model.promised_by[who], tip).await;
                let expected = model.collect(who, model.promised_by[who], tip);
                assert_eq!(sent, expected, "{context}");
            }
            5..=8 => {
                model.promised_to[who] += units;
                let way = if operation == 8 {
                    Way::Stake
                } else {
                    Way::Beneficiary
                };
                let sent = settle(&net, &sender, provider, model.promised_to[who], tip, way).await;
                let expected = model.settle(who, model.promised_to[who], tip, way);
                assert_eq!(sent, expected, "{context}: {model:?}");
                settlements += u32::from(sent);
            }
            9 => {
                let sum = units.min(model.stake[who]) / 2;
                unstake(&net, provider, sum).await;
                model.stake[who] -= sum;
                model.total_stake -= sum;
                model.held -= sum;
                model.paid[who] += sum;
            }
            10 => {
                let fee = u16::try_from(dice.roll(5_001)).unwrap();
                operator.client.announce_fee(net.hermes, fee).await.unwrap();
                net.pass(THREE_DAYS).await;
                model.fee = fee;
            }
            _ => {
                let resolved = sender.client.resolve_emergency(net.hermes).await.is_ok();
                let may = model.punished && model.held >= HERMES_STAKE + model.total_stake;
                assert_eq!(resolved, may, "{context}");
                model.punished &= !resolved;
            }
        }
        agree(&net, &model, (&consumers, &providers, &sender), &context).await;
    }
    assert!(
        settlements > 10,
        "seed {seed:#x}: a run that settles nothing proves nothing: {model:?}"
    );
}

/// The order, with a fee for its sender, which the client itself would refuse.
fn tipped(net: &Net, order: SettleOrder, tip: u128, payer: &dyn Signer) -> SettleOrder {
    let mut promise = order.promise.promise;
    promise.fee = wei(tip);
    net.order(promise.sign(payer).unwrap(), 1, order.beneficiary)
}

async fn settle(
    net: &Net,
    sender: &Actor,
    provider: &Actor,
    units: u128,
    tip: u128,
    way: Way,
) -> bool {
    let order = net.provider_order(provider.address(), units, 1);
    let order = tipped(net, order, tip, &net.operator);
    let (identity, amount, fee) = (provider.address(), U256::from(units), U256::from(tip));
    let signature = order.promise.signature.as_bytes().to_vec().into();
    let preimage = preimage(1).0;
    if way == Way::Stake {
        let call = H::settleIntoStakeCall {
            identity,
            amount,
            fee,
            preimage,
            signature,
        };
        return sender.call(net.hermes, &call).await.is_ok();
    }
    let call = H::settlePromiseCall {
        identity,
        amount,
        fee,
        preimage,
        signature,
    };
    sender.call(net.hermes, &call).await.is_ok()
}

async fn collect(net: &Net, sender: &Actor, consumer: &Actor, units: u128, tip: u128) -> bool {
    let order = net.consumer_order(&consumer.signer, units, 1);
    let order = tipped(net, order, tip, &consumer.signer);
    let channel = net
        .owner
        .deposit_address(consumer.address(), net.hermes)
        .unwrap();
    let call = ChannelImplementation::settlePromiseCall {
        amount: U256::from(units),
        fee: U256::from(tip),
        preimage: preimage(1).0,
        signature: order.promise.signature.as_bytes().to_vec().into(),
    };
    sender.call(channel, &call).await.is_ok()
}

async fn unstake(net: &Net, provider: &Actor, sum: u128) {
    provider
        .client
        .decrease_stake(net.hermes, wei(sum))
        .await
        .unwrap();
    // The message is the documented one: another nonce would not do.
    let message = Message::DecreaseStake {
        chain_id: U256::from(crate::net::CHAIN_ID),
        channel: ChannelId::of_provider(provider.address(), net.hermes),
        amount: wei(sum),
        fee: Amount::ZERO,
        nonce: U256::ZERO,
    };
    let call = H::decreaseStakeCall {
        identity: provider.address(),
        amount: U256::from(sum),
        fee: U256::ZERO,
        signature: message
            .sign(&provider.signer)
            .unwrap()
            .as_bytes()
            .to_vec()
            .into(),
    };
    assert!(provider.call(net.hermes, &call).await.is_err());
}

async fn agree(
    net: &Net,
    model: &Model,
    (consumers, providers, sender): (&[Actor; 2], &[Actor; 2], &Actor),
    context: &str,
) {
    let state = net.state().await;
    assert_eq!(
        (state.available, state.total_stake, state.fee_basis_points),
        (wei(model.available()), wei(model.total_stake), model.fee),
        "{context}"
    );
    assert_eq!(
        state.status == Status::Punished,
        model.punished,
        "{context}"
    );
    let held = |account: Address| net.tokens(account);
    assert_eq!(held(net.hermes).await, wei(model.held), "{context}");
    assert_eq!(held(sender.address()).await, wei(model.tips), "{context}");
    for who in 0..2 {
        let provider = providers[who].address();
        let channel = net
            .owner
            .provider_channel(provider, net.hermes)
            .await
            .unwrap();
        assert_eq!(
            (channel.settled, channel.stake, held(provider).await),
            (
                wei(model.settled[who]),
                wei(model.stake[who]),
                wei(model.paid[who])
            ),
            "{context}"
        );
        let consumer = consumers[who].address();
        let channel = net
            .owner
            .consumer_state(consumer, net.hermes)
            .await
            .unwrap();
        assert_eq!(
            (channel.tokens, channel.settled),
            (wei(model.tokens[who]), wei(model.collected[who])),
            "{context}"
        );
    }
}
