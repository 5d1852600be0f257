//! A consumer: a real session and a real payer on a ledger, driven as a node drives them. It refuses to judge invoices itself; the
//! one thing it can do on its own is not to pay.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use wayfare_identity::Signer;
use wayfare_payment::{
    Agreement, Amount, ChannelId, Invoice, PayRefusal, Payer, PayerConfig, PayerOutput, Usage,
};
use wayfare_session::{
    CloseReason, ConsumerEvent, ConsumerFrame, ConsumerOutput, ConsumerSession, ConsumerSetup,
    OpenReply, ProviderFrame, SessionToken, TunnelNetwork, TunnelSetup, TunnelStart,
};
use wayfare_tunnel::{AddPeerError, EndpointConfig, OVERHEAD, Received, Sealed};

use super::packet::{self, Label};
use super::stream::Stream;
use super::{
    Applicant, CHAIN_ID, Datagram, Violation, World, hermes_id, provider, signer, vault_address,
    wall,
};
use crate::{CrashingLedger, Owner, SimVault};

/// Somewhere on the internet, in both families.
const ELSEWHERE: (Ipv4Addr, &str) = (Ipv4Addr::new(203, 0, 113, 7), "2001:db8::7");
/// Room for a sealed packet: the packet, padding and the tunnel's own bytes.
const SEALED: usize = 2_048 + OVERHEAD + 16;

/// See the module.
#[derive(Debug)]
pub struct Consumer {
    pub(super) signer: Arc<dyn Signer>,
    pub(super) channel: ChannelId,
    pub(super) address: SocketAddr,
    pub(super) payer: Payer,
    pub(super) ledger: CrashingLedger,
    pub(super) agreement: Option<Agreement>,
    session: Option<ConsumerSession>,
    token: Option<SessionToken>,
    network: Option<TunnelNetwork>,
    up: Stream<ConsumerFrame>,
    down: Stream<ProviderFrame>,
    /// Whether it answers invoices.
    pub(super) pays: bool,
    sent_up: u32,
    pub(super) sent_down: u32,
    /// What the session said last.
    usage: Usage,
    signed: Amount,
    paid: Amount,
    events: Vec<ConsumerEvent>,
    refused: Vec<PayRefusal>,
    received: BTreeMap<Label, usize>,
}

impl Consumer {
    pub(super) fn new(index: usize) -> Self {
        let signer = signer("consumer", index);
        let channel = SimVault::consumer_channel(signer.address(), hermes_id());
        let host = u8::try_from(index + 10).unwrap_or(u8::MAX);
        Self {
            payer: Payer::new(Self::config(channel), Arc::clone(&signer)),
            signer,
            channel,
            address: (Ipv4Addr::new(192, 0, 2, host), 40_000).into(),
            ledger: CrashingLedger::default(),
            agreement: None,
            session: None,
            token: None,
            network: None,
            up: Stream::default(),
            down: Stream::default(),
            pays: true,
            sent_up: 0,
            sent_down: 0,
            usage: Usage::default(),
            signed: Amount::ZERO,
            paid: Amount::ZERO,
            events: Vec::new(),
            refused: Vec::new(),
            received: BTreeMap::new(),
        }
    }

    fn config(channel: ChannelId) -> PayerConfig {
        PayerConfig {
            hermes: hermes_id(),
            chain_id: CHAIN_ID,
            vault: vault_address(),
            channel,
        }
    }

    /// Its own meter, also after the end.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What it promised within its session.
    #[must_use]
    pub fn signed(&self) -> Amount {
        self.signed
    }

    /// What the exit confirmed.
    #[must_use]
    pub fn paid(&self) -> Amount {
        self.paid
    }

    /// Everything that it ever promised.
    #[must_use]
    pub fn total(&self) -> Amount {
        self.payer.total()
    }

    /// All that its sessions told.
    #[must_use]
    pub fn events(&self) -> &[ConsumerEvent] {
        &self.events
    }

    /// Invoices that it did not pay.
    #[must_use]
    pub fn refused(&self) -> &[PayRefusal] {
        &self.refused
    }

