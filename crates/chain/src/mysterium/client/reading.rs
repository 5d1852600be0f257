//! What the contracts say, in values. It refuses to act.

use alloy::primitives::{Address, U256};
use wayfare_payment::{Amount, ChainError, ChannelId};

use super::MysteriumClient;
use crate::mysterium::contracts::{ChannelImplementation, Erc20, HermesImplementation, Registry};
use crate::mysterium::{Books, Status, Version};

/// Where a channel of the first version keeps the moment from which its owner may leave.
const CHANNEL_EXIT: u64 = 5;
/// Where a Hermes keeps the sum of all stakes; no view shows it.
const TOTAL_STAKE: u64 = 6;

/// A Hermes, its contract's views in one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HermesState {
    /// Whose signature its promises carry.
    pub operator: Address,
    /// What it is doing.
    pub status: Status,
    /// Its share of a settlement now, in 1/10,000.
    pub fee_basis_points: u16,
    /// Its share from `fee_from` on: the same, unless a change was announced.
    pub next_fee_basis_points: u16,
    /// Unix seconds from which `next_fee_basis_points` holds.
    pub fee_from: u64,
    /// Its own stake, which pays no promise.
    pub stake: Amount,
    /// The stakes of all providers together, which pay no promise either.
    pub total_stake: Amount,
    /// What it can pay out.
    pub available: Amount,
    /// The least stake for a first settlement.
    pub least_stake: Amount,
    /// The most that one settlement pays, unless the stake is higher.
    pub most_stake: Amount,
}

/// A provider's channel at a Hermes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProviderChannel {
    /// Settled so far.
    pub settled: Amount,
    /// The provider's stake.
    pub stake: Amount,
    /// The last nonce of its owner's messages.
    pub nonce: U256,
}

/// A consumer's channel at a Hermes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerChannel {
    /// Where tokens go, whether or not there is a contract yet.
    pub address: Address,
    /// Whether there is one: without it nobody can collect.
    pub opened: bool,
    /// What lies there.
    pub tokens: Amount,
    /// Collected so far.
    pub settled: Amount,
    /// Unix seconds from which the consumer may take everything; only of a channel of the first version.
    pub exit_at: Option<u64>,
}

impl MysteriumClient {
    /// Reads a Hermes.
    ///
    /// # Errors
    /// [`ChainError::UnknownHermes`] when it was not pinned; else as [`Wallet::read`].
    pub async fn hermes_state(&self, hermes: Address) -> Result<HermesState, ChainError> {
        use HermesImplementation as H;
        self.known(hermes)?;
        let wallet = &self.wallet;
        let (operator, status) = tokio::try_join!(
            wallet.read(hermes, &H::getOperatorCall {}),
            wallet.read(hermes, &H::getStatusCall {}),
        )?;
        let (fee, next, stake, thresholds) = tokio::try_join!(
            wallet.read(hermes, &H::getActiveFeeCall {}),
            wallet.read(hermes, &H::lastFeeCall {}),
            wallet.read(hermes, &H::getHermesStakeCall {}),
            wallet.read(hermes, &H::getStakeThresholdsCall {}),
        )?;
        let (available, total_stake) = tokio::try_join!(
            wallet.read(hermes, &H::availableBalanceCall {}),
            wallet.storage(hermes, TOTAL_STAKE),
        )?;
        Ok(HermesState {
            operator,
            status: Status::from_number(status).ok_or(ChainError::NoContract(hermes))?,
            // More than a uint16 holds is more than everything.
            fee_basis_points: fee.saturating_to(),
            next_fee_basis_points: next.value,
            fee_from: next.validFrom,
            stake: Amount::new(stake),
            total_stake: Amount::new(total_stake),
            available: Amount::new(available),
            least_stake: Amount::new(thresholds.least),
            most_stake: Amount::new(thresholds.most),
        })
    }

    /// Reads a provider's channel.
    ///
    /// # Errors
    /// As [`MysteriumClient::hermes_state`].
    pub async fn provider_channel(
        &self,
        provider: Address,
        hermes: Address,
    ) -> Result<ProviderChannel, ChainError> {
        self.channel_of(ChannelId::of_provider(provider, hermes), hermes)
            .await
    }

    pub(super) async fn channel_of(
        &self,
        channel: ChannelId,
        hermes: Address,
    ) -> Result<ProviderChannel, ChainError> {
        self.known(hermes)?;
        let call = HermesImplementation::channelsCall { channel: channel.0 };
        let found = self.wallet.read(hermes, &call).await?;
        Ok(ProviderChannel {
            settled: Amount::new(found.settled),
            stake: Amount::new(found.stake),
            nonce: found.lastUsedNonce,
        })
    }

    /// Reads a consumer's channel, opened or not.
    ///
    /// # Errors
    /// As [`MysteriumClient::hermes_state`].
    pub async fn consumer_state(
        &self,
        consumer: Address,
        hermes: Address,
    ) -> Result<ConsumerChannel, ChainError> {
        let known = *self.known(hermes)?;
        let address = self.deposit_address(consumer, hermes)?;
        let tokens = self.tokens(address).await?;
        let opened = match self.wallet.check_contract(address).await {
            Ok(()) => true,
            Err(ChainError::NoContract(_)) => false,
            Err(error) => return Err(error),
        };
        let mut state = ConsumerChannel {
            address,
            opened,
            tokens,
            settled: Amount::ZERO,
            exit_at: None,
        };
        if !opened {
            return Ok(state);
        }
        let link = self
            .wallet
            .read(address, &ChannelImplementation::hermesCall {})
            .await?;
        state.settled = Amount::new(link.settled);
        if known.version == Version::First {
            let due = self.wallet.storage(address, CHANNEL_EXIT).await?;
            state.exit_at = (!due.is_zero()).then(|| due.saturating_to());
        }
        Ok(state)
    }

    /// Tokens of an account.
    ///
    /// # Errors
    /// As [`Wallet::read`].
    pub async fn tokens(&self, account: Address) -> Result<Amount, ChainError> {
        self.wallet
            .read(self.deployment.token, &Erc20::balanceOfCall { account })
            .await
            .map(Amount::new)
    }

    /// Whether an identity is registered.
    ///
    /// # Errors
    /// As [`Wallet::read`].
    pub async fn is_registered(&self, identity: Address) -> Result<bool, ChainError> {
        self.wallet
            .read(
                self.deployment.registry,
                &Registry::isRegisteredCall { identity },
            )
            .await
    }

    /// Where an identity's earnings go.
    ///
    /// # Errors
    /// As [`Wallet::read`].
    pub async fn beneficiary(&self, identity: Address) -> Result<Address, ChainError> {
        self.wallet
            .read(
                self.deployment.registry,
                &Registry::getBeneficiaryCall { identity },
            )
            .await
    }
}

impl HermesState {
    /// What a settlement on a channel of this Hermes depends on.
    #[must_use]
    pub fn books(&self, channel: &ProviderChannel) -> Books {
        Books {
            status: self.status,
            available: self.available,
            least_stake: self.least_stake,
            most_stake: self.most_stake,
            fee_basis_points: self.fee_basis_points,
            settled: channel.settled,
            stake: channel.stake,
        }
    }
}
