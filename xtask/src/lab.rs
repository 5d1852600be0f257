//! The laboratory: network namespaces, cables and processes that vanish with it, whatever happens.
//!
//! Every namespace is called `wf<pid>-<name>`, every process carries the lab's name in its
//! environment, so that a lab can be swept by anyone at any time: by its own drop, on an error or
//! a signal, and by the next lab after a `kill -9`. It refuses to touch what does not bear its
//! name, and to run without root.

mod background;
pub mod hold;
mod leftovers;
mod namespace;
mod sweep;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

pub use background::Background;
pub use leftovers::{Leftovers, Snapshot};
pub use namespace::{End, Namespace};

use crate::{interrupt, need, process};

/// Every lab's name begins with this and the id of the process that built it.
const PREFIX: &str = "wf";

/// A process of a lab carries the lab's name under this name in its environment.
const MARK: &str = "WAYFARE_LAB";

/// Labs opened by this process so far: the second is called `wf<pid>x1`.
static OPENED: AtomicU32 = AtomicU32::new(0);

/// A laboratory. Dropping it ends its processes and removes its namespaces.
#[derive(Debug)]
pub struct Lab {
    name: String,
    folder: PathBuf,
    before: Snapshot,
    keep_logs: bool,
    down: bool,
}

impl Lab {
    /// Opens an empty laboratory, after sweeping those whose process is gone.
    ///
    /// # Errors
    /// Without root, or without `ip`, naming the line that brings it.
    pub fn open() -> anyhow::Result<Self> {
        if !need::is_root() {
            bail!("network namespaces need root; run it again with sudo -E env PATH=\"$PATH\"");
        }
        need::need(&["ip"])?;
        sweep::dead_labs()?;
        let name = match OPENED.fetch_add(1, Ordering::Relaxed) {
            0 => format!("{PREFIX}{}", std::process::id()),
            earlier => format!("{PREFIX}{}x{earlier}", std::process::id()),
        };
        let folder = sweep::homes().join(&name);
        std::fs::create_dir_all(sweep::homes())
            .and_then(|()| std::fs::create_dir(&folder))
            .with_context(|| format!("cannot open the lab in {}", folder.display()))?;
        // From here on the drop clears up.
        let mut lab = Self {
            name,
            folder,
            before: Snapshot::default(),
            keep_logs: false,
            down: false,
        };
        sweep::sign(&lab.folder)?;
        lab.before = Snapshot::take()?;
        Ok(lab)
    }

    /// `wf<pid>` or `wf<pid>x<n>`: what every name in it begins with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder for the lab's files and logs, removed with it unless [`Lab::keep_logs`].
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps the folder after the lab is gone, for reading logs after a failure. The next sweep
    /// leaves it alone too.
    pub fn keep_logs(&mut self) {
        self.keep_logs = true;
    }

    /// A new namespace with its loopback up, IPv6 without duplicate detection.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn namespace(&self, name: &str) -> anyhow::Result<Namespace> {
        Namespace::create(self, name)
    }

    /// A cable: a veth pair made inside the two namespaces, with addresses, up and carrying.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn cable(&self, a: &End<'_>, b: &End<'_>) -> anyhow::Result<()> {
        namespace::cable(a, b)
    }

    /// Ends every process, removes every namespace and, unless kept, the folder; then says what is
    /// on the machine that was not there before and bears the lab's or the product's name.
    ///
    /// # Errors
    /// When the machine cannot be asked.
    pub fn close(self) -> anyhow::Result<Leftovers> {
        let mut left = Self::close_all(vec![self])?;
        Ok(left.pop().unwrap_or_default())
    }

    /// As [`Lab::close`], for labs that were open side by side: none is looked at before all are
    /// down, as what one still runs would be taken for what another left.
    ///
    /// # Errors
    /// As [`Lab::close`].
    pub fn close_all(mut labs: Vec<Self>) -> anyhow::Result<Vec<Leftovers>> {
        interrupt::shielded(|| {
            labs.iter_mut().for_each(Self::tear_down);
            let now = Snapshot::take()?;
            let left = labs.iter();
            left.map(|lab| now.left_behind(&lab.before, &lab.name))
                .collect()
        })
    }

    fn tear_down(&mut self) {
        if self.down {
            return;
        }
        self.down = true;
        interrupt::shielded(|| {
            if let Err(error) = sweep::lab(&self.name) {
                crate::progress::say(&format!("cannot clear {}: {error:#}", self.name));
            }
            if self.keep_logs {
                sweep::unsign(&self.folder);
                crate::progress::say(&format!("logs kept in {}", self.folder.display()));
            } else {
                let _ = std::fs::remove_dir_all(&self.folder);
            }
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs = true;
        }
        self.tear_down();
    }
}

/// Asks `probe` again and again until it answers with a value. An `Err` of the probe ends the
/// wait at once, so a probe can look whether the process it waits for still lives.
///
/// # Errors
/// The probe's, [`interrupt::Interrupted`], or after `limit`, saying what was waited for.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + limit;
    loop {
        interrupt::check()?;
        if let Some(value) = probe().with_context(|| format!("while waiting for {what}"))? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {:.1} s in vain for {what}", limit.as_secs_f64());
        }
        std::thread::sleep(process::LOOK);
    }
}

/// Lets `time` pass, unless a signal comes: for a stretch of traffic, never for a condition.
///
/// # Errors
/// [`interrupt::Interrupted`].
pub fn pause(time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        interrupt::check()?;
        std::thread::sleep(left.min(process::LOOK));
    }
    Ok(())
}
