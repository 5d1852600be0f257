//! A relay with a price between two nodes on loopback, paid through a real Hermes and cashed on a real EVM.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::net::UdpSocket;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use wayfare_api::RefusalCode;
use wayfare_api::peer::ProviderLine;
use wayfare_api::relay::RelayClient;
use wayfare_chain::devchain::{DevChain, Genesis, deploy_contracts, developer};
use wayfare_chain::{Delays, Endpoint, TokenClient, VaultClient, Wallet};
use wayfare_hermes::{Hermes, HermesConfig, Site};
use wayfare_identity::{Address, LocalSigner, NodeId, SecretKey, U256, keccak256};
use wayfare_nat::{Call, Swarm, SwarmConfig, SwarmEvent};
use wayfare_payment::{
    Agreement, AgreementId, Chain, ChannelId, GIB, Invoice, IssuerConfig, Payer, PayerConfig,
    PayerOutput, Price, Usage,
};
use wayfare_session::{ConsumerFrame, Hello, ProviderFrame, Refusal, TollRequest};
use wayfare_transport::{BiStream, Carried};

use super::*;
use crate::provider::ProviderStatus;
use crate::reach::swarm_on;
use crate::{Preset, open_ledger};

const CHAIN_ID: u64 = 31_337;
const ONE: u128 = 1_000_000_000_000_000_000;
/// A unit a byte: what is paid is what has passed.
const PER_GIB: u128 = GIB as u128;
const FREE: u64 = 256 << 10;
/// What a message and its frame's head take.
const FRAME: u64 = 1_208;

fn signer(name: &str) -> LocalSigner {
    LocalSigner::new(SecretKey::from_bytes(keccak256(name).0).unwrap())
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, what).await.unwrap()
}

async fn until(mut happened: impl FnMut() -> bool) {
    let waits = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(waits).await;
}

/// A chain, a Hermes on it, and the money of an operator and a consumer.
struct World {
    network: Network,
    bank: TokenClient,
    rich: VaultClient,
    _hermes: Hermes,
    _folder: TempDir,
    chain: JoinHandle<std::io::Result<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.chain.abort();
    }
}

