//! Ledgers that no binary may go on with: in use, damaged, of a newer release. Each is named and left as it is.
//!
//! Including test files say which command reads the ledger (`READS`) and how somebody else opens one (`open_ledger`).

use std::path::{Path, PathBuf};

use wayfare_cli::Kind;

use crate::everywhere::inhabited;
use crate::support::Home;
use crate::{READS, open_ledger};

fn ledger(home: &Home) -> PathBuf {
    home.path("state/ledger")
}

/// The file of a ledger whose name ends so.
fn file(folder: &Path, is: impl Fn(&str) -> bool) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut files = entries.map(|entry| entry.path());
    files
        .find(|path| is(path.file_name().unwrap().to_str().unwrap()))
        .unwrap()
}

#[test]
fn a_ledger_in_use_is_left_alone() {
    let home = inhabited();
    let other = open_ledger(&ledger(&home));
    home.fails(
        READS,
        Kind::Busy,
        &["in use by another process", "state/ledger"],
        &["stop the other", "state_dir"],
    );
    drop(other);
}

#[test]
fn a_damaged_ledger_is_named_and_kept() {
    let home = inhabited();
    let folder = ledger(&home);
    drop(open_ledger(&folder));
    let manifest = file(&folder, |name| name.starts_with("MANIFEST"));
    let whole = std::fs::read(&manifest).unwrap();
    let mut bytes = whole.clone();
    bytes.iter_mut().skip(20).for_each(|byte| *byte ^= 0xff);
    std::fs::write(&manifest, bytes).unwrap();
    let next = ["keep the directory", "backup"];
    home.fails(READS, Kind::Storage, &["the ledger is damaged"], &next);
    std::fs::write(&manifest, whole).unwrap();
    std::fs::remove_file(folder.join("CURRENT")).unwrap();
    home.fails(
        READS,
        Kind::Storage,
        &["the ledger is damaged", "CURRENT"],
        &next,
    );
    assert!(manifest.exists(), "nothing was begun on top of it");
    // The folder is a file.
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "x").unwrap();
    home.fails(READS, Kind::Storage, &["state/ledger"], &["state_dir"]);
}

#[test]
fn a_ledger_of_a_newer_release_is_not_touched() {
    let home = inhabited();
    let folder = ledger(&home);
    // While it is open its first record is in the log; as a crash would leave it.
    let open = open_ledger(&folder);
    let crashed = home.path("crashed");
    std::fs::create_dir(&crashed).unwrap();
    for entry in std::fs::read_dir(&folder).unwrap().flatten() {
        std::fs::copy(entry.path(), crashed.join(entry.file_name())).unwrap();
    }
    drop(open);
    std::fs::rename(&folder, home.path("closed")).unwrap();
    std::fs::rename(&crashed, &folder).unwrap();
    let log = file(&folder, |name| name.ends_with(".log"));
    let mut bytes = std::fs::read(&log).unwrap();
    raise_schema(&mut bytes, 4_000_000);
    std::fs::write(&log, bytes).unwrap();
    home.fails(
        READS,
        Kind::Storage,
        &["schema version 4000000", "knows up to 1"],
        &["nothing was changed"],
    );
}

/// Rewrites the schema version in RocksDB's log, with our checksum over the record and RocksDB's over the block:
/// `crc (4) ‖ length (2) ‖ type (1) ‖ payload`, where the record lies as `… 8 table"version" 8 version crc`.
fn raise_schema(log: &mut [u8], version: u32) {
    let key = log.windows(7).position(|w| w == b"version").unwrap();
    let (place, value) = (log[key - 1..key + 7].to_vec(), key + 8);
    assert_eq!((log[key - 2], log[key + 7]), (8, 8), "lengths");
    log[value..value + 4].copy_from_slice(&version.to_le_bytes());
    let sealed = [&8_u64.to_le_bytes(), &place[..], &version.to_le_bytes()].concat();
    log[value + 4..value + 8].copy_from_slice(&crc32c(&sealed).to_le_bytes());

    let mut block = 0;
    while block + 7 <= log.len() {
        let length = usize::from(u16::from_le_bytes([log[block + 4], log[block + 5]]));
        let end = block + 7 + length;
        if (block..end).contains(&key) {
            let sum = crc32c(&log[block + 6..end]);
            // RocksDB stores sums rotated and shifted, so that a sum over data with sums in it is no trivial one.
            let masked = sum.rotate_right(15).wrapping_add(0xa282_ead8);
            log[block..block + 4].copy_from_slice(&masked.to_le_bytes());
            return;
        }
        block = end;
    }
    panic!("the record is in no block");
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32| (sum >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(sum & 1));
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum))
    })
}
