//! The ERC-20 that the vault holds, for a wallet. It refuses to know what the tokens are for.

use alloy::primitives::{Address, U256};
use alloy::rpc::types::TransactionReceipt;
use wayfare_payment::{Amount, ChainError};

use crate::Wallet;
use crate::bindings::Token;

/// A token seen by one account.
#[derive(Debug, Clone)]
pub struct TokenClient {
    wallet: Wallet,
    token: Address,
}

impl TokenClient {
    /// Touches nothing.
    #[must_use]
    pub fn new(wallet: Wallet, token: Address) -> Self {
        Self { wallet, token }
    }

    /// The contract.
    #[must_use]
    pub fn address(&self) -> Address {
        self.token
    }

    /// Tokens of an account.
    ///
    /// # Errors
    /// As [`Wallet::read`].
    pub async fn balance(&self, account: Address) -> Result<Amount, ChainError> {
        self.wallet
            .read(self.token, &Token::balanceOfCall(account))
            .await
            .map(Amount::new)
    }

    /// Sends tokens; this is all that a top-up is.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn transfer(
        &self,
        to: Address,
        amount: Amount,
    ) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(
                self.token,
                &Token::transferCall {
                    to,
                    value: amount.units(),
                },
            )
            .await
    }

    /// Lets `spender` take up to `amount`.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn approve(
        &self,
        spender: Address,
        amount: Amount,
    ) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(
                self.token,
                &Token::approveCall {
                    spender,
                    value: amount.units(),
                },
            )
            .await
    }

    /// What `spender` may still take from `owner`.
    ///
    /// # Errors
    /// As [`Wallet::read`].
    pub async fn allowance(&self, owner: Address, spender: Address) -> Result<Amount, ChainError> {
        let call = Token::allowanceCall {
            _0: owner,
            _1: spender,
        };
        self.wallet.read(self.token, &call).await.map(Amount::new)
    }

    /// Makes tokens; only on development chains, and only for the account that deployed the token.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn mint(
        &self,
        to: Address,
        amount: Amount,
    ) -> Result<TransactionReceipt, ChainError> {
        self.wallet
            .call(
                self.token,
                &Token::mintCall {
                    to,
                    value: amount.units(),
                },
            )
            .await
    }

    /// Everything that was minted.
    ///
    /// # Errors
    /// As [`Wallet::read`].
    pub async fn total_supply(&self) -> Result<U256, ChainError> {
        self.wallet
            .read(self.token, &Token::totalSupplyCall {})
            .await
    }
}
