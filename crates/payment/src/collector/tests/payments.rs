//! Invoices and the payments that answer them.

use super::*;

#[test]
fn invoices_follow_usage_and_time() {
    let mut bench = Bench::new();
    assert_eq!(invoices(&bench.drain()), [CHUNK]);
    bench.pay(CHUNK, CHUNK);
    // A quarter of the allowance, a quarter of a second after the last.
    bench.pass(Duration::from_millis(250));
    bench.collector.handle_usage(ID, &used(1_249), bench.now);
    assert_eq!(invoices(&bench.drain()), []);
    bench.collector.handle_usage(ID, &used(1_250), bench.now);
    assert_eq!(invoices(&bench.drain()), [1_250]);
    // One unanswered invoice at a time, always the same bytes.
    bench.collector.handle_usage(ID, &used(1_900), bench.now);
    assert_eq!(invoices(&bench.drain()), []);
    assert_eq!(
        bench.collector.poll_timeout().unwrap().why,
        Why::InvoiceUnanswered
    );
    bench.pass(Duration::from_secs(2));
    assert_eq!(invoices(&bench.drain()), [1_250]);
    bench
        .collector
        .handle_exchange(payment(1, 1_250, 1_250), bench.now);
    assert_eq!(invoices(&bench.drain()), [1_900]);
    bench.pay(1_900, 1_900);
    // Very little, but for a long time.
    bench.collector.handle_usage(ID, &used(1_901), bench.now);
    assert_eq!(bench.collector.poll_timeout().unwrap().why, Why::InvoiceDue);
    bench.pass(Duration::from_secs(10));
    assert_eq!(invoices(&bench.drain()), [1_901]);
    // Older figures change nothing.
    bench.collector.handle_usage(ID, &used(5), bench.now);
    assert_eq!(bench.collector.usage(ID), Some(used(1_901)));
}

#[test]
fn half_the_allowance_is_asked_for_at_once_and_a_quarter_in_its_time() {
    let mut bench = Bench::new();
    bench.pay(CHUNK, CHUNK);
    bench.collector.handle_usage(ID, &used(1_499), bench.now);
    assert_eq!(invoices(&bench.drain()), []);
    let due = bench.collector.poll_timeout().unwrap();
    assert_eq!(
        (due.why, due.at),
        (Why::InvoiceDue, bench.now + Duration::from_millis(250))
    );
    bench.collector.handle_usage(ID, &used(1_500), bench.now);
    assert_eq!(invoices(&bench.drain()), [1_500]);
    bench.pay(1_500, 1_500);
    // Nothing more passes: its time comes all the same.
    bench.collector.handle_usage(ID, &used(1_750), bench.now);
    bench.pass(Duration::from_millis(249));
    assert_eq!(invoices(&bench.drain()), []);
    bench.pass(Duration::from_millis(1));
    assert_eq!(invoices(&bench.drain()), [1_750]);
}

#[test]
fn an_allowance_is_earned_up_to_what_the_provider_gives() {
    let give = |cap: u128, paid: u128| {
        let mut bench = Bench::with(CollectorConfig {
            credit_cap: units(cap),
            ..collector_config()
        });
        let (mut total, mut asked) = (0, CHUNK);
        while total < paid {
            total = asked;
            bench.pay(total, total);
            let edge = bench.collector.credit(ID).units().to::<u128>();
            assert_eq!(bench.collector.gate(ID, &used(edge as u64)), Gate::Open);
            let beyond = bench.collector.gate(ID, &used(edge as u64 + 1));
            assert!(matches!(beyond, Gate::Closed(GateReason::Unpaid { .. })));
            // Never more than an eighth of what is paid, except the first chunk.
            assert!(edge - total <= CHUNK.max(total / 8).min(CHUNK.max(cap)));
            bench
                .collector
                .handle_usage(ID, &used(edge as u64), bench.now);
            asked = edge;
        }
        bench.collector.credit(ID).units().to::<u128>() - total
    };
    assert_eq!(give(u128::MAX, 200_000), 16 * CHUNK, "as the terms say");
    assert_eq!(
        give(3 * CHUNK, 200_000),
        3 * CHUNK,
        "the provider gives less"
    );
    assert_eq!(give(0, 20_000), CHUNK, "the first chunk is given to all");
}

