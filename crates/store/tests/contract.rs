//! The contract of `payment::Ledger`, run on every implementation, and what only a durable one promises.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use wayfare_payment::{Batch, Entry, Expect, Ledger, LedgerError, Table};
use wayfare_store::{
    BATCH_LIMIT, LedgerOptions, MemoryLedger, RocksLedger, SCHEMA_KEY, SCHEMA_VERSION,
};

fn entry(table: Table, key: &[u8], value: Option<&[u8]>, expect: Expect) -> Entry {
    Entry {
        table,
        key: key.to_vec(),
        value: value.map(<[u8]>::to_vec),
        expect,
    }
}

fn put(key: &[u8], value: &[u8]) -> Entry {
    entry(Table::Session, key, Some(value), Expect::Anything)
}

fn conflict(key: &str) -> Result<(), LedgerError> {
    Err(LedgerError::Conflict {
        table: Table::Session,
        key: key.to_owned(),
    })
}

async fn reads_what_was_written(ledger: &dyn Ledger) {
    assert_eq!(ledger.read(Table::Session, b"a").await, Ok(None));
    ledger
        .commit(Batch(vec![
            put(b"a", b"1"),
            put(b"", b"empty key"),
            put(b"e", b""),
        ]))
        .await
        .unwrap();
    assert_eq!(
        ledger.read(Table::Session, b"a").await,
        Ok(Some(b"1".to_vec()))
    );
    assert_eq!(
        ledger.read(Table::Session, b"").await,
        Ok(Some(b"empty key".to_vec()))
    );
    assert_eq!(
        ledger.read(Table::Session, b"e").await,
        Ok(Some(Vec::new())),
        "empty is not absent"
    );
    assert_eq!(
        ledger.read(Table::Settlement, b"a").await,
        Ok(None),
        "tables are apart"
    );
    ledger.commit(Batch(vec![put(b"a", b"2")])).await.unwrap();
    assert_eq!(
        ledger.read(Table::Session, b"a").await,
        Ok(Some(b"2".to_vec()))
    );
    let gone =
        [b"a".as_slice(), b"", b"e"].map(|key| entry(Table::Session, key, None, Expect::Anything));
    ledger.commit(Batch(gone.to_vec())).await.unwrap();
    assert_eq!(ledger.scan(Table::Session, None, 10).await, Ok(Vec::new()));
    ledger.commit(Batch::default()).await.unwrap();
}

async fn expectations_hold_or_nothing_is_written(ledger: &dyn Ledger) {
    let exactly = |record: &[u8]| Expect::Exactly(record.to_vec());
    let one = |value: &[u8], expect| {
        Batch(vec![
            put(b"other", b"x"),
            entry(Table::Session, b"k", Some(value), expect),
        ])
    };
    assert_eq!(
        ledger.commit(one(b"1", exactly(b"0"))).await,
        conflict("6b")
    );
    assert_eq!(
        ledger.read(Table::Session, b"other").await,
        Ok(None),
        "half of a batch was written"
    );
    ledger.commit(one(b"1", Expect::Absent)).await.unwrap();
    assert_eq!(
        ledger.commit(one(b"2", Expect::Absent)).await,
        conflict("6b")
    );
    assert_eq!(
        ledger.commit(one(b"2", exactly(b"1 "))).await,
        conflict("6b")
    );
    assert_eq!(ledger.commit(one(b"2", exactly(b""))).await, conflict("6b"));
    ledger.commit(one(b"2", exactly(b"1"))).await.unwrap();
    assert_eq!(
        ledger.read(Table::Session, b"k").await,
        Ok(Some(b"2".to_vec()))
    );
    let gone = |expect| Batch(vec![entry(Table::Session, b"k", None, expect)]);
    assert_eq!(ledger.commit(gone(exactly(b"1"))).await, conflict("6b"));
    ledger.commit(gone(exactly(b"2"))).await.unwrap();
    ledger.commit(gone(Expect::Absent)).await.unwrap();
}

async fn an_entry_sees_the_entries_before_it(ledger: &dyn Ledger) {
    let step = |value: Option<&[u8]>, expect| entry(Table::Session, b"s", value, expect);
    let batch = vec![
        step(Some(b"1"), Expect::Absent),
        step(Some(b"2"), Expect::Exactly(b"1".to_vec())),
        step(None, Expect::Exactly(b"2".to_vec())),
        step(Some(b"3"), Expect::Absent),
    ];
    ledger.commit(Batch(batch.clone())).await.unwrap();
    assert_eq!(
        ledger.read(Table::Session, b"s").await,
        Ok(Some(b"3".to_vec()))
    );
    assert_eq!(ledger.commit(Batch(batch)).await, conflict("73"));
}

