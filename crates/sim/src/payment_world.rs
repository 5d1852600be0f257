//! The payment world: consumers, providers and one Hermes, each a real machine on a ledger that crashes, joined by links that lose,
//! double and reorder, above a vault of plain arithmetic. A witness watches what is said and checks the invariants of money.
//!
//! Time passes in ticks; within one, everything happens in a fixed order, so a seed is the whole story.

mod consumer;
mod hermes;
mod invariants;
mod lies;
mod model;
mod provider;

use std::sync::Arc;
use std::time::Duration;

use wayfare_identity::{Address, B256, LocalSigner, SecretKey, Signer, U256, keccak256};
use wayfare_payment::{
    Agreement, AgreementId, Amount, ChannelId, Exchange, HermesAccount, Invoice, IssueRefusal,
    IssueReply, IssueRequest, Preimage, Price, SignedAgreement, Usage,
};

use self::consumer::Consumer;
use self::hermes::Hermes;
pub use self::invariants::{Broken, Witness};
pub use self::lies::mutate_reply;
pub use self::model::{Fate, Outcome, run};
use self::provider::Provider;
use crate::{Chance, Clock, Link, SimVault, Weather};

/// One step of the world.
pub const TICK: Duration = Duration::from_millis(100);
/// The chain of this world.
pub const CHAIN_ID: u64 = 31_337;
/// One inner packet.
const PACKET: u64 = 1_400;
/// Most packets of a session in one tick: 11 MB/s.
const PACKETS_PER_TICK: u64 = 800;
/// How long a consumer's exit takes, in seconds.
const EXIT_DELAY: u64 = 20;

/// How honest a consumer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerKind {
    /// It is.
    Honest,
    /// It stops paying after its first payments (A3).
    StopsPaying,
    /// It signs promises that do not add up, beyond its deposit (A4).
    OverPromises,
    /// It asks for its deposit back in the middle of it all.
    Leaves,
}

/// How honest a provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// It is.
    Honest,
    /// It sends invoices over more than was used (A2).
    Inflates,
}

/// How honest the Hermes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HermesKind {
    /// It is.
    Honest,
    /// Every other answer is altered (A1).
    Lies,
}

/// One paid session: what really happened, whatever the parties say.
#[derive(Debug, Clone)]
pub struct Session {
    /// The terms.
    pub terms: SignedAgreement,
    /// Index of the consumer.
    pub consumer: usize,
    /// Index of the provider.
    pub provider: usize,
    /// By the provider's meter.
    pub served: Usage,
    /// By the consumer's meter.
    pub received: Usage,
    /// Whether it still goes on.
    pub live: bool,
}

#[derive(Debug, Clone)]
enum Message {
    Invoice {
        consumer: usize,
        invoice: Invoice,
    },
    Payment {
        provider: usize,
        exchange: Exchange,
    },
    Ask {
        provider: usize,
        call: u64,
        ask: Ask,
    },
    Tell {
        provider: usize,
        call: u64,
        tell: Tell,
    },
}

#[derive(Debug, Clone)]
enum Ask {
    Issue(IssueRequest),
    Reveal {
        channel: ChannelId,
        preimage: Preimage,
    },
}

#[derive(Debug, Clone)]
enum Tell {
    Issued(IssueReply),
    Refused(IssueRefusal),
    Revealed,
}

/// What goes wrong, and who lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// One entry for each consumer.
    pub consumers: Vec<ConsumerKind>,
    /// One entry for each provider.
    pub providers: Vec<ProviderKind>,
    /// The Hermes.
    pub hermes: HermesKind,
    /// Every link.
    pub weather: Weather,
    /// The longest that a write takes.
    pub write_delay: Duration,
    /// In 1/1000 for each party and tick: it loses power.
    pub crashes: u64,
    /// What each consumer deposits.
    pub deposit: u128,
    /// What the Hermes puts down.
    pub collateral: u128,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    setting: Setting,
    clock: Clock,
    chance: Chance,
    ticks: u64,
    vault: SimVault,
    link: Link<Message>,
    consumers: Vec<Consumer>,
    providers: Vec<Provider>,
    hermes: Hermes,
    sessions: Vec<Session>,
    calls: u64,
    calm: bool,
    witness: Witness,
}

/// A signer from a name.
fn key(role: &str, index: usize) -> Arc<dyn Signer> {
    let digest = keccak256(format!("{role} {index}"));
    let secret = SecretKey::from_bytes(digest.0)
        .expect("all but one in 2^128 digests are keys, and these are fixed");
    Arc::new(LocalSigner::new(secret))
}

/// The Hermes' id.
#[must_use]
pub fn hermes_id() -> Address {
    Address::repeat_byte(0xee)
}

