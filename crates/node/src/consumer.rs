//! The consumer's role: find a provider, agree on terms, run the session, pay.

mod connect;
mod driver;
mod line;
mod payer;
mod system;
mod toll;

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use wayfare_api::hermes::HermesClient;
use wayfare_chain::{Endpoint, VaultClient, Wallet};
use wayfare_discovery::{Proposal, Query};
use wayfare_identity::{Address, B256, Signer};
use wayfare_payment::{Agreement, Amount, Chain, ChannelId, Ledger, Payer, PayerConfig, Usage};
use wayfare_session::{CloseReason, ConsumerEvent, TunnelNetwork};

use self::driver::Command;
use self::payer::PayerLink;
use crate::discover::Sources;
use crate::path::MtuWatch;
use crate::persistence::{Persistence, load};
use crate::reach::PathNow;
use crate::{Network, NodeError};

pub use self::connect::ConnectOptions;
pub use self::system::SystemTunnel;
pub use self::toll::{TollNews, TollReport};

/// A consumer: one identity, one channel at one Hermes, any number of sessions.
#[derive(Debug)]
pub struct Node {
    network: Network,
    signer: Arc<dyn Signer>,
    chain: Arc<VaultClient>,
    hermes: HermesClient,
    payer: PayerLink,
    sources: Arc<Sources>,
}

/// What a [`Node`] needs.
#[derive(Debug)]
pub struct NodeBuilder {
    network: Network,
    signer: Option<Arc<dyn Signer>>,
    ledger: Option<Arc<dyn Ledger>>,
    wanted: Option<Query>,
}

/// A consumer's money, as the chain and its own ledger see it.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    /// Whose.
    pub identity: Address,
    /// Where to send tokens, from any wallet.
    pub deposit_address: Address,
    /// On the chain and not collected yet.
    pub balance: Amount,
    /// Collected by the Hermes.
    pub collected: Amount,
    /// Promised so far, by this ledger.
    pub promised: Amount,
    /// What can still be promised.
    pub spendable: Amount,
    /// When an exit may be completed, in unix seconds.
    pub exit_at: Option<u64>,
}

/// A running session.
#[derive(Debug)]
pub struct Session {
    agreement: Agreement,
    network: TunnelNetwork,
    provider: SocketAddr,
    mtu: MtuWatch,
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<SessionEvent>,
    task: JoinHandle<SessionEnd>,
}

/// What happens, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// Of the session itself.
    Session(ConsumerEvent),
    /// An invoice was not paid.
    InvoiceRefused(String),
    /// The longest packet, in bytes, that now gets through to the provider; told first when the session begins. Longer ones
    /// vanish on the way, so a device of your own should be this small. [`SystemTunnel`] sees to that by itself. Below 1,280 a
    /// device does not carry IPv6 (RFC 8200 section 5).
    Mtu(usize),
    /// The path to the provider, when it was not simply dialed: first the one that the session begins with, then each change.
    Path(PathNow),
    /// Between us and the relay on the way to the provider.
    Toll(TollNews),
}

/// A session in numbers.
#[derive(Debug, Clone, Serialize)]
pub struct SessionReport {
    /// The terms.
    pub agreement: Agreement,
    /// What this side counted.
    pub usage: Usage,
    /// Promised within this session.
    pub promised: Amount,
    /// Confirmed by the provider as covered.
    pub paid: Amount,
    /// Number of promises signed.
    pub promises: u64,
    /// Number of invoices refused.
    pub invoices_refused: u64,
    /// The way to the provider; `None` when it was simply dialed.
    #[serde(skip)]
    pub path: Option<PathNow>,
    /// What relays were paid; `None` while none was asked for its price.
    pub relay: Option<TollReport>,
}

/// How a session ended.
#[derive(Debug, Clone)]
pub struct SessionEnd {
    /// Why.
    pub reason: CloseReason,
    /// Its last numbers.
    pub report: SessionReport,
}

