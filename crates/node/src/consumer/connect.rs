//! Connecting: QUIC to the provider's node key, terms signed by both, the tunnel on the same socket.

use std::cell::OnceCell;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use wayfare_api::peer::PeerClient;
use wayfare_api::{ApiError, RefusalCode};
use wayfare_discovery::Proposal;
use wayfare_identity::{NodeId, NodeKey, TunnelBinding};
use wayfare_nat::MapperConfig;
use wayfare_payment::{Agreement, Amount, Price};
use wayfare_session::{
    ConsumerSession, ConsumerSetup, Hello, OpenReply, OpenRequest, TunnelSetup, TunnelStart,
};
use wayfare_transport::{
    Clock, Pump, QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions, Tun, TunnelReceiver,
    discovered, path_payload, quic_endpoint,
};
use wayfare_tunnel::{AddPeerError, EndpointConfig, StaticSecret};

use super::driver::Driver;
use super::line::{ControlLine, peer_client};
use super::payer::DepositReader;
use super::toll::{TollSetup, Tolls};
use super::{Node, Session, agreement_id};
use crate::path::{FIRST_SEARCH, MtuWatch};
use crate::reach::{Call, Link, PathNow, Reach, ReachConfig, local_addresses};
use crate::traffic::Traffic;
use crate::{NodeError, chance, plane};

/// Frames between the stream and the session.
const FRAMES: usize = 256;
/// Events that an owner may leave unread.
const EVENTS: usize = 256;
/// A provider with an address of its own gets this long to answer there before its relays are asked.
const HEAD_START: Duration = Duration::from_millis(500);
/// What the first flight, which goes along with a call, brought about is there when the answer is, or soon after; from then on
/// another handshake is tried beside it.
const GRACE: Duration = Duration::from_millis(100);
/// Between the first tries of one address and the next (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// The least default first chunk: one second at the hourly price or a mebibyte, whichever costs more.
const CHUNK_BYTES: u64 = 1 << 20;
/// What the default first chunk lets flow while a payment is on its way, in bytes a second: 256 Mb/s. A stream finds its pace in
/// its first second and may need many more to find another one: with credit for 20 Mb/s a sender that models its path (BBR) took
/// 12 s to reach 80.
const CHUNK_RATE: u64 = 32_000_000;
/// A payment takes three round trips: to us, and twice to the Hermes, taken to be as far away.
const PAYMENT_TRIPS: u32 = 3;
/// The largest default first chunk, in least ones: 16 MiB, of a way of 175 ms. Providers accept twice as much.
const CHUNK_MOST: u64 = 16;
/// The most credit: this many least first chunks, 256 MiB at a price for traffic. That is half a second at 4 Gb/s, in which
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
    /// The most that a relay on the way may ask for a gibibyte; `None`: as much as the provider. Nothing: only what is free is used
    /// of a relay.
    pub relay_price_most: Option<Amount>,
    /// Whether the router may be asked to forward the socket's port meanwhile.
    pub port_mapping: bool,
    /// Tunnel timers.
    pub tunnel: EndpointConfig,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            listen: (Ipv6Addr::UNSPECIFIED, 0).into(),
            mark: None,
            budget: None,
            chunk: None,
            relay_price_most: None,
            port_mapping: true,
            tunnel: EndpointConfig::default(),
        }
    }
}

/// A session that was agreed upon and whose packets do not flow yet.
#[derive(Debug)]
struct Opened {
    connection: quinn::Connection,
    agreed: Agreed,
    tunnel: TunnelStart,
    at: SocketAddr,
    link: Option<Link>,
    /// Since when the path's search has been going on.
    since: Instant,
}

/// Terms that both have signed.
#[derive(Debug)]
struct Agreed {
    request: OpenRequest,
    reply: OpenReply,
}

/// Our own socket and who we are on it.
struct OwnWay {
    key: NodeKey,
    socket: SharedSocket,
    endpoint: QuicEndpoint,
    identity: QuicIdentity,
    mapping: Option<MapperConfig>,
    /// Kept, once started, as long as the session.
    reach: OnceCell<Reach>,
}

impl OwnWay {
    fn open(options: &ConnectOptions) -> Result<(Self, TunnelReceiver), NodeError> {
        let socket_options = SocketOptions {
            mark: options.mark,
            ..SocketOptions::default()
        };
        let (socket, receiver) = SharedSocket::bind(options.listen, socket_options)?;
        let key = NodeKey::from_seed(chance::bytes()?);
        let identity = QuicIdentity::from_ed25519_seed(*key.seed())?;
        let mapping = |nonce| MapperConfig {
            mark: options.mark,
            ..MapperConfig::new(socket.local_addr().port(), nonce)
        };
        let mapping = match options.port_mapping {
            true => Some(mapping(chance::bytes()?)),
            false => None,
        };
        let way = Self {
            mapping,
            endpoint: quic_endpoint(&socket, &identity)?,
            key,
            socket,
            identity,
            reach: OnceCell::new(),
        };
        Ok((way, receiver))
    }

