//! The relay's side of tolls: every agreement of one relay behind one payment channel. Counts of bytes come in by node, and out
//! comes how far each node may pass.
//!
//! Nobody is let further than what it has paid and one allowance, by this side's count alone. It refuses to count: the numbers
//! are those of whoever forwards.

mod admission;
mod ending;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wayfare_identity::{Address, NodeId, Signer};
use wayfare_payment::{
    AgreementId, Amount, Batch, ChannelId, Collector, CollectorOutput, GIB, Gate, Hashlock,
    HermesAccount, IssueFailure, IssueReply, IssueRequest, Preimage, SettleMaterial, Ticket,
};

use super::{Odometer, Tariff};
use crate::exit::pass::bought;
use crate::provider::{IDLE, SessionStatus, UNPAID_GRACE};
use crate::spent::Spent;
use crate::{
    ConsumerFrame, Deadline, GateState, ProviderFrame, Refusal, RefusalCode, SessionToken, Why,
};

/// The consumer hears our count this often.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How often it is asked whose time is up.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Outputs waiting for the driver, which drains after every call: about 1 KiB each at worst.
const MAX_OUTPUTS: usize = 65_536;

/// What a relay asks for, and how many it serves.
#[derive(Debug, Clone)]
pub struct TollConfig {
    /// The Hermes that it is paid through.
    pub hermes: Address,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The vault.
    pub vault: Address,
    /// The price of a gibibyte of frames as they reach the relay.
    pub per_gib: Amount,
    /// The largest first chunk that is accepted.
    pub chunk: Amount,
    /// What is passed for a node that has paid nothing, in bytes; only told here.
    pub free_bytes: u64,
    /// Most agreements at a time: about 3 KiB each, with what the collector keeps.
    pub tolls: usize,
}

/// What the driver must do next.
#[derive(Debug, Clone)]
pub enum TollKeeperOutput {
    /// Write, then call [`TollKeeper::handle_durable`].
    Persist {
        /// Names the write.
        ticket: Ticket,
        /// What to write.
        batch: Batch,
    },
    /// Send to the consumer of that agreement.
    Frame {
        /// Which agreement.
        token: SessionToken,
        /// What to say.
        frame: ProviderFrame,
    },
    /// Frames of the channels that this node called pass until so many bytes have passed for it in all, both directions, in the
    /// numbers of [`TollKeeper::handle_passed`]. Takes the place of what was said before.
    Allow {
        /// Whose.
        node: NodeId,
        /// Up to here, bytes.
        until: u64,
    },
    /// Ask the Hermes to cover this payment.
    Issue(Box<IssueRequest>),
    /// Reveal R to the Hermes.
    Reveal {
        /// Our channel.
        channel: ChannelId,
        /// The lock.
        hashlock: Hashlock,
        /// Its preimage.
        preimage: Preimage,
    },
    /// A promise that can be cashed.
    Settleable(SettleMaterial),
    /// An agreement ended; its streams may be closed.
    Ended {
        /// Which.
        token: SessionToken,
        /// Whose.
        node: NodeId,
        /// Its last numbers.
        status: Box<SessionStatus>,
        /// Why.
        reason: Refusal,
    },
    /// A payment went wrong; for the log.
    Trouble {
        /// The agreement, where one is concerned.
        agreement: Option<AgreementId>,
        /// In words.
        why: String,
    },
}

/// One agreement. About 700 bytes.
#[derive(Debug)]
struct Toll {
    agreement: wayfare_payment::Agreement,
    node: NodeId,
    odometer: Odometer,
    gate: GateState,
    gate_closed_at: Option<Instant>,
    heard_at: Instant,
    report_at: Instant,
    paid: Amount,
    claimed: wayfare_payment::Usage,
    /// Until when it waits for its last payment, and what it is closed for.
    closing: Option<(Instant, Option<RefusalCode>)>,
    /// What was last said of how far it may pass.
    until: Option<u64>,
}

impl Toll {
    fn status(&self) -> SessionStatus {
        SessionStatus {
            agreement: self.agreement,
            usage: self.odometer.usage(),
            claimed: self.claimed,
            paid: self.paid,
            gate: self.gate.clone(),
        }
    }

