//! Puts the contracts on a chain. It refuses to choose where or with whose money.

use alloy::primitives::{Address, Bytes};
use alloy::sol_types::SolConstructor;
use std::time::Duration;
use wayfare_payment::ChainError;

use crate::Wallet;
use crate::bindings::{Direct, Token, Vault};

/// The two delays of a vault, fixed when it is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// From a consumer's wish to leave until it may take its balance: time for its Hermes to collect.
    pub exit: Duration,
    /// From a Hermes' notice until it may take collateral, and until a new operator key is good: time for providers to settle.
    pub collateral: Duration,
}

impl Default for Delays {
    /// A day for consumers; thirty days for Hermes, as settlement must stay open that long.
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            exit: DAY,
            collateral: DAY.saturating_mul(30),
        }
    }
}

/// Deploys the development token; its minter is the wallet.
///
/// # Errors
/// As [`Wallet::call`].
pub async fn deploy_token(wallet: &Wallet) -> Result<Address, ChainError> {
    wallet.deploy(Token::BYTECODE.clone()).await
}

/// Deploys a vault for a token.
///
/// # Errors
/// As [`Wallet::call`]; [`ChainError::NoContract`] when there is no token at that address.
pub async fn deploy_vault(
    wallet: &Wallet,
    token: Address,
    delays: Delays,
) -> Result<Address, ChainError> {
    wallet.check_contract(token).await?;
    let seconds =
        |delay: Duration| alloy::primitives::aliases::U40::saturating_from(delay.as_secs());
    let arguments = Vault::constructorCall {
        token_: token,
        exitDelay_: seconds(delays.exit),
        collateralDelay_: seconds(delays.collateral),
    };
    let code = [Vault::BYTECODE.as_ref(), &arguments.abi_encode()].concat();
    wallet.deploy(Bytes::from(code)).await
}

/// Deploys a contract of direct channels for a token; `delay` is how long a provider has after a payer asked for the rest.
///
/// # Errors
/// As [`Wallet::call`]; [`ChainError::NoContract`] when there is no token at that address.
pub async fn deploy_direct(
    wallet: &Wallet,
    token: Address,
    delay: Duration,
) -> Result<Address, ChainError> {
    wallet.check_contract(token).await?;
    let arguments = Direct::constructorCall {
        token_: token,
        unlockDelay_: alloy::primitives::aliases::U40::saturating_from(delay.as_secs()),
    };
    let code = [Direct::BYTECODE.as_ref(), &arguments.abi_encode()].concat();
    wallet.deploy(Bytes::from(code)).await
}
