//! The deployed Mysterium contracts, seen by one account: what `payment::Chain` asks for, and the actions around it.
//!
//! The contracts are used as they are, so what they leave open is closed here. No promise with a fee for its sender is touched:
//! whoever sees it may take the fee. A signature is compared with its signer before it is sent: the contracts take whom they
//! recover. Money that a promise cannot get today is not asked for: such a transaction succeeds, pays nothing and shows the
//! preimage. It refuses to know when to settle, and to take an address that it can derive from a server.

mod leaving;
mod operating;
mod port;
mod reading;
mod registering;
mod settling;

use std::sync::Arc;

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::{SolCall, SolValue};
use tokio::sync::Mutex;
use wayfare_identity::Signature;
use wayfare_payment::{Amount, ChainError, ChannelId, SettleOrder};

use super::Takings;
use super::contracts::Registry;
use super::deployment::{Deployment, KnownHermes};
use crate::Wallet;
use crate::order::{self, refuse};

pub use leaving::FastExit;
pub use reading::{ConsumerChannel, HermesState, ProviderChannel};
pub use registering::{HermesTerms, Registration};

/// Where a channel keeps the nonce of its owner's messages; no view shows it.
const CHANNEL_NONCE: u64 = 4;
/// What a Hermes must know of its own consumers.
#[derive(Debug, Clone)]
struct House {
    hermes: Address,
    cap: Amount,
    takings: Arc<Mutex<Takings>>,
}

/// The contracts and the account that acts on them.
#[derive(Debug, Clone)]
pub struct MysteriumClient {
    wallet: Wallet,
    deployment: Arc<Deployment>,
    house: Option<House>,
    least_payout: Amount,
}

impl MysteriumClient {
    /// Touches nothing; [`MysteriumClient::check`] finds out whether this can work.
    #[must_use]
    pub fn new(wallet: Wallet, deployment: Deployment) -> Self {
        Self {
            wallet,
            deployment: Arc::new(deployment),
            house: None,
            least_payout: Amount::ZERO,
        }
    }

    /// For a provider: a settlement that would bring less, while more is owed, is not worth its gas. A Hermes that is short of
    /// money would otherwise be asked again and again for what its own share of the last settlement left it.
    #[must_use]
    pub fn with_least_payout(mut self, least: Amount) -> Self {
        self.least_payout = least;
        self
    }

    /// For a Hermes. Of no consumer's channel more than `cap` is counted on, since a channel locks nothing and its owner can
    /// empty it in one transaction: what is signed and not collected then never exceeds it. A channel that paid anybody else
    /// than its Hermes by a cheque counts as one whose owner is leaving, with nothing in it.
    #[must_use]
    pub fn for_hermes(mut self, cap: Amount, takings: Takings) -> Self {
        self.house = Some(House {
            hermes: takings.hermes(),
            cap,
            takings: Arc::new(Mutex::new(takings)),
        });
        self
    }

    /// Asks whether the server answers and serves the right chain, and whether registry and known Hermes are what was pinned.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`], [`ChainError::WrongChain`], [`ChainError::NoContract`], [`ChainError::UnknownHermes`];
    /// [`ChainError::Refused`] when the registry contradicts what was pinned.
    pub async fn check(&self) -> Result<(), ChainError> {
        let (expected, found) = (self.deployment.chain_id, self.wallet.chain_id());
        if expected != found {
            return Err(ChainError::WrongChain { expected, found });
        }
        self.wallet.check().await?;
        let registry = self.deployment.registry;
        self.wallet.check_contract(registry).await?;
        let token = self.wallet.read(registry, &Registry::tokenCall {}).await?;
        if token != self.deployment.token {
            return Err(contradiction("token", self.deployment.token, token));
        }
        for known in &self.deployment.hermes {
            self.check_hermes(known).await?;
        }
        Ok(())
    }

