//! What the payer pays, refuses and remembers.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::fixture::*;
use crate::{Agreement, Amount};
use wayfare_identity::{B256, U256};

struct Bench {
    payer: Payer,
    rows: Rows,
}

impl Bench {
    fn new(deposit: u128) -> Self {
        let mut payer = Payer::new(payer_config(), consumer());
        payer.handle_deposit(units(deposit));
        payer.open(terms(1), None).unwrap();
        Self {
            payer,
            rows: Rows::default(),
        }
    }

    /// Commits whatever is to be committed and returns the rest.
    fn settle(&mut self) -> Vec<PayerOutput> {
        let mut rest = Vec::new();
        while let Some(output) = self.payer.poll_output() {
            match output {
                PayerOutput::Persist { ticket, batch } => {
                    self.rows.commit(batch);
                    self.payer.handle_durable(ticket);
                }
                other => rest.push(other),
            }
        }
        rest
    }

    fn ask(&mut self, invoice: Invoice, usage: &Usage) -> Vec<PayerOutput> {
        self.payer.handle_invoice(invoice, usage);
        self.settle()
    }

    fn paid(&mut self, invoice: Invoice, usage: &Usage) -> Exchange {
        match self.ask(invoice, usage).as_slice() {
            [PayerOutput::Pay(exchange)] => *exchange,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&mut self, invoice: Invoice, usage: &Usage) -> PayRefusal {
        match self.ask(invoice, usage).pop() {
            Some(PayerOutput::Refused { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    fn restart(&mut self) {
        let deposit = self.payer.deposit();
        self.payer =
            Payer::restore(payer_config(), consumer(), self.rows.of(Payer::TABLES)).unwrap();
        self.payer.handle_deposit(deposit);
    }
}

fn invoice(agreement: u64, total: u128) -> Invoice {
    Invoice {
        agreement: AgreementId(U256::from(agreement)),
        total: units(total),
        hashlock: preimage(agreement, total).hashlock(),
    }
}

#[test]
fn a_promise_is_durable_before_it_is_sent() {
    let mut bench = Bench::new(10_000);
    bench.payer.handle_invoice(invoice(1, CHUNK), &used(0));
    let Some(PayerOutput::Persist { ticket, batch }) = bench.payer.poll_output() else {
        panic!("nothing to persist")
    };
    assert_eq!(bench.payer.poll_output(), None);
    // The same invoice while the record is on its way: neither a second promise nor an early answer.
    bench.payer.handle_invoice(invoice(1, CHUNK), &used(0));
    assert_eq!(bench.payer.poll_output(), None);
    bench.rows.commit(batch);
    bench.payer.handle_durable(ticket);
    let Some(PayerOutput::Pay(exchange)) = bench.payer.poll_output() else {
        panic!("not paid")
    };
    exchange.verify(consumer().address()).unwrap();
    assert_eq!(exchange.promise.promise.amount, units(CHUNK));
    assert_eq!(exchange.promise.promise.fee, Amount::ZERO);
    assert_eq!(bench.payer.poll_output(), None);
}

#[test]
fn the_same_invoice_brings_the_same_bytes_also_after_a_restart() {
    let mut bench = Bench::new(10_000);
    let first = bench.paid(invoice(1, CHUNK), &used(0));
    assert_eq!(bench.paid(invoice(1, CHUNK), &used(0)), first);
    bench.restart();
    assert_eq!(bench.payer.total(), units(CHUNK));
    assert_eq!(bench.paid(invoice(1, CHUNK), &used(0)), first);
    let next = bench.paid(invoice(1, CHUNK + 500), &used(1000));
    assert_eq!(next.promise.promise.amount, units(CHUNK + 500));
}

#[test]
fn each_check_refuses_what_it_is_for() {
    let mut bench = Bench::new(5_000);
    bench.payer.open(terms(1), Some(units(4_500))).unwrap();
    bench.paid(invoice(1, CHUNK), &used(0));
    let limit = 2_000 + 20 + CHUNK;
    let with_lock = |total, lock| Invoice {
        hashlock: lock,
        ..invoice(1, total)
    };
    let (used_before, other) = (invoice(1, CHUNK).hashlock, Hashlock(B256::repeat_byte(9)));

    let cases: Vec<(Invoice, u64, PayRefusal)> = vec![
        (invoice(7, 10), 0, PayRefusal::UnknownAgreement),
        (
            invoice(1, limit + 1),
            2_000,
            PayRefusal::Inflated {
                total: units(limit + 1),
                own_cost: units(2_000),
                allowance: units(CHUNK),
            },
        ),
        (
            invoice(1, CHUNK - 1),
            0,
            PayRefusal::Stale {
                total: units(CHUNK - 1),
                promised: units(CHUNK),
            },
        ),
        (with_lock(CHUNK, other), 0, PayRefusal::HashlockReused),
        (
            with_lock(CHUNK + 1, used_before),
            0,
            PayRefusal::HashlockReused,
        ),
        (
            invoice(1, 4_501),
            9_000,
            PayRefusal::OverBudget {
                total: units(4_501),
                budget: units(4_500),
            },
        ),
    ];
    for (invoice, kib, expected) in cases {
        assert_eq!(bench.refusal(invoice, &used(kib)), expected);
        assert_eq!(bench.payer.total(), units(CHUNK), "nothing was promised");
    }
    bench.paid(invoice(1, limit), &used(2_000));
    bench.payer.open(terms(1), None).unwrap();
    let over = PayRefusal::OverDeposit {
        wanted: units(5_001),
        deposit: units(5_000),
    };
    assert_eq!(bench.refusal(invoice(1, 5_001), &used(9_000)), over);
    bench.payer.close(AgreementId(U256::from(1)));
    assert_eq!(
        bench.refusal(invoice(1, 5_000), &used(9_000)),
        PayRefusal::Closed
    );
}

#[test]
fn a_provider_that_forgot_is_sent_what_it_forgot() {
    let mut bench = Bench::new(10_000);
    bench.paid(invoice(1, CHUNK), &used(0));
    let last = bench.paid(invoice(1, 2_000), &used(2_000));
    let outputs = bench.ask(invoice(1, 1_500), &used(2_000));
    assert_eq!(outputs[0], PayerOutput::Pay(last));
    assert!(matches!(
        outputs[1],
        PayerOutput::Refused {
            why: PayRefusal::Stale { .. },
            ..
        }
    ));
}

#[test]
fn all_sessions_share_one_growing_total() {
    let mut bench = Bench::new(3_500);
    bench.payer.open(terms(2), None).unwrap();
    let amounts: Vec<Amount> = [invoice(1, 1_000), invoice(2, 1_000), invoice(1, 1_700)]
        .map(|i| bench.paid(i, &used(1_700)).promise.promise.amount)
        .to_vec();
    assert_eq!(amounts, [units(1_000), units(2_000), units(2_700)]);
    assert!(matches!(
        bench.refusal(invoice(2, 1_900), &used(1_700)),
        PayRefusal::OverDeposit { .. }
    ));
}

#[test]
fn outside_views_raise_the_total_only_with_our_own_signature_and_never_lower_it() {
    let mut bench = Bench::new(10_000);
    bench.paid(invoice(1, CHUNK), &used(0));
    let old = payment(1, 10, 10).promise;
    bench.payer.handle_hermes_view(&old).unwrap();
    assert_eq!(bench.payer.total(), units(CHUNK));
    let forged = old.promise.sign(operator().as_ref()).unwrap();
    assert!(matches!(
        bench.payer.handle_hermes_view(&forged),
        Err(ViewRefusal::Signature(_))
    ));
    let elsewhere = Promise {
        chain_id: 1,
        ..old.promise
    }
    .sign(consumer().as_ref())
    .unwrap();
    assert_eq!(
        bench.payer.handle_hermes_view(&elsewhere),
        Err(ViewRefusal::NotOurs)
    );
    bench
        .payer
        .handle_hermes_view(&payment(1, 4_000, 4_000).promise)
        .unwrap();
    bench.payer.handle_collected(units(3_000));
    bench.settle();
    bench.restart();
    assert_eq!(bench.payer.total(), units(4_000));
}

type Change = fn(&mut Agreement);

#[test]
fn only_our_own_signed_agreements_are_paid_for() {
    let mut payer = Payer::new(payer_config(), consumer());
    let cases: [(Change, &str); 5] = [
        (|a| a.consumer = provider().address(), "consumer"),
        (|a| a.hermes = vault(), "Hermes"),
        (|a| a.chain_id = 1, "chain"),
        (|a| a.vault = hermes(), "vault"),
        (|a| a.consumer_channel = channel_of(hermes()), "channel"),
    ];
    for (change, what) in cases {
        let mut changed = agreement(1);
        change(&mut changed);
        let signed = sign(changed, consumer().as_ref(), provider().as_ref());
        assert_eq!(payer.open(signed, None), Err(OpenRefusal::NotOurs(what)));
    }
    let forged = sign(agreement(1), consumer().as_ref(), consumer().as_ref());
    assert!(matches!(
        payer.open(forged, None),
        Err(OpenRefusal::Signature(_))
    ));
    payer.open(terms(1), None).unwrap();
    payer.open(terms(1), None).unwrap();
    let dearer = Agreement {
        chunk: units(CHUNK + 1),
        ..agreement(1)
    };
    let dearer = sign(dearer, consumer().as_ref(), provider().as_ref());
    assert_eq!(payer.open(dearer, None), Err(OpenRefusal::IdTaken));
}

#[test]
fn after_a_failed_write_nothing_is_said() {
    let mut bench = Bench::new(10_000);
    bench.payer.handle_invoice(invoice(1, CHUNK), &used(0));
    let Some(PayerOutput::Persist { ticket, .. }) = bench.payer.poll_output() else {
        panic!("nothing to persist")
    };
    bench.payer.handle_failed(ticket);
    bench.payer.handle_durable(ticket);
    assert_eq!(bench.payer.poll_output(), None);
    assert_eq!(
        bench.refusal(invoice(1, CHUNK), &used(0)),
        PayRefusal::Stopped
    );
}

#[test]
fn a_closed_agreement_is_forgotten_but_not_what_it_cost() {
    let mut bench = Bench::new(10_000);
    let id = AgreementId(U256::from(1));
    bench.paid(invoice(1, CHUNK), &used(0));
    bench.payer.close(id);
    bench.payer.forget(id);
    bench.settle();
    bench.restart();
    assert_eq!(bench.payer.paid(id), None);
    assert_eq!(bench.payer.total(), units(CHUNK));
}
