//! Words that have no place in what is committed: marks of unfinished work and paths of the
//! machine it was written on. It refuses to read licences and lock files.

use super::Violation;

/// Written in halves, as this file is read by its own rule.
const UNFINISHED: &[&str] = &[
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

const MACHINE_PATHS: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
];

/// One text file of the tree.
pub(super) fn check(path: &str, text: &str) -> Vec<Violation> {
    if path.ends_with(".lock") || path.ends_with("-lock.json") || path.starts_with("LICENSE") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut break_rule = |message| {
            found.push(Violation::new(path, at + 1, "words", message));
        };
        for word in UNFINISHED {
            if stands_alone(line, word, char::is_alphanumeric) {
                break_rule(format!("`{word}`: finish it, or leave it out"));
            }
        }
        for word in MACHINE_PATHS {
            let joins = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '~');
            if stands_alone(line, word, joins) {
                break_rule(format!("`{word}…` is a path of one machine"));
            }
        }
    }
    found
}

/// Whether `word` is in `line` with nothing that `joins` before it, nor after it where it ends in
/// a letter.
fn stands_alone(line: &str, word: &str, joins: impl Fn(char) -> bool) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let longer_before = before.is_some_and(&joins);
        let longer_after = word.ends_with(char::is_alphanumeric) && after.is_some_and(&joins);
        !longer_before && !longer_after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_where_it_stands_alone() {
        for word in UNFINISHED.iter().chain(MACHINE_PATHS) {
            let line = format!("first\nhere ({word}) it is");
            let found = check("docs/a.md", &line);
            assert_eq!((found.len(), found[0].line), (1, 2), "{word}");
        }
    }

    #[test]
    fn likenesses_are_no_false_alarm() {
        let net = concat!("https://example.org/wo", "rk/a");
        let temporary = concat!("mktemp wf.XX", "XXXX");
        for line in [net, temporary, "todo = \"deny\"", "crates/home/x", "~/work"] {
            assert_eq!(check("a.md", line), [], "{line}");
        }
    }

    #[test]
    fn lock_files_and_licences_are_not_read() {
        for path in ["Cargo.lock", "LICENSE-MIT", "contracts/package-lock.json"] {
            assert_eq!(check(path, UNFINISHED[2]), [], "{path}");
        }
    }
}
