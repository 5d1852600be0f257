//! Ctrl-C, termination and hang-up, turned into a flag that every wait looks at, so that guards
//! run. It refuses to end the process itself: the stack is unwound by ordinary errors.
//!
//! The signals are caught, not blocked: children inherit a mask but not a handler, and must obey
//! the SIGTERM that ends them.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static RECEIVED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

thread_local! {
    static SHIELDED: Cell<bool> = const { Cell::new(false) };
}

/// The error with which every wait ends after a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Starts catching the three signals, also where a shell started us with them ignored.
///
/// # Errors
/// When the kernel refuses a handler.
pub fn watch() -> anyhow::Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(received()))
            .with_context(|| format!("cannot catch signal {signal}"))?;
    }
    Ok(())
}

/// `Err` once a signal has come, unless this thread is shielded.
///
/// # Errors
/// [`Interrupted`].
pub fn check() -> Result<(), Interrupted> {
    if received().load(Ordering::SeqCst) && !SHIELDED.get() {
        return Err(Interrupted);
    }
    Ok(())
}

/// Runs `work` to its end in spite of signals: for tearing down, which is bounded in time.
pub fn shielded<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            SHIELDED.set(self.0);
        }
    }
    let _restore = Restore(SHIELDED.replace(true));
    work()
}

fn received() -> &'static Arc<AtomicBool> {
    RECEIVED.get_or_init(Arc::default)
}
