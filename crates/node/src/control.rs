//! The daemon's side of the local control socket: what the command line asks a running node.

use std::path::PathBuf;

use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use wayfare_api::control::{ControlService, SessionState, serve_unix};
use wayfare_api::{Refusal, RefusalCode};
use wayfare_identity::Address;
use wayfare_payment::Usage;
use wayfare_session::GateState;
use wayfare_transport::Clock;

use crate::consumer::Reporter;
use crate::provider::ProviderRemote;
use crate::{Carrier, NodeError, PathNow};

use wayfare_api::control::{
    Earning, NodeEvent, NodeStatus, PathView, Role, SessionList, SessionView, SettlementView,
};

/// Events kept for a slow reader.
const EVENTS: usize = 256;

/// Who answers on the socket.
#[derive(Debug)]
enum Subject {
    Consumer {
        session: Reporter,
        provider: Address,
    },
    Provider {
        provider: ProviderRemote,
        hermes: Address,
    },
}

/// A running node's local control.
#[derive(Debug)]
pub struct LocalControl {
    subject: Subject,
    identity: Address,
    started_ms: u64,
    stop: CancellationToken,
    events: broadcast::Sender<NodeEvent>,
}

impl LocalControl {
    /// Control of a consumer's session with a provider.
    #[must_use]
    pub fn of_consumer(session: Reporter, identity: Address, provider: Address) -> Self {
        Self::new(Subject::Consumer { session, provider }, identity)
    }

    /// Control of a provider paid through a Hermes.
    #[must_use]
    pub fn of_provider(provider: ProviderRemote, identity: Address, hermes: Address) -> Self {
        Self::new(Subject::Provider { provider, hermes }, identity)
    }

    fn new(subject: Subject, identity: Address) -> Self {
        let (events, _) = broadcast::channel(EVENTS);
        Self {
            subject,
            identity,
            started_ms: Clock::unix_ms(),
            stop: CancellationToken::new(),
            events,
        }
    }

    /// Cancelled when somebody asks the node to stop.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Where events go for those who follow them.
    #[must_use]
    pub fn events(&self) -> broadcast::Sender<NodeEvent> {
        self.events.clone()
    }

    /// Serves the socket until `until` is cancelled.
    ///
    /// # Errors
    /// Another daemon has the socket, or it cannot be made.
    pub async fn serve(self, path: PathBuf, until: CancellationToken) -> Result<(), NodeError> {
        let shown = path.display().to_string();
        let served = serve_unix(&path, self, until.cancelled_owned()).await;
        served.map_err(|error| NodeError::Control {
            path: shown,
            cause: error.to_string(),
        })
    }

    async fn views(&self) -> Vec<SessionView> {
        match &self.subject {
            Subject::Consumer { session, provider } => {
                let Some(report) = session.report().await else {
                    return Vec::new();
                };
                vec![SessionView {
                    agreement: report.agreement.id,
                    peer: *provider,
                    state: if report.usage.time.is_zero() {
                        SessionState::Opening
                    } else {
                        SessionState::Active
                    },
                    started_ms: self.started_ms,
                    usage: report.usage,
                    price: report.agreement.price,
                    invoiced: report.promised,
                    paid: report.paid,
                    path: Some(path_view(report.path.as_ref())),
                }]
            }
            Subject::Provider { provider, .. } => {
                let Some(status) = provider.status().await else {
                    return Vec::new();
                };
                let view = |session: wayfare_session::SessionStatus| SessionView {
                    agreement: session.agreement.id,
                    peer: session.agreement.consumer,
                    state: match session.gate {
                        GateState::Open => SessionState::Active,
                        GateState::Closed(_) => SessionState::Gated,
                    },
                    started_ms: self.started_ms,
                    usage: session.usage,
                    price: session.agreement.price,
                    invoiced: session.paid,
                    paid: session.paid,
                    path: None,
                };
                status.sessions.into_iter().map(view).collect()
            }
        }
    }

    fn not_here(what: &str) -> Refusal {
        Refusal::new(
            RefusalCode::Unknown,
            format!("a consumer has no {what}: ask the provider's daemon"),
        )
    }
}