    fn gives_up_at(&self) -> Instant {
        let silent = self.heard_at + IDLE;
        let unpaid = self.gate_closed_at.map_or(silent, |at| at + UNPAID_GRACE);
        let closing = self.closing.map_or(silent, |(until, _)| until);
        silent.min(unpaid).min(closing)
    }

    /// Takes over a gate decision; `true` when it is news for the consumer.
    fn set_gate(&mut self, gate: GateState, now: Instant) -> bool {
        let (was_open, is_open) = (self.gate == GateState::Open, gate == GateState::Open);
        self.gate = gate;
        if was_open == is_open {
            return false;
        }
        self.gate_closed_at = (!is_open).then_some(now);
        true
    }
}

/// All tolls of one relay. See the module.
#[derive(Debug)]
pub struct TollKeeper {
    config: TollConfig,
    signer: Arc<dyn Signer>,
    collector: Collector,
    tolls: BTreeMap<SessionToken, Toll>,
    by_agreement: BTreeMap<AgreementId, SessionToken>,
    /// The agreement that counts what a node passes.
    by_node: BTreeMap<NodeId, SessionToken>,
    spent: Spent,
    outputs: VecDeque<TollKeeperOutput>,
    look_at: Instant,
    draining: bool,
    dropped_outputs: u64,
}

impl TollKeeper {
    /// A keeper without agreements. `collector` carries the restored payments; agreements of an earlier run are closed: what is
    /// covered stays ours, the rest is not asked for again.
    #[must_use]
    pub fn new(
        config: TollConfig,
        signer: Arc<dyn Signer>,
        collector: Collector,
        now: Instant,
    ) -> Self {
        let mut keeper = Self {
            config,
            signer,
            collector,
            tolls: BTreeMap::new(),
            by_agreement: BTreeMap::new(),
            by_node: BTreeMap::new(),
            spent: Spent::default(),
            outputs: VecDeque::new(),
            look_at: now + LOOK_EVERY,
            draining: false,
            dropped_outputs: 0,
        };
        let former = keeper.collector.agreements();
        let former: Vec<_> = former.map(|terms| terms.agreement.id).collect();
        for id in former {
            let usage = keeper.collector.usage(id).unwrap_or_default();
            keeper.collector.close(id, &usage, now);
            keeper.spent.insert(id);
        }
        keeper.drain_collector(now);
        keeper
    }

    /// What this relay asks for.
    #[must_use]
    pub fn tariff(&self) -> Tariff {
        Tariff {
            operator: self.signer.address(),
            hermes: self.config.hermes,
            chain_id: self.config.chain_id,
            vault: self.config.vault,
            per_gib: self.config.per_gib,
            chunk_most: self.config.chunk,
            free_bytes: self.config.free_bytes,
        }
    }

    /// What has passed for a node in all: from it and to it, by the account of whoever forwards. An account that begins again at
    /// nothing is understood; then what passed before is not forgotten.
    pub fn handle_passed(&mut self, node: NodeId, passed: [u64; 2], now: Instant) {
        let Some(token) = self.by_node.get(&node).copied() else {
            return;
        };
        let Some(toll) = self.tolls.get_mut(&token) else {
            return;
        };
        if toll.odometer.shown == passed {
            return;
        }
        toll.odometer.advance(passed);
        let (id, usage) = (toll.agreement.id, toll.odometer.usage());
        self.collector.handle_usage(id, &usage, now);
        self.drain_collector(now);
        self.update(token, now);
    }

