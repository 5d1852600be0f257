//! When the settler settles, and what it believes.
#![allow(clippy::unwrap_used)]

use wayfare_identity::B256;

use super::*;
use crate::fixture::*;

const HOUR: Duration = Duration::from_secs(3600);

fn policy() -> SettlePolicy {
    SettlePolicy {
        enabled: true,
        threshold: units(1_000),
        max_age: HOUR,
        beneficiary: vault(),
    }
}

fn channel() -> ChannelId {
    ChannelId::of_provider(provider().address(), hermes())
}

fn material(amount: u128) -> SettleMaterial {
    let promise = crate::Promise {
        channel: channel(),
        ..payment(1, amount, amount).promise.promise
    };
    let promise = promise.sign(operator().as_ref()).unwrap();
    SettleMaterial {
        hermes: hermes(),
        promise,
        preimage: preimage(1, amount),
        urgent: false,
    }
}

fn settled(total: u128) -> Settled {
    Settled {
        transaction: Some(B256::repeat_byte(7)),
        total: units(total),
        gas: 50_000,
    }
}

struct Bench {
    settler: Settler,
    rows: Rows,
    now: Instant,
}

impl Bench {
    fn new(policy: SettlePolicy) -> Self {
        Self {
            settler: Settler::new(policy, channel()),
            rows: Rows::default(),
            now: start(),
        }
    }

    fn drain(&mut self) -> Vec<SettlerOutput> {
        let mut rest = Vec::new();
        while let Some(output) = self.settler.poll_output() {
            match output {
                SettlerOutput::Persist { ticket, batch } => {
                    self.rows.commit(batch);
                    self.settler.handle_durable(ticket, self.now);
                }
                other => rest.push(other),
            }
        }
        rest
    }

    /// The amounts submitted since the last call; anything else is a failure.
    fn submitted(&mut self) -> Vec<u128> {
        let amount = |output| match output {
            SettlerOutput::Submit(order) => order.promise.promise.amount.units().to::<u128>(),
            other => panic!("{other:?}"),
        };
        self.drain().into_iter().map(amount).collect()
    }

    fn material(&mut self, amount: u128) {
        self.settler.handle_material(material(amount), self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.settler.handle_timeout(self.now);
    }
}

#[test]
fn it_settles_at_the_threshold_one_at_a_time_and_only_after_writing_it_down() {
    let mut bench = Bench::new(policy());
    bench.material(999);
    assert_eq!(bench.drain(), []);
    bench.material(1_000);
    let Some(SettlerOutput::Persist { ticket, batch }) = bench.settler.poll_output() else {
        panic!("not persisted")
    };
    assert_eq!(bench.settler.poll_output(), None);
    bench.rows.commit(batch);
    bench.settler.handle_durable(ticket, bench.now);
    assert_eq!(bench.submitted(), [1_000]);
    bench.material(2_500);
    bench.material(700);
    assert_eq!(bench.drain(), [], "one under way");
    bench.settler.handle_outcome(Ok(settled(1_000)), bench.now);
    let outputs = bench.drain();
    assert_eq!(
        outputs[0],
        SettlerOutput::Done {
            channel: channel(),
            total: units(1_000),
            settled: Some(settled(1_000))
        }
    );
    assert!(
        matches!(outputs[1], SettlerOutput::Submit(order) if order.promise.promise.amount == units(2_500))
    );
}

#[test]
fn it_settles_by_age_by_urgency_and_by_hand_but_not_when_switched_off() {
    let mut bench = Bench::new(policy());
    bench.material(5);
    assert_eq!(
        bench.settler.poll_timeout(),
        Some(Deadline {
            at: bench.now + HOUR,
            why: Why::SettleByAge
        })
    );
    bench.pass(HOUR);
    assert_eq!(bench.submitted(), [5]);

    let mut bench = Bench::new(policy());
    bench.settler.handle_material(
        SettleMaterial {
            urgent: true,
            ..material(5)
        },
        bench.now,
    );
    assert_eq!(bench.submitted(), [5]);

    let mut bench = Bench::new(SettlePolicy {
        enabled: false,
        ..policy()
    });
    bench.settler.handle_material(
        SettleMaterial {
            urgent: true,
            ..material(5_000)
        },
        bench.now,
    );
    bench.pass(HOUR * 10);
    assert_eq!(
        (bench.drain(), bench.settler.poll_timeout()),
        (vec![], None)
    );
    bench.settler.settle_now(bench.now);
    assert_eq!(bench.submitted(), [5_000]);
}

#[test]
fn an_error_is_believed_only_after_reading_the_chain() {
    let mut bench = Bench::new(policy());
    bench.material(1_000);
    bench.submitted();
    let error = ChainError::Refused("somebody was faster".into());
    bench.settler.handle_outcome(Err(error.clone()), bench.now);
    assert_eq!(bench.drain(), [SettlerOutput::ReadChain]);
    bench.settler.handle_chain(units(1_000), bench.now);
    assert_eq!(
        bench.drain(),
        [SettlerOutput::Done {
            channel: channel(),
            total: units(1_000),
            settled: None
        }],
        "settled by another"
    );
    assert_eq!(bench.settler.poll_timeout(), None);

    bench.material(2_500);
    bench.submitted();
    bench.settler.handle_outcome(Err(error), bench.now);
    bench.drain();
    bench.settler.handle_chain(units(1_000), bench.now);
    assert!(matches!(
        bench.drain().as_slice(),
        [SettlerOutput::Delayed { .. }]
    ));
    assert_eq!(bench.settler.poll_timeout().unwrap().why, Why::SettleRetry);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.submitted(), [2_500]);
}

