//! The world of these tests, in steps of 50 ms. It refuses to sleep, and to know what is right.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wayfare_identity::{Address, B256, LocalSigner, NodeId, SecretKey, Signer, U256};
use wayfare_payment::{
    Agreement, AgreementId, Amount, Batch, ChannelId, Collector, CollectorConfig, ConsumerAccount,
    HermesAccount, Issuer, IssuerConfig, IssuerOutput, Patience, Payer, PayerConfig, PayerOutput,
    Price, Row, Table,
};

use super::super::{
    TollConfig, TollEvent, TollKeeper, TollKeeperOutput, TollOutput, TollPayer, TollRequest,
};
use crate::{
    AdmissionFacts, CloseReason, ConsumerFrame, Funds, Hello, ProviderFrame, Refusal, RefusalCode,
    SessionToken,
};

pub(super) const KIB: u64 = 1 << 10;
/// In units, of which a KiB costs one.
pub(super) const CHUNK: u128 = 1_000;
pub(super) const NODE: NodeId = NodeId([7; 32]);
const STEP: Duration = Duration::from_millis(50);
const PACKET: u64 = KIB;

pub(super) fn signer(seed: u8) -> Arc<dyn Signer> {
    Arc::new(LocalSigner::new(SecretKey::from_bytes([seed; 32]).unwrap()))
}

fn consumer() -> Arc<dyn Signer> {
    signer(1)
}

fn operator() -> Arc<dyn Signer> {
    signer(3)
}

pub(super) fn channel() -> ChannelId {
    ChannelId(B256::repeat_byte(9))
}

fn price() -> Price {
    Price {
        per_hour: Amount::ZERO,
        per_gib: Amount::from_units(1 << 20),
    }
}

pub(super) fn agreement(number: u64) -> Agreement {
    Agreement {
        id: AgreementId(U256::from(number)),
        consumer: consumer().address(),
        provider: signer(2).address(),
        hermes: Address::repeat_byte(0xee),
        chain_id: 7,
        vault: Address::repeat_byte(0xaa),
        consumer_channel: channel(),
        price: price(),
        chunk: Amount::from_units(CHUNK),
        chunk_limit: Amount::from_units(16 * CHUNK),
    }
}

pub(super) fn request(agreement: Agreement) -> TollRequest {
    TollRequest {
        hello: Hello::ours(),
        agreement,
        consumer_signature: consumer().sign_digest(agreement.digest()).unwrap(),
    }
}

pub(super) fn facts(number: u64) -> AdmissionFacts {
    AdmissionFacts {
        channel: channel(),
        funds: Some(Funds {
            spendable: Amount::from_units(1_000_000),
            leaving: false,
        }),
        token: U256::from(number).to_be_bytes(),
    }
}

fn collector_config() -> CollectorConfig {
    let terms = agreement(0);
    CollectorConfig {
        provider: terms.provider,
        hermes: terms.hermes,
        chain_id: terms.chain_id,
        vault: terms.vault,
        secret: B256::repeat_byte(0x5e),
        fee_cap_basis_points: 0,
        own_cap: Amount::ZERO,
        credit_cap: Amount::MAX,
        patience: Patience::default(),
    }
}

pub(super) fn hermes_account() -> HermesAccount {
    HermesAccount {
        operator: operator().address(),
        fee_basis_points: 0,
        collateral: Amount::from_units(1_000_000),
        free: Amount::ZERO,
        leaving: false,
    }
}

pub(super) fn keeper(collector: Collector, now: Instant) -> TollKeeper {
    let terms = agreement(0);
    let config = TollConfig {
        hermes: terms.hermes,
        chain_id: terms.chain_id,
        vault: terms.vault,
        per_gib: terms.price.per_gib,
        chunk: terms.chunk,
        free_bytes: 256 * KIB,
        tolls: 16,
    };
    let mut keeper = TollKeeper::new(config, signer(2), collector, now);
    keeper.handle_hermes(hermes_account(), now);
    keeper
}

pub(super) fn fresh_keeper(now: Instant) -> TollKeeper {
    keeper(Collector::new(collector_config()), now)
}