    /// The swarm and what finds paths, for those who need them.
    fn start(&self) -> Result<Reach, NodeError> {
        if let Some(reach) = self.reach.get() {
            return Ok(reach.clone());
        }
        let config = ReachConfig {
            key: self.key.clone(),
            relays: Vec::new(),
            serves: None,
            manual: Vec::new(),
            mapping: self.mapping.clone(),
        };
        let reach = Reach::start(self.socket.clone(), &self.endpoint, &self.identity, config)?;
        Ok(self.reach.get_or_init(|| reach).clone())
    }
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
        let (way, receiver) = OwnWay::open(options)?;
        let needed = options.chunk.unwrap_or(least_chunk(&proposal.price));
        let funded = async {
            let spendable = self.account().await?.spendable;
            if spendable < needed {
                return Err(NodeError::Unfunded { spendable, needed });
            }
            Ok(spendable)
        };
        // The chain is asked while the provider is reached; nothing is agreed upon before both have answered.
        let (reached, spendable) = tokio::try_join!(reach(&way, proposal), funded)?;
        let most = options.budget.map_or(spendable, |it| it.min(spendable));
        let usual = default_chunk(&proposal.price, reached.0.rtt()).min(most.max(needed));
        let chunk = options.chunk.unwrap_or(usual);
        let since = Clock::now();
        let (connection, at, link) = reached;
        let client = peer_client(&connection).await?;
        let tunnel = begin_tunnel(&way.socket, proposal.tunnel_key, at, options).await?;
        let agree = |chunk| self.agree(&client, self.terms(proposal, chunk), tunnel.public_key());
        let agreed = match agree(chunk).await {
            // Some give less credit than a long way needs.
            Err(error) if chunk > needed && are_not_offered(&error) => {
                tracing::debug!(%error, "the least first chunk is offered instead");
                agree(needed).await?
            }
            agreed => agreed?,
        };
        let opened = Opened {
            connection,
            agreed,
            tunnel,
            at,
            link,
            since,
        };
        self.start(opened, way, receiver, proposal.node, tun, options)
            .await
    }

    fn terms(&self, proposal: &Proposal, chunk: Amount) -> Result<Agreement, NodeError> {
        let least = least_chunk(&proposal.price);
        let chunk_limit = least.mul_div_down(CHUNK_GROWTH, 1).max(chunk);
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

    /// Signs terms and has the provider sign them.
    async fn agree(
        &self,
        client: &PeerClient,
        agreement: Result<Agreement, NodeError>,
        tunnel_key: [u8; 32],
    ) -> Result<Agreed, NodeError> {
        let agreement = agreement?;
        let unsigned = |error: wayfare_identity::SignError| NodeError::Setting(error.to_string());
        let binding = TunnelBinding::sign(
            self.signer.as_ref(),
            &agreement.domain(),
            tunnel_key,
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
        let reply = client.open(&request).await.map_err(provider_error)?;
        Ok(Agreed { request, reply })
    }

    async fn start(
        &self,
        opened: Opened,
        way: OwnWay,
        receiver: TunnelReceiver,
        node: NodeId,
        tun: Arc<dyn Tun>,
        options: &ConnectOptions,
    ) -> Result<Session, NodeError> {
        let Opened {
            connection,
            agreed: Agreed { request, reply },
            tunnel,
            at,
            link,
            since,
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
            tunnel,
        };
        let session = ConsumerSession::new(setup, Clock::now()).map_err(unusable)?;
        let (tell, payload) = watch::channel(path_payload(&connection));
        let mtu = MtuWatch::new(payload.clone(), network.mtu);
        let (to_provider, outbox) = mpsc::channel(FRAMES);
        let (inbox, from_provider) = mpsc::channel(FRAMES);
        let (commands, command_queue) = mpsc::channel(16);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let control = ControlLine {
            endpoint: way.endpoint.clone(),
            node,
            token,
            connection: connection.clone(),
            at,
            path: link.as_ref().map(|link| link.path.clone()),
            payload: tell.clone(),
        };
        let carrier = tokio::spawn(control.carry(outbox, inbox));
        let framing = plane::framing(tun.mtu());
        let tolls = link
            .as_ref()
            .map(|link| self.tolls(&way, link, agreement, options));
        let driver = Driver {
            session,
            pump: Pump::new(way.socket.clone(), receiver, tun, framing),
            payer: self.payer.clone(),
            tolls,
            deposit: self.deposit_reader(),
            payments,
            mtu,
            path: link.as_ref().map(watched),
            to_provider,
            from_provider,
            commands: command_queue,
            events: event_sender,
            promises: 0,
            refused: 0,
            closing: false,
            local: local_addresses(way.socket.local_addr()),
            traffic: Traffic::default(),
            greetings: 0,
        };
        let task = tokio::spawn(async move {
            // All of it: what finds paths lives as long as the session, not only the endpoint that is named below.
            let way = way;
            let end = driver.run().await;
            carrier.abort();
            // The relay is told before the connection to it is closed.
            if let Some(link) = link {
                link.close().await;
            }
            way.endpoint.close().await;
            end
        });
        // Devices begin with what is known by then; what they advertise to others before stays with those flows. Tunnel and
        // payments have begun meanwhile.
        let patience = FIRST_SEARCH.saturating_sub(Clock::now().saturating_duration_since(since));
        let found = discovered(&connection, patience).await;
        tell.send_if_modified(|known| std::mem::replace(known, found) != found);
        Ok(Session {
            agreement,
            network,
            provider: at,
            mtu: MtuWatch::new(payload, network.mtu),
            commands,
            events,
            task,
        })
    }

    fn deposit_reader(&self) -> DepositReader {
        DepositReader {
            chain: Arc::clone(&self.chain),
            consumer: self.identity(),
            hermes: self.network.hermes,
            payer: self.payer.clone(),
        }
    }

    /// Payments to the relays on the way of a session.
    fn tolls(&self, way: &OwnWay, link: &Link, exit: Agreement, options: &ConnectOptions) -> Tolls {
        Tolls::start(TollSetup {
            endpoint: way.endpoint.clone(),
            path: link.path.clone(),
            relay: link.relay.clone(),
            exit,
            price_most: options.relay_price_most.unwrap_or(exit.price.per_gib),
            signer: Arc::clone(&self.signer),
            deposit: self.deposit_reader(),
        })
    }
}

/// Begins the tunnel's handshake while the terms are agreed upon, with the key that the provider has proposed.
async fn begin_tunnel(
    socket: &SharedSocket,
    provider_key: [u8; 32],
    at: SocketAddr,
    options: &ConnectOptions,
) -> Result<TunnelStart, NodeError> {
    let setup = TunnelSetup {
        secret: StaticSecret::from_bytes(chance::bytes()?),
        provider_key,
        at,
        seed: chance::bytes()?,
        wall: Clock::wall(),
        config: options.tunnel.clone(),
    };
    let mut tunnel = TunnelStart::new(setup, Clock::now()).map_err(unusable)?;
    while let Some(transmit) = tunnel.poll_transmit() {
        if let Err(error) = socket.send(transmit.to, &transmit.payload).await {
            tracing::debug!(%error, "the tunnel's handshake begins later");
        }
    }
    Ok(tunnel)
}

fn unusable(error: AddPeerError) -> NodeError {
    NodeError::Setting(format!("the provider's tunnel key is unusable: {error}"))
}

/// A provider's refusal keeps its own words; everything else is the network's.
fn provider_error(source: ApiError) -> NodeError {
    NodeError::Service {
        what: "the provider",
        source,
    }
}

/// Whether a provider does not offer such terms.
fn are_not_offered(error: &NodeError) -> bool {
    match error {
        NodeError::Service {
            source: ApiError::Refused { refusal, .. },
            ..
        } => refusal.code == RefusalCode::Terms,
        _ => false,
    }
}

/// Reaches the provider: at an address of its proposal, or, if none answers soon, through one of its relays.
async fn reach(
    way: &OwnWay,
    proposal: &Proposal,
) -> Result<(quinn::Connection, SocketAddr, Option<Link>), NodeError> {
    let node = proposal.node;
    let direct = dial(&way.endpoint, proposal);
    let relayed = async {
        let within_reach = |at: &SocketAddr| way.socket.reaches(*at);
        if proposal.contact.iter().any(within_reach) {
            tokio::time::sleep(HEAD_START).await;
        }
        let call = way.start()?.call(node, &proposal.relays).await?;
        let at = call.at;
        let (connection, link) = dial_and_call(&way.endpoint, node, call).await?;
        Ok((connection, at, Some(link)))
    };
    if proposal.relays.is_empty() {
        return direct.await.map(|(connection, at)| (connection, at, None));
    }
    if proposal.contact.is_empty() {
        return relayed.await;
    }
    tokio::pin!(direct, relayed);
    tokio::select! {
        reached = &mut direct => match reached {
            Ok((connection, at)) => Ok((connection, at, None)),
            Err(_) => relayed.await,
        },
        reached = &mut relayed => match reached {
            Ok(reached) => Ok(reached),
            Err(error) => match direct.await {
                Ok((connection, at)) => Ok((connection, at, None)),
                Err(_) => Err(error),
            },
        },
    }
}

/// Dials a provider while it is called: the first flight goes along with the call.
async fn dial_and_call(
    endpoint: &QuicEndpoint,
    node: NodeId,
    call: Call,
) -> Result<(quinn::Connection, Link), NodeError> {
    let at = call.at;
    let mut early = pin!(endpoint.dial(at, node.0));
    let mut answered = pin!(call.answered());
    let (dialed, link) = tokio::select! {
        link = &mut answered => {
            let link = link?;
            // What is lost or came too late is not waited for.
            (timeout(GRACE, &mut early).await, link)
        }
        dialed = &mut early => (Ok(dialed), answered.await?),
    };
    let connection = match dialed {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the provider is dialed again, now that it has answered");
            endpoint.dial(at, node.0).await?
        }
        Err(_) => {
            tracing::debug!("a second handshake begins beside the first one");
            match select(early, pin!(endpoint.dial(at, node.0))).await {
                Either::Left((Ok(connection), _)) | Either::Right((Ok(connection), _)) => {
                    connection
                }
                Either::Left((Err(_), second)) => second.await?,
                Either::Right((Err(_), first)) => first.await?,
            }
        }
    };
    Ok((connection, link))
}

