//! The kernel's TUN device, in a network namespace of the test's own. Needs root.
//!
//! A namespace made by `unshare` belongs to its thread and disappears with it, whatever happens.

#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // the system call that drops one thread's privilege

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use wayfare_transport::{BindError, SharedSocket, SocketOptions, Tun, TunDevice, TunError, TunExt};

/// Runs `test` on a thread with an empty network namespace and a runtime that stays on it.
fn in_new_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), test())
                .await
                .unwrap();
        });
    });
    thread.join().unwrap();
}

/// A child inherits the namespace of the thread that starts it.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "ip {arguments}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until the kernel takes packets for `address`, IPv6: it says yes to the address before it has made the route.
fn until_local(address: &str, device: &str) {
    let routes = format!("-6 route show table local {address} dev {device}");
    let known = (0..1000).any(|_| ip(&routes).contains(address));
    assert!(known, "the kernel does not know its own {address}");
}

/// The next packet that is a `protocol` packet of IP version `version`; the kernel also sends
/// its own router solicitations and the like.
async fn packet(tun: &dyn Tun, version: u8, protocol: u8) -> Vec<u8> {
    let mut buffer = vec![0; tun.mtu()];
    loop {
        let length = tun.recv(&mut buffer).await.unwrap();
        let packet = &buffer[..length];
        let at = if version == 4 { 9 } else { 6 };
        if packet[0] >> 4 == version && packet[at] == protocol {
            return packet.to_vec();
        }
    }
}

/// Swaps source and destination, addresses and ports: no checksum changes by that.
fn turn_around(packet: &mut [u8]) {
    let (addresses, length, ports) = if packet[0] >> 4 == 4 {
        (12, 4, 20)
    } else {
        (8, 16, 40)
    };
    let (source, rest) = packet[addresses..].split_at_mut(length);
    source.swap_with_slice(&mut rest[..length]);
    let (source, rest) = packet[ports..].split_at_mut(2);
    source.swap_with_slice(&mut rest[..2]);
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!((folded + (folded >> 16)) as u16)).to_be_bytes()
}

fn echo_request(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    icmp.extend(payload);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let total = u16::try_from(20 + icmp.len()).unwrap().to_be_bytes();
    let mut header = vec![0x45, 0, total[0], total[1], 0, 1, 0, 0, 64, 1, 0, 0];
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [header, icmp].concat()
}

#[test]
fn real_packets_pass_both_ways_over_both_families() {
    in_new_namespace(|| async {
        let tun = TunDevice::create("wftest%d", 1380).unwrap();
        assert_eq!((tun.name(), tun.mtu()), ("wftest0", 1380));
        let link = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        assert!(link.contains("wftest0"), "{link}");
        ip("address add 10.77.0.1/24 dev wftest0");
        ip("-6 address add fd77::1/64 dev wftest0 nodad");
        until_local("fd77::1", "wftest0");
        let tun: Box<dyn Tun> = Box::new(tun);

        // A program sends a UDP packet into the tunnel, the far end answers.
        for (own, far, version) in [
            ("10.77.0.1:0", "10.77.0.2:7", 4),
            ("[fd77::1]:0", "[fd77::2]:7", 6),
        ] {
            let far: SocketAddr = far.parse().unwrap();
            let program = tokio::net::UdpSocket::bind(own).await.unwrap();
            let payload = vec![0x5a; 1300];
            program.send_to(&payload, far).await.unwrap();
            let mut seen = packet(&*tun, version, 17).await;
            assert!(seen.ends_with(&payload));
            turn_around(&mut seen);
            tun.send(&seen).await.unwrap();
            let mut buffer = vec![0; 1400];
            let (length, from) = program.recv_from(&mut buffer).await.unwrap();
            assert_eq!((from, &buffer[..length]), (far, &payload[..]));
        }

        // The far end pings the kernel.
        let (far, own) = (Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(10, 77, 0, 1));
        tun.send(&echo_request(far, own, b"are you there?"))
            .await
            .unwrap();
        let reply = packet(&*tun, 4, 1).await;
        assert_eq!(reply[12..16], own.octets());
        assert_eq!(reply[16..20], far.octets());
        assert_eq!((reply[20], &reply[24..28]), (0, &[0x12, 0x34, 0, 1][..]));
        assert!(reply.ends_with(b"are you there?"));

        let small = tun.recv(&mut [0; 1379]).await.unwrap_err();
        assert_eq!(small.kind(), std::io::ErrorKind::InvalidInput);
        assert!(
            tun.send(&[0xff; 40]).await.is_err(),
            "there is no IP version 15"
        );
    });
}

