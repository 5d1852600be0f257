//! Memory of a process: what is resident, now or at its most over a stretch of time. It refuses to
//! tell whose pages they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;

use crate::machine::meminfo;

/// How often a watched process is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Resident bytes of a process.
///
/// # Errors
/// When it is gone.
pub(in crate::bench) fn resident(process: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let bytes = Some(meminfo(&status, "VmRSS")).filter(|bytes| *bytes > 0);
    bytes.with_context(|| format!("{path} tells no VmRSS"))
}

/// Looks at a process again and again. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Watch {
    most: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to look.
    ///
    /// # Errors
    /// When the process is gone.
    pub(super) fn begin(process: u32) -> anyhow::Result<Self> {
        let most = Arc::new(AtomicU64::new(resident(process)?));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, ended) = (Arc::clone(&most), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Ok(bytes) = resident(process) {
                    seen.fetch_max(bytes, Ordering::Relaxed);
                }
                thread::sleep(LOOK);
            }
        });
        Ok(Self {
            most,
            stop,
            thread: Some(thread),
        })
    }

    /// The most that was seen.
    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_resident_and_a_dead_one_is_not() {
        let own = std::process::id();
        let watch = Watch::begin(own).unwrap();
        assert!(watch.most() > 100 << 10);
        // Ids end at 2^22.
        assert!(resident(4_194_305).is_err());
    }
}