async fn scans_in_the_order_of_bytes(ledger: &dyn Ledger) {
    let keys: [&[u8]; 7] = [b"", &[0], &[0, 0], &[1], &[1, 0xff], &[0xff], &[0xff, 0xff]];
    for table in [Table::IssuerReceipt, Table::Settlement, Table::Session] {
        let rows = keys
            .iter()
            .rev()
            .map(|key| entry(table, key, Some(&[table as u8]), Expect::Anything));
        ledger.commit(Batch(rows.collect())).await.unwrap();
    }
    let found = async |after: Option<&[u8]>, limit| -> Vec<Vec<u8>> {
        let rows = ledger.scan(Table::Settlement, after, limit).await.unwrap();
        assert!(
            rows.iter()
                .all(|(_, record)| *record == [Table::Settlement as u8]),
            "of another table"
        );
        rows.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(found(None, usize::MAX).await, keys);
    assert_eq!(found(None, 0).await, Vec::<Vec<u8>>::new());
    assert_eq!(found(Some(&[0xff, 0xff]), 9).await, Vec::<Vec<u8>>::new());
    assert_eq!(
        found(Some(&[0, 5]), 2).await,
        keys[3..5],
        "after a key that is not there"
    );
    let mut paged = found(None, 2).await;
    for _ in 0..keys.len() {
        let after = paged.last().unwrap().clone();
        paged.extend(found(Some(&after), 2).await);
    }
    assert_eq!(paged, keys, "pages neither repeat nor skip");
}

async fn of_many_that_expect_the_same_one_wins(ledger: Arc<dyn Ledger>) {
    let commits: Vec<_> = (0..64_u8)
        .map(|number| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                let mine = put(&[b'm', number], &[number]);
                let race = entry(Table::Session, b"race", Some(&[number]), Expect::Absent);
                ledger
                    .commit(Batch(vec![mine, race]))
                    .await
                    .map(|()| number)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for commit in commits {
        match commit.await.unwrap() {
            Ok(number) => winners.push(number),
            Err(error) => assert_eq!(Err(error), conflict("72616365")),
        }
    }
    let [winner] = winners[..] else {
        panic!("{} winners", winners.len())
    };
    assert_eq!(
        ledger.read(Table::Session, b"race").await,
        Ok(Some(vec![winner]))
    );
    let left = ledger.scan(Table::Session, Some(b"m"), 100).await.unwrap();
    assert_eq!(
        left,
        [
            (vec![b'm', winner], vec![winner]),
            (b"race".to_vec(), vec![winner])
        ]
    );
}

async fn a_counter_loses_no_step(ledger: Arc<dyn Ledger>) {
    const TASKS: u64 = 8;
    const STEPS: u64 = 25;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                let mut done = 0;
                // Bounded: each round at least one of the tasks succeeds.
                for _ in 0..TASKS * STEPS {
                    let old = ledger.read(Table::Session, b"sum").await.unwrap();
                    let value = old
                        .as_deref()
                        .map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
                    let expect = old.map_or(Expect::Absent, Expect::Exactly);
                    let next = entry(
                        Table::Session,
                        b"sum",
                        Some(&(value + 1).to_le_bytes()),
                        expect,
                    );
                    match ledger.commit(Batch(vec![next])).await {
                        Ok(()) => done += 1,
                        Err(error) => assert_eq!(Err(error), conflict("73756d")),
                    }
                    if done == STEPS {
                        break;
                    }
                }
                done
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    assert_eq!(sum, TASKS * STEPS);
    assert_eq!(
        ledger.read(Table::Session, b"sum").await,
        Ok(Some(sum.to_le_bytes().to_vec()))
    );
}

async fn what_no_ledger_takes_is_refused(ledger: &dyn Ledger) {
    let schema = entry(Table::Schema, SCHEMA_KEY, Some(b"7"), Expect::Anything);
    assert!(matches!(
        ledger.commit(Batch(vec![put(b"n", b"1"), schema])).await,
        Err(LedgerError::Failed(_))
    ));
    let version = SCHEMA_VERSION.to_le_bytes().to_vec();
    assert_eq!(
        ledger.read(Table::Schema, SCHEMA_KEY).await,
        Ok(Some(version))
    );
    let huge = put(b"n", &vec![0; BATCH_LIMIT]);
    assert!(matches!(
        ledger.commit(Batch(vec![huge])).await,
        Err(LedgerError::Failed(_))
    ));
    assert_eq!(ledger.read(Table::Session, b"n").await, Ok(None));
    ledger
        .commit(Batch(vec![put(b"n", &vec![7; BATCH_LIMIT - 1])]))
        .await
        .expect("a refusal does not stop the ledger");
    assert_eq!(
        ledger
            .read(Table::Session, b"n")
            .await
            .unwrap()
            .unwrap()
            .len(),
        BATCH_LIMIT - 1
    );
}

/// Runs each function of the suite over a fresh ledger.
macro_rules! contract {
    ($home:ident, $fresh:expr) => {
        mod $home {
            use super::*;

            contract!(@borrowed $fresh; reads_what_was_written expectations_hold_or_nothing_is_written
                an_entry_sees_the_entries_before_it scans_in_the_order_of_bytes what_no_ledger_takes_is_refused);
            contract!(@shared $fresh; of_many_that_expect_the_same_one_wins a_counter_loses_no_step);
        }
    };
    (@borrowed $fresh:expr; $($test:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let (ledger, _guard) = $fresh;
            super::$test(&ledger).await;
        }
    )*};
    (@shared $fresh:expr; $($test:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let (ledger, _guard) = $fresh;
            super::$test(Arc::new(ledger)).await;
        }
    )*};
}

