//! Direct channels, seen by one account: money locked for one provider, ceilings promised, totals drawn, and no Hermes.
//! It refuses to decide what was used: the total is the provider's word, the ceiling the payer's.

use alloy::primitives::{Address, Bytes, U256};
use alloy::rpc::types::TransactionReceipt;
use wayfare_identity::{Domain, Signature};
use wayfare_payment::{Amount, ChainError, ChannelId, Preimage, SignedPromise};

use crate::bindings::Direct;
use crate::wallet::amount;
use crate::{DrawConsent, TokenClient, Wallet, direct_channel};

/// A channel as the chain sees it; both amounts are cumulative for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirectAccount {
    /// Locked by the payer so far.
    pub locked: Amount,
    /// Drawn by the provider, or taken back by the payer, so far. Promises below it are worth nothing.
    pub drawn: Amount,
    /// Unix seconds from which the payer may take the rest back; `None` while it has not asked.
    pub unlock_at: Option<u64>,
}

/// A promise on a direct channel, and what opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// Who locked the money and signed.
    pub payer: Address,
    /// The promise; its amount is the most that may ever have been drawn.
    pub promise: SignedPromise,
    /// What opens its hashlock.
    pub preimage: Preimage,
}

/// A contract of direct channels and the account that acts on it.
#[derive(Debug, Clone)]
pub struct DirectClient {
    wallet: Wallet,
    contract: Address,
}

impl DirectClient {
    /// Touches nothing.
    #[must_use]
    pub fn new(wallet: Wallet, contract: Address) -> Self {
        Self { wallet, contract }
    }

    /// The contract.
    #[must_use]
    pub fn address(&self) -> Address {
        self.contract
    }

    /// The EIP-712 domain of messages to this contract.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain {
            chain_id: self.wallet.chain_id(),
            verifying_contract: self.contract,
        }
    }

    /// The channel that a payer's promises to a provider are made on.
    #[must_use]
    pub fn channel(&self, payer: Address, provider: Address) -> ChannelId {
        direct_channel(self.contract, payer, provider)
    }

    /// Reads a channel.
    ///
    /// # Errors
    /// As [`Wallet::read`].
    pub async fn account(
        &self,
        payer: Address,
        provider: Address,
    ) -> Result<DirectAccount, ChainError> {
        let call = Direct::channelCall { payer, provider };
        let found = self.wallet.read(self.contract, &call).await?;
        let unlock_at: u64 = found.unlockAt.to();
        Ok(DirectAccount {
            locked: amount(found.locked),
            drawn: amount(found.drawn),
            unlock_at: (unlock_at != 0).then_some(unlock_at),
        })
    }

    /// Approves and locks the wallet's tokens for a provider; a pending unlock ends.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn lock(
        &self,
        provider: Address,
        sum: Amount,
    ) -> Result<TransactionReceipt, ChainError> {
        let token = self
            .wallet
            .read(self.contract, &Direct::tokenCall {})
            .await?;
        let token = TokenClient::new(self.wallet.clone(), token);
        if token
            .allowance(self.wallet.address(), self.contract)
            .await?
            < sum
        {
            token.approve(self.contract, sum).await?;
        }
        let call = Direct::lockCall {
            provider,
            amount: sum.units(),
        };
        self.wallet.call(self.contract, &call).await
    }

    /// Starts the delay after which the wallet may take the rest back.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn request_unlock(
        &self,
        provider: Address,
    ) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(self.contract, &Direct::requestUnlockCall { provider })
            .await
    }

    /// Takes the rest back after the delay.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn unlock(
        &self,
        provider: Address,
        beneficiary: Address,
    ) -> Result<TransactionReceipt, ChainError> {
        let call = Direct::unlockCall {
            provider,
            beneficiary,
        };
        self.wallet.call(self.contract, &call).await
    }

    /// Draws for the wallet, which is the provider, until its total is `total`.
    ///
    /// # Errors
    /// As [`Wallet::call`]; [`ChainError::Refused`] above the ceiling or above what is locked.
    pub async fn draw(
        &self,
        ceiling: &Ceiling,
        total: Amount,
        beneficiary: Address,
    ) -> Result<TransactionReceipt, ChainError> {
        let promise = &ceiling.promise.promise;
        let call = Direct::drawCall {
            payer: ceiling.payer,
            total: total.units(),
            ceiling: promise.amount.units(),
            fee: promise.fee.units(),
            R: ceiling.preimage.0,
            payerSig: Bytes::copy_from_slice(ceiling.promise.signature.as_bytes()),
            beneficiary,
        };
        self.wallet.call(self.contract, &call).await
    }

    /// Draws for a provider with its consent; the promise's fee goes to the wallet.
    ///
    /// # Errors
    /// As [`DirectClient::draw`].
    pub async fn draw_for(
        &self,
        consent: DrawConsent,
        ceiling: &Ceiling,
        signature: &Signature,
    ) -> Result<TransactionReceipt, ChainError> {
        let promise = &ceiling.promise.promise;
        let call = Direct::drawForCall {
            provider: consent.provider,
            payer: consent.payer,
            total: consent.total.units(),
            ceiling: promise.amount.units(),
            fee: promise.fee.units(),
            R: ceiling.preimage.0,
            payerSig: Bytes::copy_from_slice(ceiling.promise.signature.as_bytes()),
            beneficiary: consent.beneficiary,
            maxFee: consent.max_fee.units(),
            deadline: U256::from(consent.deadline),
            providerSig: Bytes::copy_from_slice(signature.as_bytes()),
        };
        self.wallet.call(self.contract, &call).await
    }
}
