//! Our end: a TUN device, the shared socket and a tunnel endpoint, driven by one task.
//!
//! The smallest driver that is honest about the order of things. It refuses to hide anything:
//! every event, drop and handshake message is there for the test to look at.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc as channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::mpsc;
use wayfare_transport::{
    Batch, Clock, SharedSocket, SocketOptions, SocketStats, Tun, TunDevice, TunExt, TunnelReceiver,
};
use wayfare_tunnel::{
    COOKIE_LEN, DropReason, Endpoint, EndpointConfig, Event, MessageKind, OVERHEAD, PeerConfig,
    PeerId, Received, Sealed, StaticSecret, classify,
};

use super::netns::Namespace;

/// The name of our TUN device; its namespace is its own, so one name serves all tests.
pub(crate) const DEVICE: &str = "wayfare0";

/// How our end shall be.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) secret: StaticSecret,
    pub(crate) listen: SocketAddr,
    pub(crate) peer: PeerConfig,
    pub(crate) rekey_after: Duration,
    pub(crate) under_load: bool,
    /// Inner address with prefix length.
    pub(crate) address: &'static str,
}

/// What was seen so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) events: Vec<(Instant, Event)>,
    pub(crate) initiations_sent: usize,
    pub(crate) initiations_received: usize,
    pub(crate) cookies_sent: usize,
    /// Datagrams that were received and refused.
    pub(crate) refused: BTreeMap<DropReason, usize>,
    pub(crate) socket: SocketStats,
    /// Why the driver ended before it was told to.
    pub(crate) broken: Option<String>,
}

impl Seen {
    /// When keys were first there.
    pub(crate) fn established(&self) -> Option<Instant> {
        let mut all = self.events.iter();
        all.find_map(|(at, event)| matches!(event, Event::Established { .. }).then_some(*at))
    }

    /// When keys were replaced by fresh ones.
    pub(crate) fn rekeyed(&self) -> Vec<Instant> {
        let is_rekey = |event: &Event| matches!(event, Event::Rekeyed { .. });
        let rekeys = self.events.iter().filter(|(_, event)| is_rekey(event));
        rekeys.map(|(at, _)| *at).collect()
    }
}

/// Shared between the driver and the test.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Witness {
    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// Waits until `enough`; says whether it came to that within `patience`.
    pub(crate) fn wait(&self, patience: Duration, enough: impl Fn(&Seen) -> bool) -> bool {
        let waiting = |seen: &mut Seen| !enough(seen) && seen.broken.is_none();
        let outcome = self
            .changed
            .wait_timeout_while(self.lock(), patience, waiting);
        enough(&outcome.unwrap().0)
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

/// The running driver; it ends, with device and socket, when this is dropped.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) witness: Arc<Witness>,
    /// Each message asks for a handshake; closing ends the driver.
    handshakes: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    /// Starts a driver on a thread of `namespace` and gives its device the inner address.
    pub(crate) fn start(namespace: &Namespace, settings: Settings) -> Self {
        let witness = Arc::new(Witness::default());
        let (handshakes, asked) = mpsc::channel(4);
        let (ready, is_ready) = channel::channel();
        let address = settings.address;
        let thread = thread::spawn({
            let (door, witness) = (namespace.door(), Arc::clone(&witness));
            move || {
                door.join_this_thread();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let outcome = runtime.block_on(async {
                    let engine = Engine::new(settings, Arc::clone(&witness));
                    ready.send(()).unwrap();
                    engine.run(asked).await
                });
                witness.note(|seen| seen.broken = outcome.err().map(|e| e.to_string()));
            }
        });
        is_ready
            .recv_timeout(Duration::from_secs(30))
            .expect("the driver did not start");
        namespace.ip(&format!("address add {address} dev {DEVICE}"));
        Self {
            witness,
            handshakes: Some(handshakes),
            thread: Some(thread),
        }
    }

    /// Starts a handshake now, whatever keys there are.
    pub(crate) fn initiate(&self) {
        let handshakes = self.handshakes.as_ref().unwrap();
        handshakes.blocking_send(()).expect("the driver ended");
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.handshakes.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if thread::panicking() {
            eprintln!("--- our end saw ---\n{:#?}", self.witness.seen());
        } else if let Some(Err(panic)) = ended {
            std::panic::resume_unwind(panic);
        }
    }
}