    /// What a consumer says on its stream.
    ///
    /// # Errors
    /// [`RefusalCode::Unknown`] when the token names no agreement.
    pub fn handle_frame(
        &mut self,
        token: SessionToken,
        frame: ConsumerFrame,
        now: Instant,
    ) -> Result<(), Refusal> {
        let Some(toll) = self.tolls.get_mut(&token) else {
            return Err(Refusal::new(
                RefusalCode::Unknown,
                "there is no such agreement: open a new one",
            ));
        };
        toll.heard_at = now;
        let (id, usage) = (toll.agreement.id, toll.odometer.usage());
        match frame {
            ConsumerFrame::Attach(_) => {
                let gate = ProviderFrame::Gate(toll.gate.clone());
                self.push(TollKeeperOutput::Frame { token, frame: gate });
                // What was asked for while nobody listened (the first chunk, or what a broken stream lost) is asked again.
                self.collector.invoice_now(id, &usage, now);
            }
            ConsumerFrame::Payment(exchange) => {
                self.collector.handle_exchange(exchange, now);
                self.ask_for_the_rest(token, now);
            }
            ConsumerFrame::Usage(claimed) => toll.claimed = claimed,
            ConsumerFrame::KeepAlive => {}
            ConsumerFrame::Close => self.start_closing(token, None, now),
        }
        self.drain_collector(now);
        Ok(())
    }

    /// A write is durable.
    pub fn handle_durable(&mut self, ticket: Ticket, now: Instant) {
        self.collector.handle_durable(ticket, now);
        self.drain_collector(now);
    }

    /// The Hermes covered a payment.
    pub fn handle_issued(&mut self, reply: IssueReply, now: Instant) {
        self.collector.handle_issued(reply, now);
        self.drain_collector(now);
    }

    /// The Hermes did not cover a payment.
    pub fn handle_issue_failed(&mut self, hashlock: Hashlock, why: IssueFailure, now: Instant) {
        self.collector.handle_issue_failed(hashlock, why, now);
        self.drain_collector(now);
    }

    /// The Hermes knows R.
    pub fn handle_revealed(&mut self, hashlock: Hashlock, now: Instant) {
        self.collector.handle_revealed(hashlock, now);
        self.drain_collector(now);
    }

    /// The chain's view of the Hermes.
    pub fn handle_hermes(&mut self, account: HermesAccount, now: Instant) {
        self.collector.handle_hermes(account, now);
        self.drain_collector(now);
        self.update_all(now);
    }

