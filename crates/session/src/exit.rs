//! A provider's exit: every session of one provider behind one tunnel endpoint, one address plan and one payment channel.
//!
//! A packet passes only while its session's credit gate is open: what is consumed and not yet covered by the Hermes stays below one
//! chunk. Packets are counted where they pass, by this side's meter alone.

mod admission;
mod credit;
mod early;
mod ending;
pub(crate) mod pass;
mod roster;
mod timing;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipnet::{Ipv4Net, Ipv6Net};
use wayfare_identity::{Address, Signer};
use wayfare_payment::{
    AgreementId, Amount, Batch, ChannelId, Collector, CollectorOutput, Hashlock, HermesAccount,
    IssueFailure, IssueReply, IssueRequest, Preimage, Price, SettleMaterial, Ticket, Usage,
};
use wayfare_tunnel::{
    Endpoint, EndpointConfig, Event, IpPacket, MessageKind, PeerId, Received, Sealed, StaticSecret,
    TRANSPORT_HEADER, Transmit, classify,
};

use crate::pool::AddressPool;
use crate::provider::{CLOSING, ProviderSession, SessionStatus};
use crate::spent::Spent;
use crate::{ConsumerFrame, ProviderFrame, Refusal, RefusalCode, SessionToken};

pub use admission::{AdmissionFacts, Funds};
pub use credit::AwaitedPayment;
use credit::Direction;
use early::EarlyCalls;
use roster::{Roster, Seat};

/// The consumer hears our meter this often.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Outputs waiting for the driver, which drains after every call: about 1 KiB each at worst.
const MAX_OUTPUTS: usize = 65_536;

/// What an exit offers and how it is built.
#[derive(Debug, Clone)]
pub struct ExitConfig {
    /// The Hermes that it is paid through.
    pub hermes: Address,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The vault.
    pub vault: Address,
    /// The price of new sessions.
    pub price: Price,
    /// The largest first chunk that is accepted.
    pub chunk: Amount,
    /// Tunnel addresses of consumers.
    pub pool_v4: Ipv4Net,
    /// IPv6 tunnel addresses; `None` when the exit carries no IPv6.
    pub pool_v6: Option<Ipv6Net>,
    /// Largest inner packet.
    pub mtu: u16,
    /// Most sessions at a time.
    pub max_sessions: usize,
    /// What a consumer that was seen to have a deposit may use while its first payment is on its way; its price is owed, and never
    /// more than the first chunk.
    pub welcome: Usage,
    /// Tunnel timers.
    pub tunnel: EndpointConfig,
}

/// What the driver must do next.
#[derive(Debug, Clone)]
pub enum ExitOutput {
    /// Write, then call [`Exit::handle_durable`].
    Persist {
        /// Names the write.
        ticket: Ticket,
        /// What to write.
        batch: Batch,
    },
    /// Send to that session's consumer.
    Frame {
        /// Which session.
        token: SessionToken,
        /// What to say.
        frame: ProviderFrame,
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
    /// A session ended; its streams may be closed.
    Ended {
        /// Which.
        token: SessionToken,
        /// Its last numbers.
        status: Box<SessionStatus>,
        /// Why.
        reason: Refusal,
    },
    /// A payment went wrong; for the log.
    Trouble {
        /// The session, where one is concerned.
        agreement: Option<AgreementId>,
        /// In words.
        why: String,
    },
}

/// All sessions of one provider.
#[derive(Debug)]
pub struct Exit {
    config: ExitConfig,
    signer: Arc<dyn Signer>,
    tunnel_key: [u8; 32],
    endpoint: Endpoint,
    collector: Collector,
    pool: AddressPool<PeerId>,
    roster: Roster,
    by_agreement: BTreeMap<AgreementId, u32>,
    by_token: BTreeMap<SessionToken, u32>,
    spent: Spent,
    early: EarlyCalls,
    /// Sessions that have news for the payments, each once.
    dirty: Vec<u32>,
    /// The Hermes' limit is so near that only the collector knows whether a packet passes.
    tight: bool,
    outputs: VecDeque<ExitOutput>,
    next_report: Instant,
    draining: bool,
    dropped_outputs: u64,
}

/// What became of a datagram or packet.
#[derive(Debug)]
pub enum Opened<'a> {
    /// A packet for the internet.
    Packet(&'a [u8]),
    /// Nothing to forward: a handshake, a keepalive, or dropped.
    Nothing,
    /// Held back, not counted: the consumer's credit is used up, or earlier packets wait for it, see [`Exit::set_waiting`].
    GateClosed {
        /// Whose it is.
        slot: u32,
        /// It may be kept, and asked for again with [`Exit::pass_up`].
        packet: &'a [u8],
    },
}

impl Exit {
    /// An exit without sessions. `collector` carries the restored payments.
    #[must_use]
    pub fn new(
        config: ExitConfig,
        signer: Arc<dyn Signer>,
        tunnel_secret: StaticSecret,
        collector: Collector,
        seed: [u8; 32],
        wall: SystemTime,
        now: Instant,
    ) -> Self {
        let tunnel_key = tunnel_secret.public().0;
        let endpoint = Endpoint::new(tunnel_secret, seed, now, wall, config.tunnel.clone());
        let pool = AddressPool::new(config.pool_v4, config.pool_v6);
        let mut exit = Self {
            config,
            signer,
            tunnel_key,
            endpoint,
            collector,
            pool,
            roster: Roster::default(),
            by_agreement: BTreeMap::new(),
            by_token: BTreeMap::new(),
            spent: Spent::default(),
            early: EarlyCalls::default(),
            dirty: Vec::new(),
            tight: true,
            outputs: VecDeque::new(),
            next_report: now + REPORT_EVERY,
            draining: false,
            dropped_outputs: 0,
        };
        exit.end_former_sessions(now);
        exit
    }