    async fn check_hermes(&self, known: &KnownHermes) -> Result<(), ChainError> {
        let registry = self.deployment.registry;
        let registered = self
            .wallet
            .read(registry, &Registry::isHermesCall { hermes: known.id })
            .await?;
        if !registered {
            return Err(ChainError::UnknownHermes(known.id));
        }
        let call = Registry::getHermesCall { hermes: known.id };
        let answer = self
            .wallet
            .read_raw(registry, call.abi_encode().into())
            .await?;
        let version = implementation_version(&answer).ok_or(ChainError::NoContract(registry))?;
        if version != U256::from(known.version.number()) {
            return Err(ChainError::Refused(format!(
                "the registry says that {} is of version {version}, {} was expected",
                known.id,
                known.version.number()
            )));
        }
        let implementation = self
            .wallet
            .read(
                registry,
                &Registry::getChannelImplementationCall { version },
            )
            .await?;
        if implementation != known.channel_implementation {
            return Err(contradiction(
                "channel implementation",
                known.channel_implementation,
                implementation,
            ));
        }
        Ok(())
    }

    /// The account.
    #[must_use]
    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// What was pinned.
    #[must_use]
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The token, for the same account.
    #[must_use]
    pub fn token(&self) -> crate::TokenClient {
        crate::TokenClient::new(self.wallet.clone(), self.deployment.token)
    }

    /// Where a consumer sends tokens for a Hermes; derived here, no server is trusted.
    ///
    /// # Errors
    /// [`ChainError::UnknownHermes`] when it was not pinned.
    pub fn deposit_address(
        &self,
        consumer: Address,
        hermes: Address,
    ) -> Result<Address, ChainError> {
        self.deployment
            .deposit_address(consumer, hermes)
            .ok_or(ChainError::UnknownHermes(hermes))
    }

    // ------------------------------------------------------------------------------------------------- private

    fn known(&self, hermes: Address) -> Result<&KnownHermes, ChainError> {
        self.deployment
            .known(hermes)
            .ok_or(ChainError::UnknownHermes(hermes))
    }

    fn chain(&self) -> U256 {
        U256::from(self.wallet.chain_id())
    }
}

/// Refuses before gas is spent, and before a preimage is shown, what must not be sent.
pub(super) fn sound(
    order: &SettleOrder,
    chain_id: u64,
    channel: ChannelId,
    payer: Address,
) -> Result<(), ChainError> {
    order::is_for(order, chain_id, channel)?;
    let promise = &order.promise.promise;
    if !promise.fee.is_zero() {
        return refuse(format!(
            "the promise pays {} to whoever sends it, and anybody may",
            promise.fee
        ));
    }
    order::opens(order)?;
    signed_by(&order.promise.signature, promise.digest(), payer)
}

fn signed_by(signature: &Signature, digest: B256, signer: Address) -> Result<(), ChainError> {
    signature
        .verify(digest, signer)
        .map_err(|why| ChainError::Refused(why.to_string()))
}

fn contradiction(what: &str, expected: Address, found: Address) -> ChainError {
    ChainError::Refused(format!(
        "the registry names {found} as {what}, {expected} was pinned: the wrong registry, or a server that lies"
    ))
}

/// The version in what `getHermes` answers: `(operator, version, …)`, whether as four values or as one of four.
fn implementation_version(answer: &[u8]) -> Option<U256> {
    let words = answer.len() / 32;
    let word = |index: usize| U256::abi_decode(answer.get(32 * index..32 * index + 32)?).ok();
    // One value of four begins with its offset, 32, which is nobody's address.
    let first = usize::from(words > 2 && word(0)? == U256::from(32));
    word(first + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hermes_entry_is_read_as_values_and_as_one_value() {
        let word = |n: u64| U256::from(n).to_be_bytes::<32>();
        let values = [word(0xABCD), word(2), word(0), word(128), word(0)].concat();
        assert_eq!(implementation_version(&values), Some(U256::from(2)));
        let one = [&word(32)[..], &values].concat();
        assert_eq!(implementation_version(&one), Some(U256::from(2)));
        assert_eq!(implementation_version(&[0; 40]), None);
        assert_eq!(implementation_version(&[]), None);
    }
}
