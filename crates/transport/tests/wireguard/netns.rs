//! Network namespaces with names, and the cable between two of them.
//!
//! Names carry the process id, so that runs beside each other never meet, and a later run can tell
//! what a killed one left behind. It refuses to touch any namespace it did not name.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PREFIX: &str = "wfi-";
/// Where `ip netns` mounts them.
const FOLDER: &str = "/run/netns";

/// A namespace that is deleted, with every device in it, when this value goes.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// A new namespace, its loopback up.
    pub(crate) fn new() -> Self {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let name = format!("{PREFIX}{}-{}", std::process::id(), unique());
        run("ip", &format!("netns add {name}"));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `ip` on this namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        run("ip", &format!("-n {} {arguments}", self.name));
    }

    /// Runs `inside` on a thread of this namespace. Sockets, devices and processes made there
    /// belong to the namespace wherever they are used later.
    pub(crate) fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        let joined = thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.door().join_this_thread();
                    inside()
                })
                .join()
        });
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The way in, for a thread that outlives a borrow.
    pub(crate) fn door(&self) -> Door {
        Door(self.name.clone())
    }

    /// TCP segments this namespace has sent again since it exists.
    pub(crate) fn retransmitted_segments(&self) -> u64 {
        let text = self.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
        let mut rows = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
        let at = names.split(' ').position(|name| name == "RetransSegs");
        values.split(' ').nth(at.unwrap()).unwrap().parse().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// The way into a namespace.
#[derive(Debug)]
pub(crate) struct Door(String);

impl Door {
    /// Moves the calling thread, for good, into the namespace.
    pub(crate) fn join_this_thread(&self) {
        let door = File::open(Path::new(FOLDER).join(&self.0)).unwrap();
        setns(door, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

/// Connects two namespaces by a veth pair called `out` at both ends, with the given addresses.
pub(crate) fn cable(a: &Namespace, b: &Namespace, addresses: [&str; 2]) {
    let (left, right) = (&a.name, &b.name);
    run(
        "ip",
        &format!("link add out netns {left} type veth peer name out netns {right}"),
    );
    for (namespace, address) in [a, b].into_iter().zip(addresses) {
        // Without `nodad` an IPv6 address cannot be used for its first seconds.
        namespace.ip(&format!("address add {address} dev out nodad"));
        namespace.ip("link set out up");
    }
}

/// A number no other lab of this process has.
pub(crate) fn unique() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs a command that must succeed.
pub(crate) fn run(program: &str, arguments: &str) {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}; it is in the Debian package iproute2"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {said}");
}

fn delete(name: &str) {
    let outcome = Command::new("ip").args(["netns", "del", name]).status();
    if !outcome.is_ok_and(|status| status.success()) {
        eprintln!("the namespace {name} could not be removed");
    }
}

/// Removes what test processes that were killed could not: their namespaces and the processes in
/// them. A process that lives keeps what carries its number.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(FOLDER) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_orphaned(&name) {
            continue;
        }
        let inside = Command::new("ip").args(["netns", "pids", &name]).output();
        let inside = inside.map(|output| output.stdout).unwrap_or_default();
        for pid in String::from_utf8_lossy(&inside).lines() {
            if let Ok(pid) = pid.parse() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        delete(&name);
    }
}

fn is_orphaned(name: &str) -> bool {
    let owner = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split('-').next());
    let owner = owner.and_then(|pid| pid.parse::<u32>().ok());
    owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}
