//! One tunnel on several cores: lanes, each a thread with a socket, a queue of the device and an endpoint of its own.
//!
//! The kernel gives a lane what is its peers' ([`wayfare_transport::steer`]), so lanes share nothing for a packet. Only
//! a call does not say whom it is for: it arrives in the first lane, which demands the proofs, opens it and puts it
//! through ([`Exchange`]). It refuses a split that is not clean: peers that cannot be told apart by one address, or a
//! kernel that does not steer, mean one lane.

mod crew;
mod exchange;
mod plan;

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wayfare_transport::{
    BindError, Clock, Framing, LaneSocket, LaneSockets, MOST_LANES, Pump, SharedSocket,
    SocketOptions, Tun, TunDevice, TunnelReceiver, lane_sockets, steer_device,
};
use wayfare_tunnel::{
    Endpoint, EndpointConfig, Lane, PeerConfig, PeerId, StaticSecret, TAG, TRANSPORT_HEADER,
};

use crate::{Carried, Crowd, WireGuard, WireGuardError, wait};
use crew::Crew;
use exchange::Post;

pub(crate) use exchange::Exchange;
pub use plan::OneLane;

/// Calls (2 KiB each) and strays that wait for a lane; what finds no room is lost, and called again after five seconds.
const POST: usize = 64;

/// Fewer cores are busy enough with one lane and the kernel's part of its work. Two lanes on two cores carried a hundred
/// consumers a quarter to a half faster, but the lanes got unequal parts of the cores, and so did their consumers.
const CORES_WORTHWHILE: usize = 4;

/// A plain peer whose lanes are there: sockets bound, device steered, threads started, peers assigned. Dropping it ends
/// them all.
pub struct Lanes {
    first: Running,
    crew: Crew,
    at: SocketAddr,
    single: Option<OneLane>,
}

/// What a lane has carried: inner packets of the peers that were its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneTotals {
    /// From the peers to the device.
    pub opened: u64,
    /// From the device to the peers.
    pub sealed: u64,
    /// Peers.
    pub peers: usize,
}

impl WireGuard {
    /// How many lanes are worth having: one for each core, if there are two peers or more that lanes can tell apart and
    /// four cores or more.
    #[must_use]
    pub fn lanes_worthwhile(&self) -> usize {
        let mut apart = self.peers.iter().filter(|p| plan::has_single_addresses(p));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if apart.nth(1).is_none() || cores < CORES_WORTHWHILE {
            return 1;
        }
        cores.min(MOST_LANES)
    }

    /// Starts this peer in `lanes`, or in one, and [`Lanes::single`] says why. `device` must have been made for as many
    /// queues. The first lane is the caller's, in [`Lanes::run`]; each other one has a thread of its own, which lives in
    /// the caller's network namespace, and carries packets when this returns.
    ///
    /// # Errors
    /// The port, a peer that is described twice, or the system is out of resources.
    pub async fn into_lanes(
        self,
        device: TunDevice,
        lanes: usize,
    ) -> Result<Lanes, WireGuardError> {
        let device = Arc::new(device);
        let mut single = None;
        if lanes != 1 {
            match self.split(&device, lanes).await? {
                Ok(split) => return Ok(split),
                Err(why) => {
                    tracing::info!(asked = lanes, %why, "one lane carries everything");
                    single = Some(why);
                }
            }
        }
        let homes = vec![0; self.peers.len()];
        let LaneSockets { sockets, .. } = bind(self.port, self.mark, 1)?;
        let mut lanes = self.start(&device, sockets, &homes).await?;
        lanes.single = single;
        Ok(lanes)
    }