    /// Packets that reached its applications, and how often.
    #[must_use]
    pub fn received(&self) -> &BTreeMap<Label, usize> {
        &self.received
    }

    /// Its session's token.
    #[must_use]
    pub fn token(&self) -> Option<SessionToken> {
        self.token
    }

    /// Its place in the exit's network.
    #[must_use]
    pub fn network(&self) -> Option<TunnelNetwork> {
        self.network
    }

    /// Whether its tunnel has been up in the present session.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.session.is_some() && self.events.contains(&ConsumerEvent::Active)
    }

    /// Why its last session ended; `None` while it lasts.
    #[must_use]
    pub fn closed(&self) -> Option<&CloseReason> {
        match self.events.last() {
            Some(ConsumerEvent::Closed(reason)) => Some(reason),
            _ => None,
        }
    }

    pub(super) fn owns(&self, address: IpAddr) -> bool {
        self.network.is_some_and(|network| match address {
            IpAddr::V4(address) => network.consumer_v4 == address,
            IpAddr::V6(address) => network.consumer_v6 == Some(address),
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        Some(self.session.as_ref()?.poll_timeout()?.at)
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        [
            self.poll_timeout(),
            self.ledger.next_durable(),
            self.up.next_arrival(),
            self.down.next_arrival(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl World {
    /// Starts a session that the exit has agreed to, and attaches its stream.
    ///
    /// # Errors
    /// [`Violation`] when a machine refuses what both sides signed.
    pub fn begin(
        &mut self,
        index: usize,
        applicant: Applicant,
        reply: OpenReply,
    ) -> Result<(), Violation> {
        let signed = reply
            .verify(&applicant.request)
            .map_err(|refusal| Violation::new(refusal.to_string()))?;
        let (token, network) = (reply.token, reply.network);
        let now = self.now();
        let setup = TunnelSetup {
            secret: applicant.secret,
            provider_key: reply.binding.tunnel_key,
            at: provider::address(),
            seed: self.chance.bytes(),
            wall: wall(&self.clock),
            config: EndpointConfig {
                rekey_after: self.setting.rekey_after,
                ..EndpointConfig::default()
            },
        };
        let unusable = |error: AddPeerError| Violation::new(error.to_string());
        let setup = ConsumerSetup {
            agreement: signed,
            reply,
            tunnel: TunnelStart::new(setup, now).map_err(unusable)?,
        };
        let consumer = &mut self.consumers[index];
        consumer
            .payer
            .open(signed, None)
            .map_err(|error| Violation::new(error.to_string()))?;
        let session = ConsumerSession::new(setup, now).map_err(unusable)?;
        consumer.session = Some(session);
        consumer.agreement = Some(signed.agreement);
        consumer.token = Some(token);
        consumer.network = Some(network);
        consumer.usage = Usage::default();
        (consumer.signed, consumer.paid) = (Amount::ZERO, Amount::ZERO);
        consumer.events.clear();
        self.attach(index);
        self.drain_consumer(index)
    }

    /// Whether a consumer answers invoices from now on.
    pub fn set_paying(&mut self, consumer: usize, pays: bool) {
        self.consumers[consumer].pays = pays;
    }

    /// A consumer moves to another address.
    pub fn roam(&mut self, consumer: usize) {
        let moved = self.consumers[consumer].address.port() + 1;
        self.consumers[consumer].address.set_port(moved);
    }

    /// The control stream breaks: what was on its way is lost, and so is what is said until [`World::attach`].
    pub fn cut(&mut self, consumer: usize) {
        let consumer = &mut self.consumers[consumer];
        consumer.up.cut();
        consumer.down.cut();
        if let Some(token) = consumer.token {
            self.attached.remove(&token);
        }
    }

    /// A new control stream to the same session.
    pub fn attach(&mut self, consumer: usize) {
        if let Some(token) = self.consumers[consumer].token {
            self.attached.insert(token, consumer);
            self.send_up_frame(consumer, ConsumerFrame::Attach(token));
        }
    }

    /// Asks for the last invoice.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn close(&mut self, consumer: usize) -> Result<(), Violation> {
        if let Some(session) = &mut self.consumers[consumer].session {
            session.close();
        }
        self.drain_consumer(consumer)
    }

    /// A consumer's process dies; its payer comes back from the ledger, its session does not.
    ///
    /// # Errors
    /// [`Violation`] when the payer forgot what it had sent.
    pub fn crash_consumer(&mut self, index: usize) -> Result<(), Violation> {
        self.cut(index);
        let consumer = &mut self.consumers[index];
        consumer.session = None;
        let sent = consumer.signed;
        let id = consumer.agreement.map(|agreement| agreement.id);
        consumer.ledger.crash(&mut self.chance)?;
        let rows = consumer.ledger.rows(Payer::TABLES);
        let config = Consumer::config(consumer.channel);
        consumer.payer = Payer::restore(config, Arc::clone(&consumer.signer), rows)?;
        let known = id
            .and_then(|id| consumer.payer.paid(id))
            .unwrap_or_default();
        if known < sent {
            return Err(Violation::new(format!(
                "{sent} was sent, the restored payer knows of {known}"
            )));
        }
        self.read_chain();
        Ok(())
    }

    /// An application sends a packet of `length` bytes.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn send_up(&mut self, index: usize, length: usize) -> Result<Option<Label>, Violation> {
        let source = self.consumers[index].network.map(|n| n.consumer_v4);
        match source {
            Some(source) => self.send_up_from(index, source.into(), length),
            None => Ok(None),
        }
    }

    /// The same under a source address of the sender's choice. `None`: the session did not take it.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn send_up_from(
        &mut self,
        index: usize,
        source: IpAddr,
        length: usize,
    ) -> Result<Option<Label>, Violation> {
        let destination = match source {
            IpAddr::V4(_) => ELSEWHERE.0.into(),
            IpAddr::V6(_) => ELSEWHERE.1.parse().expect("a constant address"),
        };
        let now = self.now();
        let consumer = &mut self.consumers[index];
        let label = Label {
            consumer: index,
            number: consumer.sent_up,
        };
        let Some(session) = &mut consumer.session else {
            return Ok(None);
        };
        let inner = packet::build(source, destination, label, length);
        let mut sealed = vec![0; SEALED];
        let outcome = session.seal(&inner, now, &mut sealed);
        let address = consumer.address;
        match outcome {
            Sealed::Dropped(_) => return Ok(None),
            Sealed::Queued { .. } => consumer.sent_up += 1,
            Sealed::Datagram { to, len, .. } => {
                consumer.sent_up += 1;
                sealed.truncate(len);
                self.send(address, to, sealed);
            }
        }
        self.drain_consumer(index)?;
        Ok(Some(label))
    }

    pub(super) fn consumer_opens(
        &mut self,
        index: usize,
        mut datagram: Datagram,
    ) -> Result<(), Violation> {
        let now = self.now();
        let consumer = &mut self.consumers[index];
        let Some(session) = &mut consumer.session else {
            return Ok(());
        };
        if let Received::Packet { packet, .. } =
            session.open(datagram.from, &mut datagram.payload, now)
        {
            let label = packet::label(packet).ok_or_else(|| Violation::new("a broken packet"))?;
            if label.consumer != index {
                return Err(Violation::new(format!("consumer {index} opens {label:?}")));
            }
            *consumer.received.entry(label).or_default() += 1;
        }
        self.drain_consumer(index)
    }

    pub(super) fn serve_streams(&mut self, index: usize) -> Result<bool, Violation> {
        let now = self.now();
        if let Some(frame) = self.consumers[index].up.arrived(now) {
            self.frame_arrives(index, frame)?;
            return Ok(true);
        }
        let consumer = &mut self.consumers[index];
        let Some(frame) = consumer.down.arrived(now) else {
            return Ok(false);
        };
        if let Some(session) = &mut consumer.session {
            session.handle_frame(frame, now);
        }
        self.drain_consumer(index)?;
        Ok(true)
    }

    pub(super) fn consumer_timers(&mut self, index: usize) -> Result<bool, Violation> {
        let now = self.now();
        let consumer = &mut self.consumers[index];
        let due = consumer.poll_timeout().is_some_and(|at| at <= now);
        if let Some(session) = consumer.session.as_mut().filter(|_| due) {
            session.handle_timeout(now);
            self.drain_consumer(index)?;
        }
        Ok(due)
    }

    pub(super) fn commit_consumer(&mut self, index: usize) -> Result<bool, Violation> {
        let now = self.now();
        let Some((_, ticket)) = self.consumers[index].ledger.durable(now)? else {
            return Ok(false);
        };
        self.consumers[index].payer.handle_durable(ticket);
        self.drain_payer(index)?;
        Ok(true)
    }

    pub(super) fn send_down_frame(&mut self, index: usize, frame: ProviderFrame) {
        let (now, delay) = (self.now(), self.chance_within(self.setting.stream_delay));
        self.consumers[index].down.send(frame, now, delay);
    }

    fn send_up_frame(&mut self, index: usize, frame: ConsumerFrame) {
        let (now, delay) = (self.now(), self.chance_within(self.setting.stream_delay));
        let consumer = &mut self.consumers[index];
        if consumer
            .token
            .is_some_and(|token| self.attached.contains_key(&token))
        {
            consumer.up.send(frame, now, delay);
        }
    }

    fn drain_consumer(&mut self, index: usize) -> Result<(), Violation> {
        let now = self.now();
        while let Some(session) = &mut self.consumers[index].session {
            if let Some(transmit) = session.poll_transmit() {
                let from = self.consumers[index].address;
                self.send(from, transmit.to, transmit.payload);
                continue;
            }
            let Some(output) = session.poll_output() else {
                break;
            };
            match output {
                ConsumerOutput::Frame(frame) => self.send_up_frame(index, frame),
                ConsumerOutput::Bill { invoice, usage } => self.bill(index, invoice, &usage)?,
                ConsumerOutput::Event(event) => self.tell(index, event)?,
            }
        }
        if let Some(session) = &self.consumers[index].session {
            let numbers = (session.usage(now), session.signed(), session.paid());
            let consumer = &mut self.consumers[index];
            (consumer.usage, consumer.signed, consumer.paid) = numbers;
        }
        Ok(())
    }

    fn tell(&mut self, index: usize, event: ConsumerEvent) -> Result<(), Violation> {
        let now = self.now();
        let over = matches!(event, ConsumerEvent::Closed(_));
        let consumer = &mut self.consumers[index];
        consumer.events.push(event);
        if over && let Some(session) = consumer.session.take() {
            (consumer.usage, consumer.signed, consumer.paid) =
                (session.usage(now), session.signed(), session.paid());
            consumer.payer.close(session.agreement().agreement.id);
            self.drain_payer(index)?;
        }
        Ok(())
    }

    fn bill(&mut self, index: usize, invoice: Invoice, usage: &Usage) -> Result<(), Violation> {
        let consumer = &mut self.consumers[index];
        if consumer.pays {
            consumer.payer.handle_invoice(invoice, usage);
            self.drain_payer(index)?;
        }
        Ok(())
    }

    fn drain_payer(&mut self, index: usize) -> Result<(), Violation> {
        let now = self.now();
        while let Some(output) = self.consumers[index].payer.poll_output() {
            match output {
                PayerOutput::Persist { ticket, batch } => {
                    let delay = self.write_delay();
                    self.consumers[index]
                        .ledger
                        .commit(Owner::Payments, ticket, batch, now, delay);
                }
                PayerOutput::Refused { why, .. } => self.consumers[index].refused.push(why),
                PayerOutput::Pay(exchange) => {
                    let consumer = &mut self.consumers[index];
                    let Some(session) = &mut consumer.session else {
                        continue;
                    };
                    let agreement = session.agreement().agreement;
                    if agreement.id != exchange.agreement {
                        continue;
                    }
                    let (own, total) = (session.usage(now), exchange.agreement_total);
                    Self::consumer_signs(&agreement, &own, session.signed(), total)?;
                    session.handle_payment(exchange);
                    self.drain_consumer(index)?;
                }
            }
        }
        Ok(())
    }
}
