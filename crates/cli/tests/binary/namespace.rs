//! A network namespace for one test, and the proof that a program has changed nothing in it. Needs root.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs a program as root without the one capability that matters here.
pub(crate) const WITHOUT_NET_ADMIN: &[&str] = &[
    "setpriv",
    "--bounding-set",
    "-net_admin",
    "--inh-caps",
    "-net_admin",
];

/// Runs `test` on a thread with a network namespace of its own, in which only the loopback device is up. What the thread starts is
/// in there too; it all disappears with the last of them.
pub(crate) fn in_new_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Calls `ip`.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.unwrap().success(), "ip {arguments}");
}

/// That there is no device, rule, route or table but the kernel's own.
pub(crate) fn untouched() {
    let says = |program: &str, arguments: &str| {
        let output = Command::new(program).args(arguments.split(' ')).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let links = says("ip", "-o link");
    assert_eq!(links.lines().count(), 1, "{links}");
    let rules = says("ip", "rule");
    assert_eq!(rules.lines().count(), 3, "{rules}");
    assert_eq!(says("ip", "route"), "");
    assert_eq!(says("nft", "list ruleset"), "");
}
