//! Connecting: QUIC to the provider's node key, terms signed by both, the tunnel on the same socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use wayfare_api::ApiError;
use wayfare_api::peer::{PeerClient, ProviderLine};
use wayfare_discovery::Proposal;
use wayfare_identity::TunnelBinding;
use wayfare_payment::{Agreement, Amount, Price};
use wayfare_session::{
    ConsumerSession, ConsumerSetup, Hello, OpenReply, OpenRequest, ProviderFrame, SessionToken,
};
use wayfare_transport::{
    BiStream, Clock, PathPace, Pump, QuicIdentity, SharedSocket, SocketOptions, Tun,
    TunnelReceiver, discovered, quic_endpoint, watch_path,
};
use wayfare_tunnel::{EndpointConfig, StaticSecret};

use super::driver::Driver;
use super::payer::DepositReader;
use super::{Node, Session, agreement_id};
use crate::path::{FIRST_SEARCH, MtuWatch};
use crate::{NodeError, chance, plane};

/// Frames between the stream and the session.
const FRAMES: usize = 256;
/// Events that an owner may leave unread.
const EVENTS: usize = 256;
/// A broken control stream is opened again this often while the session lives.
const REATTACH: Duration = Duration::from_secs(1);
/// The default first chunk: one second at the hourly price or a mebibyte, whichever costs more.
const CHUNK_BYTES: u64 = 1 << 20;
/// The most credit: this many default first chunks, 256 MiB at a price for traffic. That is half a second at 4 Gb/s, in which
/// two payments fit; it is earned by having paid eight times as much.
const CHUNK_GROWTH: u128 = 256;

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Local address of the one UDP socket.
    pub listen: SocketAddr,
    /// Firewall mark of our own packets; needed where routes send everything else into the tunnel.
    pub mark: Option<u32>,
    /// Most that this session may cost.
    pub budget: Option<Amount>,
    /// First chunk; `None`: see the constants of this module.
    pub chunk: Option<Amount>,
    /// Tunnel timers.
    pub tunnel: EndpointConfig,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 0).into(),
            mark: None,
            budget: None,
            chunk: None,
            tunnel: EndpointConfig::default(),
        }
    }
}

/// A session that was agreed upon and whose packets do not flow yet.
#[derive(Debug)]
struct Opened {
    connection: quinn::Connection,
    client: PeerClient,
    request: OpenRequest,
    reply: OpenReply,
    tunnel_secret: StaticSecret,
    at: SocketAddr,
}

impl Node {
    /// Opens a session with the provider of a proposal. Packets of `tun` flow from then on.
    ///
    /// # Errors
    /// See [`NodeError`]; nothing is left behind on failure.
    pub async fn connect(
        &self,
        proposal: &Proposal,
        tun: Arc<dyn Tun>,
        options: &ConnectOptions,
    ) -> Result<Session, NodeError> {
        if proposal.chain_id != self.network.chain_id {
            return Err(NodeError::OtherNetwork {
                ours: self.network.chain_id,
                theirs: proposal.chain_id,
            });
        }
        let agreement = self.terms(proposal, options)?;
        let account = self.account().await?;
        if account.spendable < agreement.chunk {
            return Err(NodeError::Unfunded {
                spendable: account.spendable,
                needed: agreement.chunk,
            });
        }
        let socket_options = SocketOptions {
            mark: options.mark,
            ..SocketOptions::default()
        };
        let (socket, receiver) = SharedSocket::bind(options.listen, socket_options)?;
        let node_key = QuicIdentity::from_ed25519_seed(chance::bytes()?)?;
        let endpoint = quic_endpoint(&socket, &node_key)?;
        let (connection, at) = dial(&endpoint, proposal).await?;
        let opened = self.open(connection, at, agreement).await?;
        self.start(opened, socket, receiver, endpoint, tun, options)
            .await
    }

    fn terms(&self, proposal: &Proposal, options: &ConnectOptions) -> Result<Agreement, NodeError> {
        let usual = default_chunk(&proposal.price);
        let chunk = options.chunk.unwrap_or(usual);
        let chunk_limit = usual.mul_div_down(CHUNK_GROWTH, 1).max(chunk);
        Ok(Agreement {
            id: agreement_id(chance::bytes()?),
            consumer: self.identity(),
            provider: proposal.provider,
            hermes: self.network.hermes,
            chain_id: self.network.chain_id,
            vault: self.network.vault,
            consumer_channel: self.channel(),
            price: proposal.price,
            chunk,
            chunk_limit,
        })
    }

    async fn open(
        &self,
        connection: quinn::Connection,
        at: SocketAddr,
        agreement: Agreement,
    ) -> Result<Opened, NodeError> {
        let unsigned = |error: wayfare_identity::SignError| NodeError::Setting(error.to_string());
        let tunnel_secret = StaticSecret::from_bytes(chance::bytes()?);
        let binding = TunnelBinding::sign(
            self.signer.as_ref(),
            &agreement.domain(),
            tunnel_secret.public().0,
            agreement.id.0,
        )
        .map_err(unsigned)?;
        let consumer_signature = self
            .signer
            .sign_digest(agreement.digest())
            .map_err(unsigned)?;
        let request = OpenRequest {
            hello: Hello::ours(),
            agreement,
            consumer_signature,
            binding,
        };
        let client = peer_client(&connection).await?;
        let reply = client.open(&request).await.map_err(provider_error)?;
        Ok(Opened {
            connection,
            client,
            request,
            reply,
            tunnel_secret,
            at,
        })
    }

