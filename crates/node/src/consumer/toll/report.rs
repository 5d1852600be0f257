//! How the tolls of a session stand, for people and programs. It refuses to be believed: what is owed is the payer's and the relay's
//! affair.

use serde::Serialize;
use tokio::sync::{mpsc, watch};
use wayfare_identity::{Address, NodeId};
use wayfare_payment::{Amount, Usage};
use wayfare_session::{GateState, Tariff};

/// What the relays of a session were paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TollReport {
    /// The node of the relay in use.
    pub relay: String,
    /// Who is paid for it.
    pub operator: Address,
    /// What it asks for a gibibyte; nothing where it is free.
    pub per_gib: Amount,
    /// Bytes that went out through relays, since the session began.
    pub up: u64,
    /// As before, that came in.
    pub down: u64,
    /// Agreements made.
    pub agreements: u32,
    /// What we counted under agreements.
    pub usage: Usage,
    /// Promised to relays within this session.
    pub promised: Amount,
    /// Confirmed by them as covered.
    pub paid: Amount,
    /// Number of promises signed.
    pub promises: u64,
    /// Number of invoices refused.
    pub invoices_refused: u64,
}

/// What happens between a session and the relay that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TollNews {
    /// The relay is paid from now on.
    Agreed {
        /// Its node.
        relay: NodeId,
        /// Whom.
        operator: Address,
        /// For a gibibyte.
        per_gib: Amount,
    },
    /// It asks for more than is paid: it is used as far as it is free.
    TooDear {
        /// What it asks for a gibibyte.
        per_gib: Amount,
        /// What is paid at most.
        most: Amount,
    },
    /// No agreement came about.
    NotAgreed(String),
    /// So much is covered, of this agreement.
    Paid(Amount),
    /// It lets everything pass, or only what is free.
    Gate(GateState),
    /// An invoice was not paid.
    InvoiceRefused(String),
    /// The relay will stop within so many seconds.
    Draining(u32),
    /// It is not paid any more.
    Closed(String),
}

/// Keeps the report, and tells what happens to whoever listens.
#[derive(Debug)]
pub(super) struct Tally {
    report: watch::Sender<Option<TollReport>>,
    news: mpsc::Sender<TollNews>,
    now: TollReport,
    known: bool,
    /// Of agreements that are over.
    before: Before,
    /// Of channels that were left, and of the one in use as last seen.
    channels: ([u64; 2], [u64; 2]),
}

#[derive(Debug, Default)]
struct Before {
    usage: Usage,
    promised: Amount,
    paid: Amount,
}

impl Tally {
    pub(super) fn new(
        report: watch::Sender<Option<TollReport>>,
        news: mpsc::Sender<TollNews>,
        relay: NodeId,
    ) -> Self {
        Self {
            report,
            news,
            now: TollReport {
                relay: relay.to_string(),
                operator: Address::ZERO,
                per_gib: Amount::ZERO,
                up: 0,
                down: 0,
                agreements: 0,
                usage: Usage::default(),
                promised: Amount::ZERO,
                paid: Amount::ZERO,
                promises: 0,
                invoices_refused: 0,
            },
            known: false,
            before: Before::default(),
            channels: ([0; 2], [0; 2]),
        }
    }

    /// News are for people: a reader that does not keep up misses some.
    pub(super) fn tell(&self, news: TollNews) {
        let _ = self.news.try_send(news);
    }

    pub(super) fn tariff(&mut self, relay: NodeId, tariff: &Tariff) {
        self.known = true;
        self.change(|now| {
            now.relay = relay.to_string();
            now.operator = tariff.operator;
            now.per_gib = tariff.per_gib;
        });
    }

    pub(super) fn agreed(&mut self, relay: NodeId, tariff: &Tariff) {
        self.change(|now| now.agreements += 1);
        self.tell(TollNews::Agreed {
            relay,
            operator: tariff.operator,
            per_gib: tariff.per_gib,
        });
    }

    /// What passed through the channel in use.
    pub(super) fn carried(&mut self, passed: [u64; 2]) {
        if self.channels.1 == passed {
            return;
        }
        self.channels.1 = passed;
        let [up, down] = self.channels.0;
        self.change(|now| {
            now.up = up.saturating_add(passed[0]);
            now.down = down.saturating_add(passed[1]);
        });
    }

    pub(super) fn another_channel(&mut self) {
        self.channels = ([self.now.up, self.now.down], [0; 2]);
    }

    /// Under the present agreement.
    pub(super) fn used(&mut self, usage: Usage) {
        let before = self.before.usage;
        self.change(|now| now.usage = sum(before, usage));
    }

    pub(super) fn promised(&mut self, total: Amount) {
        let before = self.before.promised;
        self.change(|now| {
            now.promised = before.saturating_add(total);
            now.promises += 1;
        });
    }

    pub(super) fn paid(&mut self, total: Amount) {
        let before = self.before.paid;
        self.change(|now| now.paid = before.saturating_add(total));
        self.tell(TollNews::Paid(total));
    }

    pub(super) fn refused(&mut self, why: String) {
        self.change(|now| now.invoices_refused += 1);
        self.tell(TollNews::InvoiceRefused(why));
    }

    /// The present agreement is over.
    pub(super) fn ended(&mut self) {
        self.before = Before {
            usage: self.now.usage,
            promised: self.now.promised,
            paid: self.now.paid,
        };
    }

    fn change(&mut self, change: impl FnOnce(&mut TollReport)) {
        change(&mut self.now);
        if self.known {
            self.report.send_replace(Some(self.now.clone()));
        }
    }
}

fn sum(one: Usage, other: Usage) -> Usage {
    Usage {
        up: one.up.saturating_add(other.up),
        down: one.down.saturating_add(other.down),
        time: one.time.saturating_add(other.time),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn units(units: u128) -> Amount {
        Amount::from_units(units)
    }

    fn tariff() -> Tariff {
        Tariff {
            operator: Address::repeat_byte(1),
            hermes: Address::ZERO,
            chain_id: 1,
            vault: Address::ZERO,
            per_gib: units(5),
            chunk_most: units(1),
            free_bytes: 1,
        }
    }

    fn used(up: u64) -> Usage {
        Usage {
            up,
            ..Usage::default()
        }
    }

    #[test]
    fn channels_and_agreements_add_up() {
        let (tell, report) = watch::channel(None);
        let (news, mut told) = mpsc::channel(8);
        let relay = NodeId([7; 32]);
        let mut tally = Tally::new(tell, news, relay);
        tally.carried([10, 20]);
        assert_eq!(*report.borrow(), None, "no relay was asked for its price");
        tally.tariff(relay, &tariff());
        tally.agreed(relay, &tariff());
        tally.used(used(4));
        tally.promised(units(3));
        tally.paid(units(2));
        tally.ended();
        tally.carried([11, 20]);
        tally.another_channel();
        tally.carried([5, 5]);
        tally.agreed(relay, &tariff());
        tally.used(used(6));
        tally.promised(units(7));
        tally.promised(units(9));
        tally.paid(units(9));
        tally.refused("too much".into());
        let now = report.borrow().clone().unwrap();
        assert_eq!((now.up, now.down), (16, 25));
        assert_eq!((now.usage.up, now.agreements), (10, 2));
        assert_eq!((now.promised, now.paid), (units(12), units(11)));
        assert_eq!((now.promises, now.invoices_refused), (3, 1));
        let first = told.try_recv().unwrap();
        assert!(matches!(first, TollNews::Agreed { .. }), "{first:?}");
        assert_eq!(told.try_recv().unwrap(), TollNews::Paid(units(2)));
    }
}
