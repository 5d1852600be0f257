//! The outbox on a chain that mines, forgets, forks, and has another program with the same key.
#![allow(clippy::unwrap_used)]

mod net;
mod random;

use std::time::Duration;

use net::{Bench, config};

use super::*;
use crate::Amount;
use crate::fixture::units;

const MINUTE: Duration = Duration::from_secs(60);

fn settle(amount: u128) -> Purpose {
    Purpose::Settle {
        channel: crate::ChannelId(B256::repeat_byte(7)),
        amount: units(amount),
        before: Amount::ZERO,
    }
}

fn state(bench: &Bench, id: JobId) -> JobState {
    bench.outbox.job(id).unwrap().state.clone()
}

fn waiting(bench: &Bench, id: JobId) -> String {
    bench
        .outbox
        .job(id)
        .unwrap()
        .waiting
        .clone()
        .unwrap_or_default()
}

fn confirmed(bench: &Bench, id: JobId) -> bool {
    matches!(state(bench, id), JobState::Confirmed { .. })
}

#[test]
fn a_job_is_durable_before_it_leaves_and_done_when_a_block_says_so() {
    let mut bench = Bench::new(OutboxConfig {
        confirmations: 3,
        ..config()
    });
    let id = bench.enqueue(Purpose::Call, 1);
    bench.run();
    assert_eq!(state(&bench, id), JobState::Sent);
    assert_eq!(bench.net.pool.len(), 1);
    bench.mine(1);
    assert!(matches!(state(&bench, id), JobState::Mined(_)));
    assert_eq!(waiting(&bench, id), "in block 1, 1 of 3 deep");
    bench.mine(2);
    let JobState::Confirmed { mined, depth } = state(&bench, id) else {
        panic!("{:?}", state(&bench, id));
    };
    assert_eq!((mined.block.number, depth), (1, 3));
    assert!(!bench.outbox.job(id).unwrap().last);
    bench.mine(20);
    bench.pass(MINUTE);
    let job = bench.outbox.job(id).unwrap();
    assert!(job.last && job.envelopes[0].raw.is_empty());
    assert_eq!(
        bench.outbox.poll_timeout(),
        None,
        "nothing is left to watch"
    );
}

#[test]
fn what_was_signed_before_a_crash_is_sent_again_to_the_byte() {
    // Cut after each number of commits; the bytes that left before and after must be the same.
    for commits in 0..4 {
        let mut bench = Bench::new(config());
        bench.cut_after = Some(commits);
        let id = bench.enqueue(settle(5), 1);
        bench.run();
        let before = bench.net.heard.clone();
        bench.cut_after = None;
        bench.net.forget();
        bench.restart();
        if bench.outbox.job(id).is_none() {
            assert!(before.is_empty(), "something left before it was written");
            assert_eq!(bench.enqueue(settle(5), 1), id);
        }
        bench.run();
        bench.mine(1);
        assert!(confirmed(&bench, id), "{commits}: {:?}", state(&bench, id));
        let mut all = bench.net.heard.clone();
        all.dedup();
        assert_eq!(all.len(), 1, "{commits}: two transactions for one job");
        assert_eq!(bench.net.nonce(), 1);
    }
}

#[test]
fn two_jobs_at_once_take_two_nonces_and_asking_twice_is_one_job() {
    let mut bench = Bench::new(config());
    let one = bench.enqueue(settle(5), 1);
    let two = bench.enqueue(Purpose::Call, 2);
    let again = bench.enqueue(settle(5), 1);
    assert_eq!(one, again);
    bench.run();
    bench.mine(1);
    assert!(confirmed(&bench, one) && confirmed(&bench, two));
    assert_eq!(bench.net.nonce(), 2);
}

#[test]
fn an_unsigned_settlement_gives_way_to_a_larger_one_of_its_channel() {
    let mut bench = Bench::new(OutboxConfig {
        fee_cap: Some(1),
        ..config()
    });
    let small = bench.enqueue(settle(5), 1);
    bench.run();
    let large = bench.enqueue(settle(6), 2);
    bench.run();
    assert!(matches!(
        state(&bench, small),
        JobState::Failed(Failure::Withdrawn(_))
    ));
    assert_eq!(state(&bench, large), JobState::Queued);
}