#[test]
fn silence_is_a_doubt_too() {
    let mut bench = Bench::new(policy());
    bench.material(1_000);
    bench.submitted();
    bench.pass(UNANSWERED);
    assert_eq!(bench.drain(), [SettlerOutput::ReadChain]);
    bench.pass(UNANSWERED);
    assert_eq!(bench.drain(), [SettlerOutput::ReadChain]);
    bench.settler.handle_outcome(Ok(settled(1_000)), bench.now);
    assert!(
        matches!(bench.drain().as_slice(), [SettlerOutput::Done { .. }]),
        "a late confirmation counts"
    );
}

#[test]
fn after_a_restart_the_chain_is_read_before_anything_is_sent() {
    let mut bench = Bench::new(policy());
    bench.material(1_000);
    assert_eq!(bench.submitted(), [1_000]);
    for (chain, expect_submit) in [(1_000, false), (0, true)] {
        let rows = bench.rows.of(Settler::TABLES);
        let mut again = Bench {
            settler: Settler::restore(policy(), channel(), rows, bench.now).unwrap(),
            ..Bench::new(policy())
        };
        again.material(1_000);
        assert_eq!(again.drain(), [SettlerOutput::ReadChain]);
        again.settler.handle_chain(units(chain), again.now);
        again.drain();
        again.pass(Duration::from_secs(2));
        assert_eq!(again.submitted().len(), usize::from(expect_submit));
    }
}

#[test]
fn what_a_hermes_cannot_pay_now_is_settled_later_with_the_same_promise() {
    let mut bench = Bench::new(policy());
    bench.material(3_000);
    bench.submitted();
    bench.settler.handle_outcome(Ok(settled(1_200)), bench.now);
    assert!(
        matches!(bench.drain().as_slice(), [SettlerOutput::Done { total, .. }] if *total == units(1_200))
    );
    assert_eq!(bench.settler.unsettled(), units(1_800));
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.submitted(), [3_000]);
    bench.settler.handle_outcome(Ok(settled(3_000)), bench.now);
    bench.drain();
    assert_eq!(
        (bench.settler.unsettled(), bench.settler.settled()),
        (units(0), units(3_000))
    );
}

