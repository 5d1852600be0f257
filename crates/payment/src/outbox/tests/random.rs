//! Anything, in any order: whatever chain, servers, power and strangers do, the history says what the chain says.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::net::{Bench, config};
use super::*;

#[derive(Debug, Clone)]
enum Happening {
    Settle(u8),
    Call(u8),
    Mine(u8),
    Reorganise(u8, bool),
    Stranger,
    Forget,
    Crash,
    PowerFailsAfter(u8),
    Pass(u8),
    GasCosts(u16),
    Silence(bool),
    Mute(bool),
    Poor(bool),
    Revert(bool),
    Withdraw(u8),
    SettledByAnother(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (0u8..6).prop_map(Happening::Settle),
        3 => any::<u8>().prop_map(Happening::Call),
        4 => (1u8..6).prop_map(Happening::Mine),
        2 => (1u8..13, any::<bool>()).prop_map(|(depth, keep)| Happening::Reorganise(depth, keep)),
        1 => Just(Happening::Stranger),
        1 => Just(Happening::Forget),
        1 => Just(Happening::Crash),
        1 => (0u8..5).prop_map(Happening::PowerFailsAfter),
        3 => (1u8..90).prop_map(Happening::Pass),
        1 => (100u16..9_000).prop_map(Happening::GasCosts),
        1 => any::<bool>().prop_map(Happening::Silence),
        1 => any::<bool>().prop_map(Happening::Mute),
        1 => any::<bool>().prop_map(Happening::Poor),
        1 => any::<bool>().prop_map(Happening::Revert),
        1 => any::<u8>().prop_map(Happening::Withdraw),
        1 => any::<u8>().prop_map(Happening::SettledByAnother),
    ]
}

fn some_job(bench: &Bench, n: u8) -> Option<JobId> {
    let count = bench.outbox.jobs().count();
    let nth = bench.outbox.jobs().nth(usize::from(n) % count.max(1));
    nth.map(|job| job.id)
}

fn happen(bench: &mut Bench, happening: &Happening) {
    match *happening {
        Happening::Settle(n) => {
            bench.enqueue(settle(u128::from(n)), n);
        }
        Happening::Call(n) => {
            bench.enqueue(Purpose::Call, n);
        }
        Happening::Mine(n) => bench.mine(usize::from(n)),
        Happening::Reorganise(depth, keep) => bench.net.reorganise(usize::from(depth), keep),
        Happening::Stranger => bench.net.stranger(),
        Happening::Forget => bench.net.forget(),
        Happening::Crash => bench.restart(),
        Happening::PowerFailsAfter(commits) => {
            bench.cut_after = Some(usize::from(commits));
            bench.pass(Duration::from_secs(2));
            bench.cut_after = None;
            bench.restart();
        }
        Happening::Pass(seconds) => bench.pass(Duration::from_secs(u64::from(seconds))),
        Happening::GasCosts(wei) => bench.net.base = u128::from(wei),
        Happening::Silence(silent) => bench.net.silent = silent,
        Happening::Mute(mute) => bench.net.mute = mute,
        Happening::Poor(poor) => bench.net.poor = poor,
        Happening::Revert(reverts) => bench.net.reverts = reverts,
        Happening::Withdraw(n) => {
            if let Some(id) = some_job(bench, n) {
                let why = Moot::Withdrawn("no more".into());
                bench.outbox.handle_moot(id, why, bench.now);
            }
        }
        Happening::SettledByAnother(n) => {
            if let Some(id) = some_job(bench, n) {
                bench
                    .outbox
                    .handle_moot(id, Moot::SettledByAnother, bench.now);
            }
        }
    }
    bench.run();
}

/// What must hold at every moment.
fn check(bench: &Bench) -> Result<(), TestCaseError> {
    let mut of_nonce = BTreeMap::new();
    for job in bench.outbox.jobs() {
        if let JobState::Confirmed { mined, .. } = &job.state {
            let envelope = job.envelopes.iter().find(|e| e.hash == mined.hash);
            let nonce = envelope.map(|envelope| envelope.nonce);
            prop_assert!(nonce.is_some(), "confirmed by nothing of its own");
            // Taken back and not looked for again yet is the only excuse.
            if bench.net.holds(mined.block) {
                let twin = of_nonce.insert(nonce, job.id);
                prop_assert_eq!(twin, None, "two confirmed jobs on one nonce");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_history_says_what_the_chain_says(
        happenings in proptest::collection::vec(happening(), 1..50),
        cap in any::<bool>(),
        confirmations in 1u64..4,
    ) {
        let mut bench = Bench::new(OutboxConfig {
            confirmations,
            fee_cap: cap.then_some(30_000),
            ..config()
        });
        for happening in &happenings {
            happen(&mut bench, happening);
            check(&bench)?;
        }
        // Calm: everything ends, and ends as the chain has it.
        bench.net.silent = false;
        bench.net.mute = false;
        bench.net.poor = false;
        bench.net.base = 100;
        for _ in 0..80 {
            bench.mine(1);
            bench.pass(Duration::from_secs(10));
        }
        check(&bench)?;
        for job in bench.outbox.jobs() {
            prop_assert!(job.is_finished(), "{:?} never ends", job);
            let done = bench.net.executions(job.id);
            match &job.state {
                JobState::Confirmed { mined, .. } => {
                    prop_assert!(bench.net.holds(mined.block), "{:?} is in no block", job);
                    let own = usize::from(job.purpose != Purpose::Filler);
                    prop_assert_eq!(done, own, "{:?}", job);
                }
                JobState::Failed(Failure::Reverted(_)) => prop_assert_eq!(done, 1, "{:?}", job),
                JobState::SettledByAnother | JobState::Failed(_) => {
                    // Reverted, and then called pointless.
                    let spent = usize::from(job.mined().is_some_and(|mined| !mined.succeeded));
                    prop_assert!(done <= spent, "{:?} was done", job);
                }
                JobState::Queued | JobState::Sent | JobState::Mined(_) => unreachable!(),
            }
        }
    }
}
