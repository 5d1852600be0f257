//! The Hermes' local control: what its operator's command line asks over a Unix socket, apart from the public service.
//!
//! Refuses everything that a Hermes does not do.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wayfare_api::control::{
    ControlClient, ControlService, Earning, NodeEvent, NodeStatus, Role, SessionList,
    SettlementView, serve_unix,
};
use wayfare_api::{ApiError, Refusal, RefusalCode, ServeError};
use wayfare_identity::Address;
use wayfare_payment::{Amount, Usage};

use crate::Hermes;

/// The operator's way to a running Hermes.
#[derive(Debug)]
pub struct Admin {
    hermes: Arc<Hermes>,
    stop: CancellationToken,
    started_ms: u64,
}

/// What a running Hermes says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HermesStatus {
    /// Its id.
    pub hermes: Address,
    /// Its process.
    pub process: u32,
    /// Whether new sessions are sent elsewhere.
    pub draining: bool,
    /// Promised to all providers together.
    pub promised: Amount,
}

impl Admin {
    /// Control of a running Hermes.
    #[must_use]
    pub fn new(hermes: Arc<Hermes>, started_ms: u64) -> Self {
        Self {
            hermes,
            stop: CancellationToken::new(),
            started_ms,
        }
    }

    /// Cancelled when somebody asks the Hermes to stop.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Serves the socket until `until` is cancelled.
    ///
    /// # Errors
    /// Another daemon has the socket, or it cannot be made.
    pub async fn serve(self, path: &Path, until: CancellationToken) -> Result<(), ServeError> {
        serve_unix(path, self, until.cancelled_owned()).await
    }
}

fn not_here() -> Refusal {
    Refusal::new(
        RefusalCode::Unknown,
        "a Hermes has no sessions and no earnings of its own",
    )
}

impl ControlService for Admin {
    async fn status(&self) -> NodeStatus {
        let promised = self
            .hermes
            .totals()
            .await
            .map_or(Amount::ZERO, |totals| totals.promised);
        let terms = self.hermes.terms();
        NodeStatus {
            role: Role::Hermes,
            identity: terms.hermes,
            process: std::process::id(),
            started_ms: self.started_ms,
            draining: terms.draining,
            summary: format!("{promised} promised to providers"),
            sessions: 0,
            usage: Usage::default(),
            paid: promised,
            promises: 0,
        }
    }

    async fn sessions(&self) -> SessionList {
        SessionList::default()
    }

    async fn events(&self) -> mpsc::Receiver<NodeEvent> {
        mpsc::channel(1).1
    }

    async fn down(&self) -> Result<(), Refusal> {
        self.stop.cancel();
        Ok(())
    }

    async fn drain(&self, _seconds: u32) -> Result<u32, Refusal> {
        self.hermes.drain();
        Ok(0)
    }

    async fn earnings(&self) -> Result<Vec<Earning>, Refusal> {
        Err(not_here())
    }

    async fn settle(&self, _hermes: Option<Address>) -> Result<Vec<SettlementView>, Refusal> {
        let stopped =
            |error: crate::HermesError| Refusal::new(RefusalCode::Draining, error.to_string());
        let mut views = Vec::new();
        for collection in self.hermes.collect_now().await.map_err(stopped)? {
            let (transaction, total) = collection
                .outcome
                .map_err(|error| Refusal::new(RefusalCode::Chain, error.to_string()))?;
            views.push(SettlementView {
                hermes: collection.consumer,
                transaction,
                total,
                gas: 0,
            });
        }
        Ok(views)
    }
}

/// Asks a running Hermes on this machine how it stands.
///
/// # Errors
/// [`ApiError`]: nobody answers on the socket.
pub async fn ask_status(socket: &Path) -> Result<HermesStatus, ApiError> {
    let status = ControlClient::connect_unix(socket).status().await?;
    Ok(HermesStatus {
        hermes: status.identity,
        process: status.process,
        draining: status.draining,
        promised: status.paid,
    })
}

/// Has a running Hermes collect what consumers owe: each consumer and the total collected from it so far.
///
/// # Errors
/// [`ApiError`]: nobody answers, or the chain did not obey.
pub async fn ask_collect(socket: &Path) -> Result<Vec<(Address, Amount)>, ApiError> {
    let views = ControlClient::connect_unix(socket).settle(None).await?;
    Ok(views
        .into_iter()
        .map(|view| (view.hermes, view.total))
        .collect())
}

/// Has a running Hermes send new sessions elsewhere.
///
/// # Errors
/// [`ApiError`]: nobody answers on the socket.
pub async fn ask_drain(socket: &Path) -> Result<(), ApiError> {
    ControlClient::connect_unix(socket).drain(0).await?;
    Ok(())
}
