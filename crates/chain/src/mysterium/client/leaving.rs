//! How a consumer takes its tokens back: at once with its Hermes' consent, or, from a channel of the first version, alone after
//! four days. It refuses to consent to what leaves less in the channel than the consumer has signed away.

use alloy::primitives::{Address, Bytes, U256};
use alloy::rpc::types::TransactionReceipt;
use wayfare_identity::Signature;
use wayfare_payment::{Amount, ChainError};

use super::settling::bytes;
use super::{CHANNEL_NONCE, MysteriumClient, refuse, signed_by};
use crate::mysterium::contracts::ChannelImplementation as C;
use crate::mysterium::{Message, Version};

/// The longest a consent may be good, in seconds: as long as it is, nothing may be promised from what it lets go.
const CONSENT: u64 = 600;
/// For how long a wish to leave alone may be sent, in seconds; the contract takes less than four days.
const WISH: u64 = 3_600;

/// An exit that consumer and Hermes sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastExit {
    /// Who leaves.
    pub consumer: Address,
    /// Which Hermes.
    pub hermes: Address,
    /// What is taken out; nothing of it goes to whoever sends the transaction.
    pub amount: Amount,
    /// Where to.
    pub beneficiary: Address,
    /// Unix seconds after which it is void.
    pub valid_until: u64,
    /// The channel's.
    pub nonce: U256,
}

impl MysteriumClient {
    /// An exit as it can be signed now; good for ten minutes, and until the channel's nonce moves.
    ///
    /// # Errors
    /// As [`Wallet::read`](crate::Wallet::read).
    pub async fn fast_exit_terms(
        &self,
        consumer: Address,
        hermes: Address,
        amount: Amount,
        beneficiary: Address,
    ) -> Result<FastExit, ChainError> {
        let channel = self.deposit_address(consumer, hermes)?;
        Ok(FastExit {
            consumer,
            hermes,
            amount,
            beneficiary,
            valid_until: self.wallet.chain_time().await?.saturating_add(CONSENT),
            nonce: self.wallet.storage(channel, CHANNEL_NONCE).await?,
        })
    }

    /// What consumer and operator sign.
    ///
    /// # Errors
    /// [`ChainError::UnknownHermes`].
    pub fn fast_exit_message(&self, exit: &FastExit) -> Result<Message, ChainError> {
        Ok(Message::FastExit {
            chain_id: self.chain(),
            channel: self.deposit_address(exit.consumer, exit.hermes)?,
            amount: exit.amount,
            fee: Amount::ZERO,
            beneficiary: exit.beneficiary,
            valid_until: U256::from(exit.valid_until),
            nonce: exit.nonce,
        })
    }

    /// The operator's consent, when the channel then still covers `owed`: what the consumer signed and the Hermes did not
    /// collect. Whoever consents counts `amount` as gone until the exit is seen or void.
    ///
    /// # Errors
    /// [`ChainError::Refused`] when it must not be given.
    pub async fn consent_to_exit(
        &self,
        exit: &FastExit,
        owed: Amount,
    ) -> Result<Signature, ChainError> {
        let now = self.wallet.chain_time().await?;
        if exit.valid_until > now.saturating_add(CONSENT) {
            return refuse(format!(
                "a consent is good for {CONSENT} seconds at most, not until {}",
                exit.valid_until
            ));
        }
        let channel = self.consumer_state(exit.consumer, exit.hermes).await?;
        let rest = channel.tokens.checked_sub(exit.amount);
        if rest.is_none_or(|rest| rest < owed) {
            return refuse(format!(
                "{} lies in the channel and {owed} of it is owed: {} is too much",
                channel.tokens, exit.amount
            ));
        }
        self.signed(&self.fast_exit_message(exit)?)
    }