    /// The chain's view of what is settled.
    pub fn handle_settled(&mut self, total: Amount, now: Instant) {
        self.collector.handle_settled(total, now);
        self.drain_collector(now);
        self.update_all(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.collector.handle_timeout(now);
        self.drain_collector(now);
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        let tokens: Vec<_> = self.tolls.keys().copied().collect();
        for token in tokens {
            let Some(toll) = self.tolls.get_mut(&token) else {
                continue;
            };
            if now >= toll.gives_up_at() {
                self.give_up(token, now);
                continue;
            }
            if now >= toll.report_at {
                toll.report_at = now + REPORT_EVERY;
                let frame = ProviderFrame::Usage(toll.odometer.usage());
                self.push(TollKeeperOutput::Frame { token, frame });
                self.update(token, now);
            }
        }
        self.drain_collector(now);
    }

    /// When [`TollKeeper::handle_timeout`] wants to be called, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let payment = self.collector.poll_timeout().map(|deadline| Deadline {
            at: deadline.at,
            why: Why::Payment,
        });
        let look = (!self.tolls.is_empty()).then_some(Deadline {
            at: self.look_at,
            why: Why::Report,
        });
        [payment, look]
            .into_iter()
            .flatten()
            .min_by_key(|deadline| deadline.at)
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<TollKeeperOutput> {
        self.outputs.pop_front()
    }

    /// The nodes that pay, or are to: those whose numbers [`TollKeeper::handle_passed`] wants.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.by_node.keys().copied()
    }

    /// The numbers of every agreement.
    #[must_use]
    pub fn tolls(&self) -> Vec<SessionStatus> {
        self.tolls.values().map(Toll::status).collect()
    }

    /// How many agreements there are.
    #[must_use]
    pub fn toll_count(&self) -> usize {
        self.tolls.len()
    }

    /// The payments, for status pages.
    #[must_use]
    pub fn collector(&self) -> &Collector {
        &self.collector
    }

    fn drain_collector(&mut self, now: Instant) {
        while let Some(output) = self.collector.poll_output() {
            match output {
                CollectorOutput::Persist { ticket, batch } => {
                    self.push(TollKeeperOutput::Persist { ticket, batch });
                }
                CollectorOutput::Invoice(invoice) => {
                    if let Some(token) = self.by_agreement.get(&invoice.agreement).copied() {
                        let frame = ProviderFrame::Invoice(invoice);
                        self.push(TollKeeperOutput::Frame { token, frame });
                    }
                }
                CollectorOutput::Issue(request) => {
                    self.push(TollKeeperOutput::Issue(Box::new(request)));
                }
                CollectorOutput::Reveal {
                    channel,
                    hashlock,
                    preimage,
                } => self.push(TollKeeperOutput::Reveal {
                    channel,
                    hashlock,
                    preimage,
                }),
                CollectorOutput::Paid { agreement, total } => {
                    self.handle_paid(agreement, total, now);
                }
                CollectorOutput::Settleable(material) => {
                    self.push(TollKeeperOutput::Settleable(material));
                }
                CollectorOutput::Refused { agreement, why } => {
                    self.trouble(Some(agreement), why.to_string());
                }
                CollectorOutput::HermesRefused { agreement, why } => {
                    if let Some(token) = self.by_agreement.get(&agreement).copied() {
                        self.update(token, now);
                    }
                    self.trouble(Some(agreement), why.to_string());
                }
                CollectorOutput::WrongReply(fault) => self.trouble(None, fault.to_string()),
                CollectorOutput::Ended {
                    agreement,
                    covered: _,
                    unpaid,
                } => self.handle_ended(agreement, unpaid, now),
            }
        }
    }

    fn handle_paid(&mut self, agreement: AgreementId, total: Amount, now: Instant) {
        let Some(token) = self.by_agreement.get(&agreement).copied() else {
            return;
        };
        if let Some(toll) = self.tolls.get_mut(&token) {
            toll.paid = total;
        }
        let frame = ProviderFrame::Paid(total);
        self.push(TollKeeperOutput::Frame { token, frame });
        self.update(token, now);
        self.ask_for_the_rest(token, now);
    }

    fn update_all(&mut self, now: Instant) {
        let tokens: Vec<_> = self.tolls.keys().copied().collect();
        for token in tokens {
            self.update(token, now);
        }
    }

    /// Says anew how far a node may pass, and whether that is further than nothing, where either has changed.
    ///
    /// INVARIANT: what is allowed costs no more than the collector's credit, and no more than the Hermes can be seen to have left.
    /// That is asked for each agreement alone: with several at the limit, what all of them pass between two counts may exceed it.
    fn update(&mut self, token: SessionToken, now: Instant) {
        let Some(toll) = self.tolls.get_mut(&token) else {
            return;
        };
        if toll.closing.is_some() {
            return;
        }
        let (id, usage) = (toll.agreement.id, toll.odometer.usage());
        let unit = u128::from(GIB);
        let per_gib = toll.agreement.price.per_gib;
        let paid_for = bought(self.collector.credit(id), unit, per_gib);
        let left = bought(self.collector.headroom(), unit, per_gib);
        let until = match paid_for {
            0 => 0,
            _ => {
                let bytes = paid_for.min(usage.bytes().saturating_add(left));
                let end = toll.odometer.shown().saturating_add(bytes);
                end.saturating_sub(usage.bytes())
            }
        };
        let gate = match self.collector.gate(id, &usage) {
            Gate::Closed(why) => GateState::Closed(why.to_string()),
            Gate::Open if until > toll.odometer.shown() => GateState::Open,
            // To the byte: the gate of a session is asked before a packet, and this one after it.
            Gate::Open => GateState::Closed("the credit is used up".into()),
        };
        let node = toll.node;
        let further = toll.until != Some(until);
        toll.until = Some(until);
        let is_news = toll.set_gate(gate.clone(), now);
        if further {
            self.push(TollKeeperOutput::Allow { node, until });
        }
        if is_news {
            let frame = ProviderFrame::Gate(gate);
            self.push(TollKeeperOutput::Frame { token, frame });
        }
    }

    fn trouble(&mut self, agreement: Option<AgreementId>, why: String) {
        self.push(TollKeeperOutput::Trouble { agreement, why });
    }

    fn push(&mut self, output: TollKeeperOutput) {
        if self.outputs.len() < MAX_OUTPUTS {
            self.outputs.push_back(output);
        } else {
            self.dropped_outputs += 1;
        }
    }
}
