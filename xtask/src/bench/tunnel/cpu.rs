//! Where the processors' time went: of the whole machine from `/proc/stat`, of single processes
//! from `/proc/PID/stat`. It refuses to tell who did what in a kernel thread: that is why the
//! machine's whole time is the figure that is judged.

use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::Context as _;

use super::spread::{Spread, rounded};
use crate::lab::pause;
use crate::report::{Bar, Report};

/// A hundred of the kernel's ticks on each processor.
const LISTEN: Duration = Duration::from_secs(1);

/// How busy the machine may be with something else: its whole time is counted as the tunnel's.
const QUIET: f64 = 0.10;

/// Both files count in these, whatever the kernel's own tick is: it is part of their format.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time used so far, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::bench) struct Used {
    /// All processors together: user, nice, system, interrupts and soft interrupts.
    machine: u64,
    /// The processes asked for, with all their threads.
    processes: u64,
}

/// Processor time between two looks, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::bench) struct Spent {
    /// Of the whole machine.
    pub(in crate::bench) machine: f64,
    /// Of the processes alone, what the kernel did for them in their system calls included.
    pub(in crate::bench) processes: f64,
}

impl Used {
    /// Looks at the machine and at `processes`.
    ///
    /// # Errors
    /// When the kernel does not tell, or a process is no more.
    pub(in crate::bench) fn now(processes: &[u32]) -> anyhow::Result<Self> {
        let read = |path: &str| {
            fs::read_to_string(path).with_context(|| format!("cannot read {path}, is it gone?"))
        };
        let machine = busy(&read("/proc/stat")?).context("/proc/stat has another form")?;
        let mut used = Self {
            machine,
            processes: 0,
        };
        for process in processes {
            let path = format!("/proc/{process}/stat");
            used.processes +=
                of_process(&read(&path)?).with_context(|| format!("{path} has another form"))?;
        }
        Ok(used)
    }

    /// What was used since `earlier`.
    pub(in crate::bench) fn since(self, earlier: Self) -> Spent {
        let nanoseconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND * 1e9;
        Spent {
            machine: nanoseconds(self.machine.saturating_sub(earlier.machine)),
            processes: nanoseconds(self.processes.saturating_sub(earlier.processes)),
        }
    }
}

/// What the machine does while the bench does nothing, as a part of all its processors.
///
/// # Errors
/// When the kernel does not tell, or a signal comes.
pub(in crate::bench) fn others() -> anyhow::Result<f64> {
    let (begun, before) = (Instant::now(), Used::now(&[])?);
    pause(LISTEN)?;
    let spent = Used::now(&[])?.since(before).machine;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Ok(spent / 1e9 / begun.elapsed().as_secs_f64() / cores as f64)
}

/// Tells the median of what [`others`] found before each round, and whether the machine was quiet enough to judge: not
/// where nothing was found.
pub(in crate::bench) fn tell_others(report: &mut Report, found: &[f64]) -> bool {
    let busy = Spread::of(found).map(|spread| spread.median);
    let note = "what the machine did in the second before each round";
    let bar = Bar::AtMost(QUIET);
    report.number("others_busy", busy.map(rounded), "of all cores", &bar, note);
    busy.is_some_and(|busy| busy <= QUIET)
}

/// `cpu  user nice system idle iowait irq softirq …`
fn busy(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let wanted = [0, 1, 2, 5, 6];
    wanted.iter().map(|at| fields.get(*at)).sum()
}

/// Fields 14 and 15, counted after the parenthesised name, which may hold anything.
fn of_process(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(number(11)? + number(12)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let stat = "cpu  1 20 300 7777 8888 4000 50000 9 0 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n";
        assert_eq!(busy(stat), Some(54_321));
        assert_eq!(busy("cpu  1 2 3\n"), None);
    }

    #[test]
    fn a_name_with_blanks_and_brackets_misleads_nobody() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 900 0 0 0 40 2 0 0 20 0 1 0 5 6 7";
        assert_eq!(of_process(stat), Some(42));
    }

    #[test]
    fn this_process_uses_time() {
        let own = [std::process::id()];
        let before = Used::now(&own).unwrap();
        while Used::now(&own).unwrap().since(before).processes < 2e7 {}
        let spent = Used::now(&own).unwrap().since(before);
        assert!(spent.machine > 0.0, "{spent:?}");
    }
}
