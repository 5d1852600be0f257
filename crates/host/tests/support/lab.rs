//! Network namespaces for the tests of this crate: made per process, joined by veth pairs, removed by a guard.
//!
//! Refuses to touch the namespace the tests were started in.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "each test file uses a part; tests wait in real time"
)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

/// Upper bound of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The port that probes go to; watches count nothing else.
pub(crate) const PROBE_PORT: u16 = 33_333;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A namespace that goes away with this value.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new(label: &str) -> Self {
        remove_orphans();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wfh-{}-{number}-{label}", std::process::id());
        host(&["ip", "netns", "add", &name]);
        let namespace = Self { name };
        namespace.sh("ip link set lo up");
        namespace
    }

    /// Runs a shell script inside; it must succeed.
    pub(crate) fn sh(&self, script: &str) -> String {
        host(&["ip", "netns", "exec", &self.name, "sh", "-ec", script])
    }

    /// Loads nft rules inside.
    pub(crate) fn nft(&self, rules: &str) {
        self.sh(&format!("nft -f - <<'RULES'\n{rules}\nRULES"));
    }

    /// Runs a closure on a thread inside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a future on a thread and runtime inside; its blocking work is inside, too.
    pub(crate) fn block_on<F: Future>(&self, work: impl FnOnce() -> F + Send) -> F::Output
    where
        F::Output: Send,
    {
        self.run(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(work())
        })
    }

    /// Moves the calling thread inside.
    pub(crate) fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        stay_on_one_cpu();
    }

    /// Everything that this crate may change, as text.
    pub(crate) fn snapshot(&self) -> String {
        self.sh(
            "nft list ruleset
             for f in -4 -6; do ip $f rule; ip $f route show table all; done
             ip address | sed 's/valid_lft.*//'
             cd /proc/sys/net
             find ipv4 ipv6 -type f \\( -path '*/conf/*' -o -name ip_forward \\) ! -name stable_secret \
                ! -name flush | sort | xargs grep -s '' | sed 's/:/ /'",
        )
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

/// Namespaces of test processes that were killed before their guards ran.
fn remove_orphans() {
    for entry in std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().into_string().unwrap_or_default();
        let pid = name
            .strip_prefix("wfh-")
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists()) {
            let _raced = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// A veth hands packets to the queue of the sending CPU: with all senders on one, what was sent first arrives
/// first, and an answer to a later question proves that everything sent before has gone where it goes.
fn stay_on_one_cpu() {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).unwrap();
    let first = (0..CpuSet::count())
        .find(|&cpu| allowed.is_set(cpu).unwrap())
        .unwrap();
    let mut one = CpuSet::new();
    one.set(first).unwrap();
    sched_setaffinity(this, &one).unwrap();
}

fn host(line: &[&str]) -> String {
    let output = Command::new(line[0]).args(&line[1..]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// One end of a link: where, the interface's name, its addresses.
pub(crate) type End<'a> = (&'a Namespace, &'a str, &'a [&'a str]);

/// Joins two namespaces by a veth pair whose neighbours are known from the start, so that no packet waits for
/// an address to be resolved.
pub(crate) fn link(a: End<'_>, b: End<'_>) {
    let number = NEXT.fetch_add(2, Ordering::Relaxed);
    let mac = |n: u32| format!("02:77:00:00:{:02x}:{:02x}", n / 256, n % 256);
    let (mac_a, mac_b) = (mac(number), mac(number + 1));
    host(&[
        "ip", "link", "add", a.1, "address", &mac_a, "netns", &a.0.name, "type", "veth", "peer",
        "name", b.1, "address", &mac_b, "netns", &b.0.name,
    ]);
    for ((namespace, interface, addresses), (_, _, others), other_mac) in
        [(a, b, &mac_b), (b, a, &mac_a)]
    {
        let mut script = format!(
            "echo 0 > /proc/sys/net/ipv6/conf/{interface}/accept_dad; ip link set dev {interface} up\n"
        );
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            script += &format!("ip address add {address} dev {interface} {nodad}\n");
        }
        for other in others {
            let ip = other.split('/').next().unwrap();
            script += &format!(
                "ip neighbour replace {ip} lladdr {other_mac} dev {interface} nud permanent\n"
            );
        }
        namespace.sh(&script);
    }
}

/// Only what came over a link: the kernel hands a sender's multicast back to itself, without this header.
const SENT: &str = "ether saddr & ff:ff:ff:ff:00:00 == 02:77:00:00:00:00";

/// Remembers the destinations (and protocols) of every probe that comes in by an interface.
pub(crate) struct Watch<'a> {
    namespace: &'a Namespace,
    table: String,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(namespace: &'a Namespace, interface: &str) -> Self {
        let table = format!("watch_{}", interface.replace('-', "_"));
        namespace.nft(&format!(
            "table netdev {table} {{
                set seen4 {{ type ipv4_addr . inet_proto; flags dynamic; size 65535; }}
                set seen6 {{ type ipv6_addr . inet_proto; flags dynamic; size 65535; }}
                chain in {{
                    type filter hook ingress device \"{interface}\" priority 0; policy accept;
                    {SENT} th dport {PROBE_PORT} add @seen4 {{ ip daddr . ip protocol }}
                    {SENT} th dport {PROBE_PORT} add @seen6 {{ ip6 daddr . ip6 nexthdr }}
                }}
            }}"
        ));
        Self { namespace, table }
    }

    /// What was seen since the last look: `address protocol`.
    pub(crate) fn take(&self) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        for set in ["seen4", "seen6"] {
            let text = self.namespace.sh(&format!(
                "nft -n list set netdev {0} {set}; nft flush set netdev {0} {set}",
                self.table
            ));
            let Some((_, elements)) = text.split_once("elements = {") else {
                continue;
            };
            for element in elements.split('}').next().unwrap().split(',') {
                let (address, protocol) = element.trim().split_once(" . ").unwrap();
                let protocol = if protocol == "6" || protocol == "tcp" {
                    "tcp"
                } else {
                    "udp"
                };
                let address: IpAddr = address.parse().unwrap();
                seen.insert(format!("{address} {protocol}"));
            }
        }
        seen
    }
}

