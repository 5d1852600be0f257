//! What the collector asks for, accepts, reveals and serves; against a real issuer.
#![allow(clippy::unwrap_used)]

mod hermes;
mod payments;
mod serving;

use std::time::Duration;

use wayfare_identity::{B256, U256};

use super::*;
use crate::fixture::*;
use crate::record::encode;
use crate::{
    Exchange, IssueFailure, IssueRefusal, IssueReply, IssueRequest, Issuer, IssuerOutput, Promise,
    SettleMaterial, SignedPromise, SignedReceipt, Why,
};

const ID: AgreementId = AgreementId(U256::ONE);

struct Bench {
    collector: Collector,
    issuer: Issuer,
    rows: Rows,
    now: Instant,
    said: Vec<CollectorOutput>,
}

impl Bench {
    fn new() -> Self {
        Self::with(collector_config())
    }

    fn with(config: CollectorConfig) -> Self {
        let mut bench = Self {
            collector: Collector::new(config),
            issuer: Issuer::new(issuer_config(), operator()),
            rows: Rows::default(),
            now: start(),
            said: Vec::new(),
        };
        bench.collector.handle_hermes(hermes_account(), bench.now);
        bench.collector.open(terms(1), bench.now).unwrap();
        bench
    }

    /// Commits whatever is to be committed; the rest is said.
    fn drain(&mut self) -> Vec<CollectorOutput> {
        let mut rest = Vec::new();
        while let Some(output) = self.collector.poll_output() {
            match output {
                CollectorOutput::Persist { ticket, batch } => {
                    self.rows.commit(batch);
                    self.collector.handle_durable(ticket, self.now);
                }
                other => rest.push(other),
            }
        }
        self.said.extend(rest.iter().cloned());
        self.collector.earnings.audit();
        rest
    }

    fn answer(&mut self, request: IssueRequest) -> Result<IssueReply, IssueRefusal> {
        let account = deposit(1_000_000);
        let channel = channel_of(request.consumer);
        self.issuer.handle_request(&request, channel, &account);
        loop {
            match self.issuer.poll_output().expect("an issuer answers") {
                IssuerOutput::Persist { ticket, .. } => self.issuer.handle_durable(ticket),
                IssuerOutput::Answer { reply, .. } => return Ok(reply),
                IssuerOutput::Refused { why, .. } => return Err(why),
                IssuerOutput::Acknowledged { .. } => {}
            }
        }
    }

    fn reveal(&mut self, preimage: Preimage) {
        self.issuer.handle_reveal(self.collector.channel, preimage);
        while let Some(output) = self.issuer.poll_output() {
            if let IssuerOutput::Persist { ticket, .. } = output {
                self.issuer.handle_durable(ticket);
            }
        }
    }

    /// Pays `total` and lets everything run until the Hermes has taken the preimage.
    fn pay(&mut self, total: u128, amount: u128) {
        self.collector
            .handle_exchange(payment(1, total, amount), self.now);
        self.run();
    }

    fn run(&mut self) {
        loop {
            let outputs = self.drain();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    CollectorOutput::Issue(request) => {
                        let hashlock = request.exchange.promise.promise.hashlock;
                        match self.answer(request) {
                            Ok(reply) => self.collector.handle_issued(reply, self.now),
                            Err(why) => {
                                self.collector
                                    .handle_issue_failed(hashlock, why.into(), self.now)
                            }
                        }
                    }
                    CollectorOutput::Reveal {
                        hashlock, preimage, ..
                    } => {
                        self.reveal(preimage);
                        self.collector.handle_revealed(hashlock, self.now);
                    }
                    _ => {}
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.collector.handle_timeout(self.now);
    }

    fn restart(&mut self) {
        let rows = self.rows.of(Collector::TABLES);
        self.collector = Collector::restore(collector_config(), rows, self.now).unwrap();
        self.collector.handle_hermes(hermes_account(), self.now);
    }

    fn refusal(&mut self, exchange: Exchange) -> ExchangeRefusal {
        self.collector.handle_exchange(exchange, self.now);
        match self.drain().as_slice() {
            [CollectorOutput::Refused { why, .. }] => why.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn reason(&self, kib: u64) -> GateReason {
        match self.collector.gate(ID, &used(kib)) {
            Gate::Closed(reason) => reason,
            Gate::Open => panic!("the gate is open"),
        }
    }
}

fn invoices(outputs: &[CollectorOutput]) -> Vec<u128> {
    let total = |output: &CollectorOutput| match output {
        CollectorOutput::Invoice(invoice) => Some(invoice.total.units().to::<u128>()),
        _ => None,
    };
    outputs.iter().filter_map(total).collect()
}

fn issued(outputs: &[CollectorOutput]) -> Vec<Exchange> {
    let exchange = |output: &CollectorOutput| match output {
        CollectorOutput::Issue(request) => Some(request.exchange),
        _ => None,
    };
    outputs.iter().filter_map(exchange).collect()
}

fn reveals(outputs: &[CollectorOutput]) -> usize {
    outputs
        .iter()
        .filter(|output| matches!(output, CollectorOutput::Reveal { .. }))
        .count()
}