#[test]
fn the_device_has_its_queue_and_mtu_and_goes_with_its_owner() {
    in_new_namespace(|| async {
        let tun = TunDevice::create("wfown", 1420).unwrap();
        let shown = Command::new("ip")
            .args(["link", "show", "wfown"])
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(
            shown.contains("mtu 1420") && shown.contains("qlen 32768"),
            "{shown}"
        );
        assert!(shown.contains("UP"), "{shown}");
        drop(tun);
        let gone = Command::new("ip")
            .args(["link", "show", "wfown"])
            .output()
            .unwrap();
        assert!(!gone.status.success());
    });
}

#[test]
fn a_taken_name_is_named() {
    in_new_namespace(|| async {
        let _first = TunDevice::create("wftaken", 1420).unwrap();
        ip("link add wfdummy type veth peer name wfpeer");
        for name in ["wftaken", "wfdummy"] {
            let error = TunDevice::create(name, 1420).unwrap_err();
            assert!(matches!(error, TunError::NameTaken { .. }), "{error:?}");
            assert!(error.to_string().contains(name), "{error}");
        }
        let error = TunDevice::create("wfmtu", 100).unwrap_err();
        assert!(matches!(error, TunError::BadMtu { mtu: 100 }), "{error:?}");
    });
}

#[test]
fn a_descriptor_handed_over_is_checked_and_used() {
    in_new_namespace(|| async {
        let file = std::fs::File::open("/dev/null").unwrap();
        let error = TunDevice::from_fd(OwnedFd::from(file)).unwrap_err();
        assert!(matches!(error, TunError::NotATun { .. }), "{error:?}");
        // Opened but attached to no device.
        let file = std::fs::File::open("/dev/net/tun").unwrap();
        let error = TunDevice::from_fd(OwnedFd::from(file)).unwrap_err();
        assert!(matches!(error, TunError::NotATun { .. }), "{error:?}");

        let made = TunDevice::create("wfhand", 1300).unwrap();
        let handed = made.into_fd();
        let tun = TunDevice::from_fd(handed).unwrap();
        assert_eq!((tun.name(), tun.mtu()), ("wfhand", 1300));
        ip("address add 10.78.0.1/24 dev wfhand");
        let program = tokio::net::UdpSocket::bind("10.78.0.1:0").await.unwrap();
        program.send_to(b"over", "10.78.0.2:9").await.unwrap();
        assert!(packet(&tun, 4, 17).await.ends_with(b"over"));
    });
}

#[test]
fn without_privilege_the_error_says_what_is_missing() {
    in_new_namespace(|| async {
        const NOBODY: libc::c_long = 65_534;
        // SAFETY: the raw call takes plain numbers and changes this thread alone, which ends with
        // the test; libc's wrapper would change the whole process.
        let outcome = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(outcome, 0);
        let error = TunDevice::create("wfnobody", 1420).unwrap_err();
        assert!(matches!(error, TunError::Privilege { .. }), "{error:?}");
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");

        let addr: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let options = SocketOptions {
            mark: Some(1),
            ..SocketOptions::default()
        };
        let error = SharedSocket::bind(addr, options).unwrap_err();
        assert!(matches!(error, BindError::Permission { .. }), "{error:?}");
        let low: SocketAddr = "0.0.0.0:53".parse().unwrap();
        let error = SharedSocket::bind(low, SocketOptions::default()).unwrap_err();
        assert!(matches!(error, BindError::Permission { .. }), "{error:?}");
    });
}

#[test]
fn a_marked_socket_sends_marked_packets() {
    in_new_namespace(|| async {
        ip("link set lo up");
        // Only packets with our mark find a way; all others are refused by the routing policy.
        ip("rule add pref 10 not fwmark 0x5157 unreachable");
        let options = SocketOptions {
            mark: Some(0x5157),
            ..SocketOptions::default()
        };
        let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let (marked, _tunnel) = SharedSocket::bind(addr, options).unwrap();
        let (plain, _tunnel) = SharedSocket::bind(addr, SocketOptions::default()).unwrap();
        ip("address add 10.79.0.1/24 dev lo");
        ip("route add default dev lo");
        ip("rule del pref 0");
        ip("rule add pref 20 lookup local");
        let far: SocketAddr = "10.79.0.1:9".parse().unwrap();
        marked.send(far, &[4, 0, 0, 0]).await.unwrap();
        assert!(plain.send(far, &[4, 0, 0, 0]).await.is_err());
    });
}
