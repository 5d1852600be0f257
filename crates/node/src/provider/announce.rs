//! Announcing: a signed proposal, brought to every index and to the distributed table, again well before it expires, and
//! withdrawn from the indexes on stop. The table has no withdrawal: there it expires.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use wayfare_api::discovery::IndexClient;
use wayfare_discovery::{
    CountryCode, FORMAT, IpType, Location, Protocols, ServiceType, SignedWithdrawal,
};
use wayfare_identity::{NodeId, Signer};
use wayfare_nat::Swarm;
use wayfare_session::{PROTOCOL_MAX, PROTOCOL_MIN};
use wayfare_transport::Clock;

use super::Offer;
use crate::discover::{TABLE, index_error, publish};
use crate::{Network, NodeError};

/// Proposals live this long.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);
/// They are renewed after a third of it, so that two failures in a row cost nothing.
const RENEW: Duration = Duration::from_secs(200);
/// After a failure of every place it is tried again this soon.
const RETRY: Duration = Duration::from_secs(5);
/// After a failure of some, while others have it, this soon.
const RETRY_SOME: Duration = Duration::from_secs(30);

/// What is announced, and where.
#[derive(Debug)]
pub(crate) struct Announcer {
    pub(crate) indexes: Vec<(String, IndexClient)>,
    /// The distributed table, where nodes of it are known.
    pub(crate) table: Option<Swarm>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) offer: Offer,
    pub(crate) country: CountryCode,
    pub(crate) network: Network,
    pub(crate) node: NodeId,
    pub(crate) tunnel_key: [u8; 32],
}

impl Announcer {
    /// Registers and renews until cancelled, then withdraws.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut announced = false;
        loop {
            let failed = tokio::select! {
                () = stop.cancelled() => break,
                failed = self.register() => failed,
            };
            let places = self.indexes.len() + usize::from(self.table.is_some());
            for (place, error) in &failed {
                tracing::warn!(%place, %error, "the proposal was not taken; trying again");
            }
            if !announced && failed.len() < places {
                tracing::info!("announced: consumers can find this provider");
                announced = true;
            }
            let pause = match failed.len() {
                0 => RENEW,
                some if some < places => RETRY_SOME,
                _ => RETRY,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        if announced {
            self.withdraw().await;
        }
    }

    /// Brings a new proposal everywhere; returns who did not take it, and why.
    pub(crate) async fn register(&self) -> Vec<(String, NodeError)> {
        let signed = match self.proposal(Clock::unix_ms()).sign(self.signer.as_ref()) {
            Ok(signed) => signed,
            Err(error) => {
                let everywhere = "every place".to_owned();
                return vec![(everywhere, NodeError::Setting(error.to_string()))];
            }
        };
        let signed = &signed;
        let at_index = self.indexes.iter().map(|(url, client)| async move {
            let taken = client.register(signed).await;
            taken.map_err(|source| (url.clone(), index_error(source)))
        });
        let in_table = async {
            let Some(table) = &self.table else {
                return Ok(());
            };
            let published = publish(table, signed).await;
            let kept = published.map_err(|error| (TABLE.to_owned(), error.into()))?;
            tracing::debug!(kept, "the distributed table has the proposal");
            Ok(())
        };
        let (at_index, in_table) = tokio::join!(join_all(at_index), in_table);
        let all = at_index.into_iter().chain([in_table]);
        all.filter_map(Result::err).collect()
    }

    async fn withdraw(&self) {
        let now = Clock::unix_ms();
        let signer = self.signer.as_ref();
        let withdrawal = SignedWithdrawal::sign(self.node, ServiceType::vpn(), now, signer);
        let Ok(withdrawal) = withdrawal else { return };
        let withdrawal = &withdrawal;
        let withdrawing = self.indexes.iter().map(|(url, client)| async move {
            if let Err(error) = client.withdraw(withdrawal).await {
                tracing::debug!(%url, %error, "the proposal was not withdrawn; it expires by itself");
            }
        });
        join_all(withdrawing).await;
    }

    /// The sequence number is the time in milliseconds: it grows over restarts without being stored.
    fn proposal(&self, now_ms: u64) -> wayfare_discovery::Offer {
        let issued_at = now_ms / 1_000;
        wayfare_discovery::Offer {
            format: FORMAT,
            provider: self.signer.address(),
            node: self.node,
            tunnel_key: self.tunnel_key,
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
