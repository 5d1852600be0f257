//! The vault, seen by one account: what `payment::Chain` asks for, and the actions around it (Hermes registration, collateral,
//! exits). The chain is read again before a failure is declared: what somebody else's transaction did counts as done.
//! It refuses to know when to settle, and to cache.

mod backing;
mod batches;
mod port;

pub use backing::onchain_receipt;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::rpc::types::{Filter, TransactionReceipt};
use alloy::sol_types::{SolEvent, SolEventInterface};
use wayfare_identity::{Domain, Signature};
use wayfare_payment::{Amount, ChainError, SettleOrder, Settled};

use crate::bindings::Vault::{self, VaultEvents};
use crate::wallet::amount;
use crate::{ExitConsent, SettleConsent, TokenClient, Wallet, derive};

/// An event of the vault and where it was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Block number.
    pub block: u64,
    /// The transaction that caused it.
    pub transaction: B256,
    /// What happened.
    pub event: VaultEvents,
}

/// A vault and the account that acts on it.
#[derive(Debug, Clone)]
pub struct VaultClient {
    wallet: Wallet,
    vault: Address,
}

impl VaultClient {
    /// Touches nothing; [`VaultClient::check`] finds out whether this can work.
    #[must_use]
    pub fn new(wallet: Wallet, vault: Address) -> Self {
        Self { wallet, vault }
    }

    /// Asks whether the server answers, serves the right chain, and has a vault there.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`], [`ChainError::WrongChain`], [`ChainError::NoContract`].
    pub async fn check(&self) -> Result<(), ChainError> {
        self.wallet.check().await?;
        self.wallet.check_contract(self.vault).await?;
        match self.token().await {
            Ok(_) => Ok(()),
            // Every vault answers this; another contract reverts.
            Err(ChainError::Refused(_)) => Err(ChainError::NoContract(self.vault)),
            Err(error) => Err(error),
        }
    }

    /// The contract.
    #[must_use]
    pub fn address(&self) -> Address {
        self.vault
    }

