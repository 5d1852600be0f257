//! One Hermes: started, asked, drained, shut down. Refuses to outlive a failed write.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wayfare_api::ServeError;
use wayfare_api::hermes::{HermesTerms, serve};
use wayfare_identity::Signer;
use wayfare_payment::{Amount, Chain, HermesAccount, Issuer, Ledger, LedgerError};

use crate::accounts::Accounts;
use crate::audit::rows;
use crate::collecting::{CollectNow, Collector};
use crate::desk::{Desk, ask};
use crate::driver::{Command, Driver};
use crate::{Collection, HermesConfig, HermesError, StartError};

/// Orders to collect that may wait.
const ORDERS: usize = 4;

/// What a Hermes stands on.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Where promises are remembered.
    pub ledger: Arc<dyn Ledger>,
    /// Where deposits are seen and collected from.
    pub chain: Arc<dyn Chain>,
    /// The operator's key.
    pub operator: Arc<dyn Signer>,
}

/// Where a Hermes stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Promised to all providers together.
    pub promised: Amount,
}

/// A running Hermes. Dropping it stops it without ceremony, which costs nothing but the calls that are open.
#[derive(Debug)]
pub struct Hermes {
    terms: HermesTerms,
    address: SocketAddr,
    commands: mpsc::Sender<Command>,
    orders: mpsc::Sender<CollectNow>,
    draining: Arc<AtomicBool>,
    stop: CancellationToken,
    driving: JoinHandle<Result<(), LedgerError>>,
    serving: JoinHandle<Result<(), ServeError>>,
    collecting: JoinHandle<()>,
}

impl Hermes {
    /// Restores the machine from the ledger, makes sure that the chain knows this Hermes and its key, and serves.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: HermesConfig,
        ports: Ports,
        listener: TcpListener,
    ) -> Result<Self, StartError> {
        let Ports {
            ledger,
            chain,
            operator,
        } = ports;
        let address = listener.local_addr()?;
        let terms = terms(
            &config,
            &chain.hermes(config.issuer.hermes).await?,
            operator.as_ref(),
        )?;
        let rows = rows(ledger.as_ref(), Issuer::TABLES).await?;
        let records = rows.len();
        let issuer = Issuer::restore(config.issuer, operator, rows)?;
        tracing::info!(%address, hermes = %terms.hermes, records, promised = %issuer.total_promised(), "the Hermes is open");

        let stop = CancellationToken::new();
        let draining = Arc::new(AtomicBool::new(false));
        let accounts = Arc::new(Accounts::new(Arc::clone(&chain), &config));
        let (commands, queue) = mpsc::channel(config.queue.max(1));
        let (orders, ordered) = mpsc::channel(ORDERS);

        let driver = Driver::new(issuer, ledger, queue);
        // Whichever task ends first, by a panic too, ends the others.
        let guard = || stop.clone().drop_guard();
        let held = guard();
        let driving = tokio::spawn(async move {
            let _held = held;
            let outcome = driver.run().await;
            if let Err(error) = &outcome {
                tracing::error!(%error, "the ledger failed: this Hermes stops");
            }
            outcome
        });
        let collector = Collector::new(&config, chain, Arc::clone(&accounts), commands.clone());
        let (held, stopping) = (guard(), stop.clone());
        let collecting = tokio::spawn(async move {
            let _held = held;
            collector.run(ordered, stopping).await;
        });
        let desk = Desk {
            commands: commands.clone(),
            accounts,
            terms,
            draining: Arc::clone(&draining),
        };
        let (held, stopping) = (guard(), stop.clone().cancelled_owned());
        let serving = tokio::spawn(async move {
            let _held = held;
            serve(listener, desk, stopping).await
        });
        Ok(Self {
            terms,
            address,
            commands,
            orders,
            draining,
            stop,
            driving,
            serving,
            collecting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it tells its clients.
    #[must_use]
    pub fn terms(&self) -> HermesTerms {
        HermesTerms {
            draining: self.draining.load(Ordering::Relaxed),
            ..self.terms
        }
    }

    /// Where it stands.
    ///
    /// # Errors
    /// [`HermesError::Stopped`].
    pub async fn totals(&self) -> Result<Totals, HermesError> {
        let promised = ask(&self.commands, |answer| Command::TotalPromised { answer }).await;
        Ok(Totals {
            promised: promised.ok_or(HermesError::Stopped)?,
        })
    }

    /// Collects whatever any consumer owes, and answers when that is confirmed.
    ///
    /// # Errors
    /// [`HermesError::Stopped`]; what failed on the chain is in the [`Collection`]s.
    pub async fn collect_now(&self) -> Result<Vec<Collection>, HermesError> {
        let (answer, answered) = oneshot::channel();
        self.orders
            .send(answer)
            .await
            .map_err(|_| HermesError::Stopped)?;
        answered.await.map_err(|_| HermesError::Stopped)
    }

    /// Tells clients from now on that new sessions should use another Hermes. Payments go on: what was used must be paid.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        tracing::info!("draining: new sessions are sent elsewhere");
    }

    /// Cancelled when it stops, for whatever reason.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Asks it to stop; [`Hermes::stopped`] waits for the end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has stopped by itself or by [`Hermes::stop`]: open calls are answered, everything promised is durable.
    ///
    /// # Errors
    /// [`HermesError`]: why it stopped by itself.
    pub async fn stopped(mut self) -> Result<(), HermesError> {
        self.stop.cancelled().await;
        let served = (&mut self.serving).await;
        // The collector holds no promise; what it was waiting for goes on without it.
        let _ = (&mut self.collecting).await;
        let Self {
            commands, driving, ..
        } = &mut self;
        // INVARIANT: this was the last sender, so the driver ends after its last commit.
        *commands = mpsc::channel(1).0;
        match driving.await {
            Ok(Err(error)) => return Err(HermesError::Ledger(error)),
            Ok(Ok(())) => {}
            Err(_) => return Err(HermesError::Stopped),
        }
        served.map_err(|_| HermesError::Stopped)??;
        tracing::info!("the Hermes is closed");
        Ok(())
    }

    /// Stops and waits for the end.
    ///
    /// # Errors
    /// As [`Hermes::stopped`].
    pub async fn shutdown(self) -> Result<(), HermesError> {
        self.stop();
        self.stopped().await
    }
}

impl Drop for Hermes {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn terms(
    config: &HermesConfig,
    account: &HermesAccount,
    operator: &dyn Signer,
) -> Result<HermesTerms, StartError> {
    let (hermes, ours) = (config.issuer.hermes, operator.address());
    if account.operator != ours {
        return Err(StartError::WrongOperator {
            hermes,
            registered: account.operator,
            ours,
        });
    }
    if account.leaving {
        tracing::warn!(
            "this Hermes has asked for its collateral back: providers will stop trusting it"
        );
    }
    Ok(HermesTerms {
        hermes,
        operator: ours,
        chain_id: config.issuer.chain_id,
        vault: config.issuer.vault,
        fee_basis_points: account.fee_basis_points,
        draining: false,
    })
}