/// A ledger.
#[derive(Debug, Default)]
struct Rows(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Rows {
    fn commit(&mut self, batch: Batch) {
        for entry in batch.0 {
            match entry.value {
                Some(value) => self.0.insert((entry.table, entry.key), value),
                None => self.0.remove(&(entry.table, entry.key)),
            };
        }
    }

    fn all(&self) -> Vec<(Table, Row)> {
        let rows = self.0.iter();
        rows.map(|((table, key), value)| (*table, (key.clone(), value.clone())))
            .collect()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise; only differences are used"
)]
pub(super) fn start() -> Instant {
    Instant::now()
}

pub(super) struct World {
    pub(super) keeper: TollKeeper,
    pub(super) now: Instant,
    /// The relay's account of our node, as it is; it tells `lie` times as much.
    account: u64,
    pub(super) lie: u64,
    pub(super) until: u64,
    /// Bytes that pass for nothing.
    pub(super) free: u64,
    /// Frames of a thousand that are lost, each way.
    pub(super) loss: u64,
    chance: u64,
    rows: Rows,
    pub(super) writes: u64,
    /// Dies at that write, before or after it is committed.
    pub(super) crash_at: Option<(u64, bool)>,
    pub(super) crashes: u64,
    issuer: Issuer,
    payer: Payer,
    pub(super) budget: Option<Amount>,
    toll: Option<(TollPayer, SessionToken)>,
    /// Of our own count when the agreement was made.
    opened_at: u64,
    pub(super) opened: u64,
    count: u64,
    to_relay: VecDeque<ConsumerFrame>,
    to_consumer: VecDeque<ProviderFrame>,
    pub(super) ended: Vec<Refusal>,
    pub(super) refused: u64,
    signed: Amount,
    paid: BTreeMap<u64, Amount>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let now = start();
        let terms = agreement(0);
        let issuer = IssuerConfig {
            hermes: terms.hermes,
            chain_id: terms.chain_id,
            vault: terms.vault,
            locked_cap: Amount::from_units(1_000_000),
        };
        let payer = PayerConfig {
            hermes: terms.hermes,
            chain_id: terms.chain_id,
            vault: terms.vault,
            channel: channel(),
        };
        let mut payer = Payer::new(payer, consumer());
        payer.handle_deposit(Amount::from_units(1_000_000));
        Self {
            keeper: fresh_keeper(now),
            now,
            account: 0,
            lie: 1,
            until: 0,
            free: 0,
            loss: 0,
            chance: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            rows: Rows::default(),
            writes: 0,
            crash_at: None,
            crashes: 0,
            issuer: Issuer::new(issuer, operator()),
            payer,
            budget: None,
            toll: None,
            opened_at: 0,
            opened: 0,
            count: 0,
            to_relay: VecDeque::new(),
            to_consumer: VecDeque::new(),
            ended: Vec::new(),
            refused: 0,
            signed: Amount::ZERO,
            paid: BTreeMap::new(),
        }
    }

    pub(super) fn open(&mut self) {
        self.opened += 1;
        self.opened_at = self.count;
        let request = request(agreement(self.opened));
        let (shown, facts) = ([0, self.shown()], facts(self.opened));
        let reply = self.keeper.admit(NODE, shown, &request, &facts, self.now);
        let reply = reply.unwrap();
        let terms = reply.verify(&request).unwrap();
        self.payer.open(terms, self.budget).unwrap();
        let toll = TollPayer::new(terms, [0, self.count], self.now);
        self.toll = Some((toll, reply.token));
        self.to_relay.push_back(ConsumerFrame::Attach(reply.token));
    }

    /// So many steps, in each of which so much wants to pass.
    pub(super) fn run(&mut self, steps: u64, bytes: u64) {
        for _ in 0..steps {
            self.step(bytes);
        }
    }

    /// Asks for the end, and lets both sides come to it.
    pub(super) fn close(&mut self) {
        if let Some((toll, _)) = &mut self.toll {
            toll.close();
        }
        self.run(20 * 8, 0);
    }

    fn step(&mut self, bytes: u64) {
        for _ in 0..bytes / PACKET {
            if self.shown() < self.until {
                self.account += PACKET;
            } else if self.free >= PACKET {
                self.free -= PACKET;
                self.account += PACKET;
            } else {
                break;
            }
            self.count += PACKET;
        }
        self.now += STEP;
        let shown = [0, self.shown()];
        self.keeper.handle_passed(NODE, shown, self.now);
        self.keeper.handle_timeout(self.now);
        self.tend_relay();
        self.tend_consumer();
        for frame in std::mem::take(&mut self.to_consumer) {
            if !self.is_lost()
                && let Some((toll, _)) = &mut self.toll
            {
                toll.handle_passed([0, self.count]);
                toll.handle_frame(frame, self.now);
            }
        }
        self.tend_consumer();
        for frame in std::mem::take(&mut self.to_relay) {
            let Some((_, token)) = self.toll else { break };
            if self.is_lost() {
                continue;
            }
            let said = self.keeper.handle_frame(token, frame, self.now);
            self.tend_relay();
            if let Err(refusal) = said {
                assert_eq!(refusal.code, RefusalCode::Unknown);
                self.toll = None;
                // The agreement is gone with the relay's memory; a consumer makes another.
                self.open();
            }
        }
    }

    fn tend_relay(&mut self) {
        while let Some(output) = self.keeper.poll_output() {
            match output {
                TollKeeperOutput::Persist { ticket, batch } => {
                    self.writes += 1;
                    if let Some((_, committed)) =
                        self.crash_at.filter(|(write, _)| *write == self.writes)
                    {
                        if committed {
                            self.rows.commit(batch);
                        }
                        self.crash();
                        continue;
                    }
                    self.rows.commit(batch);
                    self.keeper.handle_durable(ticket, self.now);
                }
                TollKeeperOutput::Frame { token, frame } => {
                    if let ProviderFrame::Paid(total) = frame {
                        self.paid.insert(self.opened, total);
                    }
                    if self.toll.as_ref().is_some_and(|(_, ours)| *ours == token) {
                        self.to_consumer.push_back(frame);
                    }
                }
                TollKeeperOutput::Allow { node, until } => {
                    assert_eq!(node, NODE);
                    self.until = until;
                }
                TollKeeperOutput::Issue(request) => {
                    let hashlock = request.exchange.promise.promise.hashlock;
                    let account = ConsumerAccount {
                        balance: Amount::from_units(1_000_000),
                        ..ConsumerAccount::default()
                    };
                    self.issuer.handle_request(&request, channel(), &account);
                    match self.issued() {
                        Some(Ok(reply)) => self.keeper.handle_issued(reply, self.now),
                        Some(Err(why)) => {
                            let why = why.into();
                            self.keeper.handle_issue_failed(hashlock, why, self.now);
                        }
                        None => {}
                    }
                }
                TollKeeperOutput::Reveal {
                    channel,
                    hashlock,
                    preimage,
                } => {
                    self.issuer.handle_reveal(channel, preimage);
                    assert!(self.issued().is_none());
                    self.keeper.handle_revealed(hashlock, self.now);
                }
                TollKeeperOutput::Ended { node, reason, .. } => {
                    assert_eq!(node, NODE);
                    self.ended.push(reason);
                }
                TollKeeperOutput::Settleable(_) => {}
                TollKeeperOutput::Trouble { .. } => self.refused += 1,
            }
        }
    }

    fn issued(
        &mut self,
    ) -> Option<Result<wayfare_payment::IssueReply, wayfare_payment::IssueRefusal>> {
        let mut answer = None;
        while let Some(output) = self.issuer.poll_output() {
            match output {
                IssuerOutput::Persist { ticket, .. } => self.issuer.handle_durable(ticket),
                IssuerOutput::Answer { reply, .. } => answer = Some(Ok(reply)),
                IssuerOutput::Refused { why, .. } => answer = Some(Err(why)),
                IssuerOutput::Acknowledged { .. } => {}
            }
        }
        answer
    }

    fn tend_consumer(&mut self) {
        if let Some((toll, _)) = &mut self.toll {
            toll.handle_timeout(self.now);
        }
        loop {
            let output = self.toll.as_mut().and_then(|(toll, _)| toll.poll_output());
            match output {
                Some(TollOutput::Frame(frame)) => self.to_relay.push_back(frame),
                Some(TollOutput::Bill { invoice, usage }) => {
                    self.payer.handle_invoice(invoice, &usage);
                }
                Some(TollOutput::Event(TollEvent::Closed(reason))) => {
                    assert_ne!(reason, CloseReason::NoTunnel);
                    self.toll = None;
                }
                Some(TollOutput::Event(_)) => {}
                None => match self.payer.poll_output() {
                    Some(PayerOutput::Persist { ticket, .. }) => self.payer.handle_durable(ticket),
                    Some(PayerOutput::Pay(exchange)) => {
                        if let Some((toll, _)) = &mut self.toll
                            && toll.agreement().agreement.id == exchange.agreement
                        {
                            toll.handle_payment(exchange);
                            self.signed = toll.signed();
                        }
                    }
                    Some(PayerOutput::Refused { .. }) => self.refused += 1,
                    None => return,
                },
            }
        }
    }

    /// The relay's process ends and begins again: its board has forgotten us, its ledger has not.
    fn crash(&mut self) {
        self.crashes += 1;
        let rows = self.rows.all();
        let collector = Collector::restore(collector_config(), rows, self.now).unwrap();
        self.keeper = keeper(collector, self.now);
        (self.until, self.account) = (0, 0);
        self.to_consumer.clear();
    }

    fn is_lost(&mut self) -> bool {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % 1_000 < self.loss
    }

    fn shown(&self) -> u64 {
        self.account * self.lie
    }

    pub(super) fn passed_since_open(&self) -> u64 {
        self.count - self.opened_at
    }

    pub(super) fn consumer_count(&self) -> u64 {
        self.count
    }

    /// By the Hermes.
    pub(super) fn promised(&self) -> Amount {
        self.issuer.total_promised()
    }

    /// Within the last agreement.
    pub(super) fn signed(&self) -> Amount {
        self.signed
    }

    pub(super) fn signed_by_payer(&self) -> Amount {
        self.payer.total()
    }

    /// What the consumer was told to be paid, of all agreements.
    pub(super) fn told_paid(&self) -> Amount {
        let sum = |sum: Amount, paid: &Amount| sum.saturating_add(*paid);
        self.paid.values().fold(Amount::ZERO, sum)
    }

    pub(super) fn allowance(&self, paid: Amount) -> Amount {
        agreement(0).allowance(paid)
    }

    pub(super) fn ended_with(&self, code: RefusalCode) -> bool {
        self.ended.iter().any(|reason| reason.code == code)
    }
}