impl World {
    async fn new() -> Self {
        let funds = [developer().address(), signer("operator").address()];
        let chain = DevChain::new(&Genesis {
            chain_id: CHAIN_ID,
            funds: funds.map(|who| (who, U256::from(1_000 * ONE))).to_vec(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rpc = format!("http://{}", listener.local_addr().unwrap());
        let chain = tokio::spawn(chain.serve(listener, std::future::pending()));
        let mut endpoint = Endpoint::new(&rpc, CHAIN_ID);
        endpoint.poll = Duration::from_millis(5);
        let deployed = deploy_contracts(endpoint.clone(), Delays::default()).await;
        let (token, vault) = deployed.unwrap();
        let owner: Arc<dyn Signer> = Arc::new(LocalSigner::new(developer()));
        let wallet = Wallet::new(endpoint.clone(), Arc::clone(&owner)).unwrap();
        let rich = VaultClient::new(wallet.clone(), vault);
        let bank = TokenClient::new(wallet, token);
        let coins = Amount::from_units(100 * ONE);
        bank.mint(owner.address(), coins).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let site = Site {
            ledger: folder.path().join("hermes"),
            chain: endpoint,
            vault,
        };
        let collateral = Amount::from_units(10 * ONE);
        let hermes = site
            .register(Arc::clone(&owner), owner.address(), 0, collateral)
            .await
            .unwrap();
        let issuer = IssuerConfig {
            hermes,
            chain_id: CHAIN_ID,
            vault,
            locked_cap: Amount::from_units(ONE),
        };
        let ports = site.open(owner).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let running = Hermes::start(HermesConfig::new(issuer), ports, listener).await;
        let running = running.unwrap();
        let deposit = rich.deposit_address(signer("consumer").address(), hermes);
        let tokens = Amount::from_units(ONE);
        bank.transfer(deposit, tokens).await.unwrap();
        let network = Network {
            rpc,
            hermes_url: format!("http://{}", running.address()),
            ..Network::new(Preset::Local, vault, hermes)
        };
        Self {
            network,
            bank,
            rich,
            _hermes: running,
            _folder: folder,
            chain,
        }
    }

    /// A relay of the operator's, with its ledger in `folder`.
    async fn relay(&self, folder: &TempDir, per_gib: u128) -> Relay {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let operator = signer("operator");
        let identity = operator.address();
        let builder = RelayBuilder {
            secret: [7; 32],
            listen: at,
            advertise: at,
            limits: RelayLimits::default(),
            bootstrap: Vec::new(),
            toll: Some(RelayToll {
                network: self.network.clone(),
                signer: Arc::new(operator),
                ledger: open_ledger(&folder.path().join("relay")).unwrap(),
                per_gib: Amount::from_units(per_gib),
                settle: SettlePolicy {
                    enabled: false,
                    threshold: Amount::MAX,
                    max_age: Duration::from_secs(3_600),
                    beneficiary: identity,
                },
            }),
        };
        builder.start().await.unwrap()
    }

    fn payer(&self) -> Payer {
        let consumer = signer("consumer");
        let config = PayerConfig {
            hermes: self.network.hermes,
            chain_id: CHAIN_ID,
            vault: self.network.vault,
            channel: self.channel(),
        };
        let mut payer = Payer::new(config, Arc::new(consumer));
        payer.handle_deposit(Amount::from_units(ONE));
        payer
    }

    fn channel(&self) -> ChannelId {
        let consumer = signer("consumer").address();
        self.rich.consumer_channel(consumer, self.network.hermes)
    }
}

/// A node on loopback.
struct Node {
    id: NodeId,
    socket: SharedSocket,
    _receiver: TunnelReceiver,
    endpoint: QuicEndpoint,
    swarm: Swarm,
    events: mpsc::Receiver<SwarmEvent>,
}

impl Node {
    fn new(seed: u8) -> Self {
        let key = NodeKey::from_seed([seed; 32]);
        let any = ([127, 0, 0, 1], 0).into();
        let (socket, receiver) = SharedSocket::bind(any, SocketOptions::default()).unwrap();
        let identity = QuicIdentity::from_ed25519_seed(*key.seed()).unwrap();
        let endpoint = quic_endpoint(&socket, &identity).unwrap();
        let id = key.id();
        let config = SwarmConfig {
            key,
            relay: None,
            dht: None,
        };
        let (swarm, events) = swarm_on(&socket, &endpoint, &identity, config).unwrap();
        Self {
            id,
            socket,
            _receiver: receiver,
            endpoint,
            swarm,
            events,
        }
    }
}

/// A channel from one node to another, and who called it.
struct Way {
    caller: Node,
    _callee: Node,
    relay: NodeAddress,
    near: Carried,
    far: Carried,
}

impl Way {
    async fn open(relay: &Relay, seeds: [u8; 2]) -> Self {
        let (caller, mut callee) = (Node::new(seeds[0]), Node::new(seeds[1]));
        let relay = relay.address();
        callee.swarm.attach(relay).await;
        loop {
            let event = within(callee.events.recv()).await.unwrap();
            if matches!(event, SwarmEvent::Attached(_)) {
                break;
            }
        }
        // The callee may know of its connection to the relay before the relay does.
        let number = u32::from_be_bytes([seeds[0], seeds[1], 0, 1]);
        let calling = async {
            loop {
                if let Ok(opened) = caller
                    .swarm
                    .call(relay, Call::new(callee.id, number, vec![1]))
                    .await
                {
                    return opened;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ringing = async {
            loop {
                if let SwarmEvent::Rung(ring) = callee.events.recv().await.unwrap() {
                    ring.accept(vec![2]);
                }
            }
        };
        let opened = async {
            tokio::select! {
                opened = calling => opened,
                () = ringing => unreachable!("it rings for ever"),
            }
        };
        let opened = within(opened).await;
        let near = caller.socket.open_relayed(relay.at, opened.channel);
        let far = callee.socket.open_relayed(relay.at, opened.channel);
        Self {
            caller,
            _callee: callee,
            relay,
            near: near.unwrap(),
            far: far.unwrap(),
        }
    }

    /// Sends `messages` tunnel messages; how many bytes passed, as the relay says, once it has said so of all.
    async fn send(&self, relay: &Relay, messages: usize) -> u64 {
        let counted = |account: AccountUse| account.bytes[0] + account.refused;
        let account = || account(relay, self.caller.id);
        let mut train = vec![0; 1_200 * messages];
        train.chunks_mut(1_200).for_each(|message| message[0] = 4);
        let before = account();
        let sent = self
            .caller
            .socket
            .send_segments(self.near.address(), &train, 1_200);
        sent.await.unwrap();
        let all = counted(before) + messages as u64 * FRAME;
        until(|| counted(account()) >= all).await;
        account().bytes[0] - before.bytes[0]
    }

    /// Offers messages until `bytes` have passed.
    async fn pass(&self, relay: &Relay, bytes: u64) {
        let mut passed = 0;
        while passed < bytes {
            let more = self.send(relay, 40).await;
            passed += more;
            if more == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Asks the relay for an agreement on a connection of its own.
    async fn agree(&self, world: &World, id: u64, change: fn(&mut Agreement)) -> Agreed {
        let consumer = signer("consumer");
        let dialed = self.caller.endpoint.dial(self.relay.at, self.relay.node.0);
        let connection = within(dialed).await.unwrap();
        let stream = BiStream::open(&connection).await.unwrap();
        let client = RelayClient::over(stream, "the relay");
        let tariff = client.describe().await.unwrap();
        assert_eq!(tariff.operator, signer("operator").address());
        assert_eq!(tariff.free_bytes, FREE);
        assert_eq!(tariff.chunk_most, Amount::from_units(16 << 20));
        let mut agreement = Agreement {
            id: AgreementId(U256::from(id)),
            consumer: consumer.address(),
            provider: tariff.operator,
            hermes: tariff.hermes,
            chain_id: tariff.chain_id,
            vault: tariff.vault,
            consumer_channel: world.channel(),
            price: Price {
                per_hour: Amount::ZERO,
                per_gib: tariff.per_gib,
            },
            chunk: Amount::from_units(1 << 20),
            chunk_limit: Amount::from_units(4 << 20),
        };
        change(&mut agreement);
        let request = TollRequest {
            hello: Hello::ours(),
            agreement,
            consumer_signature: consumer.sign_digest(agreement.digest()).unwrap(),
        };
        let reply = client.open(&request).await.map_err(|error| match error {
            wayfare_api::ApiError::Refused { refusal, .. } => refusal.code,
            other => panic!("{other}"),
        });
        let opened = match reply {
            Ok(reply) => {
                let terms = reply.verify(&request).unwrap();
                let line = client.converse(reply.token).await.unwrap();
                Ok((terms, line))
            }
            Err(code) => Err(code),
        };
        Agreed {
            opened,
            _connection: connection,
        }
    }
}

struct Agreed {
    opened: Result<(wayfare_payment::SignedAgreement, ProviderLine), RefusalCode>,
    _connection: quinn::Connection,
}

/// What a consumer is told, and what it has paid.
#[derive(Debug, Default, Clone)]
struct Told {
    paid: Amount,
    invoices: usize,
    draining: bool,
    closed: Option<Refusal>,
}

/// Pays whatever is asked for within the meter, until the agreement is closed.
async fn pay(
    mut payer: Payer,
    terms: wayfare_payment::SignedAgreement,
    mut line: ProviderLine,
    meter: wayfare_transport::CarriedMeter,
    tell: watch::Sender<Told>,
) -> Payer {
    let [up, down] = meter.passed();
    payer.open(terms, None).unwrap();
    while let Some(frame) = line.frames.next().await {
        match frame.unwrap() {
            ProviderFrame::Invoice(invoice) => {
                tell.send_modify(|told| told.invoices += 1);
                let now = meter.passed();
                let usage = Usage {
                    up: now[0] - up,
                    down: now[1] - down,
                    ..Usage::default()
                };
                if let Some(exchange) = bill(&mut payer, invoice, &usage) {
                    let payment = ConsumerFrame::Payment(exchange);
                    line.replies.send(payment).await.unwrap();
                }
            }
            ProviderFrame::Paid(total) => tell.send_modify(|told| told.paid = total),
            ProviderFrame::Draining { .. } => tell.send_modify(|told| told.draining = true),
            ProviderFrame::Closed(refusal) => {
                tell.send_modify(|told| told.closed = Some(refusal));
                break;
            }
            ProviderFrame::Usage(_) | ProviderFrame::Gate(_) | ProviderFrame::KeepAlive => {}
        }
    }
    payer
}

fn bill(payer: &mut Payer, invoice: Invoice, usage: &Usage) -> Option<wayfare_payment::Exchange> {
    payer.handle_invoice(invoice, usage);
    while let Some(output) = payer.poll_output() {
        match output {
            PayerOutput::Persist { ticket, .. } => payer.handle_durable(ticket),
            PayerOutput::Pay(exchange) => return Some(exchange),
            PayerOutput::Refused { why, .. } => panic!("{why}"),
        }
    }
    None
}

fn account(relay: &Relay, node: NodeId) -> AccountUse {
    let mut accounts = relay.accounts().into_iter();
    accounts.find(|account| account.node == node).unwrap()
}

async fn status(relay: &Relay) -> ProviderStatus {
    relay.remote().unwrap().status().await.unwrap()
}

/// What may have trickled through by now.
fn trickle(since: std::time::Instant) -> u64 {
    (since.elapsed().as_secs() + 1) * (2 << 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_pays_for_what_passes_and_the_operator_cashes_it() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let relay = world.relay(&folder, PER_GIB).await;
    let began = std::time::Instant::now();
    let way = Way::open(&relay, [1, 2]).await;

    // Unpaid, it stalls.
    let mut passed = 0;
    for _ in 0..10 {
        passed += way.send(&relay, 54).await;
    }
    let most = FREE + trickle(began);
    assert!((FREE - 54 * FRAME..=most).contains(&passed), "{passed}");

    // Terms that are not the tariff's are refused, and nothing changes.
    let cheap = |agreement: &mut Agreement| agreement.price.per_gib = Amount::from_units(1);
    let refused = way.agree(&world, 1, cheap).await.opened.err();
    assert_eq!(refused, Some(RefusalCode::Terms));
    assert_eq!(account(&relay, way.caller.id).allowed, 0);

    // Paid, it goes on.
    let before = account(&relay, way.caller.id).bytes;
    let agreed = way.agree(&world, 2, |_| {}).await;
    let (terms, line) = agreed.opened.unwrap();
    let (tell, mut told) = watch::channel(Told::default());
    let closer = line.replies.clone();
    let paying = tokio::spawn(pay(world.payer(), terms, line, way.near.meter(), tell));
    within(told.wait_for(|told| !told.paid.is_zero()))
        .await
        .unwrap();
    way.pass(&relay, 6 << 20).await;
    assert_eq!(status(&relay).await.sessions.len(), 1);

    // Closed, it has paid for what has passed and no more, by the relay's count.
    closer.send(ConsumerFrame::Close).await.unwrap();
    let payer = within(paying).await.unwrap();
    let closed = told.borrow().clone();
    let after = account(&relay, way.caller.id).bytes;
    let used = after[0] + after[1] - before[0] - before[1];
    assert_eq!(
        closed.paid,
        Amount::from_units(u128::from(used)),
        "{closed:?}"
    );
    assert!(used >= 6 << 20 && closed.invoices > 6, "{closed:?}");
    assert_eq!(payer.total(), closed.paid);
    assert_eq!(status(&relay).await.promised, closed.paid);
    // Both meters are one, as nothing was lost: what arrived is what passed.
    assert_eq!(way.far.meter().passed()[1], after[0]);
    // And it stalls again.
    let idle = std::time::Instant::now();
    until(|| account(&relay, way.caller.id).allowed == 0).await;
    let mut more = 0;
    for _ in 0..5 {
        more += way.send(&relay, 5).await;
    }
    assert!(more <= trickle(idle) + (8 << 10), "{more}");

    // Cashed: the tokens are the operator's.
    let settled = within(relay.remote().unwrap().settle()).await.unwrap();
    assert_eq!(settled.total, closed.paid);
    let operator = signer("operator").address();
    assert_eq!(world.bank.balance(operator).await.unwrap(), closed.paid);

    // After a restart all of it is known, and the next agreement is paid on top.
    relay.stop().await;
    let relay = world.relay(&folder, PER_GIB).await;
    let known = status(&relay).await;
    assert_eq!((known.promised, known.settled), (closed.paid, closed.paid));
    let way = Way::open(&relay, [3, 4]).await;
    let (terms, line) = way.agree(&world, 3, |_| {}).await.opened.unwrap();
    let (tell, mut told) = watch::channel(Told::default());
    let paying = tokio::spawn(pay(payer, terms, line, way.near.meter(), tell));
    within(told.wait_for(|told| !told.paid.is_zero()))
        .await
        .unwrap();
    way.pass(&relay, 1 << 20).await;

    // Whoever is told that the relay stops pays the rest before it does.
    let stopping = std::time::Instant::now();
    relay.stop().await;
    assert!(
        stopping.elapsed() < Duration::from_secs(6),
        "{:?}",
        stopping.elapsed()
    );
    let payer = within(paying).await.unwrap();
    let last = told.borrow().clone();
    assert!(last.draining && last.closed.is_some(), "{last:?}");
    assert_eq!(payer.total(), closed.paid.saturating_add(last.paid));
    assert!(last.paid >= Amount::from_units(1 << 20), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_of_nothing_is_no_price() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let relay = world.relay(&folder, 0).await;
    let way = Way::open(&relay, [1, 2]).await;
    let train = vec![4, 0, 0, 0];
    for _ in 0..20 {
        way.caller
            .socket
            .send(way.near.address(), &train)
            .await
            .unwrap();
    }
    until(|| relay.used()[0].bytes[0] == 20 * 12).await;
    assert!(relay.accounts().is_empty() && relay.remote().is_none());
    // Nobody sits at the desk.
    let dialed = way.caller.endpoint.dial(way.relay.at, way.relay.node.0);
    let turned_away = async { dialed.await.unwrap().closed().await };
    within(turned_away).await;
    let _ = Address::ZERO;
}
