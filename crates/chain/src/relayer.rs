//! Settlements for those who have no coin for gas: a payee consents, a relayer sends and earns the promise's fee.
//!
//! The payee names the relayer, the most it may earn and a deadline; nobody else can use the consent, and after the deadline nobody
//! at all. The relayer sends only what pays for its gas at the current price. Neither believes the other: the relayer tries the call
//! before it sends it, and the payee asks the chain whether it is settled. When the relayer refuses, or the deadline has passed, the
//! payee sends for itself, which always works and costs no fee.
//! It refuses to know how a request travels.

use std::fmt::Debug;

use alloy::primitives::Address;
use tokio::time::sleep;
use tracing::info;
use wayfare_identity::{Domain, SignError, Signature, Signer};
use wayfare_payment::{Amount, Chain, ChainError, ChannelId, PortFuture, SettleOrder, Settled};

use crate::{SettleConsent, VaultClient};

/// Wei in one coin.
const COIN: u128 = 1_000_000_000_000_000_000;

/// What a payee hands to a relayer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayRequest {
    /// What the payee agrees to.
    pub consent: SettleConsent,
    /// The promise, with its fee for the relayer.
    pub order: SettleOrder,
    /// The payee's, under the consent.
    pub signature: Signature,
}

impl RelayRequest {
    /// Lets `relayer` settle `order` for the signer until `deadline` (Unix seconds of the chain), for at most `max_fee`.
    ///
    /// # Errors
    /// [`SignError`] of the signer.
    pub fn sign(
        payee: &dyn Signer,
        domain: &Domain,
        order: SettleOrder,
        relayer: Address,
        max_fee: Amount,
        deadline: u64,
    ) -> Result<Self, SignError> {
        let consent = SettleConsent {
            payee: payee.address(),
            hermes: order.hermes,
            caller: relayer,
            beneficiary: order.beneficiary,
            amount: order.promise.promise.amount,
            max_fee,
            deadline,
        };
        Ok(Self {
            consent,
            order,
            signature: payee.sign_digest(consent.digest(domain))?,
        })
    }
}

/// What a relayer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayTerms {
    /// Tokens, in their smallest unit, that one coin (10^18 wei) is worth to the relayer.
    pub coin_price: Amount,
    /// What it wants to earn on top of the gas, in percent.
    pub margin_percent: u32,
    /// Seconds that a consent must be valid for still: a few blocks, more when gas is dear.
    pub least_time: u64,
}

/// Why a relayer does not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayRefusal {
    /// The consent is for somebody else.
    #[error("the consent names the relayer {0}, which is another")]
    AnotherRelayer(Address),
    /// Consent and promise do not belong together.
    #[error("the consent does not fit the promise: {0}")]
    Mismatch(&'static str),
    /// Not the payee's signature.
    #[error("the consent is not signed by {0}")]
    NotSigned(Address),
    /// It could not be mined in time.
    #[error("the consent is valid for {left} s more, {least} s are needed")]
    TooLate {
        /// What is left.
        left: u64,
        /// What the relayer asks for.
        least: u64,
    },
    /// It would cost more than it brings.
    #[error("the fee is {fee} and the gas costs {cost} now")]
    FeeTooLow {
        /// What the promise pays.
        fee: Amount,
        /// What the relayer wants.
        cost: Amount,
    },
    /// The chain did not answer, or would refuse the settlement.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Whoever sends settlements for others.
pub trait Relay: Debug + Send + Sync {
    /// Sends a settlement, and answers what its own chain says then.
    fn relay<'a>(
        &'a self,
        request: &'a RelayRequest,
    ) -> PortFuture<'a, Result<Settled, RelayRefusal>>;
}

/// A relayer with an account on the chain; it sends through its wallet's outbox.
#[derive(Debug, Clone)]
pub struct Relayer {
    vault: VaultClient,
    terms: RelayTerms,
}

impl Relayer {
    /// Sends from the client's account.
    #[must_use]
    pub fn new(vault: VaultClient, terms: RelayTerms) -> Self {
        Self { vault, terms }
    }

    /// The account that consents must name.
    #[must_use]
    pub fn address(&self) -> Address {
        self.vault.wallet().address()
    }

