//! The corpus of whichever room compiles this, replayed through its `bodies`: a text that several rooms' tests include.
//! It refuses to pass over an empty folder, and a corpus that no longer gets anywhere.

use std::path::{Path, PathBuf};

use super::{Ending, MOST_BYTES, MOST_FILES, STEP, TARGETS};

/// The inputs of one target, in the order of their names.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|why| panic!("{folder:?}: {why}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    paths.into_iter().map(read).collect()
}

#[test]
fn corpus_is_replayed() {
    let (mut files, mut bytes) = (0, 0);
    for (target, body) in TARGETS {
        let mut endings = Vec::new();
        for (path, input) in inputs(target) {
            println!("{}", path.display());
            endings.push(body(&input));
            files += 1;
            bytes += input.len();
        }
        for ending in [Ending::Accepted, Ending::Refused] {
            assert!(
                endings.contains(&ending),
                "no input of `{target}` ends {ending:?}"
            );
        }
    }
    assert!(
        files <= MOST_FILES && bytes <= MOST_BYTES,
        "{files} files, {bytes} bytes"
    );
}

#[test]
fn every_folder_has_its_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{name}");
    }
}

#[test]
fn any_short_input_is_a_script() {
    for (_, body) in TARGETS {
        for first in (0..=u8::MAX).step_by(STEP) {
            body(&[first]);
            body(&[first, first, 1, 2, 3, first.rotate_left(4), 0xff]);
        }
        body(&[]);
    }
}