/// The vault's address.
#[must_use]
pub fn vault_address() -> Address {
    Address::repeat_byte(0xaa)
}

impl World {
    /// Everybody has a deposit, nobody has spoken.
    #[must_use]
    pub fn new(setting: Setting, seed: u64) -> Self {
        let mut vault = SimVault::new(CHAIN_ID, EXIT_DELAY);
        let hermes = Hermes::new(setting.hermes);
        vault.register(
            hermes_id(),
            HermesAccount {
                operator: hermes.operator.address(),
                fee_basis_points: 100,
                collateral: Amount::from_units(setting.collateral),
                free: Amount::ZERO,
                leaving: false,
            },
        );
        let clock = Clock::new();
        let consumers: Vec<Consumer> = (0..)
            .zip(&setting.consumers)
            .map(|(i, kind)| Consumer::new(i, *kind))
            .collect();
        let providers: Vec<Provider> = (0..)
            .zip(&setting.providers)
            .map(|(i, kind)| Provider::new(i, *kind))
            .collect();
        for consumer in &consumers {
            let deposit = Amount::from_units(setting.deposit);
            vault.deposit(consumer.signer.address(), hermes_id(), deposit);
        }
        let mut world = Self {
            link: Link::new(setting.weather),
            setting,
            clock,
            chance: Chance::new(seed),
            ticks: 0,
            vault,
            consumers,
            providers,
            hermes,
            sessions: Vec::new(),
            calls: 0,
            calm: false,
            witness: Witness::default(),
        };
        world.read_chain();
        world
    }

    /// Signs an agreement and begins it on both sides.
    ///
    /// # Errors
    /// [`Broken`] when a machine refuses terms that both sides signed.
    pub fn begin(&mut self, consumer: usize, provider: usize) -> Result<(), Broken> {
        let (payer, payee) = (&self.consumers[consumer], &self.providers[provider]);
        let agreement = Agreement {
            id: AgreementId(U256::from_be_bytes(self.chance.bytes())),
            consumer: payer.signer.address(),
            provider: payee.signer.address(),
            hermes: hermes_id(),
            chain_id: CHAIN_ID,
            vault: vault_address(),
            consumer_channel: payer.channel,
            // One unit for each millisecond, one for each byte.
            price: Price {
                per_hour: Amount::from_units(3_600_000),
                per_gib: Amount::from_units(1 << 30),
            },
            chunk: Amount::from_units(500_000),
            chunk_limit: Amount::from_units(4_000_000),
        };
        let digest = agreement.digest();
        let sign =
            |signer: &Arc<dyn Signer>| signer.sign_digest(digest).expect("keys in memory sign");
        let terms = SignedAgreement {
            agreement,
            consumer_signature: sign(&payer.signer),
            provider_signature: sign(&payee.signer),
        };
        let session = Session {
            terms,
            consumer,
            provider,
            served: Usage::default(),
            received: Usage::default(),
            live: true,
        };
        self.sessions.push(session);
        let now = self.clock.now();
        self.consumers[consumer]
            .payer
            .open(terms, None)
            .map_err(|e| Broken::new(e.to_string()))?;
        self.providers[provider]
            .collector
            .open(terms, now)
            .map_err(|e| Broken::new(e.to_string()))?;
        self.drain_provider(provider)
    }

