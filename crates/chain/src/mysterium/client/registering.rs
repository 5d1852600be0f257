//! Becoming somebody to the registry: identities, channels, beneficiaries, stakes. Each message is signed by its identity and may
//! be sent by anybody. It refuses to send a message that the identity did not sign: the registry would register a stranger.

use alloy::primitives::{Address, U256};
use alloy::rpc::types::TransactionReceipt;
use wayfare_identity::Signature;
use wayfare_payment::{Amount, ChainError, ChannelId};

use super::{MysteriumClient, refuse, signed_by};
use crate::mysterium::contracts::{HermesImplementation, Registry};
use crate::mysterium::{Message, Status};

/// Tries with a nonce that all identities of a registry share.
pub(super) const NONCE_TRIES: usize = 3;

/// What a Hermes registers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HermesTerms {
    /// Signs its promises.
    pub operator: Address,
    /// Its stake, taken from whoever registers it.
    pub stake: Amount,
    /// Its share of settlements, in 1/10,000.
    pub fee_basis_points: u16,
    /// The least stake of a provider.
    pub least_stake: Amount,
    /// The most that one settlement pays to a provider without a higher stake.
    pub most_stake: Amount,
}

/// What an identity signs to be registered and to have its channel opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// Who.
    pub identity: Address,
    /// At which Hermes.
    pub hermes: Address,
    /// What of the deposit becomes the identity's stake as a provider.
    pub stake: Amount,
    /// What of the deposit whoever sends the registration gets.
    pub fee: Amount,
    /// Where earnings go; zero means to the channel itself.
    pub beneficiary: Address,
}

impl MysteriumClient {
    /// What an identity signs for [`MysteriumClient::register_for`].
    #[must_use]
    pub fn registration(&self, terms: &Registration) -> Message {
        Message::Register {
            chain_id: self.chain(),
            registry: self.deployment.registry,
            hermes: terms.hermes,
            stake: terms.stake,
            fee: terms.fee,
            beneficiary: terms.beneficiary,
        }
    }

    /// Registers the wallet's identity at a Hermes and opens its channel; an identity that is registered only has its channel
    /// opened. Stake and fee of a registration come out of what lies at the deposit address.
    ///
    /// # Errors
    /// As [`MysteriumClient::register_for`].
    pub async fn register(
        &self,
        hermes: Address,
        beneficiary: Address,
    ) -> Result<Option<TransactionReceipt>, ChainError> {
        let identity = self.wallet.address();
        if self.is_registered(identity).await? {
            let message = self.opening(hermes, Amount::ZERO);
            let signature = self.signed(&message)?;
            return self
                .open_channel_for(identity, hermes, Amount::ZERO, &signature)
                .await;
        }
        let terms = Registration {
            identity,
            hermes,
            stake: Amount::ZERO,
            fee: Amount::ZERO,
            beneficiary,
        };
        let signature = self.signed(&self.registration(&terms))?;
        self.register_for(&terms, &signature).await
    }

    /// Sends an identity's registration; `None` when its channel is there already.
    ///
    /// # Errors
    /// [`ChainError::Refused`] when the identity did not sign, when the deposit does not cover stake and fee, or when the Hermes
    /// takes nobody; else as [`Wallet::call`](crate::Wallet::call).
    pub async fn register_for(
        &self,
        terms: &Registration,
        signature: &Signature,
    ) -> Result<Option<TransactionReceipt>, ChainError> {
        signed_by(signature, self.registration(terms).digest(), terms.identity)?;
        let due = terms.stake.saturating_add(terms.fee);
        let state = self.hermes_state(terms.hermes).await?;
        if state.status != Status::Active {
            return refuse(format!(
                "the Hermes registers nobody while it is {:?}",
                state.status
            ));
        }
        let call = Registry::registerIdentityCall {
            hermes: terms.hermes,
            stake: terms.stake.units(),
            fee: terms.fee.units(),
            beneficiary: terms.beneficiary,
            signature: signature.as_bytes().to_vec().into(),
        };
        self.open(terms.identity, terms.hermes, due, &call).await
    }

    /// What a registered identity signs for [`MysteriumClient::open_channel_for`].
    #[must_use]
    pub fn opening(&self, hermes: Address, fee: Amount) -> Message {
        Message::OpenConsumerChannel {
            chain_id: self.chain(),
            registry: self.deployment.registry,
            hermes,
            fee,
        }
    }

    /// Opens a registered identity's channel at a further Hermes; `None` when it is there already.
    ///
    /// # Errors
    /// As [`MysteriumClient::register_for`].
    pub async fn open_channel_for(
        &self,
        identity: Address,
        hermes: Address,
        fee: Amount,
        signature: &Signature,
    ) -> Result<Option<TransactionReceipt>, ChainError> {
        signed_by(signature, self.opening(hermes, fee).digest(), identity)?;
        let call = Registry::openConsumerChannel_0Call {
            hermes,
            fee: fee.units(),
            signature: signature.as_bytes().to_vec().into(),
        };
        self.open(identity, hermes, fee, &call).await
    }

