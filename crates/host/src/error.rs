//! What can go wrong with this computer. Every message names the guilty part and the next step.
//!
//! Refuses to guess: what a program said is quoted, not interpreted, except for a refused privilege.

use std::path::PathBuf;
use std::time::Duration;

/// A failed change, undo or reading of the host's network configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A program this crate drives is not installed.
    #[error(
        "`{program}` was not found in PATH, /usr/sbin or /sbin: install the package `{package}` (for example `apt-get install {package}`)"
    )]
    MissingProgram {
        /// The program looked for.
        program: String,
        /// The package of Debian, Ubuntu, Fedora and Arch that has it.
        package: String,
    },
    /// The process may not administer the network.
    #[error(
        "{action} needs the capability CAP_NET_ADMIN: run as root, or as a service with AmbientCapabilities=CAP_NET_ADMIN"
    )]
    MissingPrivilege {
        /// What was refused.
        action: String,
    },
    /// A program ran and refused.
    #[error("`{command}` failed ({status}): {stderr}")]
    CommandFailed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it wrote to standard error, trimmed and bounded.
        stderr: String,
    },
    /// A program did not end in time and was killed.
    #[error(
        "`{command}` did not end within {after:?} and was killed: is the kernel's netlink lock held by another program?"
    )]
    TimedOut {
        /// The command line.
        command: String,
        /// The time it was given.
        after: Duration,
    },
    /// A program could not be started or talked to.
    #[error("`{command}` could not be run: {source}")]
    NotRun {
        /// The command line.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program answered with something other than the documented JSON.
    #[error(
        "the answer of `{command}` is not understood (iproute2 5.0 or newer is needed): {source}"
    )]
    Unreadable {
        /// The command line.
        command: String,
        /// Where the reading stopped.
        source: serde_json::Error,
    },
    /// A name given by the caller cannot be used in a rule.
    #[error("{what} `{value}` is not usable: {why}")]
    BadName {
        /// What the name is for.
        what: &'static str,
        /// The name.
        value: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// The named interface does not exist in this network namespace.
    #[error("there is no network interface `{name}` here: create the tunnel device first")]
    NoInterface {
        /// The interface.
        name: String,
    },
    /// The configuration contradicts itself.
    #[error("the configuration cannot work: {why}")]
    BadConfig {
        /// The contradiction and what to change.
        why: String,
    },
    /// A kernel setting could not be read or written.
    #[error(
        "kernel setting {key}: {source} (in a container, mount /proc/sys writable or set it outside)"
    )]
    Sysctl {
        /// The setting, with slashes.
        key: String,
        /// Why.
        source: std::io::Error,
    },
    /// The undo journal could not be read or made durable; nothing was changed.
    #[error("the undo journal {path}: {source} (the state directory must exist and be writable)")]
    Journal {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A running process already made this very change under this name.
    #[error("process {pid} already holds {what}: stop it, or give this node another name")]
    InUse {
        /// The change.
        what: String,
        /// The process.
        pid: u32,
    },
    /// A change is to be undone from another network namespace than it was made in.
    #[error(
        "this thread is in another network namespace than the change was made in: undo it from there, or recover there"
    )]
    Elsewhere,
    /// The runtime is shutting down; nothing was changed.
    #[error("the runtime is shutting down")]
    ShuttingDown,
}