contract!(memory, (MemoryLedger::new(), ()));
contract!(rocks, {
    let dir = tempfile::tempdir().unwrap();
    (
        RocksLedger::open(dir.path(), LedgerOptions::default()).unwrap(),
        dir,
    )
});

#[tokio::test]
async fn rocks_keeps_everything_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5_u8 {
        let ledger = RocksLedger::open(dir.path(), LedgerOptions::default()).unwrap();
        let rows = ledger.scan(Table::Session, None, 100).await.unwrap();
        assert_eq!(
            rows,
            (0..round)
                .map(|old| (vec![old], vec![old; 9]))
                .collect::<Vec<_>>()
        );
        ledger
            .commit(Batch(vec![put(&[round], &[round; 9])]))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rocks_shares_flushes_between_commits() {
    const TASKS: u32 = 64;
    const EACH: u32 = 100;
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(RocksLedger::open(dir.path(), LedgerOptions::default()).unwrap());
    let began = tokio::time::Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                for step in 0..EACH {
                    let key = [task.to_be_bytes(), step.to_be_bytes()].concat();
                    ledger
                        .commit(Batch(vec![put(&key, &[7; 200])]))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let rate = f64::from(TASKS * EACH) / began.elapsed().as_secs_f64();
    println!("{rate:.0} durable commits a second from {TASKS} tasks");
    assert!(rate > 2000.0, "{rate:.0} durable commits a second");
    assert_eq!(
        ledger.verify().unwrap().records,
        u64::from(TASKS * EACH) + 1
    );
}

/// Tells the child process which folder to write to; absent in the parent.
const FOLDER: &str = "WAYFARE_STORE_TEST_FOLDER";

#[allow(
    clippy::disallowed_methods,
    reason = "how a test talks to the child that it starts"
)]
fn folder() -> Option<std::path::PathBuf> {
    std::env::var_os(FOLDER).map(Into::into)
}

