//! What stands behind a Hermes, and its end: receipts as proofs, fraud, insolvency, claims, closing, keys that rotate.
//! It refuses to look for evidence; it brings it to the vault.

use alloy::primitives::{Address, Bytes, U256};
use alloy::rpc::types::TransactionReceipt;
use wayfare_payment::{Amount, ChainError, Receipt, SettleOrder, Settled, SignedReceipt};

use super::{VaultClient, bytes, only};
use crate::bindings::{Backing, Vault};

/// A receipt as the vault reads it.
#[must_use]
pub fn onchain_receipt(receipt: &Receipt) -> Backing::Receipt {
    Backing::Receipt {
        hermes: receipt.hermes,
        sequence: U256::from(receipt.sequence),
        previous: receipt.previous,
        channel: receipt.channel.0,
        promiseHash: receipt.promise,
        increment: receipt.increment.units(),
        totalPromised: receipt.total_promised.units(),
    }
}

impl VaultClient {
    /// Shows the vault a receipt: from now on the Hermes' owner cannot take out what it admits to owe.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn prove_liabilities(
        &self,
        signed: &SignedReceipt,
    ) -> Result<TransactionReceipt, ChainError> {
        let call = Vault::proveLiabilitiesCall {
            receipt: onchain_receipt(&signed.receipt),
            sig: bytes(&signed.signature),
        };
        self.wallet.call(self.vault, &call).await
    }

    /// What a Hermes is proven to owe, and what it has.
    ///
    /// # Errors
    /// As [`Wallet::read`](crate::Wallet::read).
    pub async fn balance_sheet(&self, hermes: Address) -> Result<(Amount, Amount), ChainError> {
        let call = Vault::balanceSheetCall { hermesId: hermes };
        let sheet = self.wallet.read(self.vault, &call).await?;
        Ok((Amount::new(sheet.liabilities), Amount::new(sheet.assets)))
    }

    /// Cashes the wallet's promise with the receipt that came with it, which reaches collateral that is kept for holders.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call), unless the chain says that the promise is settled already.
    pub async fn settle_with_receipt(
        &self,
        order: SettleOrder,
        signed: &SignedReceipt,
    ) -> Result<Settled, ChainError> {
        let call = Vault::settleWithReceiptCall {
            amount: order.promise.promise.amount.units(),
            R: order.preimage.0,
            hermesSig: bytes(&order.promise.signature),
            beneficiary: order.beneficiary,
            receipt: onchain_receipt(&signed.receipt),
            receiptSig: bytes(&signed.signature),
        };
        self.settle_by(self.wallet.address(), &order, &call).await
    }

    /// Ruins a Hermes with two receipts that contradict each other, the one with the smaller number first.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call); [`ChainError::Refused`] when they do not.
    pub async fn prove_fraud(
        &self,
        earlier: &SignedReceipt,
        later: &SignedReceipt,
    ) -> Result<TransactionReceipt, ChainError> {
        let call = Vault::proveFraudCall {
            earlier: onchain_receipt(&earlier.receipt),
            earlierSig: bytes(&earlier.signature),
            later: onchain_receipt(&later.receipt),
            laterSig: bytes(&later.signature),
        };
        self.wallet.call(self.vault, &call).await
    }

    /// Ruins a Hermes with one receipt that contradicts itself.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call); [`ChainError::Refused`] when it does not.
    pub async fn prove_broken_receipt(
        &self,
        signed: &SignedReceipt,
    ) -> Result<TransactionReceipt, ChainError> {
        let call = Vault::proveBrokenReceiptCall {
            receipt: onchain_receipt(&signed.receipt),
            sig: bytes(&signed.signature),
        };
        self.wallet.call(self.vault, &call).await
    }

    /// Says that a Hermes is proven to owe more than it has; its grace begins.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call); [`ChainError::Refused`] when it can pay.
    pub async fn declare_insolvency(
        &self,
        hermes: Address,
    ) -> Result<TransactionReceipt, ChainError> {
        let call = Vault::declareInsolvencyCall { hermesId: hermes };
        self.wallet.call(self.vault, &call).await
    }

    /// Ends the alarm of a Hermes that can pay, or ruins one that cannot after its grace.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn resolve_insolvency(
        &self,
        hermes: Address,
    ) -> Result<TransactionReceipt, ChainError> {
        let call = Vault::resolveInsolvencyCall { hermesId: hermes };
        self.wallet.call(self.vault, &call).await
    }

    /// Files what a ruined Hermes promised the wallet; the answer is the claim, less the Hermes' fee.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn file_claim(
        &self,
        order: SettleOrder,
        signed: Option<&SignedReceipt>,
    ) -> Result<Amount, ChainError> {
        let promise = &order.promise.promise;
        let call = Vault::fileClaimCall {
            hermesId: order.hermes,
            amount: promise.amount.units(),
            fee: promise.fee.units(),
            R: order.preimage.0,
            hermesSig: bytes(&order.promise.signature),
            receipt: signed
                .map(|signed| onchain_receipt(&signed.receipt))
                .unwrap_or_default(),
            receiptSig: signed.map_or_else(Bytes::new, |signed| bytes(&signed.signature)),
        };
        let receipt = self.wallet.call(self.vault, &call).await?;
        Ok(only::<Vault::ClaimFiled>(&receipt)
            .map_or(Amount::ZERO, |event| Amount::new(event.amount)))
    }

    /// Takes the wallet's part of what a ruined Hermes had; the answer is what was paid this time.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn withdraw_claim(
        &self,
        hermes: Address,
        beneficiary: Address,
    ) -> Result<Amount, ChainError> {
        let call = Vault::withdrawClaimCall {
            hermesId: hermes,
            beneficiary,
        };
        let receipt = self.wallet.call(self.vault, &call).await?;
        Ok(only::<Vault::ClaimPaid>(&receipt)
            .map_or(Amount::ZERO, |event| Amount::new(event.amount)))
    }

    /// Begins the end of the wallet's Hermes; it goes on paying.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn close_hermes(&self) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(self.vault, &Vault::closeHermesCall {})
            .await
    }

    /// Takes what is left of the wallet's closed Hermes after the window.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn withdraw_closed(&self) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(self.vault, &Vault::withdrawClosedCall {})
            .await
    }

    /// Puts a due rotation of a Hermes' key into force, so that the old key ages.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn finish_rotation(&self, hermes: Address) -> Result<TransactionReceipt, ChainError> {
        let call = Vault::finishRotationCall { hermesId: hermes };
        self.wallet.call(self.vault, &call).await
    }
}
