//! A home in namespaces: host (10.0.0.2) - (lan) router (wan) - somebody outside (11.0.1.1). The router is `miniupnpd` on a Linux
//! NAT, or whatever a test puts there. It refuses to touch any namespace that it did not make.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::netns::{self, Namespace, cable};

pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// How long a datagram may take through a namespace.
const PATIENCE: Duration = Duration::from_secs(2);

/// The rules of a home's router: it masquerades, lets nobody in, and has room for what it is asked to forward.
const RULES: &str = "
table ip home {
  chain post { type nat hook postrouting priority srcnat; oifname \"wan\" masquerade; }
}
table inet nat {
  chain upnp_pre { }
  chain upnp_post { }
  chain pre { type nat hook prerouting priority dstnat - 5; jump upnp_pre; }
  chain post { type nat hook postrouting priority srcnat - 5; jump upnp_post; }
}
table inet fw {
  chain upnp_forward { }
  chain forward { type filter hook forward priority 10;
    iifname \"wan\" ct state established,related accept
    jump upnp_forward
    iifname \"wan\" drop
  }
}
";

/// The home, removed when it goes.
pub(crate) struct Home {
    // The programs go before their namespaces.
    box_: Mutex<Option<Child>>,
    pub(crate) host: Namespace,
    pub(crate) router: Namespace,
    outside: Namespace,
    folder: tempfile::TempDir,
}

impl Home {
    /// A home whose router has this address outside.
    pub(crate) fn new(wan: Ipv4Addr) -> Self {
        let [host, router, outside] = std::array::from_fn(|_| Namespace::new());
        let [a, b, c, _] = wan.octets();
        let far = format!("{a}.{b}.{c}.1/24");
        for (end, name, addresses) in [
            (
                &host,
                "lan",
                [format!("{HOST}/24"), format!("{GATEWAY}/24")],
            ),
            (&outside, "wan", [far, format!("{wan}/24")]),
        ] {
            cable(end, &router, [&addresses[0], &addresses[1]]);
            router.ip("link set out down");
            router.ip(&format!("link set out name {name}"));
            router.ip(&format!("link set {name} up"));
        }
        host.ip(&format!("route add default via {GATEWAY}"));
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("rules.nft");
        std::fs::write(&rules, RULES).unwrap();
        router.enter(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            netns::run("nft", &format!("-f {}", rules.display()));
        });
        Self {
            box_: Mutex::new(None),
            host,
            router,
            outside,
            folder,
        }
    }

    /// Starts the real thing.
    pub(crate) fn start_router(&self) {
        let file = self.folder.path().join("miniupnpd.conf");
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        let text = format!(
            "ext_ifname=wan\nlistening_ip=lan\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\n\
             min_lifetime=1\nuuid=00000000-0000-4000-8000-00000a000001\nlease_file={}\n\
             upnp_table_name=fw\nupnp_nat_table_name=nat\nupnp_forward_chain=upnp_forward\n\
             upnp_nat_chain=upnp_pre\nupnp_nat_postrouting_chain=upnp_post\n\
             allow 1024-65535 0.0.0.0/0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
            path("leases").display()
        );
        std::fs::write(&file, text).unwrap();
        let started = self.router.enter(|| {
            Command::new("miniupnpd")
                .args(["-d", "-f"])
                .arg(&file)
                .arg("-P")
                .arg(path("pid"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        });
        let started = started.expect("miniupnpd; it is in the Debian package miniupnpd-nftables");
        *self.box_.lock().unwrap() = Some(started);
        self.wait_for_router();
    }

    /// Until it answers NAT-PMP.
    #[allow(clippy::disallowed_methods, reason = "tests wait with a limit")]
    fn wait_for_router(&self) {
        let socket = self.host.enter(|| UdpSocket::bind((HOST, 0)).unwrap());
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        // Refused at once or not answered in time: either way it does not run yet.
        let deadline = Instant::now() + PATIENCE * 2;
        let mut answered = false;
        while !answered && Instant::now() < deadline {
            let _ = socket.send_to(&[0, 0], (GATEWAY, 5_351));
            answered = socket.recv(&mut [0; 64]).is_ok();
        }
        assert!(answered, "miniupnpd does not answer");
    }

    /// Ends it as a power cut would, and takes what it knew from the kernel.
    pub(crate) fn cut_power(&self) {
        self.end();
        self.router.enter(|| {
            for chain in ["nat upnp_pre", "nat upnp_post", "fw upnp_forward"] {
                netns::run("nft", &format!("flush chain inet {chain}"));
            }
        });
    }

    fn end(&self) {
        if let Some(mut child) = self.box_.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// How many ports the router forwards.
    pub(crate) fn forwarded(&self) -> usize {
        let listed = self.router.enter(|| {
            Command::new("nft")
                .args(["list", "chain", "inet", "nat", "upnp_pre"])
                .output()
        });
        let text = String::from_utf8(listed.unwrap().stdout).unwrap();
        text.matches("dnat").count()
    }

    /// A socket of the host.
    pub(crate) fn socket(&self) -> UdpSocket {
        let socket = self
            .host
            .enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Sends from outside, and says whether it came through.
    pub(crate) fn reaches(&self, at: SocketAddr, socket: &UdpSocket) -> bool {
        let outside = self
            .outside
            .enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        outside.send_to(b"anybody home?", at).unwrap();
        let mut heard = [0; 64];
        match socket.recv_from(&mut heard) {
            Ok((len, from)) => {
                assert_eq!(
                    from,
                    SocketAddr::new(from.ip(), outside.local_addr().unwrap().port())
                );
                &heard[..len] == b"anybody home?"
            }
            Err(_) => false,
        }
    }

    /// Runs what needs a clock and sockets on the host.
    pub(crate) fn run<F: Future<Output = T>, T: Send>(&self, work: impl FnOnce() -> F + Send) -> T {
        self.host.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(work())
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.end();
    }
}

/// A router of our own making at the port of PCP and NAT-PMP, which says what it is told to; it ends when it is told nothing more.
pub(crate) struct Puppet {
    thread: JoinHandle<()>,
    /// What it speaks on.
    pub(crate) line: UdpSocket,
}

impl Puppet {
    /// `act` is given each question and the socket that it came to; it goes on while that is true.
    pub(crate) fn start(
        home: &Home,
        mut act: impl FnMut(&[u8], SocketAddr, &UdpSocket) -> bool + Send + 'static,
    ) -> Self {
        let socket = home
            .router
            .enter(|| UdpSocket::bind((GATEWAY, 5_351)).unwrap());
        socket.set_read_timeout(Some(PATIENCE * 4)).unwrap();
        let line = socket.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            let mut question = [0; 1_200];
            while let Ok((len, from)) = socket.recv_from(&mut question) {
                if !act(&question[..len], from, &socket) {
                    return;
                }
            }
            panic!("the router was not asked as it should be");
        });
        Self { thread, line }
    }

    /// Waits for its end.
    pub(crate) fn ended(self) {
        let ended = self.thread.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}