/// Tries the proposal's addresses, each a little after the one before it.
async fn dial(
    endpoint: &QuicEndpoint,
    proposal: &Proposal,
) -> Result<(quinn::Connection, SocketAddr), NodeError> {
    let mut dials = FuturesUnordered::new();
    for (number, address) in proposal.contact.iter().enumerate() {
        let wait = STAGGER * u32::try_from(number).unwrap_or(u32::MAX);
        dials.push(async move {
            tokio::time::sleep(wait).await;
            let dialed = endpoint.dial(*address, proposal.node.0).await;
            dialed.map(|connection| (connection, *address))
        });
    }
    let mut last = None;
    while let Some(dialed) = dials.next().await {
        match dialed {
            Ok(reached) => return Ok(reached),
            Err(error) => {
                tracing::debug!(%error, "an address of the provider does not answer");
                last = Some(error);
            }
        }
    }
    Err(last.map_or(NodeError::NoProposal, NodeError::Dial))
}

/// The link's path, the present one as news.
fn watched(link: &Link) -> watch::Receiver<PathNow> {
    let mut path = link.path.clone();
    path.mark_changed();
    path
}

/// The price of a mebibyte or a second, and not nothing.
fn least_chunk(price: &Price) -> Amount {
    let second = price.per_hour.mul_div_down(1, 3_600);
    let unit = Amount::from_units(1);
    traffic_price(price, CHUNK_BYTES).max(second).max(unit)
}

