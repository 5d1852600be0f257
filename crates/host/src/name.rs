//! Names that go into rules and command lines, checked once at the door.
//!
//! Refuses every character that `nft`, `ip` or a path could read as syntax, so that no rule text needs quoting
//! beyond a pair of `"`.

use crate::HostError;

/// Longest node name: a table name is `wayfare_gate_` + this, far below the kernel's 255.
const LONGEST_NODE: usize = 64;
/// `IFNAMSIZ` of Linux is 16 with the closing zero.
const LONGEST_INTERFACE: usize = 15;

/// Checks the suffix that names this node's tables and journal.
pub(crate) fn check_node(node: &str) -> Result<(), HostError> {
    let fits = (1..=LONGEST_NODE).contains(&node.len());
    if fits && node.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err(HostError::BadName {
        what: "node name",
        value: node.to_owned(),
        why: "1 to 64 letters, digits or `_`",
    })
}

/// Checks a network interface name (a stricter rule than the kernel's).
pub(crate) fn check_interface(name: &str) -> Result<(), HostError> {
    let fits = (1..=LONGEST_INTERFACE).contains(&name.len());
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if fits && plain && !name.starts_with(['.', '-']) && !matches!(name, "all" | "default") {
        return Ok(());
    }
    Err(HostError::BadName {
        what: "interface name",
        value: name.to_owned(),
        why: "1 to 15 letters, digits, `_`, `-` or `.`, not starting with `.` or `-`",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_syntax_somewhere_are_refused() {
        for (name, fine) in [
            ("tun0", true),
            ("eth0.100", true),
            ("wg-home", true),
            ("", false),
            ("sixteen-letters0", false),
            ("tun*", false),
            ("tun\"0", false),
            ("../all", false),
            ("-4", false),
            ("all", false),
            ("t 0", false),
        ] {
            assert_eq!(check_interface(name).is_ok(), fine, "{name}");
        }
        for (node, fine) in [
            ("alice", true),
            ("0xabc_1", true),
            ("a-b", false),
            ("a/b", false),
            ("", false),
        ] {
            assert_eq!(check_node(node).is_ok(), fine, "{node}");
        }
    }
}
