//! The task that owns one consumer session: packets, datagrams, frames, payments and timers in, events out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use wayfare_payment::PayRefusal;
use wayfare_session::{
    CloseReason, ConsumerEvent, ConsumerFrame, ConsumerOutput, ConsumerSession, ProviderFrame,
};
use wayfare_transport::{Clock, Pump};

use super::payer::{DepositReader, PayerAnswer, PayerLink};
use super::toll::{TollNews, Tolls};
use super::{SessionEnd, SessionEvent, SessionReport};
use crate::path::MtuWatch;
use crate::plane::ConsumerPlane;
use crate::provider::sleep_until;
use crate::reach::{PathNow, local_addresses};
use crate::traffic::Traffic;

/// How often this computer's addresses are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Three seconds: what lasts longer is the matter of whoever finds paths.
const GREETINGS: u8 = 6;

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
    pub(crate) pump: Pump,
    pub(crate) payer: PayerLink,
    pub(crate) deposit: DepositReader,
    pub(crate) payments: mpsc::Receiver<PayerAnswer>,
    pub(crate) mtu: MtuWatch,
    pub(crate) path: Option<watch::Receiver<PathNow>>,
    pub(crate) to_provider: mpsc::Sender<ConsumerFrame>,
    pub(crate) from_provider: mpsc::Receiver<ProviderFrame>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Sender<SessionEvent>,
    pub(crate) promises: u64,
    pub(crate) refused: u64,
    pub(crate) closing: bool,
    /// This computer's addresses, as last seen.
    pub(crate) local: Vec<SocketAddr>,
    pub(crate) traffic: Traffic,
    /// Payments to relays, where one may be on the way.
    pub(crate) tolls: Option<Tolls>,
    /// Still to be sent while nothing comes.
    pub(crate) greetings: u8,
}

impl Driver {
    /// Runs until the session is over, and says why it ended and how it stood then.
    pub(crate) async fn run(mut self) -> SessionEnd {
        let mut stream_open = true;
        let mut path_watched = true;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.tell(SessionEvent::Mtu(self.mtu.mtu().into()));
        loop {
            if let Some(reason) = self.carry_out().await {
                self.payer
                    .close(self.session.agreement().agreement.id)
                    .await;
                let mut report = self.report(Clock::now());
                let tolls = self.tolls.take();
                // While the tunnel's receiver lives nobody else reads the socket, and relays have to be heard to the end.
                drop(self);
                if let Some(mut tolls) = tolls {
                    tolls.finish().await;
                    report.relay = tolls.report();
                }
                return SessionEnd { reason, report };
            }
            let deadline = self.session.poll_timeout().map(|deadline| deadline.at);
            tokio::select! {
                ready = self.pump.ready() => match ready {
                    Ok(()) => self.pump.work(&mut ConsumerPlane(&mut self.session), Clock::now()),
                    Err(error) => {
                        tracing::error!(%error, "the session cannot go on");
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
                mtu = self.mtu.changed(), if path_watched => match mtu {
                    Some(mtu) => self.tell(SessionEvent::Mtu(mtu.into())),
                    None => path_watched = false,
                },
                path = changed(&mut self.path) => {
                    self.session.choose_path(path.at, Clock::now());
                    self.tell(SessionEvent::Path(path));
                }
                news = happened(&mut self.tolls) => self.tell(SessionEvent::Toll(news)),
                command = self.commands.recv() => self.handle_command(command).await,
                _ = looks.tick() => self.look(),
                () = sleep_until(deadline) => self.session.handle_timeout(Clock::now()),
            }
        }
    }

    /// The provider follows our packets, and must hear of us to do so: at once, not with the tunnel's next timer, when we have moved
    /// or its stream has ended. The first greetings may go before a hole is punched anew, so there are several.
    fn look(&mut self) {
        let socket = self.pump.socket();
        let local = local_addresses(socket.local_addr());
        let moved = std::mem::replace(&mut self.local, local) != self.local;
        if moved | self.traffic.has_ended(socket.stats().tunnel_in) {
            self.greetings = GREETINGS;
        } else if self.traffic.flows() {
            self.greetings = 0;
        }
        if self.greetings > 0 {
            self.greetings -= 1;
            self.session.greet(Clock::now());
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

    /// Does what the machine asks for. `Some` when the session is over.
    async fn carry_out(&mut self) -> Option<CloseReason> {
        while let Some(transmit) = self.session.poll_transmit() {
            if let Err(error) = self
                .pump
                .socket()
                .send(transmit.to, &transmit.payload)
                .await
            {
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
            path: self.path.as_ref().map(|path| path.borrow().clone()),
            relay: self.tolls.as_ref().and_then(Tolls::report),
        }
    }
}

/// What happens between us and a relay; waits for ever where there is none.
async fn happened(tolls: &mut Option<Tolls>) -> TollNews {
    match tolls {
        Some(tolls) => tolls.next().await,
        None => std::future::pending().await,
    }
}

/// The path of the moment whenever it is another one, the first included; waits for ever where there is one path only.
async fn changed(path: &mut Option<watch::Receiver<PathNow>>) -> PathNow {
    if let Some(watched) = path {
        if watched.changed().await.is_ok() {
            return watched.borrow_and_update().clone();
        }
        *path = None;
    }
    std::future::pending().await
}
