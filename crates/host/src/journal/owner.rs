//! Who made a change, and where.
//!
//! Refuses to trust a bare pid (reused) or a bare namespace number (reused after a reboot).

use serde::{Deserialize, Serialize};

/// A process, told apart from a later one of the same pid by its start time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) pid: u32,
    /// Clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub(super) started: u64,
}

impl Owner {
    pub(super) fn current() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            started: started(pid).unwrap_or_default(),
        }
    }

    /// Whether the process runs. A killed one that nobody has reaped yet does not.
    pub(super) fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

/// The start time of a process that is neither gone nor dead (`Z`, `X`).
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat)
}

/// The name in parentheses may hold anything, also `)`: the fields begin after the last one.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    // Field 3 is the state; field 22 is 19 further, 18 between.
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

/// A network namespace of one boot of this computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(super) boot: String,
    pub(super) netns: String,
}

impl Place {
    /// The place of the calling thread (a thread may sit in another namespace than its process).
    pub(crate) fn here() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let netns = std::fs::read_link("/proc/thread-self/ns/net").unwrap_or_default();
        Self {
            boot: boot.trim().to_owned(),
            netns: netns.to_string_lossy().into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_a_hostile_process_name() {
        let tail = "1 1 1 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1";
        assert_eq!(
            parse_stat(&format!("7 (a) R 1 (b) S {tail}")),
            Some(987_654)
        );
        assert_eq!(parse_stat(&format!("7 (dead) Z {tail}")), None);
        assert_eq!(parse_stat("7 (short) S 1"), None);
    }

    #[test]
    fn this_process_is_alive_and_its_pid_at_another_time_is_not() {
        let me = Owner::current();
        assert!(me.is_alive());
        assert!(
            !Owner {
                started: me.started + 1,
                ..me
            }
            .is_alive()
        );
    }
}