#[test]
fn each_check_of_a_payment_refuses_what_it_is_for() {
    use ExchangeRefusal as No;
    let mut bench = Bench::new();
    bench.pay(CHUNK, CHUNK);
    bench.collector.handle_usage(ID, &used(1_500), bench.now);
    bench.drain();
    let good = payment(1, 1_500, 1_500);
    let promise = |change: fn(&mut Promise)| {
        let mut promise = payment(1, 1_500, 1_500).promise.promise;
        change(&mut promise);
        signed_payment(consumer().as_ref(), promise, 1, 1_500)
    };
    let cases = [
        (payment(2, 1_500, 1_500), No::UnknownAgreement),
        (
            Exchange {
                provider: vault(),
                ..good
            },
            No::WrongProvider,
        ),
        (
            Exchange {
                hermes: vault(),
                ..good
            },
            No::WrongHermes,
        ),
        (promise(|p| p.chain_id = 1), No::WrongChain),
        (
            promise(|p| p.channel = channel_of(hermes())),
            No::WrongChannel,
        ),
        (promise(|p| p.fee = units(1)), No::Fee),
        (
            promise(|p| p.hashlock = crate::Hashlock(B256::ZERO)),
            No::NotInvoiced,
        ),
        (
            Exchange {
                agreement_total: units(1_499),
                ..good
            },
            No::NotInvoiced,
        ),
        (payment(1, CHUNK - 1, 1_500), No::Stale),
        (
            promise(|p| p.amount = units(1_499)),
            No::Underpaid {
                amount: units(1_499),
                least: units(1_500),
            },
        ),
    ];
    let rows = bench.rows.clone();
    for (exchange, expected) in cases {
        assert_eq!(bench.refusal(exchange), expected);
    }
    let by_another = signed_payment(provider().as_ref(), good.promise.promise, 1, 1_500);
    assert!(matches!(bench.refusal(by_another), No::Signature(_)));
    let other_statement = Exchange {
        signature: payment(1, 1_501, 1_500).signature,
        ..good
    };
    assert!(matches!(bench.refusal(other_statement), No::Signature(_)));
    assert_eq!(bench.rows, rows, "a refusal leaves no trace");
    bench.pay(1_500, 1_500);
    assert_eq!(bench.collector.covered(ID), Some(units(1_500)));
    bench.collector.handle_exchange(good, bench.now);
    assert_eq!(bench.drain(), [], "a repetition is dropped");
}

#[test]
fn between_two_payments_others_may_be_paid_on_the_same_channel() {
    let mut bench = Bench::new();
    bench.pay(CHUNK, 7 * CHUNK);
    bench.collector.handle_usage(ID, &used(1_500), bench.now);
    bench.pay(1_500, 9 * CHUNK);
    assert_eq!(bench.collector.promised(), units(1_500));
}

#[test]
fn a_later_payment_replaces_one_that_waits_but_never_one_that_was_sent() {
    let mut bench = Bench::new();
    bench.drain();
    bench
        .collector
        .handle_exchange(payment(1, CHUNK, CHUNK), bench.now);
    let sent = issued(&bench.drain())[0];
    for total in [1_400, 1_800] {
        bench.collector.handle_usage(ID, &used(total), bench.now);
        bench.drain();
        bench
            .collector
            .handle_exchange(payment(1, total.into(), total.into()), bench.now);
        bench.drain();
    }
    let waiting: Vec<Exchange> = bench.collector.earnings[&ID]
        .pending
        .iter()
        .map(|p| p.exchange)
        .collect();
    assert_eq!(waiting, [sent, payment(1, 1_800, 1_800)]);
    let reply = bench
        .answer(IssueRequest {
            consumer: consumer().address(),
            exchange: sent,
        })
        .unwrap();
    bench.collector.handle_issued(reply, bench.now);
    bench.run();
    assert_eq!(bench.collector.covered(ID), Some(units(1_800)));
    assert_eq!(bench.collector.promised(), units(1_800));
}

#[test]
fn an_ended_agreement_is_paid_off_or_given_up() {
    let mut bench = Bench::new();
    bench.pay(CHUNK, CHUNK);
    bench.collector.close(ID, &used(1_100), bench.now);
    assert_eq!(invoices(&bench.drain()), [1_100]);
    bench.pay(1_100, 1_100);
    bench.pass(Duration::ZERO);
    bench.drain();
    let ended = CollectorOutput::Ended {
        agreement: ID,
        covered: units(1_100),
        unpaid: units(0),
    };
    assert_eq!(bench.said.last(), Some(&ended));
    assert_eq!(bench.rows.of(&[Table::CollectorAgreement]), []);

    let mut bench = Bench::new();
    bench.pay(CHUNK, CHUNK);
    bench.collector.close(ID, &used(1_100), bench.now);
    bench.pass(Duration::from_secs(29));
    bench.drain();
    assert!(bench.collector.covered(ID).is_some());
    bench.pass(Duration::from_secs(1));
    let ended = CollectorOutput::Ended {
        agreement: ID,
        covered: units(CHUNK),
        unpaid: units(100),
    };
    assert_eq!(bench.drain().last(), Some(&ended));
    assert_eq!(
        bench.collector.promised(),
        units(CHUNK),
        "what was earned stays"
    );
    assert_eq!(bench.collector.poll_timeout(), None);
}

#[test]
fn consumers_without_a_deposit_cannot_fill_the_table() {
    let mut bench = Bench::new();
    bench.drain();
    bench
        .collector
        .handle_exchange(payment(1, CHUNK, CHUNK), bench.now);
    let hashlock = issued(&bench.drain())[0].promise.promise.hashlock;
    bench.collector.close(ID, &used(0), bench.now);
    for _ in 0..8 {
        bench
            .collector
            .handle_issue_failed(hashlock, IssueRefusal::OverDeposit.into(), bench.now);
        assert!(bench.collector.covered(ID).is_some());
        bench.pass(Duration::from_secs(31));
        bench.drain();
    }
    bench
        .collector
        .handle_issue_failed(hashlock, IssueRefusal::OverDeposit.into(), bench.now);
    bench.pass(Duration::from_secs(31));
    bench.drain();
    bench
        .collector
        .handle_issue_failed(hashlock, IssueRefusal::OverDeposit.into(), bench.now);
    bench.pass(Duration::ZERO);
    bench.drain();
    assert_eq!(bench.collector.covered(ID), None);
}
