//! The machine under a measurement: what a reader needs to compare two reports.
//! It refuses to name anything that identifies the machine.

use serde::Serialize;

/// Cores, memory, kernel and load, as they were when asked.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Machine {
    /// Logical cores this process may use.
    pub cores: usize,
    /// Memory in bytes; 0 when `/proc/meminfo` does not say.
    pub memory: u64,
    /// Kernel release.
    pub kernel: String,
    /// Load average over one minute; negative when `/proc/loadavg` does not say.
    pub load: f64,
}

impl Machine {
    /// Asks the machine.
    pub fn ask() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: meminfo(&read("/proc/meminfo"), "MemTotal"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: first_number(&read("/proc/loadavg")),
        }
    }
}

/// A field of `/proc/meminfo` in bytes; 0 when absent.
pub fn meminfo(text: &str, field: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn first_number(text: &str) -> f64 {
    let first = text.split_whitespace().next();
    first.and_then(|word| word.parse().ok()).unwrap_or(-1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_in_kibibytes() {
        let text = "MemTotal:       24 kB\nMemFree:  8 kB\n";
        assert_eq!(meminfo(text, "MemTotal"), 24 * 1024);
        assert_eq!(meminfo(text, "SwapTotal"), 0);
    }

    #[test]
    fn this_machine_answers() {
        let machine = Machine::ask();
        assert!(machine.cores > 0 && machine.memory > 0 && machine.load >= 0.0);
        assert!(!machine.kernel.is_empty());
    }
}