    /// What a settlement of so much gas costs now, in tokens, the relayer's margin included; rounded up.
    ///
    /// # Errors
    /// As [`Wallet::gas_price`](crate::Wallet::gas_price).
    pub async fn cost(&self, gas: u64) -> Result<Amount, ChainError> {
        let price = self.vault.wallet().gas_price().await?;
        let wei = price.saturating_mul(u128::from(gas));
        let tokens = self.terms.coin_price.mul_div_up(wei, COIN);
        Ok(tokens.mul_div_up(100 + u128::from(self.terms.margin_percent), 100))
    }

    /// Whether it would send this now; the answer is what it would cost.
    ///
    /// # Errors
    /// [`RelayRefusal`].
    pub async fn check(&self, request: &RelayRequest) -> Result<Amount, RelayRefusal> {
        let RelayRequest {
            consent,
            order,
            signature,
        } = request;
        if consent.caller != self.address() {
            return Err(RelayRefusal::AnotherRelayer(consent.caller));
        }
        fits(consent, order)?;
        signature
            .verify(consent.digest(&self.vault.domain()), consent.payee)
            .map_err(|_| RelayRefusal::NotSigned(consent.payee))?;
        let wallet = self.vault.wallet();
        let left = consent.deadline.saturating_sub(wallet.chain_time().await?);
        let least = self.terms.least_time;
        if left < least {
            return Err(RelayRefusal::TooLate { left, least });
        }
        // Tried on the newest state: a Hermes that cannot pay, a promise that is settled, a bad signature end here.
        let call = VaultClient::settle_for_call(consent, order, signature);
        let gas = wallet.estimate(self.vault.address(), &call).await?;
        let cost = self.cost(gas).await?;
        let fee = order.promise.promise.fee;
        if fee < cost {
            return Err(RelayRefusal::FeeTooLow { fee, cost });
        }
        Ok(cost)
    }
}

impl Relay for Relayer {
    fn relay<'a>(
        &'a self,
        request: &'a RelayRequest,
    ) -> PortFuture<'a, Result<Settled, RelayRefusal>> {
        Box::pin(async move {
            self.check(request).await?;
            let RelayRequest {
                consent,
                order,
                signature,
            } = *request;
            Ok(self.vault.settle_for(consent, order, &signature).await?)
        })
    }
}

impl VaultClient {
    /// Has a relayer settle the wallet's promise, and sends it itself when the relayer refuses, or the consent's deadline has passed.
    /// What counts is what the chain shows, not what the relayer says.
    ///
    /// # Errors
    /// As [`Chain::settle`], of the fallback.
    pub async fn settle_through(
        &self,
        relay: &dyn Relay,
        request: &RelayRequest,
    ) -> Result<Settled, ChainError> {
        let (payee, hermes) = (request.consent.payee, request.consent.hermes);
        let wanted = request.order.promise.promise.amount;
        let mut asked = relay.relay(request);
        let mut answer = None;
        // Ends by the deadline: the chain's time goes on, or the chain cannot be read and says so.
        loop {
            let shown = self.provider(payee, hermes).await?.settled;
            if shown >= wanted {
                let told = answer.and_then(Result::ok);
                return Ok(Settled {
                    transaction: told.and_then(|settled: Settled| settled.transaction),
                    total: shown,
                    gas: 0,
                });
            }
            if let Some(Err(why)) = &answer {
                info!(%why, "the relayer does not settle; it is done without it");
                break;
            }
            if self.wallet().chain_time().await? > request.consent.deadline {
                info!("the relayer has not settled in time; it is done without it");
                break;
            }
            let pause = sleep(self.wallet().pause());
            if answer.is_some() {
                pause.await;
                continue;
            }
            tokio::select! {
                told = &mut asked => answer = Some(told),
                () = pause => {}
            }
        }
        self.settle(request.order).await
    }
}

/// Whether a consent is about the promise.
fn fits(consent: &SettleConsent, order: &SettleOrder) -> Result<(), RelayRefusal> {
    let promise = &order.promise.promise;
    let wrong = |what| Err(RelayRefusal::Mismatch(what));
    if consent.hermes != order.hermes {
        return wrong("another Hermes");
    }
    if promise.channel != ChannelId::of_provider(consent.payee, consent.hermes) {
        return wrong("another payee's channel");
    }
    if consent.amount != promise.amount {
        return wrong("another amount");
    }
    if consent.beneficiary != order.beneficiary {
        return wrong("another beneficiary");
    }
    if promise.fee > consent.max_fee {
        return wrong("a fee above what was agreed to");
    }
    Ok(())
}