    /// The account.
    #[must_use]
    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// The EIP-712 domain of messages to this vault.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain {
            chain_id: self.wallet.chain_id(),
            verifying_contract: self.vault,
        }
    }

    /// The vault's token, for the same account.
    ///
    /// # Errors
    /// As [`Wallet::read`].
    pub async fn token(&self) -> Result<TokenClient, ChainError> {
        let token = self.wallet.read(self.vault, &Vault::tokenCall {}).await?;
        Ok(TokenClient::new(self.wallet.clone(), token))
    }

    /// Where a consumer sends tokens for a Hermes; derived here, no server is trusted.
    #[must_use]
    pub fn deposit_address(&self, consumer: Address, hermes: Address) -> Address {
        derive::deposit_address(self.vault, consumer, hermes)
    }

    /// The id of the Hermes that an account owns or would own.
    #[must_use]
    pub fn hermes_id(&self, owner: Address) -> Address {
        derive::hermes_id(self.vault, owner)
    }

    /// Everything that happened from a block on, oldest first.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn events(&self, from_block: u64) -> Result<Vec<Seen>, ChainError> {
        let filter = Filter::new()
            .address(self.vault)
            .from_block(from_block)
            .to_block(BlockNumberOrTag::Latest);
        let logs = self.wallet.logs(&filter).await?;
        Ok(logs
            .into_iter()
            .filter_map(|log| {
                let event = VaultEvents::decode_log(&log.inner).ok()?.data;
                Some(Seen {
                    block: log.block_number?,
                    transaction: log.transaction_hash?,
                    event,
                })
            })
            .collect())
    }

    // -------------------------------------------------------------------------------------------------- Hermes

    /// Registers the wallet's Hermes; its id is [`VaultClient::hermes_id`]. `fee_basis_points` is fixed for ever.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn register_hermes(
        &self,
        operator: Address,
        fee_basis_points: u16,
    ) -> Result<Address, ChainError> {
        let call = Vault::registerHermesCall {
            operator,
            feeBps: fee_basis_points,
        };
        self.wallet.call(self.vault, &call).await?;
        Ok(self.hermes_id(self.wallet.address()))
    }

    /// Approves and adds collateral to any Hermes.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn add_collateral(
        &self,
        hermes: Address,
        sum: Amount,
    ) -> Result<TransactionReceipt, ChainError> {
        self.approved(sum).await?;
        let call = Vault::addCollateralCall {
            hermesId: hermes,
            amount: sum.units(),
        };
        self.wallet.call(self.vault, &call).await
    }

    /// Moves what the wallet's Hermes earned behind its collateral's notice.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn retain(&self, sum: Amount) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(
                self.vault,
                &Vault::retainCall {
                    amount: sum.units(),
                },
            )
            .await
    }

    /// Gives notice for collateral of the wallet's Hermes; zero takes the notice back.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn request_collateral(&self, sum: Amount) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(
                self.vault,
                &Vault::requestCollateralCall {
                    amount: sum.units(),
                },
            )
            .await
    }

    /// Takes collateral after the notice.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn withdraw_collateral(&self) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(self.vault, &Vault::withdrawCollateralCall {})
            .await
    }

    /// Names the next operator key of the wallet's Hermes.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn rotate_operator(&self, next: Address) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(self.vault, &Vault::rotateOperatorCall { next })
            .await
    }

    // ----------------------------------------------------------------------------------------------- consumers

    /// Credits what lies at a deposit address. Not needed: collecting and leaving do it too.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn sweep(
        &self,
        consumer: Address,
        hermes: Address,
    ) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(
                self.vault,
                &Vault::sweepCall {
                    consumer_: consumer,
                    hermesId: hermes,
                },
            )
            .await
    }

    /// Starts the wallet's exit from a Hermes. An exit that is already pending is fine.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn request_exit(&self, hermes: Address) -> Result<(), ChainError> {
        let sent = self
            .wallet
            .call(self.vault, &Vault::requestExitCall { hermesId: hermes })
            .await;
        self.exit_requested(self.wallet.address(), hermes, sent)
            .await
    }

    /// Starts a consumer's exit with its signature, so that it needs no native coin.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn request_exit_for(
        &self,
        consent: ExitConsent,
        signature: &Signature,
    ) -> Result<(), ChainError> {
        let call = Vault::requestExitBySigCall {
            consumer_: consent.consumer,
            hermesId: consent.hermes,
            deadline: U256::from(consent.deadline),
            sig: bytes(signature),
        };
        let sent = self.wallet.call(self.vault, &call).await;
        self.exit_requested(consent.consumer, consent.hermes, sent)
            .await
    }

    /// Takes the exit back.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn cancel_exit(&self, hermes: Address) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(self.vault, &Vault::cancelExitCall { hermesId: hermes })
            .await
    }

    /// Ends the wallet's exit after the delay; the answer is what was paid to the beneficiary.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn finalize_exit(
        &self,
        hermes: Address,
        beneficiary: Address,
    ) -> Result<Amount, ChainError> {
        let call = Vault::finalizeExitCall {
            hermesId: hermes,
            beneficiary,
        };
        self.wallet
            .call(self.vault, &call)
            .await
            .map(|receipt| exited(&receipt))
    }

    /// Ends a consumer's exit with its signature.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn finalize_exit_for(
        &self,
        consent: ExitConsent,
        beneficiary: Address,
        signature: &Signature,
    ) -> Result<Amount, ChainError> {
        let call = Vault::finalizeExitBySigCall {
            consumer_: consent.consumer,
            hermesId: consent.hermes,
            beneficiary,
            deadline: U256::from(consent.deadline),
            sig: bytes(signature),
        };
        self.wallet
            .call(self.vault, &call)
            .await
            .map(|receipt| exited(&receipt))
    }

    /// A consumer's nonce, for [`ExitConsent`].
    ///
    /// # Errors
    /// As [`Wallet::read`].
    pub async fn exit_nonce(&self, consumer: Address, hermes: Address) -> Result<u64, ChainError> {
        let call = Vault::consumerCall {
            consumer_: consumer,
            hermesId: hermes,
        };
        let answer = self.wallet.read(self.vault, &call).await?;
        Ok(answer.account.nonce.to())
    }

    // ----------------------------------------------------------------------------------------------- providers

    /// Cashes a payee's promise with its consent; the promise's fee goes to this wallet.
    ///
    /// # Errors
    /// As [`Wallet::call`], unless the chain says that the promise is settled already.
    pub async fn settle_for(
        &self,
        consent: SettleConsent,
        order: SettleOrder,
        signature: &Signature,
    ) -> Result<Settled, ChainError> {
        let call = Self::settle_for_call(&consent, &order, signature);
        self.settle_by(consent.payee, &order, &call).await
    }

    pub(crate) fn settle_for_call(
        consent: &SettleConsent,
        order: &SettleOrder,
        signature: &Signature,
    ) -> Vault::settleForCall {
        Vault::settleForCall {
            payee: consent.payee,
            hermesId: order.hermes,
            amount: order.promise.promise.amount.units(),
            fee: order.promise.promise.fee.units(),
            R: order.preimage.0,
            hermesSig: bytes(&order.promise.signature),
            beneficiary: consent.beneficiary,
            maxFee: consent.max_fee.units(),
            deadline: U256::from(consent.deadline),
            payeeSig: bytes(signature),
        }
    }

    /// What the wallet left in the vault as credit.
    ///
    /// # Errors
    /// As [`Wallet::read`].
    pub async fn credit(&self, payee: Address, hermes: Address) -> Result<Amount, ChainError> {
        let account = self
            .wallet
            .read(
                self.vault,
                &Vault::providerCall {
                    payee,
                    hermesId: hermes,
                },
            )
            .await?;
        Ok(amount(account.credit))
    }

    /// Takes the wallet's credit out.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn withdraw_credit(
        &self,
        hermes: Address,
        beneficiary: Address,
    ) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(
                self.vault,
                &Vault::withdrawCreditCall {
                    hermesId: hermes,
                    beneficiary,
                },
            )
            .await
    }

    async fn exit_requested(
        &self,
        consumer: Address,
        hermes: Address,
        sent: Result<TransactionReceipt, ChainError>,
    ) -> Result<(), ChainError> {
        let Err(error @ ChainError::Refused(_)) = sent else {
            return sent.map(|_| ());
        };
        let pending = self.consumer_account(consumer, hermes).await?.exit_at;
        if pending.is_some() {
            Ok(())
        } else {
            Err(error)
        }
    }
}

fn bytes(signature: &Signature) -> Bytes {
    Bytes::copy_from_slice(signature.as_bytes())
}

fn exited(receipt: &TransactionReceipt) -> Amount {
    Amount::new(only::<Vault::ExitFinalized>(receipt).map_or(U256::ZERO, |event| event.amount))
}

/// The first event of a kind in a receipt.
fn only<E: SolEvent>(receipt: &TransactionReceipt) -> Option<E> {
    receipt
        .logs()
        .iter()
        .find_map(|log| E::decode_log(&log.inner).ok())
        .map(|log| log.data)
}