#[test]
fn a_stuck_transaction_is_replaced_by_an_eighth_more_until_it_is_mined() {
    let mut bench = Bench::new(config());
    let id = bench.enqueue(Purpose::Call, 1);
    bench.run();
    bench.net.base = 10_000;
    bench.mine(1);
    assert_eq!(state(&bench, id), JobState::Sent);
    bench.pass(MINUTE);
    let job = bench.outbox.job(id).unwrap();
    assert_eq!(job.envelopes.len(), 2);
    let (old, new) = (job.envelopes[0].fees, job.envelopes[1].fees);
    assert!(new.most * 8 >= old.most * 9 && new.tip * 8 >= old.tip * 9);
    assert_eq!(job.envelopes[0].nonce, job.envelopes[1].nonce);
    bench.mine(1);
    assert!(confirmed(&bench, id));
    assert_eq!(bench.outbox.job(id).unwrap().replaced(), 1);
}

#[test]
fn gas_above_the_cap_is_waited_out_and_said() {
    let mut bench = Bench::new(OutboxConfig {
        fee_cap: Some(5_000),
        ..config()
    });
    let sent = bench.enqueue(Purpose::Call, 1);
    bench.run();
    bench.net.base = 20_000;
    let queued = bench.enqueue(Purpose::Call, 2);
    bench.pass(MINUTE);
    bench.pass(MINUTE);
    assert_eq!(state(&bench, sent), JobState::Sent);
    assert_eq!(state(&bench, queued), JobState::Queued);
    for id in [sent, queued] {
        assert!(
            waiting(&bench, id).contains("the cap is 5000"),
            "{:?}",
            waiting(&bench, id)
        );
    }
    bench.net.base = 100;
    bench.pass(MINUTE);
    bench.mine(2);
    assert!(confirmed(&bench, sent) && confirmed(&bench, queued));
    assert_eq!(waiting(&bench, sent), "");
}

#[test]
fn a_server_that_forgets_is_told_again() {
    let mut bench = Bench::new(config());
    let id = bench.enqueue(Purpose::Call, 1);
    bench.run();
    bench.net.forget();
    bench.pass(MINUTE / 2);
    assert_eq!(bench.net.heard[0], bench.net.heard[1]);
    bench.mine(1);
    assert!(confirmed(&bench, id));
}

#[test]
fn a_reorganisation_of_twelve_blocks_takes_back_what_was_confirmed() {
    for keep in [true, false] {
        let mut bench = Bench::new(config());
        let id = bench.enqueue(Purpose::Call, 1);
        bench.run();
        bench.mine(12);
        assert!(confirmed(&bench, id));
        bench.net.reorganise(12, keep);
        bench.pass(config().recheck);
        assert_eq!(state(&bench, id), JobState::Sent);
        assert_eq!(bench.outbox.job(id).unwrap().reorganised, 1);
        bench.mine(1);
        assert!(confirmed(&bench, id));
        let job = bench.outbox.job(id).unwrap();
        assert_eq!((job.reorganised, bench.net.nonce()), (1, 1));
        assert_eq!(job.mined().unwrap().block.number, 14);
    }
}

#[test]
fn a_nonce_that_another_program_used_is_given_up_and_the_job_is_not() {
    let mut bench = Bench::new(config());
    let id = bench.enqueue(Purpose::Call, 1);
    bench.run();
    bench.net.stranger();
    bench.mine(1);
    // Not at once: a server may count before it shows.
    assert_eq!(state(&bench, id), JobState::Sent);
    bench.pass(config().patience);
    bench.run();
    bench.mine(1);
    assert!(confirmed(&bench, id), "{:?}", bench.outbox.job(id));
    assert_eq!(bench.net.executions(id), 1);
    assert_eq!(bench.net.nonce(), 2);
}

