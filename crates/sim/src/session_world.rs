//! The session world: real consumer sessions with real payers, a real exit with its collector, and a real Hermes, above a vault of
//! plain arithmetic. Datagrams lose, double and overtake each other; control streams keep their order but break; ledgers crash.
//!
//! Time jumps from event to event, and every machine is woken at the deadline it asked for and at no other moment. The world checks
//! by itself what must hold whatever happens (see `witness`); it refuses to know what a test wants beyond that.

mod applicant;
mod consumer;
mod hermes;
mod packet;
mod provider;
mod stream;
mod witness;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use wayfare_identity::{Address, LocalSigner, SecretKey, Signer, keccak256};
use wayfare_payment::{Amount, Depth, HermesAccount, Issuer, Price, Usage};
use wayfare_session::{Exit, Refusal, SessionStatus, SessionToken};

pub use self::applicant::Applicant;
pub use self::consumer::Consumer;
use self::hermes::{Hermes, Reply, Request};
pub use self::packet::Label;
use self::provider::Provider;
pub use self::witness::Violation;
use crate::{Chance, Clock, Link, SimVault, Weather};

/// The chain of this world.
pub const CHAIN_ID: u64 = 31_337;
/// What may happen at one moment; more means that something is due for ever.
const MAX_ROUNDS: usize = 20_000;

/// How the world is made.
#[derive(Debug, Clone)]
pub struct Setting {
    /// How many consumers there are.
    pub consumers: usize,
    /// What the exit asks for.
    pub price: Price,
    /// First chunk of every agreement, and the largest that the exit gives.
    pub chunk: u128,
    /// The most credit.
    pub chunk_limit: u128,
    /// Datagrams.
    pub weather: Weather,
    /// The longest that a frame or a call to the Hermes travels.
    pub stream_delay: Duration,
    /// The longest that a write takes.
    pub write_delay: Duration,
    /// Sessions of the exit.
    pub max_sessions: usize,
    /// Its tunnel addresses.
    pub pool_v4: &'static str,
    /// Its IPv6 tunnel addresses.
    pub pool_v6: Option<&'static str>,
    /// Age at which tunnel keys are renewed.
    pub rekey_after: Duration,
    /// What each consumer deposits.
    pub deposit: u128,
}

impl Default for Setting {
    /// Fair weather; one unit a byte, time is free; 100,000 units of first credit.
    fn default() -> Self {
        Self {
            consumers: 1,
            price: Price {
                per_hour: Amount::ZERO,
                per_gib: Amount::from_units(1 << 30),
            },
            chunk: 100_000,
            chunk_limit: 800_000,
            weather: Weather {
                delay: Duration::from_millis(2),
                ..Weather::FAIR
            },
            stream_delay: Duration::from_millis(2),
            write_delay: Duration::from_millis(1),
            max_sessions: 8,
            pool_v4: "10.80.0.0/24",
            pool_v6: Some("fd00:80::/64"),
            rekey_after: Duration::from_secs(120),
            deposit: 1 << 40,
        }
    }
}

#[derive(Debug, Clone)]
struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    payload: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    setting: Setting,
    clock: Clock,
    chance: Chance,
    vault: SimVault,
    datagrams: Link<Datagram>,
    /// Whoever listens to this consumer's path hears what the exit sends to the other.
    eavesdropper: Option<(usize, usize)>,
    consumers: Vec<Consumer>,
    provider: Provider,
    hermes: Hermes,
    to_hermes: Link<Request>,
    from_hermes: Link<Reply>,
    /// Which consumer's stream a session's frames go to.
    attached: BTreeMap<SessionToken, usize>,
    internet: BTreeMap<Label, usize>,
}

