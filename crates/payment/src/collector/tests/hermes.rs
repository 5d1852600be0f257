//! Requests, answers, reveals, and what is done when the Hermes lies, refuses or is silent.

use super::*;

#[test]
fn every_step_waits_for_its_record() {
    let mut bench = Bench::new();
    bench.drain();
    bench
        .collector
        .handle_exchange(payment(1, CHUNK, CHUNK), bench.now);
    let Some(CollectorOutput::Persist { ticket, .. }) = bench.collector.poll_output() else {
        panic!("not persisted")
    };
    assert_eq!(bench.collector.poll_output(), None);
    bench.collector.handle_durable(ticket, bench.now);
    let Some(CollectorOutput::Issue(request)) = bench.collector.poll_output() else {
        panic!("not issued")
    };
    let reply = bench.answer(request).unwrap();

    bench.collector.handle_issued(reply, bench.now);
    let Some(CollectorOutput::Persist { ticket, .. }) = bench.collector.poll_output() else {
        panic!("not persisted")
    };
    bench.pass(Duration::from_secs(60));
    assert_eq!(reveals(&bench.drain()), 0);
    assert_eq!(bench.reason(0), GateReason::FirstPayment);
    assert_eq!(bench.collector.settle_material(), None);
    bench.collector.handle_durable(ticket, bench.now);
    let outputs = bench.drain();
    assert_eq!(
        outputs[0],
        CollectorOutput::Paid {
            agreement: ID,
            total: units(CHUNK)
        }
    );
    assert!(
        matches!(outputs[1], CollectorOutput::Settleable(SettleMaterial { promise, .. }) if promise == reply.promise)
    );
    let hashlock = preimage(1, CHUNK).hashlock();
    let (channel, preimage) = (bench.collector.channel, preimage(1, CHUNK));
    assert_eq!(
        outputs[2],
        CollectorOutput::Reveal {
            channel,
            hashlock,
            preimage
        }
    );
}

type Mutation = fn(&mut IssueReply);

#[test]
fn each_check_of_a_hermes_reply_refuses_what_it_is_for() {
    let resign = |reply: &mut IssueReply| {
        reply.promise = reply.promise.promise.sign(operator().as_ref()).unwrap();
        reply.receipt.receipt.promise = reply.promise.promise.digest();
        reply.receipt = reply
            .receipt
            .receipt
            .sign(operator().as_ref(), &issuer_config().domain())
            .unwrap();
    };
    let cases: [(Mutation, ReplyFault); 9] = [
        (
            |r| r.promise.promise.channel = channel_of(hermes()),
            ReplyFault::Channel,
        ),
        (|r| r.promise.promise.chain_id = 1, ReplyFault::Chain),
        (|r| r.promise.promise.fee = units(1), ReplyFault::Fee),
        (
            |r| r.promise.promise.hashlock = crate::Hashlock(B256::ZERO),
            ReplyFault::Hashlock,
        ),
        (
            |r| r.promise.promise.amount = units(1_499),
            ReplyFault::Amount {
                amount: units(1_499),
                expected: units(1_500),
            },
        ),
        (
            |r| r.promise.promise.amount = units(1_501),
            ReplyFault::Amount {
                amount: units(1_501),
                expected: units(1_500),
            },
        ),
        (
            |r| r.receipt.receipt.increment = units(499),
            ReplyFault::ReceiptMismatch,
        ),
        (
            |r| r.receipt.receipt.total_promised = units(1_501),
            ReplyFault::ReceiptContradiction,
        ),
        (
            |r| r.receipt.receipt.sequence = 1,
            ReplyFault::ReceiptMismatch,
        ),
    ];
    for (change, expected) in cases {
        let mut bench = Bench::new();
        bench.pay(CHUNK, CHUNK);
        bench.collector.handle_usage(ID, &used(1_500), bench.now);
        bench
            .collector
            .handle_exchange(payment(1, 1_500, 1_500), bench.now);
        let request = issued(&bench.drain())[0];
        let reply = bench
            .answer(IssueRequest {
                consumer: consumer().address(),
                exchange: request,
            })
            .unwrap();
        let mut wrong = reply;
        change(&mut wrong);
        resign(&mut wrong);
        bench.collector.handle_issued(wrong, bench.now);
        assert_eq!(bench.drain(), [CollectorOutput::WrongReply(expected)]);

        let forged = [
            IssueReply {
                promise: reply.promise.promise.sign(vault_key().as_ref()).unwrap(),
                ..reply
            },
            IssueReply {
                receipt: reply
                    .receipt
                    .receipt
                    .sign(vault_key().as_ref(), &issuer_config().domain())
                    .unwrap(),
                ..reply
            },
        ];
        for forged in forged {
            bench.collector.handle_issued(forged, bench.now);
            let outputs = bench.drain();
            assert!(
                matches!(
                    outputs.as_slice(),
                    [CollectorOutput::WrongReply(
                        ReplyFault::PromiseSignature(_) | ReplyFault::ReceiptSignature(_)
                    )]
                ),
                "{outputs:?}"
            );
        }
        // Asked again after a pause, and answered rightly, it goes on.
        bench.pass(Duration::from_secs(5));
        assert_eq!(issued(&bench.drain()), [request]);
        bench.collector.handle_issued(reply, bench.now);
        assert_eq!(reveals(&bench.drain()), 1);
    }
}