    /// Ends a session on the provider's side; the consumer follows when it has paid.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn end(&mut self, session: usize) -> Result<(), Broken> {
        let now = self.clock.now();
        let session = &mut self.sessions[session];
        session.live = false;
        let (id, provider, served) = (session.terms.agreement.id, session.provider, session.served);
        self.providers[provider].collector.close(id, &served, now);
        self.drain_provider(provider)
    }

    /// From now on nothing is lost, late or crashing, and nobody lies: what is owed can be put right.
    pub fn calm(&mut self) {
        self.calm = true;
        self.link.turn(Weather::FAIR);
        self.setting.write_delay = Duration::ZERO;
        self.setting.crashes = 0;
        self.hermes.kind = HermesKind::Honest;
    }

    /// One tick, and all invariants after it.
    ///
    /// # Errors
    /// The first [`Broken`] invariant.
    pub fn tick(&mut self) -> Result<(), Broken> {
        self.ticks += 1;
        self.clock.pass(TICK);
        let now = self.clock.now();
        while let Some(message) = self.link.arrived(now) {
            self.deliver(message)?;
        }
        self.commit()?;
        self.run_timers()?;
        self.traffic()?;
        if self.ticks.is_multiple_of(10) {
            self.vault.pass(1);
            self.chain_second()?;
        }
        self.power_failures()?;
        self.check()
    }

    fn deliver(&mut self, message: Message) -> Result<(), Broken> {
        match message {
            Message::Invoice { consumer, invoice } => self.invoice_arrives(consumer, invoice),
            Message::Payment { provider, exchange } => self.payment_arrives(provider, exchange),
            Message::Ask {
                provider,
                call,
                ask,
            } => self.ask_arrives(provider, call, &ask),
            Message::Tell {
                provider,
                call,
                tell,
            } => self.tell_arrives(provider, call, tell),
        }
    }

    fn send(&mut self, message: Message) {
        self.link.send(message, self.clock.now(), &mut self.chance);
    }

    fn write_delay(&mut self) -> Duration {
        Duration::from_micros(
            self.chance
                .below(self.setting.write_delay.as_micros() as u64 + 1),
        )
    }

    fn session_of(&self, id: AgreementId) -> Option<&Session> {
        self.sessions
            .iter()
            .find(|session| session.terms.agreement.id == id)
    }

    fn commit(&mut self) -> Result<(), Broken> {
        for consumer in 0..self.consumers.len() {
            self.commit_consumer(consumer)?;
        }
        for provider in 0..self.providers.len() {
            self.commit_provider(provider)?;
        }
        self.commit_hermes()
    }

    fn run_timers(&mut self) -> Result<(), Broken> {
        for provider in 0..self.providers.len() {
            self.provider_timers(provider)?;
        }
        Ok(())
    }

    /// Packets flow while the gate of their session is open for the next one.
    fn traffic(&mut self) -> Result<(), Broken> {
        for index in 0..self.sessions.len() {
            let (provider, id) = (
                self.sessions[index].provider,
                self.sessions[index].terms.agreement.id,
            );
            if !self.sessions[index].live {
                continue;
            }
            let wanted = self.chance.below(PACKETS_PER_TICK + 1);
            let lossy = self.chance.below(4);
            let session = &mut self.sessions[index];
            let mut next = session.served;
            next.time += TICK;
            session.received.time += TICK;
            let collector = &self.providers[provider].collector;
            let credit = collector.credit(id);
            let price = session.terms.agreement.price;
            if price.cost_rounded_down(&next) <= credit {
                session.served = next;
            }
            let mut passed = 0;
            for _ in 0..wanted {
                let mut next = session.served;
                next.down += PACKET;
                if price.cost_rounded_down(&next) > credit {
                    break;
                }
                session.served = next;
                passed += 1;
            }
            // Up to 3 in 1,000 packets are lost behind the provider's meter.
            session.received.down += PACKET * (passed - passed * lossy / 1000);
            let served = session.served;
            self.witness.gate_agrees(collector, id, &served, passed)?;
            let now = self.clock.now();
            self.providers[provider]
                .collector
                .handle_usage(id, &served, now);
            self.drain_provider(provider)?;
        }
        Ok(())
    }

    /// Once a virtual second: everybody reads the chain, the Hermes collects, settlements are mined, some leave.
    fn chain_second(&mut self) -> Result<(), Broken> {
        for index in 0..self.consumers.len() {
            let leaves = self.consumers[index].kind == ConsumerKind::Leaves && !self.calm;
            let address = self.consumers[index].signer.address();
            if leaves && self.chance.happens(30) {
                // Refused while one is pending.
                let _ = self.vault.request_exit(address, hermes_id());
            }
            let _ = self.vault.finalize_exit(address, hermes_id());
        }
        self.collect()?;
        for provider in 0..self.providers.len() {
            self.mine_settlement(provider)?;
        }
        self.read_chain();
        for provider in 0..self.providers.len() {
            self.drain_provider(provider)?;
        }
        Ok(())
    }

    fn read_chain(&mut self) {
        let now = self.clock.now();
        for consumer in &mut self.consumers {
            let account = self.vault.consumer(consumer.signer.address(), hermes_id());
            let deposit = account.balance.saturating_add(account.collected);
            consumer.read_chain(deposit, account.collected);
        }
        for provider in &mut self.providers {
            let settled = self
                .vault
                .provider(provider.signer.address(), hermes_id())
                .settled;
            if let Ok(hermes) = self.vault.hermes(hermes_id()) {
                provider.collector.handle_hermes(hermes, now);
            }
            provider.collector.handle_settled(settled, now);
        }
    }

    fn power_failures(&mut self) -> Result<(), Broken> {
        for consumer in 0..self.consumers.len() {
            if self.chance.happens(self.setting.crashes) {
                self.crash_consumer(consumer)?;
            }
        }
        for provider in 0..self.providers.len() {
            if self.chance.happens(self.setting.crashes) {
                self.crash_provider(provider)?;
            }
        }
        if self.chance.happens(self.setting.crashes) {
            self.crash_hermes()?;
        }
        Ok(())
    }
}

/// A provider's secret for preimages.
fn preimage_secret(provider: usize) -> B256 {
    keccak256(format!("preimages {provider}"))
}
