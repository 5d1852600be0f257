//! This computer's packets into a session: TUN device, addresses, policy routes and the gate that drops everything else.
//!
//! For embedders that bring their own device there is [`Node::connect`]; this is what the command line uses.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::task::JoinHandle;
use wayfare_host::{
    ConsumerRoutes, Gate, GateConfig, Held, Journal, RoutesConfig, TunnelLimiter,
    configure_interface,
};
use wayfare_transport::TunDevice;

use super::{Node, Session};
use crate::path::MtuWatch;
use crate::{ConnectOptions, NodeError, node_name};

/// The least that a device with IPv6 carries (RFC 8200 section 5); below, routes carry what is left.
const LEAST_WITH_V6: u16 = 1_280;

/// A session that carries everything this computer sends.
#[derive(Debug)]
pub struct SystemTunnel {
    /// The session.
    pub session: Session,
    fitting: Fitting,
    routes: ConsumerRoutes,
    gate: Option<Gate>,
}

impl SystemTunnel {
    /// Undoes what a former process of this name left on the computer after a crash.
    ///
    /// # Errors
    /// The journal cannot be read, or something cannot be undone.
    pub async fn recover(state: &Path, name: &str) -> Result<Journal, NodeError> {
        let (journal, recovered) = Journal::recover(state, &node_name(name), Held::Release).await?;
        if recovered.undone > 0 {
            tracing::info!(
                changes = recovered.undone,
                "undid what an earlier run had left"
            );
        }
        Ok(journal)
    }

    /// Creates the device, connects, and only then sends this computer's packets through it; with `gate`, everything that would
    /// go around the tunnel is dropped while it stands.
    ///
    /// # Errors
    /// See [`NodeError`]; what was changed is undone on failure.
    pub async fn up(
        node: &Node,
        proposal: &wayfare_discovery::Proposal,
        journal: &Journal,
        device: &str,
        gate: bool,
        mut options: ConnectOptions,
    ) -> Result<Self, NodeError> {
        options.mark = Some(RoutesConfig::DEFAULT_MARK);
        let mtu = 1_420;
        let tun = Arc::new(TunDevice::create(device, mtu)?);
        let session = node
            .connect(proposal, Arc::<TunDevice>::clone(&tun), &options)
            .await?;
        let network = *session.network();
        let mut addresses = vec![IpNet::from(IpAddr::from(network.consumer_v4))];
        addresses.extend(network.consumer_v6.map(|v6| IpNet::from(IpAddr::from(v6))));
        let mtu = session.mtu();
        let least = network.consumer_v6.map_or(0, |_| LEAST_WITH_V6);
        let configured = configure_interface(device, &addresses, mtu.mtu().max(least));
        // The gate before the routes: from then on nothing goes around the tunnel, whatever they say meanwhile. Both undo
        // themselves when what follows fails.
        let gated = async {
            if !gate {
                return Ok(None);
            }
            let config = GateConfig {
                node: node_name(device),
                tun: device.to_owned(),
                mark: RoutesConfig::DEFAULT_MARK,
                hold_on_crash: false,
            };
            Gate::apply(config, journal).await.map(Some)
        };
        let (configured, gate) = tokio::join!(configured, gated);
        configured?;
        let gate = gate?;
        let routes = RoutesConfig::new(node_name(device), device, addresses);
        let routes = ConsumerRoutes::apply(routes, journal).await?;
        let limiter = routes.limiter();
        if mtu.mtu() < least {
            limiter.set(mtu.mtu()).await?;
        }
        Ok(Self {
            session,
            fitting: Fitting(tokio::spawn(fit(mtu, limiter))),
            routes,
            gate,
        })
    }

    /// Gives the computer its own routes back. The session is left to its owner.
    ///
    /// # Errors
    /// Something could not be undone; the next start tries again.
    pub async fn down(self) -> Result<Session, NodeError> {
        drop(self.fitting);
        let undone = self.routes.undo().await;
        if let Some(gate) = self.gate {
            gate.undo().await?;
        }
        undone?;
        Ok(self.session)
    }
}

/// Keeps this computer's packets as small as the path asks for, until it is dropped.
#[derive(Debug)]
struct Fitting(JoinHandle<()>);

impl Drop for Fitting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn fit(mut mtu: MtuWatch, limiter: TunnelLimiter) {
    while let Some(mtu) = mtu.changed().await {
        match limiter.set(mtu).await {
            Ok(()) => tracing::info!(mtu, "the tunnel's packets fit the path"),
            Err(error) => tracing::warn!(%error, mtu, "packets too large for the path may be lost"),
        }
    }
}