impl NodeBuilder {
    /// The identity that pays.
    #[must_use]
    pub fn signer(mut self, signer: Arc<dyn Signer>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Where promises are remembered. A node that lost it starts from what the chain shows as collected; while the Hermes holds
    /// more than that, it refuses new promises, and what is left is to take the deposit out. Two nodes must never share one
    /// identity with two ledgers.
    #[must_use]
    pub fn ledger(mut self, ledger: Arc<dyn Ledger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Asks for proposals while the chain is checked: the first [`Node::discover`] of this query waits for those only.
    #[must_use]
    pub fn looking_for(mut self, query: Query) -> Self {
        self.wanted = Some(query);
        self
    }

    /// Restores the payer and checks the chain.
    ///
    /// # Errors
    /// A missing part, an unreachable chain, an unknown Hermes, a damaged ledger.
    pub async fn build(self) -> Result<Node, NodeError> {
        let missing = |what: &str| NodeError::Setting(format!("a node needs a {what}"));
        let signer = self.signer.ok_or_else(|| missing("signer"))?;
        let ledger = self.ledger.ok_or_else(|| missing("ledger"))?;
        let network = self.network;
        let sources = Arc::new(Sources::new(&network)?);
        // The chain is asked several things, one after the other. Meanwhile there is time for what does not depend on it.
        if let Some(query) = self.wanted {
            sources.begin(query);
        }
        tokio::task::spawn_blocking(wayfare_transport::gather_randomness);
        let wallet = Wallet::new(
            Endpoint::new(&network.rpc, network.chain_id),
            Arc::clone(&signer),
        )?;
        let chain = Arc::new(VaultClient::new(wallet, network.vault));
        chain.check().await?;
        // A deposit for a Hermes that does not exist could only be taken back.
        chain.hermes(network.hermes).await?;
        let channel = chain.consumer_channel(signer.address(), network.hermes);
        let config = PayerConfig {
            hermes: network.hermes,
            chain_id: network.chain_id,
            vault: network.vault,
            channel,
        };
        let rows = load(ledger.as_ref(), Payer::TABLES).await?;
        let payer = Payer::restore(config, Arc::clone(&signer), rows)
            .map_err(|error| NodeError::Record(error.to_string()))?;
        let payer = PayerLink::start(payer, Persistence::new(ledger));
        let service = |what, source| NodeError::Service { what, source };
        let hermes =
            HermesClient::connect(&network.hermes_url).map_err(|e| service("the Hermes", e))?;
        Ok(Node {
            network,
            signer,
            chain,
            hermes,
            payer,
            sources,
        })
    }
}

impl Node {
    /// A node in a network.
    #[must_use]
    pub fn builder(network: Network) -> NodeBuilder {
        NodeBuilder {
            network,
            signer: None,
            ledger: None,
            wanted: None,
        }
    }

    /// Who pays.
    #[must_use]
    pub fn identity(&self) -> Address {
        self.signer.address()
    }

    /// The chain, for deposits and exits.
    #[must_use]
    pub fn chain(&self) -> &VaultClient {
        &self.chain
    }

    /// Verified proposals that fit, best first: of every index and of the distributed table, as far as they answer soon.
    ///
    /// # Errors
    /// No source answers.
    pub async fn discover(&self, query: &Query) -> Result<Vec<Proposal>, NodeError> {
        let mut found = self.sources.ask(query).await?;
        found.retain(|proposal| self.fits(proposal));
        Ok(found)
    }

    fn fits(&self, proposal: &Proposal) -> bool {
        proposal.chain_id == self.network.chain_id
            && proposal.vault == self.network.vault
            && proposal.hermes.contains(&self.network.hermes)
    }

    /// Reads the account from the chain and the ledger, and tells the payer how far its promises may go.
    ///
    /// # Errors
    /// The chain does not answer.
    pub async fn account(&self) -> Result<Account, NodeError> {
        let identity = self.identity();
        let on_chain = self.chain.consumer(identity, self.network.hermes).await?;
        let deposit = on_chain.balance.saturating_add(on_chain.collected);
        self.payer.account(&on_chain).await;
        let promised = self
            .payer
            .total()
            .await
            .ok_or_else(|| NodeError::Record("payments have stopped".into()))?;
        Ok(Account {
            identity,
            deposit_address: self.chain.deposit_address(identity, self.network.hermes),
            balance: on_chain.balance,
            collected: on_chain.collected,
            promised,
            spendable: deposit.saturating_sub(promised),
            exit_at: on_chain.exit_at,
        })
    }

    /// The channel on which this node promises.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.chain
            .consumer_channel(self.identity(), self.network.hermes)
    }

    /// Whether the Hermes answers, and what it says of this consumer.
    ///
    /// # Errors
    /// It does not.
    pub async fn hermes_state(&self) -> Result<wayfare_api::hermes::ConsumerState, NodeError> {
        let state = self.hermes.consumer_state(self.identity()).await;
        state.map_err(|source| NodeError::Service {
            what: "the Hermes",
            source,
        })
    }

    /// Asks for the deposit back; it is paid out after the vault's delay by [`Node::finalize_exit`].
    ///
    /// # Errors
    /// The chain's.
    pub async fn request_exit(&self) -> Result<(), NodeError> {
        Ok(self.chain.request_exit(self.network.hermes).await?)
    }

    /// Takes what is left of the deposit.
    ///
    /// # Errors
    /// The chain's; before the delay has passed, its refusal.
    pub async fn finalize_exit(&self, beneficiary: Address) -> Result<Amount, NodeError> {
        Ok(self
            .chain
            .finalize_exit(self.network.hermes, beneficiary)
            .await?)
    }
}

impl Session {
    /// The terms.
    #[must_use]
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// Our addresses inside the tunnel.
    #[must_use]
    pub fn network(&self) -> &TunnelNetwork {
        &self.network
    }