    /// Agreements of an earlier run have no tunnel any more: what is covered stays ours, the rest is not asked for again.
    fn end_former_sessions(&mut self, now: Instant) {
        let former: Vec<_> = self
            .collector
            .agreements()
            .map(|terms| terms.agreement.id)
            .collect();
        for id in former {
            let usage = self.collector.usage(id).unwrap_or_default();
            self.collector.close(id, &usage, now);
            self.spent.insert(id);
        }
        self.drain_collector(now);
    }

    /// The exit's own addresses on the tunnel device.
    #[must_use]
    pub fn device_addresses(&self) -> (Ipv4Addr, Option<Ipv6Addr>) {
        (self.pool.exit_v4(), self.pool.exit_v6())
    }

    /// The number of the session that has this tunnel address: small, dense, and free for another as soon as its session has ended.
    /// Names a session to a [`wayfare_tunnel::FairQueue`]; a packet opened belongs to its source, one to be sealed to its destination.
    #[must_use]
    pub fn slot_of(&self, address: IpAddr) -> Option<u32> {
        self.pool.tenant(address).map(|(slot, _)| slot)
    }

    /// Opens one datagram of the socket in place.
    pub fn open<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Opened<'a> {
        let received = match classify(datagram) {
            Some(MessageKind::Initiation) => self.take_call(from, datagram, now),
            _ => self.endpoint.handle_datagram(from, datagram, now),
        };
        let outcome = match received {
            Received::Packet { peer, packet } => match self.sender_of(packet, peer) {
                Some(slot) => {
                    self.heard(slot, now);
                    if !self.has_waiting(slot) && self.pass_up(slot, packet.len(), now) {
                        Opened::Packet(packet)
                    } else {
                        Opened::GateClosed { slot, packet }
                    }
                }
                None => Opened::Nothing,
            },
            Received::Keepalive { peer } | Received::Handshake { peer } => {
                if let Some(slot) = self.roster.slot_of(peer) {
                    self.heard(slot, now);
                }
                Opened::Nothing
            }
            Received::Dropped(_) => Opened::Nothing,
        };
        self.drain_tunnel(now);
        outcome
    }

    /// Seals one packet of the internet for the consumer that it belongs to. `None`: nobody's, or held back by the gate.
    pub fn seal(&mut self, packet: &[u8], now: Instant, into: &mut [u8]) -> Option<Sealed> {
        let destination = IpPacket::parse(packet).ok()?.destination();
        let (slot, peer) = self.pool.tenant(destination)?;
        if !self.may_pass(slot, now) {
            return None;
        }
        let sealed = self.endpoint.seal_to(peer, packet, now, into);
        // What is dropped here never reaches the consumer's meter, so it is not for sale.
        if matches!(sealed, Sealed::Datagram { .. } | Sealed::Queued { .. }) {
            self.count(slot, packet.len(), Direction::Down);
        }
        Some(sealed)
    }

