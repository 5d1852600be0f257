//! Cashing a Hermes' promise: to the registered beneficiary, to another one, into the stake, or from the withdrawal channel.
//!
//! One settlement pays at most a cap, so a large sum takes several: the promise stays good for what is left. It refuses to send
//! what would pay nothing, since the preimage would be public and the gas gone.

use alloy::primitives::{Address, Bytes, U256};
use alloy::rpc::types::TransactionReceipt;
use alloy::sol_types::SolEvent;
use wayfare_identity::Signature;
use wayfare_payment::{Amount, ChainError, ChannelId, Preimage, SettleOrder, Settled};

use super::registering::NONCE_TRIES;
use super::{MysteriumClient, refuse, signed_by, sound};
use crate::mysterium::contracts::HermesImplementation as H;
use crate::mysterium::{Message, Way, arithmetic, withdrawal_channel};

/// Transactions for one order: sixteen times the cap; the rest is settled by the next order.
const MOST_PARTS: usize = 16;

/// One transaction of an order.
#[derive(Debug, Clone, Copy)]
struct Part {
    settled: Settled,
    /// Whether the cap alone kept it from settling everything, so that another one is worth its gas.
    capped: bool,
}

/// Where the money shall go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purse {
    /// Where the registry says.
    Registered,
    /// To another, which is then the registered one; only the identity itself can ask for it.
    Named(Address),
    /// To the provider's stake.
    Stake,
    /// To whom the identity signed for, from the withdrawal channel.
    Withdrawal(Address, Signature),
}

impl Purse {
    fn way(self) -> Way {
        match self {
            Self::Registered | Self::Named(_) => Way::Beneficiary,
            Self::Stake => Way::Stake,
            Self::Withdrawal(..) => Way::Withdrawal,
        }
    }
}

impl MysteriumClient {
    /// Cashes a provider's promise to its registered beneficiary. Anybody may send it, and gets nothing for it.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call), unless the chain says that the promise is settled already.
    pub async fn settle_for(
        &self,
        identity: Address,
        order: SettleOrder,
    ) -> Result<Settled, ChainError> {
        self.cash(identity, &order, Purse::Registered).await
    }

    /// Cashes a provider's promise into its stake at the Hermes.
    ///
    /// # Errors
    /// As [`MysteriumClient::settle_for`].
    pub async fn settle_into_stake(
        &self,
        identity: Address,
        order: SettleOrder,
    ) -> Result<Settled, ChainError> {
        self.cash(identity, &order, Purse::Stake).await
    }

    /// What an identity signs for [`MysteriumClient::pay_and_settle`].
    #[must_use]
    pub fn withdrawal(
        &self,
        identity: Address,
        hermes: Address,
        amount: Amount,
        preimage: Preimage,
        beneficiary: Address,
    ) -> Message {
        Message::PayAndSettle {
            chain_id: self.chain(),
            channel: withdrawal_channel(identity, hermes),
            amount,
            preimage,
            beneficiary,
        }
    }

    /// Cashes a promise on an identity's withdrawal channel, to `order.beneficiary`. The Hermes keeps nothing of it, and the
    /// identity need not be registered.
    ///
    /// # Errors
    /// As [`MysteriumClient::settle_for`].
    pub async fn pay_and_settle(
        &self,
        identity: Address,
        order: SettleOrder,
        signature: &Signature,
    ) -> Result<Settled, ChainError> {
        let amount = order.promise.promise.amount;
        let beneficiary = order.beneficiary;
        let wish = self.withdrawal(identity, order.hermes, amount, order.preimage, beneficiary);
        signed_by(signature, wish.digest(), identity)?;
        let purse = Purse::Withdrawal(beneficiary, *signature);
        self.cash(identity, &order, purse).await
    }