fn vault_key() -> std::sync::Arc<dyn wayfare_identity::Signer> {
    signer(77)
}

#[test]
fn a_hermes_that_keeps_answering_wrongly_is_not_served_through() {
    let mut bench = Bench::new();
    bench.pay(CHUNK, CHUNK);
    bench.collector.handle_usage(ID, &used(1_500), bench.now);
    bench
        .collector
        .handle_exchange(payment(1, 1_500, 1_500), bench.now);
    for _ in 0..8 {
        let exchange = *issued(&bench.drain()).last().unwrap();
        let promise = Promise {
            amount: units(1),
            channel: bench.collector.channel,
            ..exchange.promise.promise
        };
        let promise = promise.sign(operator().as_ref()).unwrap();
        let receipt = bench.collector.pipeline.last.as_ref().unwrap().receipt;
        bench
            .collector
            .handle_issued(IssueReply { promise, receipt }, bench.now);
        bench.drain();
        bench.pass(Duration::from_secs(40));
    }
    assert_eq!(bench.reason(1_500), GateReason::HermesWrong);
    assert_eq!(reveals(&bench.said), 1, "only the first, honest one");
}

#[test]
fn a_payment_is_sent_again_after_a_restart_and_so_is_the_preimage() {
    let mut bench = Bench::new();
    bench.drain();
    bench
        .collector
        .handle_exchange(payment(1, CHUNK, CHUNK), bench.now);
    let first = issued(&bench.drain());
    let lost = bench
        .answer(IssueRequest {
            consumer: consumer().address(),
            exchange: first[0],
        })
        .unwrap();
    bench.restart();
    let again = issued(&bench.drain());
    assert_eq!(again, first);
    let request = IssueRequest {
        consumer: consumer().address(),
        exchange: again[0],
    };
    let reply = bench.answer(request).unwrap();
    assert_eq!(reply, lost);
    bench.collector.handle_issued(reply, bench.now);
    assert_eq!(reveals(&bench.drain()), 1);
    bench.restart();
    let outputs = bench.drain();
    assert_eq!(reveals(&outputs), 1);
    assert_eq!(bench.collector.promised(), units(CHUNK));
    assert_eq!(bench.collector.gate(ID, &used(100)), Gate::Open);
    assert_eq!(
        bench.collector.poll_timeout().unwrap().why,
        Why::RevealUnacknowledged
    );
    bench.pass(Duration::from_secs(3));
    assert_eq!(reveals(&bench.drain()), 1);
    bench
        .collector
        .handle_revealed(preimage(1, CHUNK).hashlock(), bench.now);
    assert_eq!(bench.collector.poll_timeout(), None);
}

