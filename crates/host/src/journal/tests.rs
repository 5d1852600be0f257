//! The journal's promises about the file: durable before, gone after, torn and damaged lines survived.
//!
//! Refuses to touch the network: the only undo used here restores a setting that no kernel has.

#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

/// An undo that always succeeds and changes nothing: its key does not exist.
fn nothing(n: u32) -> Undo {
    Undo::Setting {
        key: format!("net/ipv4/conf/wayfare-none/{n}"),
        set: "1".into(),
        previous: "0".into(),
        also: Vec::new(),
    }
}

fn dead() -> Owner {
    Owner {
        started: Owner::current().started + 1,
        ..Owner::current()
    }
}

fn plant(journal: &Journal, owner: Owner, place: Place, hold: bool, n: u32) {
    let mut open = journal.file.lock().unwrap();
    let id = open.changes().map(|change| change.id).max().unwrap_or(0) + 1;
    open.append(Change {
        id,
        owner,
        place,
        hold,
        undo: nothing(n),
    })
    .unwrap();
}

fn count(journal: &Journal) -> usize {
    journal.file.lock().unwrap().changes().count()
}

#[test]
fn a_change_is_on_disk_until_it_is_undone_and_then_the_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), "n").unwrap();
    let path = dir.path().join("host-n.journal");
    let a = journal.begin(&nothing(1), false).unwrap();
    let b = journal.begin(&nothing(2), false).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    journal.undone(b).unwrap();
    assert_eq!(count(&Journal::open(dir.path(), "n").unwrap()), 1);
    journal.undone(a).unwrap();
    assert!(!path.exists());
}

#[test]
fn the_same_change_of_a_living_process_is_refused_and_of_a_dead_one_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), "n").unwrap();
    plant(&journal, dead(), Place::here(), true, 1);
    let id = journal.begin(&nothing(1), false).unwrap();
    let error = journal.begin(&nothing(1), false).unwrap_err();
    assert!(
        matches!(error, HostError::InUse { pid, .. } if pid == std::process::id()),
        "{error}"
    );
    journal.undone(id).unwrap();
    assert_eq!(count(&journal), 0);
}

#[test]
fn recovery_takes_back_the_dead_here_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), "n").unwrap();
    let here = Place::here();
    plant(&journal, dead(), here.clone(), false, 1);
    plant(&journal, Owner::current(), here.clone(), false, 2);
    plant(
        &journal,
        dead(),
        Place {
            netns: "net:[1]".into(),
            ..here.clone()
        },
        false,
        3,
    );
    plant(
        &journal,
        dead(),
        Place {
            boot: "another".into(),
            ..here.clone()
        },
        false,
        4,
    );
    plant(&journal, dead(), here, true, 5);
    let kept = journal.undo_the_dead(Held::Keep).unwrap();
    let expect = Recovered {
        undone: 1,
        alive: 1,
        held: 1,
        elsewhere: 1,
        rebooted: 1,
        corrupt: 0,
    };
    assert_eq!(kept, expect);
    let released = journal.undo_the_dead(Held::Release).unwrap();
    assert_eq!(
        released,
        Recovered {
            held: 0,
            rebooted: 0,
            ..expect
        }
    );
    assert_eq!(count(&journal), 2);
}

#[test]
fn a_torn_line_never_happened_and_a_damaged_one_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), "n").unwrap();
    plant(&journal, dead(), Place::here(), false, 1);
    let path = dir.path().join("host-n.journal");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        format!(
            "{{\"note\":\"nonsense\"}}\n{good}{}",
            &good[..good.len() / 2]
        ),
    )
    .unwrap();
    plant(&journal, dead(), Place::here(), false, 2);
    let recovered = journal.undo_the_dead(Held::Keep).unwrap();
    assert_eq!((recovered.undone, recovered.corrupt), (2, 1));
    let aside = fs::read_to_string(dir.path().join("host-n.journal.corrupt")).unwrap();
    assert_eq!(aside, "{\"note\":\"nonsense\"}\n");
    assert!(!path.exists());
}

#[test]
fn years_of_reconnections_under_a_held_change_keep_the_file_small() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), "n").unwrap();
    journal.begin(&nothing(0), true).unwrap();
    for round in 1..400 {
        let id = journal.begin(&nothing(round), false).unwrap();
        journal.undone(id).unwrap();
    }
    let lines = fs::read_to_string(dir.path().join("host-n.journal"))
        .unwrap()
        .lines()
        .count();
    assert!(lines <= 130, "{lines}");
}
