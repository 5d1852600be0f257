//! `payment::Chain` on the deployed contracts. Every failure of a transaction is held against the chain's state before it is told.
//! It refuses to count on what cannot be had: a Hermes' stake, which pays no promise, and tokens at an address without a channel.

use alloy::primitives::{Address, U256};
use alloy::rpc::types::TransactionReceipt;
use alloy::sol_types::SolEvent;
use wayfare_payment::{
    Amount, Chain, ChainError, ChannelId, ConsumerAccount, HermesAccount, PortFuture,
    ProviderAccount, SettleOrder, Settled,
};

use super::settling::{Purse, bytes};
use super::{MysteriumClient, refuse, sound};
use crate::mysterium::Status;
use crate::mysterium::contracts::{ChannelImplementation, Erc20};

impl MysteriumClient {
    async fn hermes_account(&self, hermes: Address) -> Result<HermesAccount, ChainError> {
        let state = self.hermes_state(hermes).await?;
        Ok(HermesAccount {
            operator: state.operator,
            // What is earned now may be settled after a change that was announced.
            fee_basis_points: state.fee_basis_points.max(state.next_fee_basis_points),
            collateral: Amount::ZERO,
            free: state.available,
            leaving: state.status != Status::Active,
        })
    }

    async fn consumer_account(
        &self,
        consumer: Address,
        hermes: Address,
    ) -> Result<ConsumerAccount, ChainError> {
        let channel = self.consumer_state(consumer, hermes).await?;
        let mut account = ConsumerAccount {
            balance: if channel.opened {
                channel.tokens
            } else {
                Amount::ZERO
            },
            collected: channel.settled,
            exit_at: channel.exit_at,
        };
        let house = self.house.as_ref().filter(|house| house.hermes == hermes);
        if let Some(house) = house {
            account.balance = account.balance.min(house.cap);
            // The channel was read first: what it calls settled is in the takings by now, if it was paid to us.
            let mut takings = house.takings.lock().await;
            takings
                .catch_up(&self.wallet, self.deployment.token)
                .await?;
            let paid = takings.of(channel.address);
            if paid < channel.settled {
                tracing::warn!(%consumer, settled = %channel.settled, %paid, "a channel paid somebody else: nothing is promised for it any more");
                account = ConsumerAccount {
                    balance: Amount::ZERO,
                    collected: paid,
                    exit_at: Some(0),
                };
            }
        }
        Ok(account)
    }

    async fn collect_from(
        &self,
        consumer: Address,
        order: SettleOrder,
    ) -> Result<Settled, ChainError> {
        let before = self.consumer_state(consumer, order.hermes).await?;
        let channel = ChannelId::of_deposit(before.address);
        sound(&order, self.wallet.chain_id(), channel, consumer)?;
        let wanted = order.promise.promise.amount;
        if before.settled >= wanted {
            return Ok(Settled {
                transaction: None,
                total: before.settled,
                gas: 0,
            });
        }
        if !before.opened {
            return refuse(format!(
                "the channel {} is not opened: its consumer has to register first",
                before.address
            ));
        }
        if before.tokens.is_zero() {
            return refuse(format!("the channel {} is empty", before.address));
        }
        let call = ChannelImplementation::settlePromiseCall {
            amount: wanted.units(),
            fee: U256::ZERO,
            preimage: order.preimage.0,
            signature: bytes(&order.promise.signature),
        };
        let sent = self.wallet.call(before.address, &call).await;
        let now = self.consumer_state(consumer, order.hermes).await;
        match sent {
            Ok(receipt) => {
                let told =
                    before
                        .settled
                        .saturating_add(left(&receipt, before.address, order.hermes));
                Ok(Settled {
                    transaction: Some(receipt.transaction_hash),
                    total: now.map_or(told, |now| now.settled.max(told)),
                    gas: receipt.gas_used,
                })
            }
            Err(error) => match now {
                Ok(now) if now.settled >= wanted => Ok(Settled {
                    transaction: None,
                    total: now.settled,
                    gas: 0,
                }),
                Ok(_) | Err(_) => Err(error),
            },
        }
    }
}

/// What went from a channel to its Hermes in a transaction.
fn left(receipt: &TransactionReceipt, channel: Address, hermes: Address) -> Amount {
    let transfers = receipt.logs().iter();
    transfers
        .filter_map(|log| Erc20::Transfer::decode_log(&log.inner).ok())
        .filter(|transfer| transfer.from == channel && transfer.to == hermes)
        .map(|transfer| Amount::new(transfer.value))
        .fold(Amount::ZERO, Amount::saturating_add)
}

impl Chain for MysteriumClient {
    fn hermes(&self, hermes: Address) -> PortFuture<'_, Result<HermesAccount, ChainError>> {
        Box::pin(self.hermes_account(hermes))
    }

    fn consumer(
        &self,
        consumer: Address,
        hermes: Address,
    ) -> PortFuture<'_, Result<ConsumerAccount, ChainError>> {
        Box::pin(self.consumer_account(consumer, hermes))
    }

    fn provider(
        &self,
        provider: Address,
        hermes: Address,
    ) -> PortFuture<'_, Result<ProviderAccount, ChainError>> {
        Box::pin(async move {
            let channel = self.provider_channel(provider, hermes).await?;
            Ok(ProviderAccount {
                settled: channel.settled,
            })
        })
    }

    fn consumer_channel(&self, consumer: Address, hermes: Address) -> ChannelId {
        self.deployment.consumer_channel(consumer, hermes)
    }

    /// To the beneficiary of the order, which becomes the registered one; to the stake when that is the Hermes itself.
    fn settle(&self, order: SettleOrder) -> PortFuture<'_, Result<Settled, ChainError>> {
        let purse = if order.beneficiary == order.hermes {
            Purse::Stake
        } else {
            Purse::Named(order.beneficiary)
        };
        Box::pin(async move { self.cash(self.wallet.address(), &order, purse).await })
    }

    fn collect(
        &self,
        consumer: Address,
        order: SettleOrder,
    ) -> PortFuture<'_, Result<Settled, ChainError>> {
        Box::pin(self.collect_from(consumer, order))
    }
}
