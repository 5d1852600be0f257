//! A tunnel whose handshake begins before the terms are agreed upon: the provider keeps it until they are, and both take one round
//! trip together. It refuses to carry packets: that is the session's.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use wayfare_tunnel::{
    AddPeerError, Endpoint, EndpointConfig, PeerConfig, PeerId, PublicKey, StaticSecret, Transmit,
};

use super::KEEPALIVE;

/// What a tunnel is made of.
pub struct TunnelSetup {
    /// Our key, for this session alone.
    pub secret: StaticSecret,
    /// The provider's, as far as is known: of its proposal, or of its consent.
    pub provider_key: [u8; 32],
    /// Where the provider's tunnel listens.
    pub at: SocketAddr,
    /// Chance.
    pub seed: [u8; 32],
    /// Wall clock at `now`, for the handshake's timestamp.
    pub wall: SystemTime,
    /// Timers.
    pub config: EndpointConfig,
}

impl std::fmt::Debug for TunnelSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TunnelSetup").finish_non_exhaustive()
    }
}

/// A handshake under way.
#[derive(Debug)]
pub struct TunnelStart {
    pub(super) endpoint: Endpoint,
    pub(super) peer: PeerId,
    pub(super) since: Instant,
    provider_key: [u8; 32],
    at: SocketAddr,
}

/// Nobody waits five seconds for a page because one datagram was lost. Longer than an answer takes by a relay on another continent.
const FIRST_RETRY: Duration = Duration::from_secs(1);

impl TunnelStart {
    /// Begins the handshake.
    ///
    /// # Errors
    /// [`AddPeerError`] when the provider's tunnel key is unusable.
    pub fn new(setup: TunnelSetup, now: Instant) -> Result<Self, AddPeerError> {
        let TunnelSetup {
            secret,
            provider_key,
            at,
            seed,
            wall,
            mut config,
        } = setup;
        config.first_retry = config.first_retry.min(FIRST_RETRY);
        let mut endpoint = Endpoint::new(secret, seed, now, wall, config);
        let peer = add_provider(&mut endpoint, provider_key, at, now)?;
        Ok(Self {
            endpoint,
            peer,
            since: now,
            provider_key,
            at,
        })
    }

    /// Our public key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.endpoint.public_key().0
    }

    /// A datagram to send, if any.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.endpoint.poll_transmit()
    }

    /// The key that the provider has agreed to is the one that counts: with another one the handshake begins anew.
    pub(super) fn agreed(
        &mut self,
        provider_key: [u8; 32],
        now: Instant,
    ) -> Result<(), AddPeerError> {
        if provider_key != self.provider_key {
            self.endpoint.remove_peer(self.peer);
            self.peer = add_provider(&mut self.endpoint, provider_key, self.at, now)?;
            self.provider_key = provider_key;
            self.since = now;
        }
        Ok(())
    }
}

fn add_provider(
    endpoint: &mut Endpoint,
    key: [u8; 32],
    at: SocketAddr,
    now: Instant,
) -> Result<PeerId, AddPeerError> {
    let everything = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("a constant prefix"));
    let peer = endpoint.add_peer(PeerConfig {
        public_key: PublicKey(key),
        preshared_key: None,
        allowed_ips: everything.to_vec(),
        endpoint: Some(at),
        keepalive: Some(KEEPALIVE),
    })?;
    endpoint.initiate(peer, now);
    Ok(peer)
}
