//! The provider: a real exit on a ledger, driven as a node drives it, perhaps with an owner who sends inflated invoices. It refuses
//! to settle: what can be cashed is the payment world's story.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use wayfare_identity::{B256, Signer};
use wayfare_payment::{
    Amount, ChannelId, Collector, CollectorConfig, Hashlock, Invoice, IssueFailure, Patience,
    Preimage, Usage,
};
use wayfare_session::{
    ConsumerFrame, Exit, ExitConfig, ExitOutput, Opened, ProviderFrame, Refusal, SessionStatus,
    SessionToken,
};
use wayfare_tunnel::{EndpointConfig, IpPacket, OVERHEAD, Sealed, StaticSecret};

use super::hermes::{Answer, Ask, Request};
use super::packet::{self, Label};
use super::{
    CHAIN_ID, Datagram, Setting, Violation, World, hermes_id, signer, vault_address, wall,
};
use crate::{CrashingLedger, Owner};

/// After this a call to the Hermes counts as failed: as long as a node waits.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Room for a sealed packet.
const SEALED: usize = 2_048 + OVERHEAD + 16;
/// A host of the internet that answers.
const SERVER: (Ipv4Addr, &str) = (Ipv4Addr::new(203, 0, 113, 7), "2001:db8::7");

#[derive(Debug, Clone, Copy)]
enum Call {
    Issue { hashlock: Hashlock, at: Instant },
    Reveal { hashlock: Hashlock },
}

#[derive(Debug)]
pub(super) struct Provider {
    pub(super) signer: Arc<dyn Signer>,
    pub(super) exit: Exit,
    ledger: CrashingLedger,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    pub(super) persists: u64,
    crash_at: Option<u64>,
    inflates: u128,
    /// The most that the Hermes had promised when a consumer was told that it had paid.
    promised: Amount,
    pub(super) ended: Vec<(SessionStatus, Refusal)>,
    troubles: Vec<String>,
}

pub(super) fn address() -> SocketAddr {
    (Ipv4Addr::new(198, 51, 100, 1), 51_820).into()
}

fn preimage_secret() -> B256 {
    B256::repeat_byte(0x5e)
}

fn collector_config(setting: &Setting, signer: &dyn Signer) -> CollectorConfig {
    CollectorConfig {
        provider: signer.address(),
        hermes: hermes_id(),
        chain_id: CHAIN_ID,
        vault: vault_address(),
        secret: preimage_secret(),
        fee_cap_basis_points: 200,
        own_cap: Amount::ZERO,
        credit_cap: Amount::from_units(setting.chunk_limit),
        patience: Patience::default(),
    }
}

fn build(
    setting: &Setting,
    signer: &Arc<dyn Signer>,
    collector: Collector,
    seed: [u8; 32],
    wall: SystemTime,
    now: Instant,
) -> Exit {
    let config = ExitConfig {
        hermes: hermes_id(),
        chain_id: CHAIN_ID,
        vault: vault_address(),
        price: setting.price,
        chunk: Amount::from_units(setting.chunk),
        pool_v4: setting.pool_v4.parse().expect("a constant prefix"),
        pool_v6: setting
            .pool_v6
            .map(|net| net.parse().expect("a constant prefix")),
        mtu: 1_420,
        max_sessions: setting.max_sessions,
        welcome: Usage::default(),
        tunnel: EndpointConfig {
            rekey_after: setting.rekey_after,
            ..EndpointConfig::default()
        },
    };
    let secret = StaticSecret::from_bytes([0x77; 32]);
    Exit::new(
        config,
        Arc::clone(signer),
        secret,
        collector,
        seed,
        wall,
        now,
    )
}