    /// Sends an exit that both have signed.
    ///
    /// # Errors
    /// [`ChainError::Refused`] when one of them did not; else as [`Wallet::call`](crate::Wallet::call).
    pub async fn fast_exit(
        &self,
        exit: &FastExit,
        consumer: &Signature,
        operator: &Signature,
    ) -> Result<TransactionReceipt, ChainError> {
        if exit.beneficiary.is_zero() {
            return refuse("tokens sent to nobody are burnt: name a beneficiary".to_owned());
        }
        let digest = self.fast_exit_message(exit)?.digest();
        signed_by(consumer, digest, exit.consumer)?;
        signed_by(
            operator,
            digest,
            self.hermes_state(exit.hermes).await?.operator,
        )?;
        let call = C::fastExitCall {
            amount: exit.amount.units(),
            fee: U256::ZERO,
            beneficiary: exit.beneficiary,
            validUntil: U256::from(exit.valid_until),
            operatorSignature: bytes(operator),
            signature: bytes(consumer),
        };
        let channel = self.deposit_address(exit.consumer, exit.hermes)?;
        self.wallet.call(channel, &call).await
    }

    /// Starts the wallet's exit alone. An exit that is pending is fine.
    ///
    /// # Errors
    /// [`ChainError::Refused`] when the channel is of a later version; else as [`Wallet::call`](crate::Wallet::call).
    pub async fn request_exit(
        &self,
        hermes: Address,
        beneficiary: Address,
    ) -> Result<Option<TransactionReceipt>, ChainError> {
        self.leaves_alone(hermes)?;
        if beneficiary.is_zero() {
            return refuse("tokens sent to nobody are burnt: name a beneficiary".to_owned());
        }
        let consumer = self.wallet.address();
        let channel = self.consumer_state(consumer, hermes).await?;
        if channel.exit_at.is_some() {
            return Ok(None);
        }
        let until = self.wallet.chain_time().await?.saturating_add(WISH);
        let call = C::requestExitCall {
            beneficiary,
            validUntil: U256::from(until),
            signature: Bytes::new(),
        };
        self.wallet.call(channel.address, &call).await.map(Some)
    }

    /// What a consumer signs so that somebody else starts its exit.
    ///
    /// # Errors
    /// As [`MysteriumClient::request_exit`].
    pub fn exit_message(
        &self,
        consumer: Address,
        hermes: Address,
        beneficiary: Address,
        valid_until: u64,
    ) -> Result<Message, ChainError> {
        self.leaves_alone(hermes)?;
        Ok(Message::RequestExitV1 {
            channel: self.deposit_address(consumer, hermes)?,
            beneficiary,
            valid_until: U256::from(valid_until),
        })
    }

    /// Starts a consumer's exit with its signature.
    ///
    /// # Errors
    /// As [`MysteriumClient::request_exit`].
    pub async fn request_exit_for(
        &self,
        consumer: Address,
        hermes: Address,
        beneficiary: Address,
        valid_until: u64,
        signature: &Signature,
    ) -> Result<TransactionReceipt, ChainError> {
        let message = self.exit_message(consumer, hermes, beneficiary, valid_until)?;
        signed_by(signature, message.digest(), consumer)?;
        let call = C::requestExitCall {
            beneficiary,
            validUntil: U256::from(valid_until),
            signature: bytes(signature),
        };
        let channel = self.deposit_address(consumer, hermes)?;
        self.wallet.call(channel, &call).await
    }

    /// Ends a consumer's exit after the delay; anybody may, and the beneficiary gets what lies there then.
    ///
    /// # Errors
    /// As [`Wallet::call`](crate::Wallet::call).
    pub async fn finalize_exit(
        &self,
        consumer: Address,
        hermes: Address,
    ) -> Result<TransactionReceipt, ChainError> {
        self.leaves_alone(hermes)?;
        let channel = self.deposit_address(consumer, hermes)?;
        self.wallet.call(channel, &C::finalizeExitCall {}).await
    }

    fn leaves_alone(&self, hermes: Address) -> Result<(), ChainError> {
        match self.known(hermes)?.version {
            Version::First => Ok(()),
            Version::Second | Version::Third => refuse(
                "channels of this Hermes are left only with its consent: ask it for a fast exit"
                    .to_owned(),
            ),
        }
    }
}