    /// As many lanes, or why there can be only one.
    async fn split(
        &self,
        device: &Arc<TunDevice>,
        lanes: usize,
    ) -> Result<Result<Lanes, OneLane>, WireGuardError> {
        let prepared = plan::homes(&self.peers, lanes).and_then(|homes| {
            // Whether there can be more queues shows before anything is changed.
            device.another_queue()?;
            steer_device(device, lanes)?;
            Ok(homes)
        });
        let homes = match prepared {
            Ok(homes) => homes,
            Err(why) => return Ok(Err(why)),
        };
        let LaneSockets { sockets, refused } = bind(self.port, self.mark, lanes)?;
        if let Some(why) = refused {
            return Ok(Err(why.into()));
        }
        match self.start(device, sockets, &homes).await {
            Ok(lanes) => Ok(Ok(lanes)),
            Err(WireGuardError::Tun(why)) => Ok(Err(why.into())),
            Err(other) => Err(other),
        }
    }

    async fn start(
        &self,
        device: &Arc<TunDevice>,
        sockets: Vec<LaneSocket>,
        homes: &[usize],
    ) -> Result<Lanes, WireGuardError> {
        let of = sockets.len();
        let at = sockets.first().map(LaneSocket::local_addr);
        let mut exchange = Exchange::new(&self.peers, homes);
        let mut crew = Crew::default();
        let mut first = None;
        for (number, socket) in sockets.into_iter().enumerate() {
            let assigned = self.peers.iter().zip(homes);
            let peers = assigned.filter(|(_, home)| **home == number);
            let berth = Berth {
                lane: Lane::new(number, of).ok_or(WireGuardError::Lane)?,
                secret: self.secret.clone(),
                peers: peers.map(|(peer, _)| peer.clone()).collect(),
            };
            if number == 0 {
                let (socket, receiver) = socket.open()?;
                let tun: Arc<dyn Tun> = Arc::<TunDevice>::clone(device);
                first = Some(berth.prepare(socket, receiver, tun)?);
                continue;
            }
            let (sender, inbox) = mpsc::channel(POST);
            exchange.connect(sender);
            // One after the other: the kernel numbers queues in the order in which they are opened.
            let device = Arc::clone(device);
            crew.hire(berth, socket, device, inbox).await?;
        }
        let (mut first, at) = first.zip(at).ok_or(WireGuardError::Lane)?;
        first.exchange = Some(exchange);
        Ok(Lanes {
            first,
            crew,
            at,
            single: None,
        })
    }
}

impl Lanes {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.crew.count()
    }

    /// Why there is one lane where more were asked for.
    #[must_use]
    pub fn single(&self) -> Option<&OneLane> {
        self.single.as_ref()
    }

    /// The address of all sockets.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.at
    }

    /// Carries packets until `stop`. When one lane fails all end. Says what each has carried.
    ///
    /// # Errors
    /// A socket or queue fails.
    pub async fn run(self, stop: CancellationToken) -> Result<Vec<LaneTotals>, WireGuardError> {
        let all = self.crew.stop().clone();
        let told = async {
            stop.cancelled().await;
            all.cancel();
            std::future::pending().await
        };
        let outcome = tokio::select! {
            outcome = self.first.run(&all, None) => outcome,
            never = told => never,
        };
        self.crew.disband(outcome)
    }
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes")
            .field("at", &self.at)
            .field("count", &self.count())
            .field("single", &self.single)
            .finish_non_exhaustive()
    }
}

/// What a lane needs to begin, in whatever thread.
#[derive(Debug)]
pub(crate) struct Berth {
    pub(crate) lane: Lane,
    pub(crate) secret: StaticSecret,
    pub(crate) peers: Vec<PeerConfig>,
}