impl Provider {
    pub(super) fn new(setting: &Setting, seed: [u8; 32], wall: SystemTime, now: Instant) -> Self {
        let signer = signer("provider", 0);
        let collector = Collector::new(collector_config(setting, signer.as_ref()));
        Self {
            exit: build(setting, &signer, collector, seed, wall, now),
            signer,
            ledger: CrashingLedger::default(),
            calls: BTreeMap::new(),
            next_call: 0,
            persists: 0,
            crash_at: None,
            inflates: 0,
            promised: Amount::ZERO,
            ended: Vec::new(),
            troubles: Vec::new(),
        }
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        let calls = self.calls.values().filter_map(|call| match call {
            Call::Issue { at, .. } => Some(*at + CALL_DEADLINE),
            Call::Reveal { .. } => None,
        });
        let timeout = self.exit.poll_timeout().map(|deadline| deadline.at);
        calls.chain(timeout).chain(self.ledger.next_durable()).min()
    }
}

impl World {
    /// The provider's channel at the Hermes.
    #[must_use]
    pub fn provider_channel(&self) -> ChannelId {
        ChannelId::of_provider(self.provider.signer.address(), hermes_id())
    }

    /// Payments that the exit found fault with.
    #[must_use]
    pub fn troubles(&self) -> &[String] {
        &self.provider.troubles
    }

    /// From now on every invoice asks for this much more, under the lock that belongs to the larger total.
    pub fn inflate(&mut self, by: u128) {
        self.provider.inflates = by;
    }

    /// The provider loses power with its `n`-th write, counted from the beginning, on its way to the disk.
    pub fn crash_exit_at(&mut self, n: u64) {
        self.provider.crash_at = Some(n);
    }

    /// The slot of a consumer's session at the exit.
    #[must_use]
    pub fn slot(&self, consumer: usize) -> Option<u32> {
        let network = self.consumers[consumer].network()?;
        self.provider.exit.slot_of(network.consumer_v4.into())
    }

    /// The exit is told that earlier packets of this consumer wait with its driver, or do so no more.
    pub fn set_waiting(&mut self, consumer: usize, waiting: bool) {
        if let Some(slot) = self.slot(consumer) {
            self.provider.exit.set_waiting(slot, waiting);
        }
    }

