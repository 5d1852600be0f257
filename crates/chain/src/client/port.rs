//! `payment::Chain` on the vault. Every failure of a transaction is held against the chain's state before it is told: a total
//! that is already there is a success, whoever brought it there.

use alloy::primitives::Address;
use alloy::sol_types::SolCall;
use wayfare_payment::{
    Amount, Chain, ChainError, ChannelId, ConsumerAccount, HermesAccount, JobId, Moot, PortFuture,
    ProviderAccount, Purpose, SettleOrder, Settled,
};

use super::{VaultClient, bytes, only};
use crate::bindings::Vault;
use crate::derive;
use crate::order;
use crate::rows::{compact, word};
use crate::wallet::amount;

/// `State.Open` of the vault.
const OPEN: u8 = 0;

impl VaultClient {
    pub(super) async fn consumer_account(
        &self,
        consumer: Address,
        hermes: Address,
    ) -> Result<ConsumerAccount, ChainError> {
        let call = Vault::consumerCall {
            consumer_: consumer,
            hermesId: hermes,
        };
        let Vault::consumerReturn { account, unswept } =
            self.wallet.read(self.vault, &call).await?;
        let exit_at: u64 = account.exitAt.to();
        Ok(ConsumerAccount {
            balance: amount(account.balance).saturating_add(Amount::new(unswept)),
            collected: amount(account.collected),
            exit_at: (exit_at != 0).then_some(exit_at),
        })
    }

    async fn provider_account(
        &self,
        provider: Address,
        hermes: Address,
    ) -> Result<ProviderAccount, ChainError> {
        let call = Vault::providerCall {
            payee: provider,
            hermesId: hermes,
        };
        let account = self.wallet.read(self.vault, &call).await?;
        Ok(ProviderAccount {
            settled: amount(account.settled),
        })
    }

    async fn hermes_account(&self, hermes: Address) -> Result<HermesAccount, ChainError> {
        let call = Vault::hermesCall { hermesId: hermes };
        let Vault::hermesReturn { account, signer } = self.wallet.read(self.vault, &call).await?;
        if account.operator.is_zero() {
            return Err(ChainError::UnknownHermes(hermes));
        }
        let collateral = amount(account.collateral);
        Ok(HermesAccount {
            operator: signer,
            fee_basis_points: account.feeBps,
            // What is under notice cannot be counted on.
            collateral: collateral.saturating_sub(amount(account.requested)),
            free: amount(account.free),
            leaving: !account.requested.is_zero() || account.state != OPEN,
        })
    }

    /// Sends a settlement of `payee`'s channel and answers what the chain then says.
    ///
    /// INVARIANT: no total above the promise is believed of a transaction of ours: a receipt may lie, the promise does not.
    pub(super) async fn settle_by<C: SolCall>(
        &self,
        payee: Address,
        order: &SettleOrder,
        call: &C,
    ) -> Result<Settled, ChainError> {
        let channel = ChannelId::of_provider(payee, order.hermes);
        self.is_about(channel, order)?;
        let wanted = order.promise.promise.amount;
        let before = self.provider_account(payee, order.hermes).await?.settled;
        if before >= wanted {
            return Ok(Settled {
                transaction: None,
                total: before,
                gas: 0,
            });
        }
        let purpose = if payee == self.wallet.address() {
            Purpose::Settle {
                channel,
                amount: wanted,
                before,
            }
        } else {
            Purpose::Relay {
                channel,
                amount: wanted,
                before,
            }
        };
        let begun = self.wallet.begin_call(purpose, self.vault, call).await?;
        let job = begun.job;
        let receipt = match begun.ended().await {
            Ok(receipt) => receipt,
            Err(error) => {
                let now = self
                    .provider_account(payee, order.hermes)
                    .await
                    .map_err(|_| error.clone())?
                    .settled;
                return self.by_another(job, now, wanted, error).await;
            }
        };
        let total = only::<Vault::Settled>(&receipt)
            .map_or(before, |event| Amount::new(event.totalSettled))
            .min(wanted);
        Ok(Settled {
            transaction: Some(receipt.transaction_hash),
            total,
            gas: receipt.gas_used,
        })
    }