impl Berth {
    /// The lane with its socket and its queue `tun`, on the current runtime.
    pub(crate) fn prepare(
        self,
        socket: SharedSocket,
        receiver: TunnelReceiver,
        tun: Arc<dyn Tun>,
    ) -> Result<Running, WireGuardError> {
        let mtu = tun.mtu();
        let now = Clock::now();
        let config = EndpointConfig {
            mtu,
            lane: self.lane,
            ..EndpointConfig::default()
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| WireGuardError::Chance(error.to_string()))?;
        let mut endpoint = Endpoint::new(self.secret, seed, now, Clock::wall(), config);
        let mut peers = Vec::new();
        for peer in self.peers {
            let calls = peer.endpoint.is_some() && peer.keepalive.is_some();
            let id = endpoint.add_peer(peer)?;
            peers.push(id);
            if calls {
                endpoint.initiate(id, now);
            }
        }
        let framing = Framing {
            head: TRANSPORT_HEADER,
            tail: TAG,
            multiple: 16,
            mtu,
        };
        Ok(Running {
            endpoint,
            peers,
            crowd: Crowd::of_one_in(self.lane.of()),
            pump: Pump::new(socket, receiver, Arc::clone(&tun), framing),
            tun,
            exchange: None,
        })
    }
}

/// A lane at work.
pub(crate) struct Running {
    endpoint: Endpoint,
    peers: Vec<PeerId>,
    crowd: Crowd,
    pump: Pump,
    tun: Arc<dyn Tun>,
    /// The first lane's.
    exchange: Option<Exchange>,
}

impl Running {
    /// Carries packets until `stop`.
    pub(crate) async fn run(
        mut self,
        stop: &CancellationToken,
        mut inbox: Option<mpsc::Receiver<Post>>,
    ) -> Result<LaneTotals, WireGuardError> {
        loop {
            while let Some(transmit) = self.endpoint.poll_transmit() {
                let sent = self.pump.socket().send(transmit.to, &transmit.payload);
                if let Err(error) = sent.await {
                    tracing::debug!(%error, "a tunnel message could not be sent");
                }
            }
            while self.endpoint.poll_event().is_some() {}
            let deadline = self.endpoint.poll_timeout().map(|deadline| deadline.at);
            tokio::select! {
                () = stop.cancelled() => return Ok(self.totals()),
                ready = self.pump.ready() => {
                    ready?;
                    let mut carried = Carried {
                        endpoint: &mut self.endpoint,
                        peers: &self.peers,
                        crowd: &mut self.crowd,
                        exchange: self.exchange.as_mut(),
                    };
                    self.pump.work(&mut carried, Clock::now());
                }
                post = next(&mut inbox) => self.take(post),
                () = wait(deadline) => self.endpoint.handle_timeout(Clock::now()),
            }
        }
    }

    /// What the first lane has put through.
    fn take(&mut self, post: Post) {
        let now = Clock::now();
        match post {
            Post::Call(call) => {
                let outcome = self.endpoint.answer(*call, now);
                tracing::trace!(?outcome, "a call was put through");
            }
            Post::Stray { from, mut datagram } => {
                let received = self.endpoint.handle_datagram(from, &mut datagram, now);
                if let Some(packet) = received.packet() {
                    self.tun.send_batch(&[packet]);
                }
            }
        }
    }

    fn totals(&self) -> LaneTotals {
        let all = self.peers.iter();
        let stats = all.filter_map(|peer| self.endpoint.peer_stats(*peer));
        stats.fold(LaneTotals::default(), |sum, peer| LaneTotals {
            opened: sum.opened + peer.rx_packets,
            sealed: sum.sealed + peer.tx_packets,
            peers: sum.peers + 1,
        })
    }
}

/// The next post; never, for a lane that gets none.
async fn next(inbox: &mut Option<mpsc::Receiver<Post>>) -> Post {
    if let Some(open) = inbox {
        if let Some(post) = open.recv().await {
            return post;
        }
        // The first lane has ended; so shall this one.
        *inbox = None;
    }
    std::future::pending().await
}

/// Both families, or IPv4 alone where the system has no IPv6.
pub(crate) fn bind(port: u16, mark: Option<u32>, lanes: usize) -> Result<LaneSockets, BindError> {
    let options = SocketOptions {
        mark,
        ..SocketOptions::default()
    };
    lane_sockets((Ipv6Addr::UNSPECIFIED, port).into(), options, lanes)
}