    /// The exit asks for its last payments and refuses new sessions.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn drain(&mut self) -> Result<(), Violation> {
        let now = self.now();
        self.provider.exit.drain(now);
        self.drain_exit()
    }

    /// A frame for whatever token, past all streams.
    ///
    /// # Errors
    /// Outside: [`Violation`]. Inside: the exit's [`Refusal`].
    pub fn frame(
        &mut self,
        token: SessionToken,
        frame: ConsumerFrame,
    ) -> Result<Result<(), Refusal>, Violation> {
        let now = self.now();
        let answer = self.provider.exit.handle_frame(token, frame, now);
        self.drain_exit()?;
        Ok(answer)
    }

    /// A host of the internet sends a packet of `length` bytes to a consumer. `false`: the exit did not take it.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn send_down(&mut self, index: usize, length: usize) -> Result<bool, Violation> {
        match self.consumers[index].network() {
            Some(network) => self.send_down_to(index, network.consumer_v4.into(), length),
            None => Ok(false),
        }
    }

    /// The same to any of the consumer's addresses.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn send_down_to(
        &mut self,
        index: usize,
        destination: IpAddr,
        length: usize,
    ) -> Result<bool, Violation> {
        let source = match destination {
            IpAddr::V4(_) => SERVER.0.into(),
            IpAddr::V6(_) => SERVER.1.parse().expect("a constant address"),
        };
        let number = self.consumers[index].sent_down;
        let label = Label {
            consumer: index,
            number,
        };
        let inner = packet::build(source, destination, label, length);
        let mut sealed = vec![0; SEALED];
        let (now, before) = (self.now(), self.usage_of(index));
        let outcome = self.provider.exit.seal(&inner, now, &mut sealed);
        let after = self.usage_of(index);
        let took = match outcome {
            Some(Sealed::Datagram { to, len, .. }) => {
                sealed.truncate(len);
                self.send(address(), to, sealed);
                true
            }
            Some(Sealed::Queued { .. }) => true,
            Some(Sealed::Dropped(_)) | None => false,
        };
        let counted = after.down - before.down;
        if counted != if took { inner.len() as u64 } else { 0 } {
            return Err(Violation::new(format!(
                "{outcome:?} of {} bytes down is counted as {counted}",
                inner.len()
            )));
        }
        if took {
            self.consumers[index].sent_down += 1;
            self.packet_passed(index, before, label)?;
        }
        self.end_batch()?;
        Ok(took)
    }

    pub(super) fn exit_opens(&mut self, mut datagram: Datagram) -> Result<(), Violation> {
        let now = self.now();
        let before: Vec<_> = (0..self.consumers.len())
            .map(|index| self.usage_of(index))
            .collect();
        let opened = self
            .provider
            .exit
            .open(datagram.from, &mut datagram.payload, now);
        let passed = match opened {
            Opened::Packet(inner) => Some(inner.to_vec()),
            Opened::Nothing | Opened::GateClosed { .. } => None,
        };
        let counted = |world: &Self, index: usize| world.usage_of(index).up - before[index].up;
        match passed {
            Some(inner) => {
                let parsed = IpPacket::parse(&inner).map_err(|e| Violation::new(e.to_string()))?;
                let label =
                    packet::label(&inner).ok_or_else(|| Violation::new("a broken packet"))?;
                if !self.consumers[label.consumer].owns(parsed.source()) {
                    return Err(Violation::new(format!(
                        "{label:?} leaves the exit as {}",
                        parsed.source()
                    )));
                }
                if counted(self, label.consumer) != inner.len() as u64 {
                    return Err(Violation::new(format!("{label:?} is not counted once")));
                }
                self.packet_passed(label.consumer, before[label.consumer], label)?;
                *self.internet.entry(label).or_default() += 1;
            }
            None => {
                if (0..self.consumers.len()).any(|index| counted(self, index) != 0) {
                    return Err(Violation::new("what does not pass is counted"));
                }
            }
        }
        self.end_batch()
    }

    fn usage_of(&self, consumer: usize) -> Usage {
        self.served(consumer)
            .map_or(Usage::default(), |status| status.usage)
    }

    fn end_batch(&mut self) -> Result<(), Violation> {
        let now = self.now();
        self.provider.exit.handle_batch_end(now);
        self.drain_exit()
    }

    pub(super) fn frame_arrives(
        &mut self,
        index: usize,
        frame: ConsumerFrame,
    ) -> Result<(), Violation> {
        let Some(token) = self.consumers[index].token() else {
            return Ok(());
        };
        // A frame of a session that ended meanwhile is refused; its consumer hears nothing, as with a node.
        let _ = self.frame(token, frame)?;
        Ok(())
    }

    pub(super) fn exit_timers(&mut self) -> Result<bool, Violation> {
        let now = self.now();
        let mut late = Vec::new();
        self.provider.calls.retain(|_, call| match call {
            Call::Issue { hashlock, at } if now >= *at + CALL_DEADLINE => {
                late.push(*hashlock);
                false
            }
            Call::Issue { .. } | Call::Reveal { .. } => true,
        });
        let exit = &mut self.provider.exit;
        for hashlock in &late {
            exit.handle_issue_failed(*hashlock, IssueFailure::Unreachable, now);
        }
        let due = exit.poll_timeout().is_some_and(|due| due.at <= now);
        if due {
            exit.handle_timeout(now);
        }
        self.drain_exit()?;
        Ok(due || !late.is_empty())
    }

    pub(super) fn commit_exit(&mut self) -> Result<bool, Violation> {
        let now = self.now();
        let Some((_, ticket)) = self.provider.ledger.durable(now)? else {
            return Ok(false);
        };
        self.provider.exit.handle_durable(ticket, now);
        self.drain_exit()?;
        Ok(true)
    }

    pub(super) fn hermes_answers(&mut self, call: u64, answer: Answer) -> Result<(), Violation> {
        let now = self.now();
        let exit = &mut self.provider.exit;
        match (answer, self.provider.calls.remove(&call)) {
            (Answer::Issued(reply), Some(Call::Issue { .. })) => exit.handle_issued(*reply, now),
            (Answer::Refused(why), Some(Call::Issue { hashlock, .. })) => {
                exit.handle_issue_failed(hashlock, why.into(), now);
            }
            (Answer::Revealed, Some(Call::Reveal { hashlock })) => {
                exit.handle_revealed(hashlock, now)
            }
            (Answer::Issued(_) | Answer::Refused(_) | Answer::Revealed, _) => {}
        }
        self.drain_exit()
    }

    pub(super) fn drain_exit(&mut self) -> Result<(), Violation> {
        let now = self.now();
        while let Some(transmit) = self.provider.exit.poll_transmit() {
            self.send(address(), transmit.to, transmit.payload);
        }
        while let Some(output) = self.provider.exit.poll_output() {
            match output {
                ExitOutput::Persist { ticket, batch } => {
                    let delay = self.write_delay();
                    let provider = &mut self.provider;
                    provider
                        .ledger
                        .commit(Owner::Payments, ticket, batch, now, delay);
                    provider.persists += 1;
                    if provider.crash_at == Some(provider.persists) {
                        provider.crash_at = None;
                        return self.crash_exit();
                    }
                }
                ExitOutput::Frame { token, frame } => self.exit_says(token, frame),
                ExitOutput::Issue(request) => {
                    let hashlock = request.exchange.promise.promise.hashlock;
                    self.call(Call::Issue { hashlock, at: now }, Ask::Issue(request));
                }
                ExitOutput::Reveal {
                    channel,
                    hashlock,
                    preimage,
                } => self.call(Call::Reveal { hashlock }, Ask::Reveal { channel, preimage }),
                ExitOutput::Settleable(_) => {}
                ExitOutput::Ended {
                    token,
                    status,
                    reason,
                } => {
                    self.attached.remove(&token);
                    self.provider.ended.push((*status, reason));
                }
                ExitOutput::Trouble { why, .. } => self.provider.troubles.push(why),
            }
        }
        Ok(())
    }

    /// The provider loses power; its sessions are gone, its payments come back from what the disk kept.
    ///
    /// # Errors
    /// [`Violation`] when a payment that a consumer was told of is lost.
    pub fn crash_exit(&mut self) -> Result<(), Violation> {
        let now = self.now();
        for consumer in 0..self.consumers.len() {
            self.cut(consumer);
        }
        let seed = self.chance.bytes();
        let provider = &mut self.provider;
        provider.ledger.crash(&mut self.chance)?;
        let rows = provider.ledger.rows(Collector::TABLES);
        let config = collector_config(&self.setting, provider.signer.as_ref());
        let collector = Collector::restore(config, rows, now)?;
        if collector.promised() < provider.promised {
            return Err(Violation::new(format!(
                "{} was covered, {} comes back from the ledger",
                provider.promised,
                collector.promised()
            )));
        }
        provider.calls.clear();
        let wall = wall(&self.clock);
        provider.exit = build(&self.setting, &provider.signer, collector, seed, wall, now);
        self.read_chain();
        self.drain_exit()
    }

    fn exit_says(&mut self, token: SessionToken, frame: ProviderFrame) {
        if let ProviderFrame::Paid(_) = frame {
            self.provider.promised = self.exit().collector().promised();
        }
        let Some(consumer) = self.attached.get(&token).copied() else {
            return;
        };
        let frame = match frame {
            ProviderFrame::Invoice(invoice) => ProviderFrame::Invoice(self.inflated(invoice)),
            other => other,
        };
        self.send_down_frame(consumer, frame);
    }

    fn inflated(&self, invoice: Invoice) -> Invoice {
        let more = Amount::from_units(self.provider.inflates);
        let total = invoice.total.saturating_add(more);
        let hashlock = Preimage::derive(&preimage_secret(), invoice.agreement.0, total).hashlock();
        Invoice {
            total,
            hashlock,
            ..invoice
        }
    }

    fn call(&mut self, call: Call, ask: Ask) {
        let now = self.clock.now();
        let id = self.provider.next_call;
        self.provider.next_call += 1;
        self.provider.calls.insert(id, call);
        let request = Request { call: id, ask };
        self.to_hermes.send(request, now, &mut self.chance);
    }
}
