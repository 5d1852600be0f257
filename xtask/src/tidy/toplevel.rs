//! The top level of the tree: a stranger's first sight. It refuses anything that is not listed.

use std::collections::BTreeSet;

use super::Violation;

/// What must be there.
const MUST: &[&str] = &[
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".config",
    ".github",
    ".gitignore",
    ".rustfmt.toml",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "GLOSSARY.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "benches",
    "bins",
    "crates",
    "deny.toml",
    "examples",
    "proto",
    "xtask",
];

/// What may be there.
const MAY: &[&str] = &["docs", ".gitattributes", ".editorconfig"];

/// All files of the tree.
pub(super) fn check(files: &[String]) -> Vec<Violation> {
    let entries: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.split('/').next())
        .collect();
    let unlisted = entries
        .iter()
        .filter(|entry| !MUST.contains(entry) && !MAY.contains(entry));
    let mut found: Vec<Violation> = unlisted
        .map(|entry| {
            let message = "not a top-level entry of this house; find its room".to_owned();
            Violation::new(entry, 1, "toplevel", message)
        })
        .collect();
    for entry in MUST.iter().filter(|entry| !entries.contains(*entry)) {
        // A missing lock file has its own rule.
        let rule = if *entry == "Cargo.lock" {
            "lock"
        } else {
            "toplevel"
        };
        found.push(Violation::new(entry, 1, rule, "is missing".to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_list_passes() {
        let files: Vec<String> = MUST.iter().map(|entry| format!("{entry}/x")).collect();
        assert_eq!(check(&files), []);
        assert_eq!(check(&files[1..]).len(), 1, "one is missing");
        let mut more = files.clone();
        more.push("scripts/a.sh".to_owned());
        assert_eq!(check(&more)[0].file, "scripts");
        let without_lock: Vec<String> = files
            .into_iter()
            .filter(|file| !file.starts_with("Cargo.lock"))
            .collect();
        assert_eq!(check(&without_lock)[0].rule, "lock");
    }
}
