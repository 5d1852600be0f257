//! What is decided off chain because the deployed contracts leave it open: how much of a channel may be counted on, when
//! collecting is worth its gas, when a provider settles at once, and what an operator signs. Pure: it refuses to ask a chain.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::{Address, U256};
use wayfare_identity::{SignError, Signer};
use wayfare_payment::{Amount, ChannelId, Promise, SignedPromise};

use super::client::HermesState;
use super::watch::{Change, Event};
use super::{Status, withdrawal_channel};

/// Gas of one collection in a batch of a hundred, as measured on the deployed contracts with Polygon's token.
pub const BATCHED_COLLECT_GAS: u64 = 36_699;
/// Collect when it costs a tenth of what it brings, or less.
const WORTH: u64 = 10;
/// Wei in a coin of the chain, the unit in which [`collect_threshold`] is told the token's price.
const COIN: u128 = 1_000_000_000_000_000_000;
/// A Hermes that owes more than this share of what it has free is settled with at once: seven eighths.
const LOW: (u128, u128) = (7, 8);

/// From which exposure on a consumer is worth collecting from: ten times the gas of a batched collection, rounded up, when gas
/// costs `gas_price` wei and a coin of the chain costs `tokens_per_coin`.
#[must_use]
pub fn collect_threshold(gas_price: u128, tokens_per_coin: Amount) -> Amount {
    let wei = u128::from(BATCHED_COLLECT_GAS * WORTH).saturating_mul(gas_price);
    tokens_per_coin.mul_div_up(wei, COIN)
}

/// What a consumer signed and its Hermes did not collect.
#[must_use]
pub fn exposure(signed: Amount, collected: Amount) -> Amount {
    signed.saturating_sub(collected)
}

/// What a consumer may still sign away: as much as lies in its channel, and never so much that the exposure exceeds its cap.
#[must_use]
pub fn room(signed: Amount, collected: Amount, tokens: Amount, cap: Amount) -> Amount {
    tokens.min(cap).saturating_sub(exposure(signed, collected))
}

/// Why a provider should settle at once, or a Hermes collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The owner took money out.
    FundsWithdrawn,
    /// From `at` on a larger share is kept.
    FeeRises {
        /// Now, in 1/10,000.
        from: u16,
        /// Then.
        to: u16,
        /// Unix seconds.
        at: u64,
    },
    /// It opens no more channels, or settles no more.
    Status(Status),
    /// It owes us nearly all that it has free, or more.
    FreeLow {
        /// What it has free.
        available: Amount,
        /// What it owes us.
        owed: Amount,
    },
    /// Tokens left a consumer's channel, and not to its Hermes.
    Drained {
        /// The channel.
        channel: Address,
        /// How many.
        amount: Amount,
    },
}

/// Watches a Hermes for alarms, each of which is given once for each time that it begins.
#[derive(Debug, Clone)]
pub struct Vigil {
    hermes: Address,
    last: Option<HermesState>,
    low: bool,
}

impl Vigil {
    /// Over a Hermes.
    #[must_use]
    pub fn new(hermes: Address) -> Self {
        Self {
            hermes,
            last: None,
            low: false,
        }
    }

    /// Takes in what was read and what was seen since. `owed` is what the Hermes promised us and we did not settle.
    pub fn observe(&mut self, state: HermesState, changes: &[Change], owed: Amount) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        let mut withdrawn = false;
        for change in changes {
            match change {
                Change::Appeared(sighting) => match sighting.event {
                    Event::FundsWithdrawn => withdrawn = true,
                    Event::Moved {
                        channel,
                        to,
                        amount,
                    } if to != self.hermes => alarms.push(Alarm::Drained { channel, amount }),
                    // States, which are read below, and what takes nothing from anybody.
                    Event::Moved { .. }
                    | Event::PromiseSettled { .. }
                    | Event::StakeChanged
                    | Event::FeeAnnounced
                    | Event::Punished
                    | Event::Closed => {}
                },
                Change::Vanished(_) => {}
            }
        }
        if withdrawn {
            alarms.push(Alarm::FundsWithdrawn);
        }
        let before = self.last.replace(state);
        let rises = |state: &HermesState| {
            (state.next_fee_basis_points > state.fee_basis_points).then_some(Alarm::FeeRises {
                from: state.fee_basis_points,
                to: state.next_fee_basis_points,
                at: state.fee_from,
            })
        };
        let rise = rises(&state);
        if rise != before.as_ref().and_then(rises) {
            alarms.extend(rise);
        }
        let was = before.map_or(Status::Active, |before| before.status);
        if state.status != was && state.status != Status::Active {
            alarms.push(Alarm::Status(state.status));
        }
        let low = !owed.is_zero() && owed >= state.available.mul_div_down(LOW.0, LOW.1);
        if low && !self.low {
            let available = state.available;
            alarms.push(Alarm::FreeLow { available, owed });
        }
        self.low = low;
        alarms
    }
}

