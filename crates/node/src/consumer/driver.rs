//! The task that owns one consumer session: packets, datagrams, frames, payments and timers in, events out.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use tokio::sync::mpsc;
use wayfare_payment::PayRefusal;
use wayfare_session::{
    CloseReason, ConsumerEvent, ConsumerFrame, ConsumerOutput, ConsumerSession, ProviderFrame,
};
use wayfare_transport::{Batch, Clock, SharedSocket, Tun, TunExt, TunnelReceiver};
use wayfare_tunnel::{OVERHEAD, Received, Sealed};

use super::payer::{DepositReader, PayerAnswer, PayerLink};
use super::{SessionEnd, SessionEvent, SessionReport};
use crate::provider::sleep_until;

/// Largest IP packet that a device hands over.
const MAX_PACKET: usize = 65_535;
/// Packets taken from the device before others get a turn.
const TUN_BURST: usize = 64;

/// What the owner of a session asks.
#[derive(Debug)]
pub(crate) enum Command {
    /// How does it stand?
    Report(tokio::sync::oneshot::Sender<SessionReport>),
    /// Pay what is owed and end.
    Close,
}

/// Everything that the task owns.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) session: ConsumerSession,
    pub(crate) socket: SharedSocket,
    pub(crate) receiver: TunnelReceiver,
    pub(crate) tun: Arc<dyn Tun>,
    pub(crate) payer: PayerLink,
    pub(crate) deposit: DepositReader,
    pub(crate) payments: mpsc::Receiver<PayerAnswer>,
    pub(crate) to_provider: mpsc::Sender<ConsumerFrame>,
    pub(crate) from_provider: mpsc::Receiver<ProviderFrame>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Sender<SessionEvent>,
    pub(crate) promises: u64,
    pub(crate) refused: u64,
    pub(crate) closing: bool,
}

impl Driver {
    /// Runs until the session is over, and says why it ended and how it stood then.
    pub(crate) async fn run(mut self) -> SessionEnd {
        let mut datagrams = Batch::new();
        let mut packet = vec![0; MAX_PACKET];
        let mut sealed = vec![0; MAX_PACKET + OVERHEAD + 16];
        let mut stream_open = true;
        loop {
            if let Some(reason) = self.carry_out().await {
                self.payer
                    .close(self.session.agreement().agreement.id)
                    .await;
                let report = self.report(Clock::now());
                return SessionEnd { reason, report };
            }
            let deadline = self.session.poll_timeout().map(|deadline| deadline.at);
            tokio::select! {
                received = self.receiver.recv(&mut datagrams) => match received {
                    Ok(_) => self.open_batch(&mut datagrams).await,
                    Err(error) => {
                        tracing::error!(%error, "the socket is broken");
                        self.session.abort();
                    }
                },
                read = self.tun.recv(&mut packet) => match read {
                    Ok(length) => self.seal_burst(length, &mut packet, &mut sealed).await,
                    Err(error) => {
                        tracing::error!(%error, "the tunnel device failed");
                        self.session.abort();
                    }
                },
                frame = self.from_provider.recv(), if stream_open => match frame {
                    Some(frame) => self.session.handle_frame(frame, Clock::now()),
                    None => {
                        stream_open = false;
                        if self.closing {
                            self.session.abort();
                        }
                    }
                },
                answer = self.payments.recv() => match answer {
                    Some(PayerAnswer::Pay(exchange)) => {
                        self.promises += 1;
                        self.session.handle_payment(*exchange);
                    }
                    Some(PayerAnswer::Refused(why)) => {
                        self.refused += 1;
                        if matches!(why, PayRefusal::OverDeposit { .. }) {
                            self.deposit.reread();
                        }
                        self.tell(SessionEvent::InvoiceRefused(why.to_string()));
                    }
                    None => self.session.abort(),
                },
                command = self.commands.recv() => self.handle_command(command).await,
                () = sleep_until(deadline) => self.session.handle_timeout(Clock::now()),
            }
        }
    }

    async fn handle_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Report(answer)) => {
                let _ = answer.send(self.report(Clock::now()));
            }
            Some(Command::Close) if !self.closing => {
                self.closing = true;
                self.session.close();
            }
            Some(Command::Close) => {}
            // The owner is gone: so is the session.
            None => self.session.abort(),
        }
    }

    async fn open_batch(&mut self, datagrams: &mut Batch) {
        let now = Clock::now();
        for (from, datagram) in datagrams.iter_mut() {
            if let Received::Packet { packet, .. } = self.session.open(from, datagram, now)
                && let Err(error) = self.tun.send(packet).await
            {
                tracing::trace!(%error, "the tunnel device refused a packet");
            }
        }
        datagrams.clear();
    }

    async fn seal_burst(&mut self, first: usize, packet: &mut [u8], sealed: &mut [u8]) {
        let now = Clock::now();
        self.seal(first, packet, sealed, now).await;
        for _ in 1..TUN_BURST {
            match self.tun.recv(packet).now_or_never() {
                Some(Ok(length)) => self.seal(length, packet, sealed, now).await,
                Some(Err(_)) | None => break,
            }
        }
    }

    async fn seal(&mut self, length: usize, packet: &[u8], sealed: &mut [u8], now: Instant) {
        if let Sealed::Datagram { to, len, .. } = self.session.seal(&packet[..length], now, sealed)
            && let Err(error) = self.socket.send(to, &sealed[..len]).await
        {
            tracing::trace!(%error, "a datagram could not be sent");
        }
    }

    /// Does what the machine asks for. `Some` when the session is over.
    async fn carry_out(&mut self) -> Option<CloseReason> {
        while let Some(transmit) = self.session.poll_transmit() {
            if let Err(error) = self.socket.send(transmit.to, &transmit.payload).await {
                tracing::trace!(%error, "a tunnel message could not be sent");
            }
        }
        while let Some(output) = self.session.poll_output() {
            match output {
                ConsumerOutput::Frame(frame) => {
                    if self.to_provider.try_send(frame).is_err() {
                        tracing::debug!("the provider's stream does not take a frame");
                    }
                }
                ConsumerOutput::Bill { invoice, usage } => self.payer.bill(invoice, usage).await,
                ConsumerOutput::Event(ConsumerEvent::Closed(reason)) => {
                    self.tell(SessionEvent::Session(ConsumerEvent::Closed(reason.clone())));
                    return Some(reason);
                }
                ConsumerOutput::Event(event) => self.tell(SessionEvent::Session(event)),
            }
        }
        None
    }

    /// Events are for people: a reader that does not keep up misses some.
    fn tell(&self, event: SessionEvent) {
        let _ = self.events.try_send(event);
    }

    fn report(&self, now: Instant) -> SessionReport {
        SessionReport {
            agreement: self.session.agreement().agreement,
            usage: self.session.usage(now),
            promised: self.session.signed(),
            paid: self.session.paid(),
            promises: self.promises,
            invoices_refused: self.refused,
        }
    }
}