#[derive(Debug)]
struct Engine {
    endpoint: Endpoint,
    peer: PeerId,
    tun: TunDevice,
    socket: SharedSocket,
    tunnel: Option<TunnelReceiver>,
    witness: Arc<Witness>,
    sealed: Vec<u8>,
}

impl Engine {
    fn new(settings: Settings, witness: Arc<Witness>) -> Self {
        let config = EndpointConfig {
            rekey_after: settings.rekey_after,
            ..EndpointConfig::default()
        };
        let tun = TunDevice::create(DEVICE, config.mtu).unwrap();
        let options = SocketOptions::default();
        let (socket, tunnel) = SharedSocket::bind(settings.listen, options).unwrap();
        let wall = UNIX_EPOCH + Duration::from_millis(Clock::unix_ms());
        let mut endpoint = Endpoint::new(settings.secret, seed(), Clock::now(), wall, config);
        let peer = endpoint.add_peer(settings.peer).unwrap();
        endpoint.set_under_load(settings.under_load);
        Self {
            sealed: vec![0; tun.mtu() + 15 + OVERHEAD],
            endpoint,
            peer,
            tun,
            socket,
            tunnel: Some(tunnel),
            witness,
        }
    }

    async fn run(mut self, mut asked: mpsc::Receiver<()>) -> io::Result<()> {
        let mut tunnel = self.tunnel.take().expect("run is called once");
        let mut batch = Batch::new();
        let mut packet = vec![0; self.tun.mtu()];
        loop {
            let deadline = self
                .endpoint
                .poll_timeout()
                .map(|deadline| deadline.at.into());
            let alarm =
                tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now));
            tokio::select! {
                ask = asked.recv() => match ask {
                    Some(()) => assert!(self.endpoint.initiate(self.peer, Clock::now())),
                    None => return Ok(()),
                },
                received = tunnel.recv(&mut batch) => {
                    received?;
                    self.open(&mut batch).await?;
                }
                length = self.tun.recv(&mut packet) => {
                    let length = length?;
                    self.seal(&packet[..length]).await?;
                }
                () = alarm, if deadline.is_some() => self.endpoint.handle_timeout(Clock::now()),
            }
            self.drain().await?;
        }
    }

    async fn open(&mut self, batch: &mut Batch) -> io::Result<()> {
        let now = Clock::now();
        for (from, datagram) in batch.iter_mut() {
            let initiation = classify(datagram) == Some(MessageKind::Initiation);
            match self.endpoint.handle_datagram(from, datagram, now) {
                Received::Packet { packet, .. } => self.tun.send(packet).await?,
                Received::Handshake { .. } | Received::Keepalive { .. } => {}
                Received::Dropped(why) => self
                    .witness
                    .note(|seen| *seen.refused.entry(why).or_default() += 1),
            }
            if initiation {
                self.witness.note(|seen| seen.initiations_received += 1);
            }
        }
        Ok(())
    }

    async fn seal(&mut self, packet: &[u8]) -> io::Result<()> {
        match self.endpoint.seal(packet, Clock::now(), &mut self.sealed) {
            Sealed::Datagram { to, len, .. } => self.socket.send(to, &self.sealed[..len]).await,
            // The kernel's own router solicitations have no route; what waits comes out later.
            Sealed::Queued { .. } | Sealed::Dropped(_) => Ok(()),
        }
    }

    async fn drain(&mut self) -> io::Result<()> {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.socket.send(transmit.to, &transmit.payload).await?;
            match classify(&transmit.payload) {
                Some(MessageKind::Initiation) => {
                    self.witness.note(|seen| seen.initiations_sent += 1)
                }
                Some(MessageKind::Cookie) => {
                    assert_eq!(transmit.payload.len(), COOKIE_LEN);
                    self.witness.note(|seen| seen.cookies_sent += 1);
                }
                Some(MessageKind::Response | MessageKind::Transport) => {}
                None => panic!("the endpoint sent what is no message"),
            }
        }
        while let Some(event) = self.endpoint.poll_event() {
            let (now, socket) = (Clock::now(), self.socket.stats());
            self.witness.note(|seen| {
                seen.events.push((now, event));
                seen.socket = socket;
            });
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let socket = self.socket.stats();
        self.witness.note(|seen| seen.socket = socket);
    }
}

/// Never the same twice, as the endpoint demands.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    let mut source = std::fs::File::open("/dev/urandom").unwrap();
    io::Read::read_exact(&mut source, &mut seed).unwrap();
    seed
}