fn signer(role: &str, index: usize) -> Arc<dyn Signer> {
    let digest = keccak256(format!("session world: {role} {index}"));
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
        let clock = Clock::new();
        let mut chance = Chance::new(seed);
        let hermes = Hermes::new();
        let mut vault = SimVault::new(CHAIN_ID, 3_600);
        let account = HermesAccount {
            operator: hermes.operator.address(),
            fee_basis_points: 100,
            collateral: Amount::from_units(1 << 60),
            free: Amount::ZERO,
            leaving: false,
        };
        vault.register(hermes_id(), account);
        let consumers: Vec<_> = (0..setting.consumers).map(Consumer::new).collect();
        for consumer in &consumers {
            let deposit = Amount::from_units(setting.deposit);
            vault.deposit(consumer.signer.address(), hermes_id(), deposit);
        }
        let provider = Provider::new(&setting, chance.bytes(), wall(&clock), clock.now());
        let calm = Weather {
            delay: setting.stream_delay,
            ..Weather::FAIR
        };
        let mut world = Self {
            datagrams: Link::new(setting.weather),
            to_hermes: Link::new(calm),
            from_hermes: Link::new(calm),
            setting,
            clock,
            chance,
            vault,
            eavesdropper: None,
            consumers,
            provider,
            hermes,
            attached: BTreeMap::new(),
            internet: BTreeMap::new(),
        };
        world.read_chain();
        world
    }

    /// The virtual moment.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// One consumer.
    #[must_use]
    pub fn consumer(&self, consumer: usize) -> &Consumer {
        &self.consumers[consumer]
    }

    /// The exit's machine.
    #[must_use]
    pub fn exit(&self) -> &Exit {
        &self.provider.exit
    }

    /// The exit's numbers of a consumer's present session.
    #[must_use]
    pub fn served(&self, consumer: usize) -> Option<SessionStatus> {
        let id = self.consumers[consumer].agreement?.id;
        self.statuses()
            .into_iter()
            .find(|status| status.agreement.id == id)
    }

    /// The exit's last numbers of the sessions that ended, and why they did.
    #[must_use]
    pub fn ended(&self) -> &[(SessionStatus, Refusal)] {
        &self.provider.ended
    }

    /// What of a consumer's traffic reached the internet: how often each packet came out.
    #[must_use]
    pub fn internet(&self, consumer: usize) -> BTreeMap<Label, usize> {
        let ours = self
            .internet
            .iter()
            .filter(|(label, _)| label.consumer == consumer);
        ours.map(|(label, times)| (*label, *times)).collect()
    }

    /// How many of the exit's batches were handed to its ledger.
    #[must_use]
    pub fn exit_persists(&self) -> u64 {
        self.provider.persists
    }

    /// The Hermes' ledger, audited from its rows alone: what it promised.
    ///
    /// # Errors
    /// [`Violation`] where it does not balance.
    pub fn audit(&self) -> Result<Amount, Violation> {
        let rows = self.hermes.ledger.rows(Issuer::CHECKED_TABLES);
        let operator = self.hermes.operator.address();
        let report = Issuer::check(&Hermes::config(), operator, rows, Depth::Signatures)?;
        match report.findings.first() {
            Some(finding) => Err(Violation::new(finding.to_string())),
            None => Ok(report.promised),
        }
    }

    /// The weather of datagrams sent from now on.
    pub fn turn(&mut self, weather: Weather) {
        self.datagrams.turn(weather);
    }

    /// From now on every datagram from the exit to `victim` also reaches `listener`, first.
    pub fn eavesdrop(&mut self, victim: usize, listener: usize) {
        self.eavesdropper = Some((victim, listener));
    }

    /// Lets time pass, event by event.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn run_for(&mut self, time: Duration) -> Result<(), Violation> {
        self.run_until(time, |_| false).map(drop)
    }

    /// Lets time pass until something is the case; `false` when it is not within `limit`.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn run_until(
        &mut self,
        limit: Duration,
        is_so: impl Fn(&Self) -> bool,
    ) -> Result<bool, Violation> {
        let end = self.now() + limit;
        loop {
            self.settle()?;
            if is_so(self) {
                return Ok(true);
            }
            let next = self.next_event().map_or(end, |at| at.min(end));
            if next >= end {
                self.clock.pass(end.saturating_duration_since(self.now()));
                self.settle()?;
                return Ok(is_so(self));
            }
            self.clock.pass(next.saturating_duration_since(self.now()));
        }
    }

    /// Everything that is due now.
    fn settle(&mut self) -> Result<(), Violation> {
        for _ in 0..MAX_ROUNDS {
            if !self.round()? {
                return Ok(());
            }
        }
        let (exit, consumers) = (self.exit().poll_timeout(), self.consumers.iter());
        let consumers: Vec<_> = consumers.map(Consumer::poll_timeout).collect();
        Err(Violation::new(format!(
            "something is due for ever: exit {exit:?}, consumers {consumers:?}"
        )))
    }

    fn round(&mut self) -> Result<bool, Violation> {
        let now = self.now();
        let mut busy = false;
        if let Some(datagram) = self.datagrams.arrived(now) {
            self.datagram_arrives(datagram)?;
            busy = true;
        }
        for consumer in 0..self.consumers.len() {
            busy |= self.serve_streams(consumer)?;
            busy |= self.commit_consumer(consumer)?;
            busy |= self.consumer_timers(consumer)?;
        }
        busy |= self.serve_hermes()?;
        busy |= self.commit_exit()?;
        busy |= self.exit_timers()?;
        Ok(busy)
    }

    fn next_event(&self) -> Option<Instant> {
        let consumers = self.consumers.iter().filter_map(Consumer::next_event);
        let others = [
            self.datagrams.next_arrival(),
            self.to_hermes.next_arrival(),
            self.from_hermes.next_arrival(),
            self.hermes.ledger.next_durable(),
            self.provider.next_event(),
        ];
        consumers.chain(others.into_iter().flatten()).min()
    }

    fn datagram_arrives(&mut self, datagram: Datagram) -> Result<(), Violation> {
        if datagram.to == provider::address() {
            return self.exit_opens(datagram);
        }
        let Some(consumer) = self.consumers.iter().position(|c| c.address == datagram.to) else {
            return Ok(());
        };
        if let Some((victim, listener)) = self.eavesdropper
            && victim == consumer
        {
            self.consumer_opens(listener, datagram.clone())?;
        }
        self.consumer_opens(consumer, datagram)
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        let now = self.clock.now();
        let datagram = Datagram { from, to, payload };
        self.datagrams.send(datagram, now, &mut self.chance);
    }

    fn write_delay(&mut self) -> Duration {
        self.chance_within(self.setting.write_delay)
    }

    fn chance_within(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.chance.below(most.as_micros() as u64 + 1))
    }

    fn statuses(&self) -> Vec<SessionStatus> {
        self.exit().sessions(self.now())
    }

    /// Everybody reads the chain.
    fn read_chain(&mut self) {
        let now = self.now();
        for consumer in &mut self.consumers {
            let account = self.vault.consumer(consumer.signer.address(), hermes_id());
            consumer
                .payer
                .handle_deposit(account.balance.saturating_add(account.collected));
        }
        if let Ok(hermes) = self.vault.hermes(hermes_id()) {
            self.provider.exit.handle_hermes(hermes, now);
        }
    }
}

fn wall(clock: &Clock) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + clock.elapsed()
}

/// What a usage costs at a price.
#[must_use]
pub fn cost(price: &Price, usage: &Usage) -> Amount {
    price.cost_rounded_down(usage)
}
