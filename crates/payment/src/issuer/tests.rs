//! What a Hermes issues, refuses, repeats and proves.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::Hashlock;
use crate::fixture::*;
use wayfare_identity::U256;

struct Bench {
    issuer: Issuer,
    rows: Rows,
}

impl Bench {
    fn new() -> Self {
        Self {
            issuer: Issuer::new(issuer_config(), operator()),
            rows: Rows::default(),
        }
    }

    fn restart(&mut self) {
        self.issuer =
            Issuer::restore(issuer_config(), operator(), self.rows.of(Issuer::TABLES)).unwrap();
    }

    fn settle(&mut self) -> Vec<IssuerOutput> {
        let mut rest = Vec::new();
        while let Some(output) = self.issuer.poll_output() {
            match output {
                IssuerOutput::Persist { ticket, batch } => {
                    self.rows.commit(batch);
                    assert_eq!(self.audit(Depth::Sums).findings, []);
                    self.issuer.handle_durable(ticket);
                }
                other => rest.push(other),
            }
        }
        rest
    }

    fn audit(&self, depth: Depth) -> CheckReport {
        let rows = self.rows.of(Issuer::CHECKED_TABLES);
        Issuer::check(&issuer_config(), operator().address(), rows, depth).unwrap()
    }

    fn request(
        &mut self,
        exchange: Exchange,
        deposit: &ConsumerAccount,
    ) -> Result<IssueReply, IssueRefusal> {
        let consumer = consumer().address();
        let id = self.issuer.handle_request(
            &IssueRequest { consumer, exchange },
            channel_of(consumer),
            deposit,
        );
        match self.settle().as_slice() {
            [IssuerOutput::Answer { request, reply }] if *request == id => Ok(*reply),
            [IssuerOutput::Refused { request, why }] if *request == id => Err(*why),
            other => panic!("{other:?}"),
        }
    }