    /// INVARIANT: what is answered is what the chain shows, whoever brought it there.
    pub(super) async fn cash(
        &self,
        identity: Address,
        order: &SettleOrder,
        purse: Purse,
    ) -> Result<Settled, ChainError> {
        let channel = match purse {
            Purse::Withdrawal(..) => withdrawal_channel(identity, order.hermes),
            Purse::Registered | Purse::Named(_) | Purse::Stake => {
                ChannelId::of_provider(identity, order.hermes)
            }
        };
        self.willing(identity, purse).await?;
        let operator = self.hermes_state(order.hermes).await?.operator;
        sound(order, self.wallet.chain_id(), channel, operator)?;
        let wanted = order.promise.promise.amount;
        let mut done = Settled {
            transaction: None,
            total: self.channel_of(channel, order.hermes).await?.settled,
            gas: 0,
        };
        for _ in 0..MOST_PARTS {
            if done.total >= wanted {
                break;
            }
            match self.cash_part(identity, order, channel, purse).await {
                Ok(Part { settled, capped }) => {
                    done.total = done.total.max(settled.total);
                    done.gas = done.gas.saturating_add(settled.gas);
                    done.transaction = settled.transaction.or(done.transaction);
                    if !capped {
                        break;
                    }
                }
                // What came before stands; whoever asked sees that it is not all and asks again.
                Err(error) if done.transaction.is_some() => {
                    tracing::warn!(%error, total = %done.total, %wanted, "settled in part");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    async fn willing(&self, identity: Address, purse: Purse) -> Result<(), ChainError> {
        let nobody = "tokens sent to nobody are burnt: name a beneficiary";
        match purse {
            Purse::Withdrawal(Address::ZERO, _) | Purse::Named(Address::ZERO) => {
                refuse(nobody.to_owned())
            }
            Purse::Withdrawal(..) => Ok(()),
            Purse::Registered | Purse::Named(_) | Purse::Stake => {
                if self.is_registered(identity).await? {
                    Ok(())
                } else {
                    refuse(format!(
                        "{identity} is not registered: register it, then settle"
                    ))
                }
            }
        }
    }

    async fn cash_part(
        &self,
        identity: Address,
        order: &SettleOrder,
        channel: ChannelId,
        purse: Purse,
    ) -> Result<Part, ChainError> {
        let promise = &order.promise.promise;
        let state = self.hermes_state(order.hermes).await?;
        let before = self.channel_of(channel, order.hermes).await?;
        let payout = arithmetic::payout(
            &state.books(&before),
            promise.amount,
            promise.fee,
            purse.way(),
        );
        let payout = payout.map_err(|why| ChainError::Refused(why.to_string()))?;
        let owed = promise.amount.saturating_sub(before.settled);
        if payout.settled.is_zero() || payout.settled < owed.min(self.least_payout) {
            return refuse(format!(
                "the Hermes has {} free; {owed} is owed",
                state.available
            ));
        }
        let capped = payout.settled < owed && payout.settled < state.available;
        if payout.punishes {
            tracing::warn!(hermes = %order.hermes, "the Hermes holds less than our stake; it will settle nothing after this");
        }
        let sent = self.send(identity, order, purse).await;
        let total = self.channel_of(channel, order.hermes).await;
        match sent {
            Ok(receipt) => {
                // A server that lags shows less than the transaction's own event.
                let told = payout.settled.min(moved(&receipt, channel));
                let told = before.settled.saturating_add(told);
                let settled = Settled {
                    transaction: Some(receipt.transaction_hash),
                    total: total.map_or(told, |now| now.settled.max(told)),
                    gas: receipt.gas_used,
                };
                Ok(Part { settled, capped })
            }
            Err(error) => match total {
                Ok(now) if now.settled >= promise.amount => Ok(Part {
                    settled: Settled {
                        transaction: None,
                        total: now.settled,
                        gas: 0,
                    },
                    capped: false,
                }),
                Ok(_) | Err(_) => Err(error),
            },
        }
    }

    async fn send(
        &self,
        identity: Address,
        order: &SettleOrder,
        purse: Purse,
    ) -> Result<TransactionReceipt, ChainError> {
        let (amount, fee) = (order.promise.promise.amount.units(), U256::ZERO);
        let (preimage, hermes) = (order.preimage.0, order.hermes);
        let signature = bytes(&order.promise.signature);
        match purse {
            Purse::Registered => {
                let call = H::settlePromiseCall {
                    identity,
                    amount,
                    fee,
                    preimage,
                    signature,
                };
                self.wallet.call(hermes, &call).await
            }
            Purse::Stake => {
                let call = H::settleIntoStakeCall {
                    identity,
                    amount,
                    fee,
                    preimage,
                    signature,
                };
                self.wallet.call(hermes, &call).await
            }
            Purse::Withdrawal(beneficiary, wish) => {
                let call = H::payAndSettleCall {
                    identity,
                    amount,
                    fee,
                    preimage,
                    signature,
                    beneficiary,
                    beneficiarySignature: bytes(&wish),
                };
                self.wallet.call(hermes, &call).await
            }
            Purse::Named(beneficiary) => self.send_named(order, beneficiary).await,
        }
    }

    /// Names the beneficiary in the same transaction, unless it is the registered one already. The nonce is shared by all
    /// identities, so it may take several tries.
    async fn send_named(
        &self,
        order: &SettleOrder,
        beneficiary: Address,
    ) -> Result<TransactionReceipt, ChainError> {
        let identity = self.wallet.address();
        let mut tries = 0;
        loop {
            if self.beneficiary(identity).await? == beneficiary {
                return Box::pin(self.send(identity, order, Purse::Registered)).await;
            }
            let nonce = self.next_registry_nonce().await?;
            let wish = self.signed(&self.new_beneficiary(identity, beneficiary, nonce))?;
            let call = H::settleWithBeneficiaryCall {
                identity,
                amount: order.promise.promise.amount.units(),
                fee: U256::ZERO,
                preimage: order.preimage.0,
                signature: bytes(&order.promise.signature),
                beneficiary,
                beneficiarySignature: bytes(&wish),
            };
            tries += 1;
            match self.wallet.call(order.hermes, &call).await {
                Err(error @ ChainError::Refused(_)) => {
                    let moved = self.next_registry_nonce().await? != nonce;
                    if !moved || tries >= NONCE_TRIES {
                        return Err(error);
                    }
                }
                sent => return sent,
            }
        }
    }
}

pub(super) fn bytes(signature: &Signature) -> Bytes {
    Bytes::copy_from_slice(signature.as_bytes())
}

/// By how much a transaction moved a channel's total: what was sent and what was kept.
fn moved(receipt: &TransactionReceipt, channel: ChannelId) -> Amount {
    let events = receipt.logs().iter();
    events
        .filter_map(|log| H::PromiseSettled::decode_log(&log.inner).ok())
        .filter(|event| event.channel == channel.0)
        .map(|event| Amount::new(event.sent.saturating_add(event.fees)))
        .fold(Amount::ZERO, Amount::saturating_add)
}