#[test]
fn a_job_given_up_and_mined_after_all_is_done_once() {
    let mut bench = Bench::new(config());
    let id = bench.enqueue(Purpose::Call, 1);
    bench.run();
    let first = bench.net.pool[&0];
    bench.net.stranger();
    bench.mine(1);
    bench.pass(config().patience);
    assert_eq!(bench.outbox.job(id).unwrap().nonce, Some(1));
    // The stranger's block goes, and somebody had kept our first transaction.
    bench.net.reorganise(1, false);
    bench.net.pool.insert(0, first);
    bench.net.held_back.insert(1);
    bench.mine(1);
    assert!(confirmed(&bench, id));
    bench.net.held_back.clear();
    bench.pass(MINUTE);
    bench.mine(1);
    assert_eq!(bench.net.executions(id), 1, "done twice");
    assert_eq!(bench.net.nonce(), 2, "the second nonce is used by nothing");
}

#[test]
fn a_pointless_job_is_withdrawn_and_its_nonce_used_up() {
    let mut bench = Bench::new(config());
    let id = bench.enqueue(settle(5), 1);
    let behind = bench.enqueue(Purpose::Call, 2);
    bench.run();
    bench
        .outbox
        .handle_moot(id, Moot::SettledByAnother, bench.now);
    bench.run();
    assert_eq!(state(&bench, id), JobState::Sent, "it may still be mined");
    bench.mine(1);
    assert_eq!(state(&bench, id), JobState::SettledByAnother);
    assert!(confirmed(&bench, behind));
    assert_eq!(bench.net.executions(id), 0);
    assert!(
        bench.outbox.job(id).unwrap().mined().is_some(),
        "it cost gas"
    );
}

#[test]
fn refusals_end_a_job_and_silence_does_not() {
    let mut bench = Bench::new(config());
    bench.net.estimate = Err(EstimateFault::Refused("nothing is owed".into()));
    let refused = bench.enqueue(settle(5), 1);
    bench.run();
    assert_eq!(
        state(&bench, refused),
        JobState::Failed(Failure::Refused("nothing is owed".into()))
    );
    bench
        .outbox
        .handle_moot(refused, Moot::SettledByAnother, bench.now);
    assert_eq!(state(&bench, refused), JobState::SettledByAnother);

    bench.net.estimate = Ok(50_000);
    bench.net.poor = true;
    let poor = bench.enqueue(Purpose::Call, 2);
    bench.run();
    assert_eq!(state(&bench, poor), JobState::Failed(Failure::NoGas));
    bench.net.poor = false;

    bench.net.silent = true;
    let unheard = bench.enqueue(Purpose::Call, 3);
    bench.pass(MINUTE);
    assert_eq!(state(&bench, unheard), JobState::Queued);
    assert_eq!(waiting(&bench, unheard), "nobody answers");
    bench.net.silent = false;
    bench.pass(MINUTE);
    bench.mine(1);
    assert!(confirmed(&bench, unheard));
    assert_eq!(
        bench.net.nonce(),
        1,
        "the refused nonce was given out again"
    );
}

#[test]
fn the_same_again_after_a_refusal_is_one_transaction_of_the_second() {
    let mut bench = Bench::new(config());
    bench.net.poor = true;
    let first = bench.enqueue(Purpose::Transfer, 1);
    bench.run();
    bench.net.poor = false;
    let second = bench.enqueue(Purpose::Transfer, 1);
    bench.run();
    bench.mine(1);
    assert!(confirmed(&bench, second));
    assert_eq!(state(&bench, first), JobState::Failed(Failure::NoGas));
    assert!(bench.outbox.job(first).unwrap().last);
}

#[test]
fn a_reverted_transaction_is_a_failure_with_its_reason_and_its_cost() {
    let mut bench = Bench::new(config());
    bench.net.reverts = true;
    let id = bench.enqueue(Purpose::Call, 1);
    bench.run();
    bench.mine(1);
    assert_eq!(
        state(&bench, id),
        JobState::Failed(Failure::Reverted("because".into()))
    );
    let paid = bench.outbox.job(id).unwrap().mined().unwrap().paid();
    assert!(paid > U256::ZERO);
    // And a reorganisation takes a failure back, too.
    bench.net.reverts = false;
    bench.net.reorganise(1, true);
    bench.pass(config().recheck);
    bench.mine(1);
    assert!(confirmed(&bench, id), "{:?}", state(&bench, id));
}