impl ControlService for LocalControl {
    async fn status(&self) -> NodeStatus {
        let views = self.views().await;
        let mut usage = Usage::default();
        for view in &views {
            usage.up += view.usage.up;
            usage.down += view.usage.down;
            usage.time = usage.time.max(view.usage.time);
        }
        let paid = views
            .iter()
            .fold(wayfare_payment::Amount::ZERO, |sum, view| {
                sum.saturating_add(view.paid)
            });
        let (role, promises, summary) = match &self.subject {
            Subject::Consumer { session, .. } => {
                let report = session.report().await;
                let promises = report.as_ref().map_or(0, |report| report.promises);
                let relay = report.and_then(|report| report.relay);
                let toll = relay.filter(|relay| !relay.promised.is_zero());
                let toll = toll.map_or_else(String::new, |toll| {
                    let mib = toll.usage.bytes() >> 20;
                    format!("; a relay was paid {} for {mib} MiB", toll.promised)
                });
                let used = usage.bytes() >> 20;
                let summary = format!("connected; {used} MiB used{toll}");
                (Role::Consumer, promises, summary)
            }
            Subject::Provider { .. } => (
                Role::Provider,
                0,
                format!("serving {} sessions", views.len()),
            ),
        };
        NodeStatus {
            role,
            identity: self.identity,
            process: std::process::id(),
            started_ms: self.started_ms,
            draining: self.stop.is_cancelled(),
            summary,
            sessions: u32::try_from(views.len()).unwrap_or(u32::MAX),
            usage,
            paid,
            promises,
        }
    }

    async fn sessions(&self) -> SessionList {
        let sessions = self.views().await;
        let total = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
        SessionList { sessions, total }
    }

    async fn events(&self) -> mpsc::Receiver<NodeEvent> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        let mut events = self.events.subscribe();
        tokio::spawn(async move {
            loop {
                match events.recv().await {
                    Ok(event) => {
                        if sender.send(event).await.is_err() {
                            return;
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        receiver
    }

    async fn down(&self) -> Result<(), Refusal> {
        self.stop.cancel();
        Ok(())
    }

    async fn drain(&self, _seconds: u32) -> Result<u32, Refusal> {
        match &self.subject {
            Subject::Consumer { session, .. } => {
                session.close().await;
                Ok(1)
            }
            Subject::Provider { provider, .. } => {
                let running = provider
                    .status()
                    .await
                    .map_or(0, |status| status.sessions.len());
                provider.drain().await;
                Ok(u32::try_from(running).unwrap_or(u32::MAX))
            }
        }
    }

    async fn earnings(&self) -> Result<Vec<Earning>, Refusal> {
        let Subject::Provider { provider, hermes } = &self.subject else {
            return Err(Self::not_here("earnings"));
        };
        let stopped = || Refusal::new(RefusalCode::Draining, "the provider is stopping");
        let status = provider.status().await.ok_or_else(stopped)?;
        Ok(vec![Earning {
            hermes: *hermes,
            promised: status.promised,
            settled: status.settled,
            settling: false,
        }])
    }

    async fn settle(&self, _hermes: Option<Address>) -> Result<Vec<SettlementView>, Refusal> {
        let Subject::Provider { provider, hermes } = &self.subject else {
            return Err(Self::not_here("earnings"));
        };
        let settled = provider
            .settle()
            .await
            .map_err(|why| Refusal::new(RefusalCode::Chain, why))?;
        let view = SettlementView {
            hermes: *hermes,
            transaction: settled.transaction,
            total: settled.total,
            gas: settled.gas,
        };
        Ok(vec![view])
    }
}

/// A path that was not looked for is the one that was dialed.
fn path_view(path: Option<&PathNow>) -> PathView {
    PathView {
        direct: path.is_none_or(|path| path.tier.is_direct()),
        carrier: path.map_or(Carrier::Udp, |path| path.carrier).to_string(),
        rtt: path.and_then(|path| path.rtt),
        outcome: path.map(|path| path.outcome.clone()).unwrap_or_default(),
    }
}
