//! What the owner and the operator of a Hermes do. It refuses to take out what is still owed: these contracts would let it.

use alloy::primitives::{Address, Bytes};
use alloy::rpc::types::TransactionReceipt;
use alloy::sol_types::SolCall;
use wayfare_payment::{Amount, ChainError};

use super::{HermesTerms, MysteriumClient, refuse};
use crate::mysterium::contracts::{HermesImplementation as H, Registry};

impl MysteriumClient {
    /// Approves the stake and registers a Hermes of the newest version; the answer is its contract, which has to be pinned with
    /// its channel implementation before anything else can be asked about it.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn register_hermes(
        &self,
        terms: &HermesTerms,
        url: &str,
    ) -> Result<Address, ChainError> {
        self.allow(self.deployment.registry, terms.stake).await?;
        let call = Registry::registerHermesCall {
            operator: terms.operator,
            stake: terms.stake.units(),
            fee: terms.fee_basis_points,
            minStake: terms.least_stake.units(),
            maxStake: terms.most_stake.units(),
            url: Bytes::copy_from_slice(url.as_bytes()),
        };
        self.wallet.call(self.deployment.registry, &call).await?;
        let call = Registry::getHermesAddress_0Call {
            operator: terms.operator,
        };
        self.wallet.read(self.deployment.registry, &call).await
    }

    /// Takes free money out, if what is owed to providers stays.
    ///
    /// # Errors
    /// [`ChainError::Refused`] when it would not; else as [`Wallet::call`](crate::Wallet::call).
    pub async fn withdraw(
        &self,
        hermes: Address,
        beneficiary: Address,
        sum: Amount,
        owed: Amount,
    ) -> Result<TransactionReceipt, ChainError> {
        let available = self.hermes_state(hermes).await?.available;
        if available.saturating_sub(sum) < owed || available < sum {
            return refuse(format!(
                "{available} is free and {owed} is owed to providers: {sum} is too much"
            ));
        }
        let amount = sum.units();
        self.operate(
            hermes,
            &H::withdrawCall {
                beneficiary,
                amount,
            },
        )
        .await
    }

    /// Announces a new share of settlements; it holds three days later.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn announce_fee(
        &self,
        hermes: Address,
        basis_points: u16,
    ) -> Result<TransactionReceipt, ChainError> {
        self.operate(hermes, &H::setHermesFeeCall { fee: basis_points })
            .await
    }

    /// Approves and adds to the Hermes' own stake.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn increase_hermes_stake(
        &self,
        hermes: Address,
        sum: Amount,
    ) -> Result<TransactionReceipt, ChainError> {
        self.known(hermes)?;
        self.allow(hermes, sum).await?;
        let amount = sum.units();
        self.operate(hermes, &H::increaseHermesStakeCall { amount })
            .await
    }

    /// Opens no more channels. Of the first two versions the operator may, of the third the owner.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn pause(&self, hermes: Address) -> Result<TransactionReceipt, ChainError> {
        self.operate(hermes, &H::pauseChannelOpeningCall {}).await
    }

    /// Takes a pause back.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn activate(&self, hermes: Address) -> Result<TransactionReceipt, ChainError> {
        self.operate(hermes, &H::activateChannelOpeningCall {})
            .await
    }

    /// Closes the Hermes for good; its stake can be taken three hundred days later.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn close(&self, hermes: Address) -> Result<TransactionReceipt, ChainError> {
        self.operate(hermes, &H::closeHermesCall {}).await
    }

    /// Takes the stake of a Hermes that was closed long enough ago.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn stake_back(
        &self,
        hermes: Address,
        beneficiary: Address,
    ) -> Result<TransactionReceipt, ChainError> {
        self.operate(hermes, &H::getStakeBackCall { beneficiary })
            .await
    }

    /// Ends a punishment, once the Hermes holds what it must; anybody may.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn resolve_emergency(
        &self,
        hermes: Address,
    ) -> Result<TransactionReceipt, ChainError> {
        self.operate(hermes, &H::resolveEmergencyCall {}).await
    }

    async fn operate<C: SolCall>(
        &self,
        hermes: Address,
        call: &C,
    ) -> Result<TransactionReceipt, ChainError> {
        self.known(hermes)?;
        self.wallet.call(hermes, call).await
    }
}