    async fn start(
        &self,
        opened: Opened,
        socket: SharedSocket,
        receiver: TunnelReceiver,
        endpoint: wayfare_transport::QuicEndpoint,
        tun: Arc<dyn Tun>,
        options: &ConnectOptions,
    ) -> Result<Session, NodeError> {
        let Opened {
            connection,
            client,
            request,
            reply,
            tunnel_secret,
            at,
        } = opened;
        let terms = reply.verify(&request)?;
        let agreement = terms.agreement;
        let payments =
            self.payer
                .open(terms, options.budget)
                .await
                .map_err(|refusal| match refusal {
                    Some(refusal) => NodeError::Setting(refusal.to_string()),
                    None => NodeError::Record("payments have stopped; see the log".into()),
                })?;
        let (network, token) = (reply.network, reply.token);
        let setup = ConsumerSetup {
            agreement: terms,
            reply,
            tunnel_secret,
            endpoint: at,
            seed: chance::bytes()?,
            wall: Clock::wall(),
            tunnel: options.tunnel.clone(),
        };
        let session = ConsumerSession::new(setup, Clock::now()).map_err(|error| {
            NodeError::Setting(format!("the provider's tunnel key is unusable: {error}"))
        })?;
        let line = client.converse(token).await.map_err(provider_error)?;
        // Devices begin with what is known by then; what they advertise to others before stays with those flows.
        let (tell, payload) = watch::channel(discovered(&connection, FIRST_SEARCH).await);
        let mtu = MtuWatch::new(payload, network.mtu);
        let path = connection.clone();
        let watcher =
            tokio::spawn(async move { watch_path(&path, tell, PathPace::default()).await });
        let (to_provider, outbox) = mpsc::channel(FRAMES);
        let (inbox, from_provider) = mpsc::channel(FRAMES);
        let (commands, command_queue) = mpsc::channel(16);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let carrier = tokio::spawn(carry_frames(connection, line, token, outbox, inbox));
        let framing = plane::framing(tun.mtu());
        let driver = Driver {
            session,
            pump: Pump::new(socket, receiver, tun, framing),
            payer: self.payer.clone(),
            deposit: DepositReader {
                chain: Arc::clone(&self.chain),
                consumer: self.identity(),
                hermes: self.network.hermes,
                payer: self.payer.clone(),
            },
            payments,
            mtu: mtu.clone(),
            to_provider,
            from_provider,
            commands: command_queue,
            events: event_sender,
            promises: 0,
            refused: 0,
            closing: false,
        };
        let task = tokio::spawn(async move {
            let end = driver.run().await;
            carrier.abort();
            watcher.abort();
            endpoint.close().await;
            end
        });
        Ok(Session {
            agreement,
            network,
            provider: at,
            mtu,
            commands,
            events,
            task,
        })
    }
}

async fn peer_client(connection: &quinn::Connection) -> Result<PeerClient, NodeError> {
    let address = connection.remote_address().to_string();
    let stream = BiStream::open(connection)
        .await
        .map_err(|error| NodeError::Service {
            what: "the provider",
            source: ApiError::Unreachable {
                address: address.clone(),
                cause: error.to_string(),
            },
        })?;
    Ok(PeerClient::over(stream, address))
}

/// A provider's refusal keeps its own words; everything else is the network's.
fn provider_error(source: ApiError) -> NodeError {
    NodeError::Service {
        what: "the provider",
        source,
    }
}

/// Tries the proposal's addresses in order.
async fn dial(
    endpoint: &wayfare_transport::QuicEndpoint,
    proposal: &Proposal,
) -> Result<(quinn::Connection, SocketAddr), NodeError> {
    let mut last = None;
    for address in &proposal.contact {
        match endpoint.dial(*address, proposal.node.0).await {
            Ok(connection) => return Ok((connection, *address)),
            Err(error) => {
                tracing::debug!(%error, "an address of the provider does not answer");
                last = Some(error);
            }
        }
    }
    Err(last.map_or(NodeError::NoProposal, NodeError::Dial))
}

/// Carries frames between the session and the provider's stream, and opens the stream again when it breaks.
async fn carry_frames(
    connection: quinn::Connection,
    first: ProviderLine,
    token: SessionToken,
    mut outbox: mpsc::Receiver<wayfare_session::ConsumerFrame>,
    inbox: mpsc::Sender<ProviderFrame>,
) {
    let mut line = Some(first);
    loop {
        let Some(mut open) = line.take() else {
            tokio::time::sleep(REATTACH).await;
            if connection.close_reason().is_some() {
                return;
            }
            if let Ok(client) = peer_client(&connection).await
                && let Ok(again) = client.converse(token).await
            {
                line = Some(again);
            }
            continue;
        };
        loop {
            tokio::select! {
                frame = open.frames.next() => match frame {
                    Some(Ok(frame)) => if inbox.send(frame).await.is_err() { return },
                    Some(Err(error)) => {
                        tracing::debug!(%error, "the provider's stream broke");
                        break;
                    }
                    None => break,
                },
                frame = outbox.recv() => match frame {
                    Some(frame) => if open.replies.send(frame).await.is_err() { break },
                    None => return,
                },
            }
        }
    }
}

fn default_chunk(price: &Price) -> Amount {
    let traffic = price
        .per_gib
        .mul_div_down(u128::from(CHUNK_BYTES), u128::from(wayfare_payment::GIB));
    let second = price.per_hour.mul_div_down(1, 3_600);
    let unit = Amount::from_units(1);
    traffic.max(second).max(unit)
}
