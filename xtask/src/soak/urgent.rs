//! This process and all that it starts before everything else that the machine does. It refuses to
//! last: the priority is given back with the guard.
//!
//! A program that is kept from running for some tens of milliseconds loses what comes meanwhile,
//! as the kernel's queue for it holds no more. That tells of the machine and not of the tunnel.

use anyhow::Context as _;

use crate::process::{SHORT, command, output};
use crate::progress::step;

/// Of −20 to 19, where less is more; an ordinary program has 0.
const NICE: i64 = -15;

/// The guard.
#[derive(Debug)]
pub(super) struct Urgent {
    before: Niceness,
}

/// The kernel shares the processors out between sessions first, and then within each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Niceness {
    /// Of the session; none where the kernel does not share out by sessions.
    session: Option<i64>,
    own: i64,
}

impl Urgent {
    /// Begins; none where it is not allowed, which is said.
    pub(super) fn begin() -> Option<Self> {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let before = Niceness {
            session: of_session(&read(SESSION)),
            own: of_process(&read("/proc/self/stat"))?,
        };
        let urgent = Self { before };
        let wanted = Niceness {
            session: before.session.map(|_| NICE),
            own: NICE,
        };
        if let Err(error) = wanted.set() {
            step(&format!("not before other programs: {error:#}"));
            return None;
        }
        Some(urgent)
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if let Err(error) = crate::interrupt::shielded(|| self.before.set()) {
            step(&format!("the priority is not what it was: {error:#}"));
        }
    }
}

impl Niceness {
    /// For the session, and for the thread that this process began with, which calls it, and all
    /// that it starts.
    fn set(self) -> anyhow::Result<()> {
        if let Some(session) = self.session {
            std::fs::write(SESSION, session.to_string()).context("cannot write the session's")?;
        }
        let (nice, own) = (self.own.to_string(), std::process::id().to_string());
        output(&mut command("renice", ["-n", &nice, "-p", &own]), SHORT).map(drop)
    }
}

/// `/autogroup-12 nice 0`: sched(7).
const SESSION: &str = "/proc/self/autogroup";

fn of_session(told: &str) -> Option<i64> {
    told.split_once("nice ")?.1.trim().parse().ok()
}

/// Field 19 of `/proc/…/stat`; the second is a name in parentheses, which may hold anything.
fn of_process(stat: &str) -> Option<i64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(16)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_read() {
        assert_eq!(of_session("/autogroup-12 nice -3\n"), Some(-3));
        assert_eq!(of_session(""), None);
    }

    #[test]
    fn the_priority_is_read_behind_the_name() {
        let stat = "7 (a) b) R 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 -15 20 21";
        assert_eq!(of_process(stat), Some(-15));
        assert_eq!(of_process("7 (a) R 3"), None);
    }
}
