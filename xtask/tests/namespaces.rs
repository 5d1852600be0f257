//! The laboratory on a real kernel: it carries traffic, and it vanishes, however it ends.
//! Needs root; as another user the tests say so and pass without judging.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test of the workshop, which may"
)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use workshop::lab::{End, Lab, wait_for};
use workshop::need;

const LIMIT: Duration = Duration::from_secs(20);

/// Announcements of `cargo xtask lab`, in order.
const STAGES: &[&str] = &["opened", "made left", "made right", "cabled", "holding"];

fn without_root() -> bool {
    if !need::is_root() {
        println!("not judged: network namespaces need root");
    }
    !need::is_root()
}

fn namespaces() -> String {
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

/// Starts `cargo xtask lab` and reads its progress until `stage`.
fn held_until(stage: &str) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("lab")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let name = format!("wf{}", child.id());
    let mut seen = Vec::new();
    for line in lines {
        let line = line.unwrap();
        let found = line.contains(stage);
        seen.push(line);
        if found {
            return (child, name);
        }
    }
    panic!("`{stage}` never came: {seen:?}, {:?}", child.wait());
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, signal).unwrap();
}

fn sleepers(lab: &str) -> usize {
    let mark = format!("WAYFARE_LAB={lab}");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let marked = entries.filter(|entry| {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|one| one == mark.as_bytes())
    });
    marked.count()
}

#[test]
fn a_namespace_lab_carries_both_families_and_leaves_nothing() {
    if without_root() {
        return;
    }
    let lab = Lab::open().unwrap();
    let name = lab.name().to_owned();
    let a = lab.namespace("a").unwrap();
    let b = lab.namespace("b").unwrap();
    lab.cable(
        &End {
            at: &a,
            interface: "eth0",
            addresses: &["10.77.1.1/24", "fd77:1::1/64"],
        },
        &End {
            at: &b,
            interface: "eth0",
            addresses: &["10.77.1.2/24", "fd77:1::2/64"],
        },
    )
    .unwrap();
    for address in ["10.77.1.2", "fd77:1::2"] {
        let route = a.ip(&format!("route get {address}")).unwrap();
        assert!(route.contains("dev eth0"), "{route}");
    }
    for family in ["inet", "inet6"] {
        let listed = b
            .ip(&format!("-f {family} -o address show dev eth0"))
            .unwrap();
        assert!(!listed.contains("tentative"), "{listed}");
    }
    b.sysctl("net.ipv4.ip_forward", "1").unwrap();
    assert_eq!(
        b.output("cat", &["/proc/sys/net/ipv4/ip_forward"]).unwrap(),
        "1\n"
    );

    // Bytes cross: a listener in one, a connection from the other.
    let script = "exec 3<>/dev/tcp/10.77.1.1/7000; echo over >&3";
    let mut listener = a
        .spawn(
            "listener",
            "bash",
            ["-c", "exec perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen=>1,LocalPort=>7000,ReuseAddr=>1)->accept->getline'"],
        )
        .unwrap();
    wait_for("the words to cross", LIMIT, || {
        let _ = b.capture("bash", &["-c", script], LIMIT)?;
        listener.ended()
    })
    .unwrap();
    assert_eq!(listener.said(), "over\n");

    // A process that goes on, and one that nobody holds a guard of.
    let going = b.spawn("going", "sleep", ["300"]).unwrap();
    b.output("sh", &["-c", "sleep 300 >/dev/null 2>&1 &"])
        .unwrap();
    assert!(sleepers(&name) >= 2);
    let folder = lab.folder().to_owned();
    let left = lab.close().unwrap();
    assert_eq!(left.count(), 0, "left behind: {left}");
    assert!(!namespaces().contains(&name));
    assert_eq!(sleepers(&name), 0);
    assert!(!folder.exists());
    drop(going);
}

#[test]
fn a_namespace_lab_counts_what_is_left_behind() {
    if without_root() {
        return;
    }
    let lab = Lab::open().unwrap();
    let space = lab.namespace("stray").unwrap();
    let before = workshop::lab::Snapshot::default();
    let _stray = space.spawn("stray", "sleep", ["300"]).unwrap();
    let left = workshop::lab::Snapshot::take()
        .unwrap()
        .left_behind(&before, lab.name())
        .unwrap();
    assert_eq!(left.namespaces, [space.name()]);
    assert_eq!(left.processes.len(), 1, "{left}");
    assert_eq!(lab.close().unwrap().count(), 0);
}

#[test]
fn a_namespace_program_that_dies_is_told_with_its_last_words() {
    if without_root() {
        return;
    }
    let lab = Lab::open().unwrap();
    let space = lab.namespace("a").unwrap();
    let mut dying = space
        .spawn("dying", "sh", ["-c", "echo no coins; exit 7"])
        .unwrap();
    let error = wait_for("an answer", LIMIT, || {
        dying.must_live()?;
        Ok(None::<()>)
    })
    .unwrap_err();
    let told = format!("{error:#}");
    for part in ["while waiting for an answer", "exit code 7", "no coins"] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[test]
fn a_signal_at_any_stage_leaves_no_namespace_and_no_process() {
    if without_root() {
        return;
    }
    for (stage, sent) in STAGES
        .iter()
        .flat_map(|stage| [Signal::SIGINT, Signal::SIGTERM].map(|signal| (*stage, signal)))
    {
        let (mut child, name) = held_until(stage);
        signal(&child, sent);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(130), "{sent} after `{stage}`");
        assert!(!namespaces().contains(&name), "{sent} after `{stage}`");
        assert_eq!(sleepers(&name), 0, "{sent} after `{stage}`");
    }
}

#[test]
fn a_namespace_lab_that_was_killed_is_swept_by_the_next() {
    if without_root() {
        return;
    }
    let (mut child, name) = held_until("holding");
    signal(&child, Signal::SIGKILL);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(
        namespaces().contains(&name),
        "a kill leaves the lab standing"
    );
    assert_eq!(sleepers(&name), 1);

    let (mut living, other) = held_until("holding");
    assert!(!namespaces().contains(&name));
    assert_eq!(sleepers(&name), 0);
    drop(Lab::open().unwrap());
    assert!(namespaces().contains(&other), "a living lab is left alone");
    signal(&living, Signal::SIGINT);
    living.wait().unwrap();
}
