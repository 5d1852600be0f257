//! Announcing: a signed proposal, registered again well before it expires, withdrawn on stop.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wayfare_api::discovery::IndexClient;
use wayfare_discovery::{
    CountryCode, FORMAT, IpType, Location, Protocols, ServiceType, SignedWithdrawal,
};
use wayfare_identity::{NodeId, Signer};
use wayfare_session::{PROTOCOL_MAX, PROTOCOL_MIN};
use wayfare_transport::Clock;

use super::Offer;
use crate::{Network, NodeError};

/// Proposals live this long.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);
/// They are renewed after a third of it, so that two failures in a row cost nothing.
const RENEW: Duration = Duration::from_secs(200);
/// After a failure it is tried again this soon.
const RETRY: Duration = Duration::from_secs(5);

/// What is announced, and where.
#[derive(Debug)]
pub(crate) struct Announcer {
    pub(crate) client: IndexClient,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) offer: Offer,
    pub(crate) country: CountryCode,
    pub(crate) network: Network,
    pub(crate) node: NodeId,
}

impl Announcer {
    /// Registers and renews until cancelled, then withdraws.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut announced = false;
        loop {
            let pause = match self.register().await {
                Ok(()) => {
                    if !announced {
                        tracing::info!("announced: consumers can find this provider");
                    }
                    announced = true;
                    RENEW
                }
                Err(error) => {
                    tracing::warn!(%error, "the proposal index did not take the proposal; trying again");
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        if announced && let Err(error) = self.withdraw().await {
            tracing::debug!(%error, "the proposal was not withdrawn; it expires by itself");
        }
    }

    async fn register(&self) -> Result<(), NodeError> {
        let now = Clock::unix_ms();
        let signed = self
            .proposal(now)
            .sign(self.signer.as_ref())
            .map_err(|error| NodeError::Setting(error.to_string()))?;
        self.client.register(&signed).await.map_err(service)
    }

    async fn withdraw(&self) -> Result<(), NodeError> {
        let withdrawal = SignedWithdrawal::sign(
            self.node,
            ServiceType::vpn(),
            Clock::unix_ms(),
            self.signer.as_ref(),
        )
        .map_err(|error| NodeError::Setting(error.to_string()))?;
        self.client.withdraw(&withdrawal).await.map_err(service)
    }

    /// The sequence number is the time in milliseconds: it grows over restarts without being stored.
    fn proposal(&self, now_ms: u64) -> wayfare_discovery::Offer {
        let issued_at = now_ms / 1_000;
        wayfare_discovery::Offer {
            format: FORMAT,
            provider: self.signer.address(),
            node: self.node,
            service: ServiceType::vpn(),
            location: Location {
                country: self.country,
                city: None,
                ip_type: IpType::Unstated,
            },
            price: self.offer.price,
            hermes: vec![self.network.hermes],
            chain_id: self.network.chain_id,
            vault: self.network.vault,
            contact: self.offer.contact.clone(),
            relays: self.offer.relays.clone(),
            capabilities: std::collections::BTreeSet::new(),
            protocol: Protocols {
                min: PROTOCOL_MIN,
                max: PROTOCOL_MAX,
            },
            sequence: now_ms,
            issued_at,
            expires_at: issued_at + LIFETIME.as_secs(),
        }
    }
}

fn service(source: wayfare_api::ApiError) -> NodeError {
    NodeError::Service {
        what: "the proposal index",
        source,
    }
}