/// A web server in miniature: tells each caller the address it is seen with. Lives until the process ends.
pub(crate) fn serve(namespace: &Namespace, address: &str) {
    let listener = namespace.run(|| TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Ok(peer) = stream.peer_addr() else {
                continue;
            };
            let _gone = stream.write_all(peer.to_string().as_bytes());
        }
    });
}

/// Asks such a server who we are.
pub(crate) fn ask(server: &str, patience: Duration) -> std::io::Result<SocketAddr> {
    let mut stream = TcpStream::connect_timeout(&server.parse().unwrap(), patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.parse()
        .map_err(|_| std::io::ErrorKind::InvalidData.into())
}

/// Asks again until a link that is coming up answers.
pub(crate) fn ask_until_answered(server: &str) -> SocketAddr {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask(server, Duration::from_millis(500)) {
            Ok(address) => return address,
            Err(error) => assert!(Instant::now() < deadline, "{server}: {error}"),
        }
    }
}

/// One UDP probe.
pub(crate) fn probe(to: &str, options: impl FnOnce(&UdpSocket)) -> std::io::Result<()> {
    let to = SocketAddr::new(to.parse().unwrap(), PROBE_PORT);
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    options(&socket);
    socket.send_to(b"probe", to).map(drop)
}

pub(crate) fn marked(mark: u32) -> impl Fn(&UdpSocket) {
    move |socket| setsockopt(socket, sockopt::Mark, &mark).unwrap()
}

pub(crate) fn bound_to(interface: &str) -> impl Fn(&UdpSocket) {
    let interface = std::ffi::OsString::from(interface);
    move |socket| setsockopt(socket, sockopt::BindToDevice, &interface).unwrap()
}

/// Compares two snapshots line by line, so that a failure shows the difference and nothing else.
pub(crate) fn assert_same(before: &str, after: &str, when: &str) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (old, new) = (lines(before), lines(after));
    let lost: Vec<_> = old.iter().filter(|line| !new.contains(line)).collect();
    let added: Vec<_> = new.iter().filter(|line| !old.contains(line)).collect();
    assert_eq!(
        (lost, added),
        (Vec::new(), Vec::new()),
        "lost and added, {when}"
    );
    assert!(before == after, "same lines in another order, {when}");
}
