//! Damage, newer schemas, other owners and failing disks. What every home of the ledger does alike is in `tests/contract.rs`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tempfile::TempDir;
use wayfare_payment::Expect;

use super::*;

/// Small enough for a test, large enough to fill some pages of the log.
const RECORDS: u32 = 200;

fn fresh() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    (dir, path)
}

fn open(path: &Path) -> Result<RocksLedger, LedgerError> {
    RocksLedger::open(path, LedgerOptions::default())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn record_of(number: u32) -> Vec<u8> {
    format!("record {number} {}", "x".repeat(150)).into_bytes()
}

fn put(ledger: &RocksLedger, number: u32) {
    let mut batch = Batch::default();
    batch.put(Table::Session, key(number), record_of(number));
    wait(ledger.commit(batch)).unwrap();
}

fn fill(ledger: &RocksLedger) {
    (0..RECORDS).for_each(|number| put(ledger, number));
}

/// The files as they are now: what a power loss would leave, as every acknowledged write was flushed.
fn snapshot(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn file_with(folder: &Path, extension: &str) -> PathBuf {
    let largest = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .max_by_key(|path| fs::metadata(path).unwrap().len());
    largest.unwrap()
}

/// How many records are there, if all of them are whole; or the damage that the ledger names.
fn read_all(path: &Path) -> Result<usize, LedgerError> {
    let ledger = open(path)?;
    ledger.verify()?;
    let rows = wait(ledger.scan(Table::Session, None, usize::MAX))?;
    for (number, (found, record)) in (0..).zip(&rows) {
        assert_eq!(
            (found.as_slice(), record),
            (key(number).as_slice(), &record_of(number)),
            "wrong, and not noticed"
        );
    }
    Ok(rows.len())
}

/// Flips bytes all over a file of copies of `good`; says how many flips were found out.
fn flip_all_over(good: &Path, extension: &str, steps: usize) -> usize {
    let copy = good.with_extension("flipped");
    let size = fs::metadata(file_with(good, extension)).unwrap().len() as usize;
    assert!(size > steps, "there is something to damage");
    let mut found_out = 0;
    for step in 0..steps {
        snapshot(good, &copy);
        let file = file_with(&copy, extension);
        let mut bytes = fs::read(&file).unwrap();
        let at = step * size / steps + step % 7;
        let at = at.min(size - 1);
        bytes[at] ^= 0x41;
        fs::write(&file, bytes).unwrap();
        match read_all(&copy) {
            Ok(count) => assert_eq!(
                count, RECORDS as usize,
                "byte {at} of {extension}: records vanished unnoticed"
            ),
            Err(LedgerError::Corrupt(what)) => {
                assert!(
                    what.contains(".flipped"),
                    "byte {at}: the damage has no place: {what}"
                );
                found_out += 1;
            }
            Err(other) => panic!("byte {at} of {extension}: {other}"),
        }
    }
    found_out
}

#[test]
fn a_flipped_byte_in_the_log_is_never_a_lost_record() {
    let (dir, path) = fresh();
    let ledger = open(&path).unwrap();
    fill(&ledger);
    let crashed = dir.path().join("crashed");
    snapshot(&path, &crashed);
    let found_out = flip_all_over(&crashed, "log", 60);
    println!("60 flips in the log: {found_out} found out");
    assert!(found_out > 50);
}

#[test]
fn a_flipped_byte_in_a_table_is_never_a_lost_record() {
    let (_dir, path) = fresh();
    let ledger = open(&path).unwrap();
    fill(&ledger);
    drop(ledger);
    let found_out = flip_all_over(&path, "sst", 60);
    println!("60 flips in a table: {found_out} found out");
    assert!(found_out > 20);
}

#[test]
fn a_log_that_lost_acknowledged_writes_at_its_end_is_refused() {
    let (dir, path) = fresh();
    let ledger = open(&path).unwrap();
    fill(&ledger);
    let crashed = dir.path().join("crashed");
    for keep in [0, 1, 7, 100, 1000, 10_000, 30_000] {
        snapshot(&path, &crashed);
        let log = file_with(&crashed, "log");
        fs::File::options()
            .write(true)
            .open(&log)
            .unwrap()
            .set_len(keep)
            .unwrap();
        let Err(LedgerError::Corrupt(what)) = read_all(&crashed) else {
            panic!("{keep} bytes were taken for all")
        };
        assert!(what.contains(".log") && what.contains("crashed"), "{what}");
    }
    snapshot(&path, &crashed);
    fs::remove_file(file_with(&crashed, "log")).unwrap();
    assert!(matches!(read_all(&crashed), Err(LedgerError::Corrupt(_))));
}

/// Positive control of the test above, and the promise about power losses: what was never acknowledged may be torn off.
#[test]
fn a_tail_torn_by_a_power_loss_is_tolerated() {
    let (dir, path) = fresh();
    let ledger = open(&path).unwrap();
    fill(&ledger);
    let crashed = dir.path().join("crashed");
    snapshot(&path, &crashed);
    let mark = fs::read(crashed.join("ACKNOWLEDGED")).unwrap();
    put(&ledger, RECORDS);
    snapshot(&path, &crashed);
    let log = file_with(&crashed, "log");
    let size = fs::metadata(&log).unwrap().len();
    for torn in [1, 20, 100] {
        snapshot(&path, &crashed);
        fs::write(crashed.join("ACKNOWLEDGED"), &mark).unwrap();
        fs::File::options()
            .write(true)
            .open(&log)
            .unwrap()
            .set_len(size - torn)
            .unwrap();
        assert_eq!(read_all(&crashed).unwrap(), RECORDS as usize);
    }
}

#[test]
fn missing_files_are_named() {
    let (dir, path) = fresh();
    let ledger = open(&path).unwrap();
    fill(&ledger);
    drop(ledger);
    let broken = dir.path().join("broken");
    let manifest = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let manifest = manifest
        .into_iter()
        .find(|name| name.starts_with("MANIFEST"))
        .unwrap();
    let table = file_with(&path, "sst")
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    for name in ["CURRENT", &manifest, &table] {
        snapshot(&path, &broken);
        fs::remove_file(broken.join(name)).unwrap();
        let Err(LedgerError::Corrupt(what)) = read_all(&broken) else {
            panic!("{name} was not missed")
        };
        assert!(what.contains(name), "{name}: {what}");
    }
    snapshot(&path, &broken);
    fs::write(broken.join("ACKNOWLEDGED"), b"not a mark").unwrap();
    let Err(LedgerError::Corrupt(what)) = read_all(&broken) else {
        panic!("a damaged mark was taken")
    };
    assert!(what.contains("ACKNOWLEDGED"), "{what}");
}

/// Writes past the ledger, as a bug or an editor would.
fn tamper(path: &Path, place: &[u8], sealed: &[u8]) {
    let db = DB::open(&settings(&LedgerOptions::default()), path).unwrap();
    db.put(place, sealed).unwrap();
}

#[test]
fn a_record_with_a_wrong_checksum_is_named_by_table_and_key() {
    let (_dir, path) = fresh();
    let ledger = open(&path).unwrap();
    fill(&ledger);
    drop(ledger);
    let place = record::place(Table::Session, &[0xab, 0xcd]);
    let elsewhere = record::place(Table::Session, &key(1));
    for sealed in [
        &b"abc"[..],
        b"no checksum at all",
        &record::seal(&elsewhere, &record_of(1)),
    ] {
        tamper(&path, &place, sealed);
        let ledger = open(&path).unwrap();
        let expected = |error: LedgerError| {
            let LedgerError::Corrupt(what) = error else {
                panic!("{error}")
            };
            assert!(what.contains("Session") && what.contains("abcd"), "{what}");
        };
        expected(wait(ledger.read(Table::Session, &[0xab, 0xcd])).unwrap_err());
        expected(wait(ledger.scan(Table::Session, None, usize::MAX)).unwrap_err());
        expected(ledger.verify().unwrap_err());
        // A batch that builds on it fails alone; others go on.
        let mut batch = Batch::default();
        batch.put(Table::Session, [0xab, 0xcd], b"new".to_vec());
        batch.0[0].expect = Expect::Absent;
        expected(wait(ledger.commit(batch)).unwrap_err());
        put(&ledger, 0);
    }
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let (_dir, path) = fresh();
    drop(open(&path).unwrap());
    let place = record::place(Table::Schema, SCHEMA_KEY);
    tamper(&path, &place, &record::seal(&place, &99_u32.to_le_bytes()));
    for _ in 0..2 {
        assert_eq!(
            open(&path).unwrap_err(),
            LedgerError::Newer {
                found: 99,
                known: SCHEMA_VERSION
            }
        );
    }
    tamper(&path, &place, &record::seal(&place, b"two"));
    assert!(matches!(open(&path).unwrap_err(), LedgerError::Corrupt(_)));
}

#[test]
fn a_database_that_is_no_ledger_is_refused() {
    let (_dir, path) = fresh();
    fs::create_dir_all(&path).unwrap();
    tamper(&path, b"foreign", b"data");
    assert!(matches!(open(&path).unwrap_err(), LedgerError::Corrupt(_)));
}

#[test]
fn a_beginning_that_was_interrupted_is_begun_again() {
    let (_dir, path) = fresh();
    fs::create_dir_all(&path).unwrap();
    drop(DB::open(&settings(&LedgerOptions::default()), &path).unwrap());
    let ledger = open(&path).unwrap();
    assert_eq!(ledger.verify().unwrap(), Verified { records: 1 });
}

#[test]
fn a_folder_has_one_owner_at_a_time() {
    let (_dir, path) = fresh();
    let ledger = open(&path).unwrap();
    let Err(LedgerError::Busy(what)) = open(&path) else {
        panic!("opened twice")
    };
    assert!(what.contains(path.to_str().unwrap()), "{what}");
    drop(ledger);
    open(&path).unwrap();
}

#[test]
fn a_place_that_is_no_folder_is_named_with_the_cause() {
    let (dir, _) = fresh();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [
        file.clone(),
        file.join("below"),
        PathBuf::from("/proc/ledger"),
    ] {
        let Err(LedgerError::Failed(what)) = open(&path) else {
            panic!("{} was taken", path.display())
        };
        assert!(what.contains(path.to_str().unwrap()), "{what}");
        assert!(what.contains("os error"), "{what}");
    }
}

#[test]
fn a_full_queue_makes_commits_wait_and_the_drop_writes_what_was_taken() {
    let (_dir, path) = fresh();
    let ledger = RocksLedger::open(
        &path,
        LedgerOptions {
            queue: 2,
            group: 1,
            ..LedgerOptions::default()
        },
    )
    .unwrap();
    let batch = |number: u32| {
        let mut batch = Batch::default();
        batch.put(Table::Session, key(number), record_of(number));
        batch
    };
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting = Vec::new();
    for number in 0..50 {
        let mut commit = Box::pin(ledger.commit(batch(number)));
        assert!(matches!(
            pin!(&mut commit).poll(&mut context),
            Poll::Pending | Poll::Ready(Ok(()))
        ));
        waiting.push(commit);
    }
    for commit in waiting {
        wait(commit).unwrap();
    }
    drop(ledger);
    assert_eq!(read_all(&path).unwrap(), 50);
}

#[test]
fn a_backup_taken_under_writes_is_restored_whole() {
    let (dir, path) = fresh();
    let ledger = open(&path).unwrap();
    fill(&ledger);
    let backup = dir.path().join("backup");
    ledger.backup(&backup).unwrap();
    put(&ledger, RECORDS);
    assert!(
        matches!(ledger.backup(&backup), Err(LedgerError::Failed(_))),
        "a backup was overwritten"
    );

    let restored = dir.path().join("restored");
    assert_eq!(
        RocksLedger::restore(&backup, &restored).unwrap().records,
        u64::from(RECORDS) + 1
    );
    assert_eq!(read_all(&restored).unwrap(), RECORDS as usize);
    assert!(
        matches!(
            RocksLedger::restore(&backup, &restored),
            Err(LedgerError::Failed(_))
        ),
        "a ledger was overwritten"
    );

    let table = file_with(&backup, "sst");
    let mut bytes = fs::read(&table).unwrap();
    bytes[100] ^= 1;
    // A new file: the tables of a backup are hard links to the ledger's own.
    fs::remove_file(&table).unwrap();
    fs::write(&table, bytes).unwrap();
    let second = dir.path().join("second");
    assert!(matches!(
        RocksLedger::restore(&backup, &second),
        Err(LedgerError::Corrupt(_))
    ));
    assert!(!second.exists() && !dir.path().join("second.partial").exists());
    assert!(matches!(
        RocksLedger::restore(dir.path(), &second),
        Err(LedgerError::Corrupt(_))
    ));
    assert_eq!(ledger.verify().unwrap().records, u64::from(RECORDS) + 2);
}
