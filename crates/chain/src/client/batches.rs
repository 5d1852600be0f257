//! Settlements of many at once: mandates that payees give, batches that callers send, and what the operator signs for them.
//! It refuses to choose who is in a batch.

use alloy::primitives::{Address, U256};
use alloy::rpc::types::TransactionReceipt;
use wayfare_identity::Signature;
use wayfare_payment::{Amount, ChainError};

use super::{VaultClient, only};
use crate::bindings::Vault;
use crate::consent::{Mandate, Sheet};
use crate::rows::{SettleRow, settle_rows, sheet_rows, word};

impl VaultClient {
    /// Gives the wallet a number, so that payees can name it in a [`Mandate`]. Repeating it changes nothing.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn register_caller(&self) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(self.vault, &Vault::registerCallerCall {})
            .await
    }

    /// The payee's nonce, for [`Mandate`].
    ///
    /// # Errors
    /// As [`Wallet::read`](crate::Wallet::read).
    pub async fn mandate_nonce(&self, payee: Address) -> Result<U256, ChainError> {
        let call = Vault::noncesCall { identity: payee };
        self.wallet.read(self.vault, &call).await
    }

    /// Lets `caller` settle for the wallet; `methods` of [`Mandate`], through a day counted from 1970.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn give_mandate(
        &self,
        hermes: Address,
        caller: Address,
        methods: u8,
        until_day: u16,
    ) -> Result<TransactionReceipt, ChainError> {
        let call = Vault::giveMandateCall {
            hermesId: hermes,
            caller,
            methods: U256::from(methods),
            untilDay: until_day,
        };
        self.wallet.call(self.vault, &call).await
    }

    /// Puts a payee's signed mandate on chain.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn give_mandate_for(
        &self,
        mandate: Mandate,
        signature: &Signature,
    ) -> Result<TransactionReceipt, ChainError> {
        self.wallet.call(self.vault, &mandate.call(signature)).await
    }

    /// Settles promises of one Hermes for payees that gave the wallet a mandate (or are the wallet). Rows that are settled
    /// already or not mandated are passed over; the answer is what moved. `method` is one of [`Mandate`]'s.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call); [`ChainError::Refused`] when an amount is too large for a row.
    pub async fn settle_many(
        &self,
        hermes: Address,
        method: u8,
        rows: impl IntoIterator<Item = SettleRow>,
    ) -> Result<(Amount, TransactionReceipt), ChainError> {
        let call = Vault::settleManyCall {
            hermesId: hermes,
            method: U256::from(method),
            rows: settle_rows(rows)?,
        };
        let receipt = self.wallet.call(self.vault, &call).await?;
        let moved = moved(&receipt);
        Ok((moved, receipt))
    }

    /// Settles a sheet that the operator signed; otherwise as [`VaultClient::settle_many`].
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn settle_sheet(
        &self,
        sheet: &Sheet,
        method: u8,
        signature: &Signature,
    ) -> Result<(Amount, TransactionReceipt), ChainError> {
        let call = sheet.call(method, signature);
        let receipt = self.wallet.call(self.vault, &call).await?;
        let moved = moved(&receipt);
        Ok((moved, receipt))
    }

    /// Turns totals into credit of payees that gave a mandate to the Hermes itself; the wallet is the Hermes' operator, and its
    /// transaction is its signature. Totals are rounded by [`sheet_total`](crate::sheet_total). Rows that are settled already or
    /// not mandated are passed over; the answer is what became credit.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call); [`ChainError::Refused`] when an amount is too large for a row.
    pub async fn credit_totals(
        &self,
        hermes: Address,
        totals: impl IntoIterator<Item = (Address, Amount)>,
    ) -> Result<(Amount, TransactionReceipt), ChainError> {
        let call = Vault::creditTotalsManyCall {
            hermesId: hermes,
            rows: sheet_rows(totals)?,
        };
        let receipt = self.wallet.call(self.vault, &call).await?;
        let credited = only::<Vault::Credited>(&receipt)
            .map_or(Amount::ZERO, |event| Amount::new(event.amount));
        Ok((credited, receipt))
    }

    /// Collects promises of many consumers for a Hermes, from what the vault already holds of theirs.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call); [`ChainError::Refused`] when an amount is too large for a row.
    pub async fn collect_many(
        &self,
        hermes: Address,
        rows: impl IntoIterator<Item = SettleRow>,
    ) -> Result<TransactionReceipt, ChainError> {
        let call = Vault::collectManyCall {
            hermesId: hermes,
            rows: settle_rows(rows)?,
        };
        self.wallet.call(self.vault, &call).await
    }

    /// Puts the wallet's own tokens on a consumer's account; approves the vault first where needed.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn deposit(
        &self,
        consumer: Address,
        hermes: Address,
        sum: Amount,
    ) -> Result<TransactionReceipt, ChainError> {
        self.approved(sum).await?;
        let call = Vault::placeApprovedCall {
            hermesId: hermes,
            consumerAndAmount: word(consumer, sum)?,
        };
        self.wallet.call(self.vault, &call).await
    }

    pub(super) async fn approved(&self, sum: Amount) -> Result<(), ChainError> {
        let token = self.token().await?;
        if token.allowance(self.wallet.address(), self.vault).await? < sum {
            token.approve(self.vault, sum).await?;
        }
        Ok(())
    }
}

/// By how much the totals of a batch advanced.
fn moved(receipt: &TransactionReceipt) -> Amount {
    only::<Vault::SheetSettled>(receipt).map_or(Amount::ZERO, |event| Amount::new(event.amountPaid))
}