    async fn collect_from(
        &self,
        consumer: Address,
        order: SettleOrder,
    ) -> Result<Settled, ChainError> {
        self.is_about(self.consumer_channel(consumer, order.hermes), &order)?;
        let wanted = order.promise.promise.amount;
        let before = self
            .consumer_account(consumer, order.hermes)
            .await?
            .collected;
        if before >= wanted {
            return Ok(Settled {
                transaction: None,
                total: before,
                gas: 0,
            });
        }
        let call = Vault::collectCall {
            consumer_: consumer,
            hermesId: order.hermes,
            amount: wanted.units(),
            fee: order.promise.promise.fee.units(),
            R: order.preimage.0,
            sig: bytes(&order.promise.signature),
        };
        let purpose = Purpose::Collect {
            channel: order.promise.promise.channel,
            amount: wanted,
            before,
        };
        let begun = self.wallet.begin_call(purpose, self.vault, &call).await?;
        let job = begun.job;
        let receipt = match begun.ended().await {
            Ok(receipt) => receipt,
            Err(error) => {
                let now = self
                    .consumer_account(consumer, order.hermes)
                    .await
                    .map_err(|_| error.clone())?
                    .collected;
                return self.by_another(job, now, wanted, error).await;
            }
        };
        let total = only::<Vault::Collected>(&receipt)
            .map_or(before, |event| Amount::new(event.totalCollected))
            .min(wanted);
        Ok(Settled {
            transaction: Some(receipt.transaction_hash),
            total,
            gas: receipt.gas_used,
        })
    }

    /// What a failure comes to where the chain shows `now`: whoever did it, it is done, and the job need not go on.
    async fn by_another(
        &self,
        job: Option<JobId>,
        now: Amount,
        wanted: Amount,
        error: ChainError,
    ) -> Result<Settled, ChainError> {
        if now < wanted {
            return Err(error);
        }
        if let Some(job) = job {
            self.wallet.moot(job, Moot::SettledByAnother).await?;
        }
        Ok(Settled {
            transaction: None,
            total: now,
            gas: 0,
        })
    }

    /// Refuses before gas is spent what the vault would refuse with less to say.
    fn is_about(&self, channel: ChannelId, order: &SettleOrder) -> Result<(), ChainError> {
        order::is_for(order, self.wallet.chain_id(), channel)?;
        order::opens(order)
    }
}

impl Chain for VaultClient {
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
        Box::pin(self.provider_account(provider, hermes))
    }

    fn consumer_channel(&self, consumer: Address, hermes: Address) -> ChannelId {
        derive::consumer_channel(self.vault, consumer, hermes)
    }

    fn settle(&self, order: SettleOrder) -> PortFuture<'_, Result<Settled, ChainError>> {
        Box::pin(async move {
            let payee = self.wallet.address();
            let promise = &order.promise.promise;
            let to = order.beneficiary;
            // An amount that is more than a word holds is no ordinary one.
            if promise.fee.is_zero()
                && (to == payee || to == self.vault)
                && let Ok(what) = word(order.hermes, promise.amount)
            {
                let (r, vs) = compact(&order.promise.signature);
                if to == payee {
                    let call = Vault::drawToPayeeCall {
                        hermesAndAmount: what.into(),
                        R: order.preimage.0,
                        r,
                        vs,
                    };
                    return self.settle_by(payee, &order, &call).await;
                }
                let call = Vault::keepCreditCall {
                    hermesAndAmount: what,
                    R: order.preimage.0,
                    r,
                    vs,
                };
                return self.settle_by(payee, &order, &call).await;
            }
            let call = Vault::settleCall {
                hermesId: order.hermes,
                amount: promise.amount.units(),
                fee: promise.fee.units(),
                R: order.preimage.0,
                hermesSig: bytes(&order.promise.signature),
                beneficiary: to,
            };
            self.settle_by(payee, &order, &call).await
        })
    }

    fn collect(
        &self,
        consumer: Address,
        order: SettleOrder,
    ) -> PortFuture<'_, Result<Settled, ChainError>> {
        Box::pin(self.collect_from(consumer, order))
    }
}
