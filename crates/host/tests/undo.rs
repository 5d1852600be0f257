//! Everything is taken back: on `undo`, on `Drop`, after a failure half way, and after `kill -9` at any moment.
//! "Everything" is the text of all nftables rules, policy rules, routes, addresses and kernel settings of a
//! namespace, compared byte for byte.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests wait in real time and pass settings to a helper process"
)]

#[path = "support/lab.rs"]
mod lab;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use lab::{Namespace, PATIENCE, assert_same};
use wayfare_host::{
    ConsumerRoutes, ExitConfig, ExitRules, Gate, GateConfig, Held, HostError, Journal, Recovered,
    RoutesConfig,
};

const HELPER_DIR: &str = "WAYFARE_HOST_TEST_STATE_DIR";
const HELPER: &str = "helper_that_holds_everything_until_killed";

/// A host and the other end of its link, which would take the link with it if it went first.
struct Host {
    namespace: Namespace,
    _peer: Namespace,
}

impl std::ops::Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// A host that is already somebody's: rules, routes and settings of its own.
fn lived_in() -> Host {
    let host = Namespace::new("host");
    let other = Namespace::new("peer");
    lab::link(
        (&host, "eth0", &["192.0.2.5/24", "2a00:5::2/64"]),
        (&other, "e0", &["192.0.2.1/24", "2a00:5::1/64"]),
    );
    host.sh(
        "ip tuntap add dev tun0 mode tun; echo 0 > /proc/sys/net/ipv6/conf/tun0/accept_dad; ip address add 10.8.0.1/16 dev tun0
         ip -6 address add fd08::1/64 dev tun0 nodad; ip link set tun0 up
         ip route add default via 192.0.2.1; ip -6 route add default via 2a00:5::1
         ip rule add from 10.99.0.0/16 lookup 99 priority 99; ip route add unreachable default table 99
         cd /proc/sys/net
         echo 1 > ipv6/conf/eth0/accept_ra; echo 1 > ipv4/conf/eth0/forwarding; echo 2 > ipv4/conf/tun0/rp_filter",
    );
    host.nft("table inet filter { chain forward { type filter hook forward priority filter; policy drop;\n }\n }");
    Host {
        namespace: host,
        _peer: other,
    }
}

fn exit() -> ExitConfig {
    let mut config = ExitConfig::new("t", "tun0", "10.8.0.0/16".parse().unwrap());
    config.pool_v6 = Some("fd08::/64".parse().unwrap());
    config.uplink = Some("eth0".into());
    config
}

fn routes() -> RoutesConfig {
    let addresses = ["10.8.0.1/16", "fd08::1/64"]
        .map(|net| net.parse().unwrap())
        .to_vec();
    RoutesConfig {
        keep_lan: true,
        ..RoutesConfig::new("t", "tun0", addresses)
    }
}

fn gate(hold_on_crash: bool) -> GateConfig {
    GateConfig {
        node: "t".into(),
        tun: "tun0".into(),
        mark: RoutesConfig::DEFAULT_MARK,
        hold_on_crash,
    }
}

async fn journal(dir: &Path) -> Journal {
    Journal::recover(dir, "t", Held::Keep).await.unwrap().0
}

fn journal_lines(dir: &Path) -> usize {
    std::fs::read_to_string(dir.join("host-t.journal"))
        .unwrap_or_default()
        .lines()
        .count()
}

#[test]
fn undo_and_drop_restore_every_byte() {
    let host = lived_in();
    let dir = tempfile::tempdir().unwrap();
    let before = host.snapshot();
    for dropped in [false, true] {
        let during = host.block_on(async || {
            let journal = journal(dir.path()).await;
            let mut exit = ExitRules::apply(exit(), &journal).await.unwrap();
            let routes = ConsumerRoutes::apply(routes(), &journal).await.unwrap();
            let gate = Gate::apply(gate(false), &journal).await.unwrap();
            exit.refresh().await.unwrap();
            let during = host.snapshot();
            if !dropped {
                gate.undo().await.unwrap();
                routes.undo().await.unwrap();
                exit.undo().await.unwrap();
            }
            during
        });
        for change in [
            "table inet wayfare_t ",
            "table inet wayfare_gate_t ",
            "table inet wayfare_route_t ",
            "ipv4/ip_forward 1",
            "ipv6/conf/all/forwarding 1",
            "ipv6/conf/eth0/accept_ra 2",
            "ipv4/conf/tun0/rp_filter 1",
            "suppress_prefixlength 0",
            "default dev tun0 table 30566",
        ] {
            assert!(during.contains(change), "not applied: {change}\n{during}");
            assert!(!before.contains(change), "{change}");
        }
        assert_same(&before, &host.snapshot(), &format!("dropped: {dropped}"));
        assert_eq!(journal_lines(dir.path()), 0);
    }
}