#[test]
fn a_server_that_lags_far_behind_is_not_believed() {
    let mut bench = Bench::new(config());
    let id = bench.enqueue(Purpose::Call, 1);
    bench.run();
    bench.mine(20);
    assert!(confirmed(&bench, id));
    let other = bench.enqueue(Purpose::Call, 2);
    bench.net.blocks.truncate(3);
    bench.pass(config().recheck);
    assert!(confirmed(&bench, id), "an old chain takes nothing back");
    assert!(waiting(&bench, other).contains("it lags"));
}

#[test]
fn a_gap_that_a_lost_transaction_left_is_filled() {
    let mut bench = Bench::new(config());
    bench.net.stranger();
    let id = bench.enqueue(Purpose::Call, 1);
    bench.run();
    assert_eq!(
        bench.outbox.job(id).unwrap().nonce,
        Some(1),
        "after what waits"
    );
    bench.net.pool.remove(&0);
    bench.pass(MINUTE);
    bench.mine(1);
    assert!(confirmed(&bench, id));
    assert!(
        bench
            .outbox
            .jobs()
            .any(|job| job.purpose == Purpose::Filler)
    );
}

#[test]
fn a_failed_write_stops_everything_and_the_queue_has_a_bound() {
    let mut bench = Bench::new(config());
    bench.enqueue(Purpose::Call, 1);
    let Some(OutboxOutput::Persist { ticket, .. }) = bench.outbox.poll_output() else {
        panic!("not persisted");
    };
    bench.outbox.handle_failed(ticket);
    bench.outbox.handle_durable(ticket, bench.now);
    assert_eq!(bench.outbox.poll_output(), None);
    assert_eq!(bench.outbox.poll_timeout(), None);
    let refused = bench
        .outbox
        .enqueue(Purpose::Call, net::errand(1), bench.now);
    assert_eq!(refused, Err(EnqueueRefusal::Stopped));

    let mut bench = Bench::new(config());
    bench.net.silent = true;
    for n in 0..MAX_OPEN_JOBS {
        bench.enqueue(Purpose::Call, n as u8);
    }
    let refused = bench
        .outbox
        .enqueue(Purpose::Call, net::errand(1), bench.now);
    assert_eq!(refused, Err(EnqueueRefusal::Full));
    let large = Errand {
        input: vec![0; MAX_INPUT + 1],
        ..net::errand(1)
    };
    let refused = Bench::new(config())
        .outbox
        .enqueue(Purpose::Call, large, bench.now);
    assert_eq!(refused, Err(EnqueueRefusal::TooLarge(MAX_INPUT + 1)));
}

#[test]
fn history_is_bounded_and_the_oldest_goes_first() {
    let mut bench = Bench::new(config());
    bench.net.estimate = Err(EstimateFault::Refused("no".into()));
    for n in 0..MAX_KEPT_JOBS + 10 {
        bench.enqueue(Purpose::Call, n as u8);
        bench.run();
    }
    assert_eq!(bench.outbox.jobs().count(), MAX_KEPT_JOBS);
    assert_eq!(bench.rows.0.len(), MAX_KEPT_JOBS);
    let newest = bench.outbox.jobs().next().unwrap().id;
    assert_eq!(newest.0, MAX_KEPT_JOBS as u64 + 9);
}

#[test]
fn other_accounts_and_chains_keep_their_own_rows() {
    let mut bench = Bench::new(config());
    let id = bench.enqueue(Purpose::Call, 1);
    bench.run();
    let rows = bench.rows.of(Outbox::TABLES);
    for other in [
        OutboxConfig {
            chain_id: 2,
            ..config()
        },
        OutboxConfig {
            account: Address::repeat_byte(9),
            ..config()
        },
    ] {
        let outbox = Outbox::restore(other, rows.clone(), bench.now, 0).unwrap();
        assert!(outbox.job(id).is_none());
    }
    let mut broken = rows;
    broken[0].1.1.pop();
    assert!(Outbox::restore(config(), broken, bench.now, 0).is_err());
}
