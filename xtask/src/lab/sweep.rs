//! Clearing labs by name: one's own, and those whose process is gone. It refuses to touch a lab
//! whose process lives.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{MARK, PREFIX, wait_for};
use crate::process::{SHORT, command, output};
use crate::{interrupt, progress};

/// Who owns a lab: its process id and start time, so that a reused id is not taken for it.
const OWNER: &str = "owner";

/// After SIGTERM; after SIGKILL the kernel needs only to be scheduled.
const GRACE: Duration = Duration::from_secs(3);

/// The folder that holds one folder per lab.
pub(super) fn homes() -> PathBuf {
    std::env::temp_dir().join("wayfare-lab")
}

/// Writes who owns the lab of `folder`.
pub(super) fn sign(folder: &Path) -> anyhow::Result<()> {
    let pid = std::process::id();
    let born = born(pid).context("/proc does not tell when this process began")?;
    std::fs::write(folder.join(OWNER), format!("{pid} {born}")).context("cannot sign the lab")
}

/// Gives the folder up: no sweep removes it any more.
pub(super) fn unsign(folder: &Path) {
    let _ = std::fs::remove_file(folder.join(OWNER));
    // The name is free for a later process with the same id.
    let kept = folder.with_extension(format!("kept-{}", born(std::process::id()).unwrap_or(0)));
    let _ = std::fs::rename(folder, kept);
}

/// Clears every lab whose process is gone.
pub(super) fn dead_labs() -> anyhow::Result<()> {
    let mut dead: Vec<String> = Vec::new();
    let spaces = namespaces()?;
    let folders = std::fs::read_dir(homes()).into_iter().flatten().flatten();
    let folders = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    for name in spaces.into_iter().chain(folders) {
        if let Some(lab) = lab_of(&name)
            && !dead.contains(&lab.to_owned())
            && !is_owned(lab)
        {
            dead.push(lab.to_owned());
        }
    }
    for name in dead {
        progress::say(&format!("clearing {name}, whose process is gone"));
        lab(&name)?;
        let _ = std::fs::remove_dir_all(homes().join(&name));
    }
    Ok(())
}

/// Ends the processes and removes the namespaces of one lab.
pub(super) fn lab(name: &str) -> anyhow::Result<()> {
    interrupt::shielded(|| {
        end_processes(name)?;
        let prefix = format!("{name}-");
        for space in namespaces()?
            .iter()
            .filter(|space| space.starts_with(&prefix))
        {
            output(&mut command("ip", ["netns", "delete", space]), SHORT)?;
        }
        Ok(())
    })
}

fn end_processes(name: &str) -> anyhow::Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let running = processes(name)?;
        if running.is_empty() {
            return Ok(());
        }
        for pid in running {
            match kill(Pid::from_raw(pid), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).context(format!("cannot end process {pid}")),
            }
        }
        let gone = wait_for("the lab's processes to end", GRACE, || {
            Ok(processes(name)?.is_empty().then_some(()))
        });
        if signal == Signal::SIGKILL {
            gone?;
        }
    }
    Ok(())
}

/// Names of all namespaces of the machine.
pub(super) fn namespaces() -> anyhow::Result<Vec<String>> {
    let listed = output(&mut command("ip", ["netns", "list"]), SHORT)?;
    let names = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}

/// Processes of the lab: marked, or inside one of its namespaces. Zombies are none.
pub(super) fn processes(lab: &str) -> anyhow::Result<Vec<i32>> {
    let mut found = marked(lab);
    let prefix = format!("{lab}-");
    for space in namespaces()?
        .iter()
        .filter(|space| space.starts_with(&prefix))
    {
        let inside = output(&mut command("ip", ["netns", "pids", space]), SHORT)?;
        found.extend(
            inside
                .split_whitespace()
                .filter_map(|word| word.parse::<i32>().ok()),
        );
    }
    found.sort_unstable();
    found.dedup();
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    found.retain(|pid| *pid != own);
    Ok(found)
}

/// Processes with the lab's mark in their environment.
fn marked(lab: &str) -> Vec<i32> {
    let mark = format!("{MARK}={lab}");
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark.as_bytes())
    })
    .collect()
}

/// `wf123-web` and `wf123` → `wf123`, `wf123x1-web` → `wf123x1`; none for other names.
fn lab_of(name: &str) -> Option<&str> {
    let lab = name.split('-').next()?;
    pid_of(lab).map(|_| lab)
}

/// `wf123` and `wf123x1` → 123.
fn pid_of(lab: &str) -> Option<u32> {
    let digits = lab.strip_prefix(PREFIX)?;
    let (pid, number) = digits.split_once('x').unwrap_or((digits, "0"));
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// Whether the process that built the lab lives: the one that signed, or where no signature can
/// be read, any with its id.
fn is_owned(lab: &str) -> bool {
    let Some((pid, lives)) = pid_of(lab).and_then(|pid| Some((pid, born(pid)?))) else {
        return false;
    };
    let signed = std::fs::read_to_string(homes().join(lab).join(OWNER));
    signed.map_or(true, |signed| signed == format!("{pid} {lives}"))
}

/// When a process began, in ticks since boot; none when it is gone or a zombie.
fn born(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 3 comes after the parenthesised name, which may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_are_told_from_other_names() {
        assert_eq!(lab_of("wf12-web"), Some("wf12"));
        assert_eq!(lab_of("wf12"), Some("wf12"));
        assert_eq!(lab_of("wf12x3-web"), Some("wf12x3"));
        assert_eq!(pid_of("wf12x3"), Some(12));
        for other in [
            "wf",
            "wfx-web",
            "wfx1",
            "wf1x",
            "wf12.kept-4",
            "other",
            "wf-12",
        ] {
            assert_eq!(lab_of(other), None, "{other}");
        }
    }

    #[test]
    fn this_process_owns_its_lab_and_nobody_a_dead_one() {
        assert!(is_owned(&format!("{PREFIX}{}", std::process::id())));
        // Ids end at 2^22.
        assert!(!is_owned("wf4194305"));
        assert!(born(std::process::id()).is_some());
    }
}