#[test]
fn what_fails_half_way_is_taken_back_and_nothing_is_forwarded() {
    let host = lived_in();
    let dir = tempfile::tempdir().unwrap();
    // Kernel settings cannot be written (as in many containers): the table is in, forwarding cannot follow.
    let before = host.snapshot();
    let error = host.run(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        for args in [
            &["--make-rprivate", "/"][..],
            &["--bind", "/proc/sys", "/proc/sys"],
            &["-o", "remount,bind,ro", "/proc/sys"],
        ] {
            assert!(
                Command::new("mount").args(args).status().unwrap().success(),
                "{args:?}"
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            ExitRules::apply(exit(), &journal(dir.path()).await)
                .await
                .unwrap_err()
        })
    });
    assert!(matches!(&error, HostError::Sysctl { .. }), "{error}");
    assert_same(&before, &host.snapshot(), "after");
    // The tunnel is down: its default route is refused after the table and a fallback route are in.
    host.sh("ip link set tun0 down");
    let before = host.snapshot();
    let error = host.block_on(async || {
        ConsumerRoutes::apply(routes(), &journal(dir.path()).await)
            .await
            .unwrap_err()
    });
    assert!(error.to_string().contains("not up"), "{error}");
    assert_same(&before, &host.snapshot(), "after");
    // The journal cannot be written: nothing is even begun.
    let error = host.block_on(async || {
        let journal = journal(dir.path()).await;
        std::fs::remove_dir_all(dir.path()).unwrap();
        Gate::apply(gate(false), &journal).await.unwrap_err()
    });
    assert!(matches!(error, HostError::Journal { .. }), "{error}");
    assert_same(&before, &host.snapshot(), "after");
    assert_eq!(journal_lines(dir.path()), 0);
}

#[test]
fn mistakes_are_named_and_change_nothing() {
    let host = lived_in();
    let dir = tempfile::tempdir().unwrap();
    let before = host.snapshot();
    host.block_on(async || {
        let journal = journal(dir.path()).await;
        let mut exits = [exit(), exit(), exit(), exit()];
        exits[0].tun = "tun9".into();
        exits[1].uplink = Some("tun0".into());
        exits[2].node = "a; flush ruleset".into();
        exits[3].pool_v4 = "0.0.0.0/0".parse().unwrap();
        for (config, part) in exits
            .into_iter()
            .zip(["tun9", "uplink", "node name", "pool"])
        {
            let error = ExitRules::apply(config, &journal).await.unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let error = ConsumerRoutes::apply(
            RoutesConfig {
                mark: 0,
                ..routes()
            },
            &journal,
        )
        .await
        .unwrap_err();
        assert!(error.to_string().contains("mark 0"), "{error}");
        let error = ConsumerRoutes::apply(
            RoutesConfig {
                table: 254,
                ..routes()
            },
            &journal,
        )
        .await
        .unwrap_err();
        assert!(error.to_string().contains("system's"), "{error}");
        // Twice under one name: the first stays whole.
        let first = Gate::apply(gate(false), &journal).await.unwrap();
        let error = Gate::apply(gate(false), &journal).await.unwrap_err();
        assert!(
            matches!(error, HostError::InUse { pid, .. } if pid == std::process::id()),
            "{error}"
        );
        assert!(host.sh("nft list tables").contains("wayfare_gate_t"));
        first.undo().await.unwrap();
    });
    assert_same(&before, &host.snapshot(), "after");
}

#[test]
fn a_guard_that_ends_up_in_another_namespace_touches_neither() {
    let host = lived_in();
    let elsewhere = Namespace::new("else");
    elsewhere.nft("table inet wayfare_gate_t { comment \"a stranger's\"\n }");
    let dir = tempfile::tempdir().unwrap();
    let gate = host.block_on(async || {
        Gate::apply(gate(false), &journal(dir.path()).await)
            .await
            .unwrap()
    });
    let (during, theirs) = (host.snapshot(), elsewhere.snapshot());
    let error = elsewhere.block_on(async move || gate.undo().await.unwrap_err());
    assert!(matches!(error, HostError::Elsewhere), "{error}");
    assert_same(&during, &host.snapshot(), "after");
    assert_same(&theirs, &elsewhere.snapshot(), "after");
    assert_eq!(journal_lines(dir.path()), 1, "still to be undone");
}

/// The helper process: the tests below start it and kill it. Run by hand it has nothing to do.
#[test]
#[ignore = "a helper process of the crash tests"]
fn helper_that_holds_everything_until_killed() {
    let Some(dir) = std::env::var_os(HELPER_DIR) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (journal, _) = Journal::recover(&dir, "t", Held::Keep).await.unwrap();
        let _exit = ExitRules::apply(exit(), &journal).await.unwrap();
        let _routes = ConsumerRoutes::apply(routes(), &journal).await.unwrap();
        let _gate = Gate::apply(gate(true), &journal).await.unwrap();
        std::fs::write(Path::new(&dir).join("ready"), "").unwrap();
        std::future::pending::<()>().await;
    });
}