#[test]
fn after_a_restart_the_payment_that_the_hermes_holds_is_found_among_those_that_wait() {
    let mut bench = Bench::new();
    bench.collector.open(terms(2), bench.now).unwrap();
    bench.drain();
    bench
        .collector
        .handle_exchange(payment(2, CHUNK, CHUNK), bench.now);
    let sent = issued(&bench.drain())[0];
    bench
        .answer(IssueRequest {
            consumer: consumer().address(),
            exchange: sent,
        })
        .unwrap();
    bench
        .collector
        .handle_exchange(payment(1, CHUNK, 2 * CHUNK), bench.now);
    bench.drain();
    bench.restart();
    // Agreement 1 comes first in order, and is told to reveal first; then agreement 2 is answered, then 1.
    bench.run();
    assert_eq!(
        bench.collector.covered(AgreementId(U256::from(2))),
        Some(units(CHUNK))
    );
    bench.pass(Duration::from_secs(1));
    bench.run();
    assert_eq!(bench.collector.covered(ID), Some(units(CHUNK)));
    assert_eq!(bench.collector.promised(), units(2 * CHUNK));
}

#[test]
fn failures_are_tried_again_later_and_final_refusals_end_the_agreement() {
    let mut bench = Bench::new();
    bench.drain();
    bench
        .collector
        .handle_exchange(payment(1, CHUNK, CHUNK), bench.now);
    let sent = issued(&bench.drain())[0];
    let hashlock = sent.promise.promise.hashlock;
    for failure in [
        IssueFailure::Unreachable,
        IssueFailure::Refused(IssueRefusal::OverDeposit),
    ] {
        bench
            .collector
            .handle_issue_failed(hashlock, failure, bench.now);
        assert_eq!(issued(&bench.drain()), []);
        assert_eq!(
            bench.collector.poll_timeout().map(|d| d.why),
            Some(Why::IssueRetry)
        );
        bench.pass(Duration::from_secs(1));
        assert_eq!(issued(&bench.drain()), [sent]);
    }
    assert_eq!(
        bench.collector.poll_timeout().unwrap().why,
        Why::IssueUnanswered
    );
    bench.pass(Duration::from_secs(11));
    assert_eq!(issued(&bench.drain()), [sent]);
    bench
        .collector
        .handle_issue_failed(hashlock, IssueRefusal::NotCovered.into(), bench.now);
    let refused = CollectorOutput::HermesRefused {
        agreement: ID,
        why: IssueRefusal::NotCovered,
    };
    assert_eq!(bench.drain(), [refused]);
    assert_eq!(
        bench.reason(0),
        GateReason::HermesRefuses(IssueRefusal::NotCovered)
    );
}

#[test]
fn a_payment_that_was_overtaken_is_dropped_without_a_grudge() {
    let mut bench = Bench::new();
    bench.drain();
    bench
        .collector
        .handle_exchange(payment(1, CHUNK, CHUNK), bench.now);
    let first = issued(&bench.drain())[0];
    bench.collector.handle_usage(ID, &used(1_500), bench.now);
    bench
        .collector
        .handle_exchange(payment(1, 1_500, 1_500), bench.now);
    bench.drain();
    // The first is put off; the second reaches the Hermes, and its answer is lost.
    let lock = first.promise.promise.hashlock;
    bench
        .collector
        .handle_issue_failed(lock, IssueRefusal::OverDeposit.into(), bench.now);
    let second = issued(&bench.drain())[0];
    let request = IssueRequest {
        consumer: consumer().address(),
        exchange: second,
    };
    bench.answer(request).unwrap();
    let lock = second.promise.promise.hashlock;
    bench
        .collector
        .handle_issue_failed(lock, IssueFailure::Unreachable, bench.now);
    bench.pass(Duration::from_secs(1));
    bench.run();
    bench.pass(Duration::from_secs(1));
    bench.run();
    assert_eq!(bench.collector.covered(ID), Some(units(1_500)));
    assert_eq!(bench.collector.gate(ID, &used(1_500)), Gate::Open);
}