/// Not a test by itself: the body of the child processes below. Writes numbered batches of two records and says each number as
/// soon as it is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the body of the child processes, run by the tests below"]
async fn child_that_writes() {
    let folder = folder().expect("the parent says where");
    let ledger = Arc::new(RocksLedger::open(folder, LedgerOptions::default()).unwrap());
    println!("ready");
    let begin = ledger.verify().unwrap().records as u32;
    let writers: Vec<_> = (0..8_u32)
        .map(|writer| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                for step in 0..1_000_000_u32 {
                    let number = begin + step * 8 + writer;
                    let key = number.to_be_bytes();
                    let twin = entry(Table::Settlement, &key, Some(&key), Expect::Absent);
                    if let Err(error) = ledger.commit(Batch(vec![put(&key, &[7; 300]), twin])).await
                    {
                        println!("failed {error}");
                        return;
                    }
                    println!("wrote {number}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// A child of this test binary, killed on drop.
struct Child(std::process::Child);

impl Child {
    fn start(folder: &std::path::Path, prefix: &str) -> (Self, impl Iterator<Item = String>) {
        let mut command = Command::new("sh");
        let binary = std::env::current_exe().unwrap();
        command.arg("-c").arg(format!(
            "{prefix} exec \"$0\" --ignored --exact child_that_writes --nocapture"
        ));
        command
            .arg(binary)
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        (Self(child), lines)
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The number that the child says it wrote.
fn written(line: &str) -> Option<u32> {
    // The harness prints its own words on the child's first line.
    line.rsplit_once("wrote ")
        .and_then(|(_, number)| number.parse().ok())
}

#[tokio::test]
async fn rocks_keeps_what_it_acknowledged_through_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..10 {
        let (mut child, mut lines) = Child::start(dir.path(), "");
        // Another moment in each round, from the very first commits on.
        let enough = 1 + round * 150;
        acknowledged.extend(
            lines
                .by_ref()
                .filter_map(|line| written(&line))
                .take(enough),
        );
        child.kill();
        // What it said between our last line and its death counts as well. A last line without its end may be half a number.
        let rest: Vec<String> = lines.collect();
        let whole = rest.len().saturating_sub(1);
        acknowledged.extend(rest[..whole].iter().filter_map(|line| written(line)));
        assert!(acknowledged.len() >= enough, "the child did not write");

        let ledger = RocksLedger::open(dir.path(), LedgerOptions::default()).unwrap();
        ledger.verify().unwrap();
        for number in &acknowledged {
            let key = number.to_be_bytes();
            assert_eq!(
                ledger.read(Table::Session, &key).await,
                Ok(Some(vec![7; 300])),
                "round {round}, {number}"
            );
            assert_eq!(
                ledger.read(Table::Settlement, &key).await,
                Ok(Some(key.to_vec())),
                "round {round}, {number}"
            );
        }
        let halves = ledger
            .scan(Table::Session, None, usize::MAX)
            .await
            .unwrap()
            .len();
        assert_eq!(
            halves,
            ledger
                .scan(Table::Settlement, None, usize::MAX)
                .await
                .unwrap()
                .len(),
            "half a batch"
        );
    }
    println!(
        "{} acknowledged batches survived 10 kills",
        acknowledged.len()
    );
}

#[tokio::test]
async fn rocks_names_the_process_that_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = Child::start(dir.path(), "");
    assert!(lines.any(|line| line.ends_with("ready")));
    let busy = RocksLedger::open(dir.path(), LedgerOptions::default()).unwrap_err();
    assert_eq!(busy, LedgerError::Busy(dir.path().display().to_string()));
    child.kill();
    RocksLedger::open(dir.path(), LedgerOptions::default()).unwrap();
}

/// A disk that takes no more (here: a limit on the size of files, which needs no privilege). The ledger must say so and stop, and
/// what it acknowledged before must be there.
#[tokio::test]
async fn rocks_stops_when_the_disk_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, lines) = Child::start(dir.path(), "trap '' XFSZ; ulimit -f 1024;");
    let (mut acknowledged, mut failures) = (Vec::new(), Vec::new());
    for line in lines {
        acknowledged.extend(written(&line));
        if let Some((_, failure)) = line.split_once("failed ") {
            failures.push(failure.to_owned());
        }
    }
    child.kill();
    assert_eq!(failures.len(), 8, "every writer is told: {failures:?}");
    assert!(
        failures
            .iter()
            .all(|failure| failure.contains(dir.path().to_str().unwrap())),
        "{failures:?}"
    );
    assert!(
        failures
            .iter()
            .all(|failure| failure.contains("File too large")),
        "{failures:?}"
    );
    assert!(!acknowledged.is_empty());
    let ledger = RocksLedger::open(dir.path(), LedgerOptions::default()).unwrap();
    for number in &acknowledged {
        let found = ledger.read(Table::Session, &number.to_be_bytes()).await;
        assert_eq!(found, Ok(Some(vec![7; 300])), "{number}");
    }
    // The margin is far above what the rest of this test may take on a busy machine.
    tokio::time::timeout(
        Duration::from_secs(60),
        ledger.commit(Batch(vec![put(b"on", b"again")])),
    )
    .await
    .unwrap()
    .unwrap();
}