/// A helper process that dies with this value.
struct Victim(Child);

impl Victim {
    fn start(host: &Namespace, dir: &Path) -> Self {
        let child = host.run(|| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", HELPER, "--ignored"])
                .env(HELPER_DIR, dir)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        });
        Self(child)
    }

    fn wait_until(&mut self, reached: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached() {
            assert!(Instant::now() < deadline, "the helper did not get there");
            assert_eq!(self.0.try_wait().unwrap(), None, "the helper ended");
            std::thread::yield_now();
        }
    }

    /// `kill -9`, not reaped until the value is dropped.
    fn kill(&mut self) {
        self.0.kill().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_killed_process_is_cleaned_up_after_and_a_living_one_is_left_alone() {
    let host = lived_in();
    let dir = tempfile::tempdir().unwrap();
    let before = host.snapshot();
    let mut victim = Victim::start(&host, dir.path());
    victim.wait_until(|| dir.path().join("ready").exists());
    let during = host.snapshot();
    assert_ne!(during, before);

    let recover =
        |held| host.block_on(async || Journal::recover(dir.path(), "t", held).await.unwrap());
    let (journal, found) = recover(Held::Release);
    assert!(found.alive > 10 && found.undone == 0, "{found:?}");
    let pid = victim.0.id();
    let error = host.block_on(async || ExitRules::apply(exit(), &journal).await.unwrap_err());
    assert!(
        matches!(error, HostError::InUse { pid: owner, .. } if owner == pid),
        "{error}"
    );
    assert_same(&during, &host.snapshot(), "after");

    // From another namespace nothing may be touched, in either place.
    victim.kill();
    victim.wait_until_dead();
    let elsewhere = Namespace::new("else");
    let (_, found) = elsewhere.block_on(async || {
        Journal::recover(dir.path(), "t", Held::Release)
            .await
            .unwrap()
    });
    assert!(found.elsewhere > 10 && found.undone == 0, "{found:?}");

    let (journal, found) = recover(Held::Keep);
    assert!(found.undone > 10 && found.held == 1, "{found:?}");
    let held = host.snapshot();
    assert!(
        held.contains("wayfare_gate_t") && !held.contains("table inet wayfare_t "),
        "{held}"
    );
    // A node that starts again takes its held gate over, and opens it when it stops.
    host.block_on(async || {
        Gate::apply(gate(true), &journal)
            .await
            .unwrap()
            .undo()
            .await
            .unwrap()
    });
    assert_same(&before, &host.snapshot(), "after");
    assert_eq!(recover(Held::Release).1, Recovered::default());
}

impl Victim {
    /// Killed but not reaped counts as dead; the kernel takes a moment to get there.
    fn wait_until_dead(&self) {
        let deadline = Instant::now() + PATIENCE;
        let stat = format!("/proc/{}/stat", self.0.id());
        while !std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "the helper does not die");
            std::thread::yield_now();
        }
    }
}

#[test]
fn killed_at_any_change_everything_is_restored() {
    let host = lived_in();
    let before = host.snapshot();
    let mut changed = 0;
    for line in 1..=24 {
        let dir = tempfile::tempdir().unwrap();
        let mut victim = Victim::start(&host, dir.path());
        let reached = || journal_lines(dir.path()) >= line || dir.path().join("ready").exists();
        victim.wait_until(reached);
        victim.kill();
        victim.wait_until_dead();
        changed += usize::from(host.snapshot() != before);
        host.block_on(async || {
            let (_, found) = Journal::recover(dir.path(), "t", Held::Release)
                .await
                .unwrap();
            assert!(found.undone >= line.min(10), "{line}: {found:?}");
            assert_eq!(
                Journal::recover(dir.path(), "t", Held::Release)
                    .await
                    .unwrap()
                    .1,
                Recovered::default()
            );
        });
        assert_same(&before, &host.snapshot(), &format!("killed at line {line}"));
    }
    assert!(
        changed >= 20,
        "the kills came too early to prove anything: {changed}"
    );
}

#[test]
fn without_the_privilege_the_error_names_it_and_nothing_changes() {
    let host = lived_in();
    let dir = tempfile::tempdir().unwrap();
    let before = host.snapshot();
    let output = host.run(|| {
        Command::new("setpriv")
            .args(["--inh-caps=-net_admin", "--bounding-set=-net_admin"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", HELPER, "--ignored", "--nocapture"])
            .env(HELPER_DIR, dir.path())
            .output()
            .unwrap()
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("MissingPrivilege"),
        "{text}"
    );
    assert_same(&before, &host.snapshot(), "after");
    assert_eq!(journal_lines(dir.path()), 0);
    let message = HostError::MissingPrivilege {
        action: "providing an exit".into(),
    }
    .to_string();
    assert!(
        message.contains("CAP_NET_ADMIN") && message.contains("run as root"),
        "{message}"
    );
}
