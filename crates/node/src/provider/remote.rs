//! How whoever earns is asked and commanded from elsewhere, and told what the chain says: an exit's owner, and that of a relay's
//! tolls, alike.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wayfare_chain::VaultClient;
use wayfare_identity::Address;
use wayfare_payment::{Amount, Chain, HermesAccount, Settled};

use super::ProviderStatus;
use super::settlement::SettleAnswer;

/// How often the chain is asked about the Hermes and our account.
const CHAIN_EVERY: Duration = Duration::from_secs(15);

/// What the operator and the chain want of the owner.
#[derive(Debug)]
pub(crate) enum Ask {
    /// The chain's view of the Hermes and of our account there.
    Chain {
        hermes: HermesAccount,
        settled: Amount,
    },
    /// Say how things stand.
    Status {
        answer: oneshot::Sender<ProviderStatus>,
    },
    /// Cash what can be cashed, now.
    Settle { answer: SettleAnswer },
    /// Take the last payments and refuse new sessions.
    Drain,
}

/// Asks and commands a provider, or a relay with a price.
#[derive(Debug, Clone)]
pub struct ProviderRemote {
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) withdraw: CancellationToken,
}

impl ProviderRemote {
    /// The numbers; `None` when it has stopped.
    pub async fn status(&self) -> Option<ProviderStatus> {
        let (answer, status) = oneshot::channel();
        self.asks.send(Ask::Status { answer }).await.ok()?;
        status.await.ok()
    }

    /// Cashes what can be cashed.
    ///
    /// # Errors
    /// Why it is not done now, in words.
    pub async fn settle(&self) -> Result<Settled, String> {
        let (answer, settled) = oneshot::channel();
        let stopped = || "the provider has stopped".to_owned();
        self.asks
            .send(Ask::Settle { answer })
            .await
            .map_err(|_| stopped())?;
        settled.await.map_err(|_| stopped())?
    }

    /// Takes the last payments, refuses new sessions and withdraws the proposal.
    pub async fn drain(&self) {
        self.withdraw.cancel();
        let _ = self.asks.send(Ask::Drain).await;
    }
}

/// Tells the owner what the chain says, again and again.
pub(crate) async fn watch_chain(
    chain: Arc<VaultClient>,
    provider: Address,
    hermes: Address,
    asks: mpsc::Sender<Ask>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CHAIN_EVERY) => {}
        }
        let view = async {
            Ok::<_, wayfare_payment::ChainError>((
                chain.hermes(hermes).await?,
                chain.provider(provider, hermes).await?,
            ))
        };
        match view.await {
            Ok((hermes, account)) => {
                let ask = Ask::Chain {
                    hermes,
                    settled: account.settled,
                };
                if asks.send(ask).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "the chain cannot be read"),
        }
    }
}