    fn reveal(&mut self, preimage: Preimage) -> Result<(), IssueRefusal> {
        let channel = ChannelId::of_provider(provider().address(), hermes());
        let id = self.issuer.handle_reveal(channel, preimage);
        match self.settle().as_slice() {
            [IssuerOutput::Acknowledged { request }] if *request == id => Ok(()),
            [IssuerOutput::Refused { request, why }] if *request == id => Err(*why),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_promise_adds_the_payment_and_is_counted_by_a_receipt() {
    let mut bench = Bench::new();
    let first = bench
        .request(payment(1, 100, 100), &deposit(1_000))
        .unwrap();
    bench.reveal(preimage(1, 100)).unwrap();
    let second = bench
        .request(payment(1, 250, 250), &deposit(1_000))
        .unwrap();
    second.promise.verify(operator().address()).unwrap();
    second
        .receipt
        .verify(&issuer_config().domain(), operator().address())
        .unwrap();
    assert_eq!(second.promise.promise.amount, units(250));
    assert_eq!(second.promise.promise.hashlock, preimage(1, 250).hashlock());
    let receipt = second.receipt.receipt;
    assert_eq!(
        (receipt.sequence, receipt.increment, receipt.total_promised),
        (2, units(150), units(250))
    );
    assert_eq!(
        receipt.previous,
        first.receipt.receipt.digest(&issuer_config().domain())
    );
    let audit = bench.audit(Depth::Signatures);
    assert_eq!(
        (audit.findings, audit.promised, audit.receipts),
        (vec![], units(250), 2)
    );
}

#[test]
fn nothing_is_answered_before_it_is_durable_and_waiting_requests_are_independent() {
    let mut bench = Bench::new();
    let consumer = consumer().address();
    let ask = |bench: &mut Bench, exchange| {
        bench.issuer.handle_request(
            &IssueRequest { consumer, exchange },
            channel_of(consumer),
            &deposit(1_000),
        )
    };
    let first = ask(&mut bench, payment(1, 100, 100));
    let again = ask(&mut bench, payment(1, 100, 100));
    let Some(IssuerOutput::Persist { ticket, .. }) = bench.issuer.poll_output() else {
        panic!("nothing to persist")
    };
    assert_eq!(
        bench.issuer.poll_output(),
        None,
        "the repetition waits for the same record"
    );
    assert_eq!(
        bench
            .issuer
            .provider(ChannelId::of_provider(provider().address(), hermes())),
        None
    );
    bench.issuer.handle_durable(ticket);
    let answers: Vec<_> = std::iter::from_fn(|| bench.issuer.poll_output()).collect();
    let [
        IssuerOutput::Answer {
            request: a,
            reply: x,
        },
        IssuerOutput::Answer {
            request: b,
            reply: y,
        },
    ] = answers.as_slice()
    else {
        panic!("{answers:?}")
    };
    assert_eq!((*a, *b), (first, again));
    assert_eq!(x, y);
}

#[test]
fn the_same_payment_brings_the_same_promise_also_after_a_restart_and_a_reveal() {
    let mut bench = Bench::new();
    let first = bench
        .request(payment(1, 100, 100), &deposit(1_000))
        .unwrap();
    bench.restart();
    assert_eq!(
        bench.request(payment(1, 100, 100), &deposit(1_000)),
        Ok(first)
    );
    bench.reveal(preimage(1, 100)).unwrap();
    bench.restart();
    assert_eq!(bench.request(payment(1, 100, 100), &deposit(0)), Ok(first));
    let second = bench
        .request(payment(1, 101, 101), &deposit(1_000))
        .unwrap();
    assert_eq!(
        second.receipt.receipt.sequence, 2,
        "the chain of receipts goes on"
    );
    assert_eq!(bench.audit(Depth::Signatures).findings, []);
}

#[test]
fn each_check_refuses_what_it_is_for() {
    use IssueRefusal as No;
    let promise = |change: fn(&mut Promise)| {
        let mut promise = payment(1, 200, 200).promise.promise;
        change(&mut promise);
        signed_payment(consumer().as_ref(), promise, 1, 200)
    };
    let good = payment(1, 200, 200);
    let leaving = ConsumerAccount {
        exit_at: Some(1),
        ..deposit(1_000)
    };
    let cases: Vec<(Exchange, ConsumerAccount, No)> = vec![
        (
            Exchange {
                hermes: vault(),
                ..good
            },
            deposit(1_000),
            No::WrongHermes,
        ),
        (promise(|p| p.chain_id = 1), deposit(1_000), No::WrongChain),
        (
            promise(|p| p.channel = channel_of(hermes())),
            deposit(1_000),
            No::WrongChannel,
        ),
        (promise(|p| p.fee = units(1)), deposit(1_000), No::Fee),
        (
            signed_payment(provider().as_ref(), good.promise.promise, 1, 200),
            deposit(1_000),
            No::Signature,
        ),
        (
            Exchange {
                agreement_total: units(201),
                ..good
            },
            deposit(1_000),
            No::Signature,
        ),
        (payment(1, 99, 200), deposit(1_000), No::Stale),
        (
            signed_payment(consumer().as_ref(), good.promise.promise, 1, 100),
            deposit(1_000),
            No::LockChanged,
        ),
        (payment(1, 200, 199), deposit(1_000), No::NotCovered),
        (payment(1, 1_001, 1_001), deposit(1_000), No::OverDeposit),
        (good, leaving, No::ExitPending),
        (good, deposit(1_000), No::RevealFirst),
    ];
    let mut bench = Bench::new();
    bench
        .request(payment(1, 100, 100), &deposit(1_000))
        .unwrap();
    let rows = bench.rows.clone();
    for (exchange, account, expected) in cases {
        assert_eq!(bench.request(exchange, &account), Err(expected));
        assert_eq!(bench.rows, rows, "{expected}: a refusal leaves no trace");
    }
    bench.reveal(preimage(1, 100)).unwrap();
    let id = good.agreement;
    let elsewhere = Exchange::sign(
        consumer().as_ref(),
        good.promise,
        id,
        units(200),
        hermes(),
        hermes(),
    )
    .unwrap();
    assert_eq!(
        bench.request(elsewhere, &deposit(1_000)),
        Err(No::OtherProvider)
    );
    let huge = ConsumerAccount {
        balance: Amount::MAX,
        collected: units(1),
        exit_at: None,
    };
    assert_eq!(bench.request(good, &huge), Err(No::Overflow));
    bench.request(good, &deposit(1_000)).unwrap();
}

#[test]
fn a_preimage_makes_the_consumers_promise_collectable() {
    let mut bench = Bench::new();
    let payer = consumer().address();
    assert_eq!(
        bench.reveal(preimage(1, 100)),
        Err(IssueRefusal::WrongPreimage)
    );
    bench
        .request(payment(1, 100, 100), &deposit(1_000))
        .unwrap();
    assert_eq!(bench.issuer.collectable(payer), None);
    assert_eq!(
        bench.reveal(preimage(1, 101)),
        Err(IssueRefusal::WrongPreimage)
    );
    bench.reveal(preimage(1, 100)).unwrap();
    bench.reveal(preimage(1, 100)).unwrap();
    let held = bench.issuer.collectable(payer).unwrap();
    assert_eq!(held.promise, payment(1, 100, 100).promise);
    assert_eq!(held.preimage.hashlock(), held.promise.promise.hashlock);

    bench
        .request(payment(1, 300, 300), &deposit(1_000))
        .unwrap();
    // The acknowledgement of the one before was lost: it is repeated, though a newer promise is locked.
    bench.reveal(preimage(1, 100)).unwrap();
    assert_eq!(bench.issuer.collectables().count(), 1);
    bench.restart();
    assert_eq!(bench.issuer.collectable(payer), Some(held));
    assert_eq!(
        bench.issuer.consumer(payer).unwrap().largest,
        payment(1, 300, 300).promise
    );
}

#[test]
fn a_failed_write_stops_the_hermes() {
    let mut bench = Bench::new();
    let consumer = consumer().address();
    let request = IssueRequest {
        consumer,
        exchange: payment(1, 100, 100),
    };
    let id = bench
        .issuer
        .handle_request(&request, channel_of(consumer), &deposit(1_000));
    let Some(IssuerOutput::Persist { ticket, .. }) = bench.issuer.poll_output() else {
        panic!("nothing to persist")
    };
    bench.issuer.handle_failed(ticket);
    let refused = IssuerOutput::Refused {
        request: id,
        why: IssueRefusal::OutOfOrder,
    };
    assert_eq!(bench.issuer.poll_output(), Some(refused));
    bench.issuer.handle_durable(ticket);
    assert_eq!(bench.issuer.poll_output(), None);
    assert_eq!(
        bench.request(payment(1, 100, 100), &deposit(1_000)),
        Err(IssueRefusal::OutOfOrder)
    );
}

#[test]
fn an_audit_finds_what_was_tampered_with() {
    let mut bench = Bench::new();
    bench
        .request(payment(1, 100, 100), &deposit(1_000))
        .unwrap();
    bench.reveal(preimage(1, 100)).unwrap();
    bench
        .request(payment(1, 250, 250), &deposit(1_000))
        .unwrap();
    let rows = bench.rows.clone();
    assert_eq!(bench.audit(Depth::Signatures).findings, []);

    let find = |change: &dyn Fn(&mut Rows)| {
        let mut rows = rows.clone();
        change(&mut rows);
        let report = Issuer::check(
            &issuer_config(),
            operator().address(),
            rows.of(Issuer::CHECKED_TABLES),
            Depth::Signatures,
        );
        report.unwrap().findings
    };
    let edit = |rows: &mut Rows, table: Table, change: &dyn Fn(&mut Vec<u8>)| {
        let (_, value) = rows.0.iter_mut().find(|((t, _), _)| *t == table).unwrap();
        change(value);
    };
    let lost = find(&|rows| {
        drop(
            rows.0
                .remove(&(Table::IssuerReceipt, 1u64.to_be_bytes().to_vec())),
        )
    });
    assert!(
        lost.iter()
            .any(|f| matches!(f, Finding::Chain { sequence: 2, .. })),
        "{lost:?}"
    );

    let richer = find(&|rows| {
        edit(rows, Table::IssuerConsumer, &|value| {
            let mut record: IssuerConsumerRecord =
                decode(Table::IssuerConsumer, &(vec![], value.clone())).unwrap();
            record.accepted = units(260);
            *value = encode(&record);
        });
    });
    assert!(
        richer
            .iter()
            .any(|f| matches!(f, Finding::Imbalance { .. })),
        "{richer:?}"
    );
    assert!(
        richer.iter().any(|f| matches!(f, Finding::Consumer { .. })),
        "{richer:?}"
    );

    let forged = find(&|rows| {
        edit(rows, Table::IssuerProvider, &|value| {
            let mut record: IssuerProviderRecord =
                decode(Table::IssuerProvider, &(vec![], value.clone())).unwrap();
            record.reply.promise.promise.hashlock = Hashlock(B256::ZERO);
            *value = encode(&record);
        });
    });
    assert!(
        forged.iter().any(|f| matches!(f, Finding::Promise(_))),
        "{forged:?}"
    );

    let other_key = Issuer::check(
        &issuer_config(),
        vault(),
        rows.of(Issuer::CHECKED_TABLES),
        Depth::Signatures,
    );
    assert!(
        other_key
            .unwrap()
            .findings
            .iter()
            .any(|f| matches!(f, Finding::Signature(_)))
    );
}

#[test]
fn agreement_ids_of_different_consumers_do_not_meet() {
    let mut bench = Bench::new();
    bench
        .request(payment(1, 100, 100), &deposit(1_000))
        .unwrap();
    bench.reveal(preimage(1, 100)).unwrap();
    let other = signer(9);
    let promise = Promise {
        channel: channel_of(other.address()),
        ..payment(1, 50, 50).promise.promise
    };
    let exchange = signed_payment(other.as_ref(), promise, 1, 50);
    let request = IssueRequest {
        consumer: other.address(),
        exchange,
    };
    bench
        .issuer
        .handle_request(&request, channel_of(other.address()), &deposit(50));
    let answers = bench.settle();
    let [IssuerOutput::Answer { reply, .. }] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert_eq!(reply.promise.promise.amount, units(150));
    assert_eq!(exchange.agreement, AgreementId(U256::from(1)));
}
