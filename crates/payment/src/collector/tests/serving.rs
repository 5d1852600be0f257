//! Whom the collector serves, and when the gate is closed.

use super::*;

#[test]
fn the_first_chunk_is_asked_for_once_the_hermes_is_known_and_served_once_it_is_covered() {
    let mut collector = Collector::new(collector_config());
    let now = start();
    collector.open(terms(1), now).unwrap();
    assert_eq!(collector.poll_output(), None);
    assert_eq!(
        collector.gate(ID, &used(0)),
        Gate::Closed(GateReason::FirstPayment)
    );
    collector.handle_hermes(hermes_account(), now);
    let hashlock = preimage(1, CHUNK).hashlock();
    let invoice = Invoice {
        agreement: ID,
        total: units(CHUNK),
        hashlock,
    };
    assert_eq!(
        collector.poll_output(),
        Some(CollectorOutput::Invoice(invoice))
    );

    let mut bench = Bench::new();
    bench.pay(CHUNK, CHUNK);
    assert_eq!(bench.collector.gate(ID, &used(0)), Gate::Open);
    assert_eq!(bench.collector.promised(), units(CHUNK));
    assert_eq!(bench.collector.covered(ID), Some(units(CHUNK)));
}

#[test]
fn a_welcome_is_used_before_the_first_payment_and_counts_towards_it() {
    let mut bench = Bench::new();
    bench.collector.welcome(ID, units(10));
    assert_eq!(bench.collector.gate(ID, &used(10)), Gate::Open);
    assert_eq!(bench.collector.credit(ID), units(10));
    assert_eq!(bench.reason(11), GateReason::FirstPayment);
    bench.pay(CHUNK, CHUNK);
    // The chunk that was paid, and one on trust: what was used before is within it.
    assert_eq!(bench.collector.credit(ID), units(2 * CHUNK));
    let unpaid = GateReason::Unpaid {
        exposure: units(CHUNK + 1),
        allowance: units(CHUNK),
    };
    assert_eq!(bench.reason(2 * CHUNK as u64 + 1), unpaid);

    // No welcome is more than the first chunk, nor gets past what speaks against the Hermes.
    let mut bench = Bench::new();
    bench.collector.welcome(ID, Amount::MAX);
    assert_eq!(bench.collector.credit(ID), units(CHUNK));
    let mut leaving = hermes_account();
    leaving.leaving = true;
    bench.collector.handle_hermes(leaving, bench.now);
    assert_eq!(bench.reason(1), GateReason::HermesLeaving);
    assert_eq!(bench.collector.credit(ID), Amount::ZERO);
}

#[test]
fn the_gate_says_why_it_is_closed() {
    let mut bench = Bench::new();
    assert_eq!(bench.reason(0), GateReason::FirstPayment);
    let unknown = AgreementId(U256::from(9));
    assert_eq!(
        bench.collector.gate(unknown, &used(0)),
        Gate::Closed(GateReason::UnknownAgreement)
    );
    bench.pay(CHUNK, CHUNK);
    assert_eq!(
        bench.collector.gate(ID, &used(2 * CHUNK as u64)),
        Gate::Open
    );
    assert_eq!(bench.collector.credit(ID), units(2 * CHUNK));
    let unpaid = GateReason::Unpaid {
        exposure: units(CHUNK + 1),
        allowance: units(CHUNK),
    };
    assert_eq!(bench.reason(2 * CHUNK as u64 + 1), unpaid);

    let mut hermes = |change: fn(&mut HermesAccount)| {
        let mut account = hermes_account();
        change(&mut account);
        bench.collector.handle_hermes(account, bench.now);
        bench.collector.gate(ID, &used(1_000))
    };
    assert_eq!(
        hermes(|h| h.leaving = true),
        Gate::Closed(GateReason::HermesLeaving)
    );
    assert_eq!(
        hermes(|h| h.fee_basis_points = 201),
        Gate::Closed(GateReason::HermesFee {
            found: 201,
            cap: 200
        })
    );
    let short = GateReason::HermesLimit {
        owed: units(CHUNK),
        limit: units(CHUNK - 1),
    };
    assert_eq!(
        hermes(|h| h.collateral = units(CHUNK - 1)),
        Gate::Closed(short)
    );
    assert_eq!(hermes(|_| ()), Gate::Open);
    bench.collector.close(ID, &used(1_500), bench.now);
    assert_eq!(bench.reason(1_500), GateReason::Ended);
}

#[test]
fn what_the_hermes_owes_stays_within_what_it_can_be_seen_to_have() {
    let mut bench = Bench::with(CollectorConfig {
        own_cap: units(100),
        ..collector_config()
    });
    let account = HermesAccount {
        collateral: units(1_000),
        free: units(300),
        ..hermes_account()
    };
    bench.collector.handle_hermes(account, bench.now);
    bench.pay(CHUNK, CHUNK);
    bench.collector.handle_usage(ID, &used(1_400), bench.now);
    assert_eq!(bench.collector.gate(ID, &used(1_400)), Gate::Open);
    assert!(matches!(
        bench.reason(1_401),
        GateReason::HermesLimit { .. }
    ));
    bench.pay(1_400, 1_400);
    let urged = |o: &CollectorOutput| {
        matches!(
            o,
            CollectorOutput::Settleable(SettleMaterial { urgent: true, .. })
        )
    };
    assert!(bench.said.iter().any(urged));
    bench.collector.handle_settled(units(1_400), bench.now);
    assert_eq!(bench.collector.gate(ID, &used(1_401)), Gate::Open);
    // A new session is not even invoiced where there is no room for its first chunk.
    bench.collector.handle_settled(units(900), bench.now);
    bench.drain();
    bench.collector.open(terms(2), bench.now).unwrap();
    assert_eq!(invoices(&bench.drain()), []);
    bench.collector.handle_settled(units(1_400), bench.now);
    assert_eq!(invoices(&bench.drain()), [CHUNK]);
}