/// Why an operator does not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// A promise is worth what the largest on its channel says; a smaller one serves nobody.
    #[error("{last} is promised on the channel already, {asked} is less")]
    Falls {
        /// The largest so far.
        last: Amount,
        /// What was to be signed.
        asked: Amount,
    },
    /// Whoever sends it could take the fee.
    #[error("the promise carries a fee of {0}")]
    Fee(Amount),
    /// Another chain, or a channel that is not the provider's at this Hermes.
    #[error("the promise is for another chain or channel")]
    Foreign,
    /// Consumer and provider are one, or the Hermes' own people are paid from what is others'.
    #[error("{0} would be paid by itself")]
    SelfDealing(Address),
    /// The signer's own refusal.
    #[error(transparent)]
    Signer(#[from] SignError),
}

/// The operator's key behind rules: on no channel does it go back, and it pays nobody who pays himself. It is fed the largest
/// promise of each channel from the ledger before it signs. Worst case 100 bytes a provider.
#[derive(Debug)]
pub struct OperatorKey {
    signer: Arc<dyn Signer>,
    chain_id: u64,
    hermes: Address,
    /// Owner and operator: promises to these take out what providers earned.
    insiders: Vec<Address>,
    largest: BTreeMap<ChannelId, Amount>,
}

impl OperatorKey {
    /// Wraps the key of a Hermes; `owner` is paid nothing, nor is the operator.
    #[must_use]
    pub fn new(signer: Arc<dyn Signer>, chain_id: u64, hermes: Address, owner: Address) -> Self {
        let insiders = vec![owner, signer.address()];
        Self {
            signer,
            chain_id,
            hermes,
            insiders,
            largest: BTreeMap::new(),
        }
    }

    /// What was promised on a channel before, as the ledger says.
    pub fn restore(&mut self, channel: ChannelId, largest: Amount) {
        let known = self.largest.entry(channel).or_default();
        *known = (*known).max(largest);
    }

    /// Signs a promise to `provider` for what `consumer` paid. An equal amount with another lock is a refresh.
    ///
    /// # Errors
    /// [`Unsigned`].
    pub fn sign(
        &mut self,
        consumer: Address,
        provider: Address,
        promise: Promise,
    ) -> Result<SignedPromise, Unsigned> {
        let own = [
            ChannelId::of_provider(provider, self.hermes),
            withdrawal_channel(provider, self.hermes),
        ];
        if promise.chain_id != self.chain_id || !own.contains(&promise.channel) {
            return Err(Unsigned::Foreign);
        }
        if !promise.fee.is_zero() {
            return Err(Unsigned::Fee(promise.fee));
        }
        if consumer == provider || self.insiders.contains(&provider) {
            return Err(Unsigned::SelfDealing(provider));
        }
        let last = self.largest.get(&promise.channel).copied();
        let last = last.unwrap_or_default();
        if promise.amount < last || promise.amount.units() == U256::ZERO {
            return Err(Unsigned::Falls {
                last,
                asked: promise.amount,
            });
        }
        let signed = promise.sign(&*self.signer)?;
        self.largest.insert(promise.channel, promise.amount);
        Ok(signed)
    }
}

#[cfg(test)]
mod tests;