/// What lets a stream flow while a payment is on its way, by the round trip to the provider.
fn default_chunk(price: &Price, round_trip: Duration) -> Amount {
    let payment = (round_trip * PAYMENT_TRIPS).as_millis();
    let bytes = u128::from(CHUNK_RATE) * payment / 1_000;
    let most = CHUNK_BYTES * CHUNK_MOST;
    let bytes = u64::try_from(bytes).map_or(most, |bytes| bytes.min(most));
    traffic_price(price, bytes).max(least_chunk(price))
}

fn traffic_price(price: &Price, bytes: u64) -> Amount {
    let gib = u128::from(wayfare_payment::GIB);
    price.per_gib.mul_div_down(u128::from(bytes), gib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_chunk_is_what_flows_while_a_payment_is_on_its_way() {
        let units = Amount::from_units;
        // One unit a byte.
        let price = Price {
            per_hour: units(0),
            per_gib: units(1 << 30),
        };
        let check = |millis, bytes| {
            let chunk = default_chunk(&price, Duration::from_millis(millis));
            assert_eq!(chunk, units(bytes), "{millis} ms");
        };
        check(0, 1 << 20);
        check(10, 1 << 20);
        check(100, 9_600_000);
        check(175, 16 << 20);
        check(100_000, 16 << 20);
        let by_time = Price {
            per_hour: units(7_200),
            per_gib: units(0),
        };
        assert_eq!(default_chunk(&by_time, Duration::from_secs(1)), units(2));
    }
}