    /// As [`Exit::seal`], where the packet of `length` bytes lies; see [`Endpoint::seal_in_place`].
    pub fn seal_in_place(
        &mut self,
        frame: &mut [u8],
        length: usize,
        now: Instant,
    ) -> Option<Sealed> {
        let packet = frame.get(TRANSPORT_HEADER..TRANSPORT_HEADER + length)?;
        let destination = IpPacket::parse(packet).ok()?.destination();
        let (slot, peer) = self.pool.tenant(destination)?;
        if !self.may_pass(slot, now) {
            return None;
        }
        let sealed = self.endpoint.seal_to_in_place(peer, frame, length, now);
        // What is dropped here never reaches the consumer's meter, so it is not for sale.
        if matches!(sealed, Sealed::Datagram { .. } | Sealed::Queued { .. }) {
            self.count(slot, length, Direction::Down);
        }
        Some(sealed)
    }

    /// A datagram to send, if any.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.endpoint.poll_transmit()
    }

    /// Ends a batch of packets: tells the payments what was used. Cheap when nothing was.
    pub fn handle_batch_end(&mut self, now: Instant) {
        self.tell_dirty(now);
        self.drain_collector(now);
    }

    /// What a consumer says on its stream.
    ///
    /// # Errors
    /// [`RefusalCode::Unknown`] when the token names no session.
    pub fn handle_frame(
        &mut self,
        token: SessionToken,
        frame: ConsumerFrame,
        now: Instant,
    ) -> Result<(), Refusal> {
        let unknown = || {
            Refusal::new(
                RefusalCode::Unknown,
                "there is no such session: open a new one",
            )
        };
        let slot = *self.by_token.get(&token).ok_or_else(unknown)?;
        let session = self.roster.session_mut(slot).ok_or_else(unknown)?;
        session.heard_at = now;
        match frame {
            ConsumerFrame::Attach(_) => {
                session.attached = true;
                if let Some(refusal) = session.verdict.take() {
                    self.end(slot, *refusal, now);
                    self.drain_collector(now);
                    return Ok(());
                }
                let (gate, id) = (session.gate.clone(), session.agreement.id);
                let usage = session.meter.usage(now);
                self.push(ExitOutput::Frame {
                    token,
                    frame: ProviderFrame::Gate(gate),
                });
                // What was asked for while nobody listened (the first chunk, or whatever the broken stream lost) is asked again.
                self.collector.invoice_now(id, &usage, now);
            }
            ConsumerFrame::Payment(exchange) => {
                self.collector.handle_exchange(exchange, now);
                self.ask_for_the_rest(slot, now);
            }
            ConsumerFrame::Usage(usage) => session.claimed = usage,
            ConsumerFrame::KeepAlive => {}
            ConsumerFrame::Close => self.start_closing(slot, None, now),
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
    }

    /// The chain's view of what is settled.
    pub fn handle_settled(&mut self, total: Amount, now: Instant) {
        self.collector.handle_settled(total, now);
        self.drain_collector(now);
    }

    /// Asks every session for its last payment; new ones are refused from now on.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        for slot in self.roster.slots() {
            let Some(token) = self.roster.session(slot).map(|session| session.token) else {
                continue;
            };
            let seconds = u32::try_from(CLOSING.as_secs()).unwrap_or(u32::MAX);
            self.push(ExitOutput::Frame {
                token,
                frame: ProviderFrame::Draining { seconds },
            });
            self.start_closing(slot, Some(RefusalCode::Draining), now);
        }
        self.drain_collector(now);
    }

    /// The numbers of every session.
    #[must_use]
    pub fn sessions(&self, now: Instant) -> Vec<SessionStatus> {
        self.roster
            .values()
            .map(|session| session.status(now))
            .collect()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.roster.len()
    }

    /// The payments, for status pages.
    #[must_use]
    pub fn collector(&self) -> &Collector {
        &self.collector
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<ExitOutput> {
        self.outputs.pop_front()
    }

    /// A sign of life.
    fn heard(&mut self, slot: u32, now: Instant) {
        if let Some(session) = self.roster.session_mut(slot) {
            session.heard_at = now;
        }
    }

    /// Whose session a packet from this peer belongs to: the address it comes from, which the tunnel has checked, says so at once.
    fn sender_of(&self, packet: &[u8], peer: PeerId) -> Option<u32> {
        let source = IpPacket::parse(packet).ok()?.source();
        match self.pool.tenant(source) {
            Some((slot, tenant)) if tenant == peer => Some(slot),
            Some(_) | None => self.roster.slot_of(peer),
        }
    }

    fn drain_tunnel(&mut self, now: Instant) {
        while let Some(event) = self.endpoint.poll_event() {
            if let Event::Established { peer } = event
                && let Some(slot) = self.roster.slot_of(peer)
                && let Some(session) = self.roster.session_mut(slot)
            {
                session.meter.start(now);
                session.heard_at = now;
                session.tell_at = session.next_telling(now);
                self.roster.hasten(slot);
            }
        }
    }

    fn drain_collector(&mut self, now: Instant) {
        while let Some(output) = self.collector.poll_output() {
            match output {
                CollectorOutput::Persist { ticket, batch } => {
                    self.push(ExitOutput::Persist { ticket, batch })
                }
                CollectorOutput::Invoice(invoice) => {
                    if let Some(token) = self.token_of(invoice.agreement) {
                        self.push(ExitOutput::Frame {
                            token,
                            frame: ProviderFrame::Invoice(invoice),
                        });
                    }
                }
                CollectorOutput::Issue(request) => self.push(ExitOutput::Issue(Box::new(request))),
                CollectorOutput::Reveal {
                    channel,
                    hashlock,
                    preimage,
                } => {
                    self.push(ExitOutput::Reveal {
                        channel,
                        hashlock,
                        preimage,
                    });
                }
                CollectorOutput::Paid { agreement, total } => {
                    self.handle_paid(agreement, total, now)
                }
                CollectorOutput::Settleable(material) => {
                    self.push(ExitOutput::Settleable(material))
                }
                CollectorOutput::Refused { agreement, why } => {
                    self.push(ExitOutput::Trouble {
                        agreement: Some(agreement),
                        why: why.to_string(),
                    });
                }
                CollectorOutput::HermesRefused { agreement, why } => {
                    if let Some(seat) = self.seat_of(agreement) {
                        seat.pass = None;
                    }
                    self.push(ExitOutput::Trouble {
                        agreement: Some(agreement),
                        why: why.to_string(),
                    });
                }
                CollectorOutput::WrongReply(fault) => {
                    self.push(ExitOutput::Trouble {
                        agreement: None,
                        why: fault.to_string(),
                    });
                }
                CollectorOutput::Ended {
                    agreement,
                    covered: _,
                    unpaid,
                } => self.handle_ended(agreement, unpaid, now),
            }
        }
        // No allowance is larger: see `Agreement::allowance_within` and the terms that are admitted.
        let allowance = self.config.chunk.max(self.collector.credit_cap());
        self.tight = self.collector.headroom() < allowance;
    }

    fn seat_of(&mut self, agreement: AgreementId) -> Option<&mut Seat> {
        let slot = *self.by_agreement.get(&agreement)?;
        self.roster.seat(slot)
    }

    fn handle_paid(&mut self, agreement: AgreementId, total: Amount, now: Instant) {
        let Some(slot) = self.by_agreement.get(&agreement).copied() else {
            return;
        };
        if let Some(session) = self.roster.session_mut(slot) {
            session.paid = total;
            let token = session.token;
            self.push(ExitOutput::Frame {
                token,
                frame: ProviderFrame::Paid(total),
            });
        }
        let is_open = |session: &ProviderSession| session.closing.is_none();
        if self.roster.session(slot).is_some_and(is_open) {
            self.update_gate(slot, now);
        } else {
            self.ask_for_the_rest(slot, now);
        }
    }

    fn token_of(&self, agreement: AgreementId) -> Option<SessionToken> {
        let slot = *self.by_agreement.get(&agreement)?;
        self.roster.session(slot).map(|session| session.token)
    }

    fn push(&mut self, output: ExitOutput) {
        if self.outputs.len() < MAX_OUTPUTS {
            self.outputs.push_back(output);
        } else {
            self.dropped_outputs += 1;
        }
    }
}

#[cfg(test)]
mod tests;