type Change = fn(&mut crate::Agreement);

#[test]
fn only_our_own_signed_agreements_are_served() {
    let mut collector = Collector::new(collector_config());
    let now = start();
    let cases: [(Change, AdmissionRefusal); 5] = [
        (
            |a| a.provider = vault(),
            AdmissionRefusal::NotOurs("provider"),
        ),
        (|a| a.hermes = vault(), AdmissionRefusal::NotOurs("Hermes")),
        (|a| a.chain_id = 1, AdmissionRefusal::NotOurs("chain")),
        (|a| a.vault = hermes(), AdmissionRefusal::NotOurs("vault")),
        (|a| a.chunk = units(0), AdmissionRefusal::NoChunk),
    ];
    for (change, expected) in cases {
        let mut changed = agreement(1);
        change(&mut changed);
        let signed = sign(changed, consumer().as_ref(), provider().as_ref());
        assert_eq!(collector.open(signed, now), Err(expected));
    }
    let forged = sign(agreement(1), provider().as_ref(), provider().as_ref());
    assert!(matches!(
        collector.open(forged, now),
        Err(AdmissionRefusal::Signature(_))
    ));
    collector.open(terms(1), now).unwrap();
    let dearer = sign(
        crate::Agreement {
            chunk: units(1),
            ..agreement(1)
        },
        consumer().as_ref(),
        provider().as_ref(),
    );
    assert_eq!(collector.open(dearer, now), Err(AdmissionRefusal::IdTaken));
}

#[test]
fn after_a_failed_write_nothing_is_said_or_served() {
    let mut bench = Bench::new();
    bench.drain();
    bench
        .collector
        .handle_exchange(payment(1, CHUNK, CHUNK), bench.now);
    let Some(CollectorOutput::Persist { ticket, .. }) = bench.collector.poll_output() else {
        panic!("not persisted")
    };
    bench.collector.handle_failed(ticket);
    bench.collector.handle_durable(ticket, bench.now);
    bench.pass(Duration::from_secs(100));
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.reason(0), GateReason::Stopped);
    assert_eq!(
        bench.refusal(payment(1, CHUNK, CHUNK)),
        ExchangeRefusal::Stopped
    );
}

#[test]
fn a_damaged_record_is_named() {
    let key = vec![1, 2];
    let rows = [(Table::CollectorChannel, (key, vec![1, 2, 3]))];
    let error = Collector::restore(collector_config(), rows, start()).unwrap_err();
    assert_eq!(
        (error.table, error.key.as_str()),
        (Table::CollectorChannel, "0102")
    );
    let promise = payment(1, 1, 1).promise;
    let receipt = crate::Receipt {
        hermes: hermes(),
        sequence: 1,
        previous: B256::ZERO,
        channel: promise.promise.channel,
        promise: B256::ZERO,
        increment: units(1),
        total_promised: units(1),
    };
    let receipt: SignedReceipt = receipt
        .sign(operator().as_ref(), &issuer_config().domain())
        .unwrap();
    let promise: SignedPromise = promise;
    let foreign = CollectorChannelRecord {
        provider: vault(),
        hermes: hermes(),
        agreement: ID,
        agreement_total: units(1),
        promise,
        receipt,
    };
    let rows = [(Table::CollectorChannel, (vec![1], encode(&foreign)))];
    let collector = Collector::restore(collector_config(), rows, start()).unwrap();
    assert_eq!(
        collector.promised(),
        units(0),
        "another provider's record in the same ledger is not ours"
    );
}

#[test]
fn headroom_is_what_the_hermes_gate_has_left() {
    let mut bench = Bench::new();
    assert_eq!(bench.collector.headroom(), units(1_000_000 - CHUNK));
    bench.pay(CHUNK, CHUNK);
    let limit = |bench: &mut Bench, limit: u128| {
        let account = HermesAccount {
            collateral: units(limit),
            ..hermes_account()
        };
        bench.collector.handle_hermes(account, bench.now);
        bench.collector.headroom()
    };
    // A chunk is promised, nothing else is owed yet; another agreement asks for its first chunk.
    assert_eq!(limit(&mut bench, 4 * CHUNK), units(3 * CHUNK));
    bench.collector.open(terms(2), bench.now).unwrap();
    assert_eq!(bench.collector.headroom(), units(2 * CHUNK));
    let room = limit(&mut bench, 2 * CHUNK + 100);
    assert_eq!(room, units(100));
    let edge = CHUNK as u64 + 100;
    assert_eq!(bench.collector.gate(ID, &used(edge)), Gate::Open);
    assert!(matches!(
        bench.reason(edge + 1),
        GateReason::HermesLimit { .. }
    ));
    // What is told is used up here too.
    bench
        .collector
        .handle_usage(ID, &used(edge - 40), bench.now);
    assert_eq!(bench.collector.headroom(), units(40));
    assert_eq!(limit(&mut bench, 1), Amount::ZERO);
    let leaving = HermesAccount {
        leaving: true,
        ..hermes_account()
    };
    bench.collector.handle_hermes(leaving, bench.now);
    assert_eq!(bench.collector.headroom(), Amount::ZERO);
}