    /// Sends what opens a channel, unless it is open, and looks whether it is open then.
    async fn open<C: alloy::sol_types::SolCall>(
        &self,
        identity: Address,
        hermes: Address,
        due: Amount,
        call: &C,
    ) -> Result<Option<TransactionReceipt>, ChainError> {
        let channel = self.consumer_state(identity, hermes).await?;
        if channel.opened {
            return Ok(None);
        }
        if channel.tokens < due {
            return refuse(format!(
                "{due} is to be taken from {}, where {} lies",
                channel.address, channel.tokens
            ));
        }
        let receipt = match self.wallet.call(self.deployment.registry, call).await {
            Ok(receipt) => receipt,
            Err(error @ ChainError::Refused(_)) => {
                // Somebody else may have sent the same message.
                let now = self.consumer_state(identity, hermes).await?;
                return if now.opened { Ok(None) } else { Err(error) };
            }
            Err(error) => return Err(error),
        };
        if self.consumer_state(identity, hermes).await?.opened {
            Ok(Some(receipt))
        } else {
            refuse(format!(
                "the registry opened another channel than {}: what was pinned is not this registry's",
                channel.address
            ))
        }
    }

    /// Changes where the wallet's identity is paid. The nonce is one that all identities share, so it may take several tries.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn set_beneficiary(
        &self,
        beneficiary: Address,
    ) -> Result<Option<TransactionReceipt>, ChainError> {
        let identity = self.wallet.address();
        let mut tries = 0;
        loop {
            if self.beneficiary(identity).await? == beneficiary {
                return Ok(None);
            }
            let nonce = self.next_registry_nonce().await?;
            let signature = self.signed(&self.new_beneficiary(identity, beneficiary, nonce))?;
            let call = Registry::setBeneficiaryCall {
                identity,
                beneficiary,
                signature: signature.as_bytes().to_vec().into(),
            };
            tries += 1;
            match self.wallet.call(self.deployment.registry, &call).await {
                Ok(receipt) => return Ok(Some(receipt)),
                Err(error @ ChainError::Refused(_)) => {
                    let moved = self.next_registry_nonce().await? != nonce;
                    if !moved || tries >= NONCE_TRIES {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn new_beneficiary(
        &self,
        identity: Address,
        beneficiary: Address,
        nonce: U256,
    ) -> Message {
        Message::SetBeneficiary {
            chain_id: self.chain(),
            registry: self.deployment.registry,
            identity,
            beneficiary,
            nonce,
        }
    }

    /// The nonce that the registry's next message of anybody must carry.
    pub(super) async fn next_registry_nonce(&self) -> Result<U256, ChainError> {
        let last = self
            .wallet
            .read(self.deployment.registry, &Registry::lastNonceCall {})
            .await?;
        Ok(last.saturating_add(U256::from(1)))
    }

    pub(super) fn signed(&self, message: &Message) -> Result<Signature, ChainError> {
        message
            .sign(self.wallet.signer())
            .map_err(|why| ChainError::Refused(why.to_string()))
    }

    // -------------------------------------------------------------------------------------------------- stakes

    /// Approves and adds to a provider's stake: what one settlement may pay at most grows with it.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn increase_stake(
        &self,
        provider: Address,
        hermes: Address,
        sum: Amount,
    ) -> Result<TransactionReceipt, ChainError> {
        self.known(hermes)?;
        self.allow(hermes, sum).await?;
        let call = HermesImplementation::increaseStakeCall {
            channel: ChannelId::of_provider(provider, hermes).0,
            amount: sum.units(),
        };
        self.wallet.call(hermes, &call).await
    }

    /// Takes from the stake of the wallet's identity; it goes to its beneficiary.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn decrease_stake(
        &self,
        hermes: Address,
        sum: Amount,
    ) -> Result<TransactionReceipt, ChainError> {
        let identity = self.wallet.address();
        let channel = self.provider_channel(identity, hermes).await?;
        let message = Message::DecreaseStake {
            chain_id: self.chain(),
            channel: ChannelId::of_provider(identity, hermes),
            amount: sum,
            fee: Amount::ZERO,
            nonce: channel.nonce.saturating_add(U256::from(1)),
        };
        let call = HermesImplementation::decreaseStakeCall {
            identity,
            amount: sum.units(),
            fee: U256::ZERO,
            signature: self.signed(&message)?.as_bytes().to_vec().into(),
        };
        self.wallet.call(hermes, &call).await
    }

    pub(super) async fn allow(&self, spender: Address, sum: Amount) -> Result<(), ChainError> {
        let token = self.token();
        if token.allowance(self.wallet.address(), spender).await? < sum {
            token.approve(spender, sum).await?;
        }
        Ok(())
    }
}