#[test]
fn a_reorganised_chain_is_settled_on_again() {
    let mut bench = Bench::new(policy());
    bench.material(1_000);
    bench.submitted();
    bench.settler.handle_outcome(Ok(settled(1_000)), bench.now);
    bench.drain();
    bench.settler.handle_chain(units(0), bench.now);
    let outputs = bench.drain();
    assert!(
        matches!(&outputs[0], SettlerOutput::Delayed { wanted, total, why }
            if *wanted == units(1_000) && total.is_zero() && why.contains("reorganisation"))
    );
    assert!(
        matches!(outputs[1], SettlerOutput::Submit(order) if order.promise.promise.amount == units(1_000))
    );
}

#[test]
fn what_a_reorganisation_reopened_stays_open_over_a_restart_and_below_the_threshold() {
    let mut bench = Bench::new(policy());
    bench.material(1_000);
    bench.submitted();
    bench.settler.handle_outcome(Ok(settled(1_000)), bench.now);
    bench.drain();
    let rows = bench.rows.of(Settler::TABLES);
    // Its ledger says done; the chain, read at the start, says otherwise.
    let mut again = Bench {
        settler: Settler::restore(policy(), channel(), rows, bench.now).unwrap(),
        rows: bench.rows.clone(),
        now: bench.now,
    };
    assert_eq!(again.settler.settled(), units(1_000));
    again.settler.handle_chain(units(400), again.now);
    let Some(SettlerOutput::Persist { batch, .. }) = again.settler.poll_output() else {
        panic!("not written down");
    };
    // The power fails right after that write.
    again.rows.commit(batch);
    let rows = again.rows.of(Settler::TABLES);
    let mut third = Bench {
        settler: Settler::restore(policy(), channel(), rows, bench.now).unwrap(),
        rows: again.rows,
        now: bench.now,
    };
    assert_eq!(third.drain(), [SettlerOutput::ReadChain]);
    assert_eq!(
        third.settler.settled(),
        Amount::ZERO,
        "nothing is called done"
    );
    third.settler.handle_chain(units(400), third.now);
    third.drain();
    third.pass(HOUR);
    assert_eq!(third.submitted(), [1_000]);

    // In one life 600, which is below the threshold, is settled again at once: it had been decided.
    let mut bench = Bench::new(policy());
    bench.material(1_000);
    bench.submitted();
    bench.settler.handle_outcome(Ok(settled(1_000)), bench.now);
    bench.drain();
    bench.settler.handle_chain(units(400), bench.now);
    let outputs = bench.drain();
    assert!(matches!(outputs.last(), Some(SettlerOutput::Submit(_))));
    assert!(bench.settler.settled() == units(400));
}

#[test]
fn no_more_than_was_promised_is_believed_settled() {
    let mut bench = Bench::new(policy());
    bench.material(1_000);
    bench.submitted();
    bench.settler.handle_chain(Amount::MAX, bench.now);
    assert_eq!(bench.settler.settled(), units(1_000));
    bench.material(5_000);
    assert_eq!(
        bench.settler.unsettled(),
        units(4_000),
        "the lie hides nothing"
    );
}

#[test]
fn a_foreign_channel_and_a_failed_write_settle_nothing() {
    let mut bench = Bench::new(policy());
    let foreign = SettleMaterial {
        promise: payment(1, 5_000, 5_000).promise,
        ..material(5_000)
    };
    bench.settler.handle_material(foreign, bench.now);
    assert_eq!(bench.drain(), []);
    bench.material(1_000);
    let Some(SettlerOutput::Persist { ticket, .. }) = bench.settler.poll_output() else {
        panic!("not persisted")
    };
    bench.settler.handle_failed(ticket);
    bench.settler.handle_durable(ticket, bench.now);
    bench.pass(HOUR);
    assert_eq!(
        (bench.drain(), bench.settler.poll_timeout()),
        (vec![], None)
    );
}