    /// Where the provider is: the only peer that the tunnel speaks to.
    #[must_use]
    pub fn provider(&self) -> SocketAddr {
        self.provider
    }

    /// The longest packet that gets through to the provider, and its changes; also told as [`SessionEvent::Mtu`].
    #[must_use]
    pub fn mtu(&self) -> MtuWatch {
        self.mtu.clone()
    }

    /// The next event; `None` when the session is over and all were read.
    pub async fn next_event(&mut self) -> Option<SessionEvent> {
        self.events.recv().await
    }

    /// The session's numbers; `None` when it is over.
    pub async fn report(&self) -> Option<SessionReport> {
        self.reporter().report().await
    }

    /// A way to ask for reports from elsewhere.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        Reporter {
            commands: self.commands.downgrade(),
        }
    }

    /// Pays what is owed and ends the session.
    pub async fn close(&self) {
        let _ = self.commands.send(Command::Close).await;
    }

    /// Ends the session at once if it still runs, and waits for the end.
    pub async fn finish(mut self) -> Option<SessionEnd> {
        // Without its commands the session's owner aborts it.
        self.commands = mpsc::channel(1).0;
        self.ended().await
    }

    /// Waits for the end: why it came, and the last numbers. `None` when the session's task was torn down with its runtime.
    pub async fn ended(self) -> Option<SessionEnd> {
        self.task.await.ok()
    }
}

/// Asks a session for its numbers. Does not keep it alive.
#[derive(Debug, Clone)]
pub struct Reporter {
    commands: mpsc::WeakSender<Command>,
}

impl Reporter {
    /// The session's numbers; `None` when it is over.
    pub async fn report(&self) -> Option<SessionReport> {
        let (answer, report) = oneshot::channel();
        let commands = self.commands.upgrade()?;
        commands.send(Command::Report(answer)).await.ok()?;
        drop(commands);
        report.await.ok()
    }

    /// Pays what is owed and ends the session.
    pub async fn close(&self) {
        if let Some(commands) = self.commands.upgrade() {
            let _ = commands.send(Command::Close).await;
        }
    }
}

/// A fresh, random agreement id.
fn agreement_id(bytes: [u8; 32]) -> wayfare_payment::AgreementId {
    wayfare_payment::AgreementId(B256::from(bytes).into())
}
