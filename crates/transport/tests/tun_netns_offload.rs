//! Offloads of the kernel's TUN device: two devices, each in a network namespace of its own, relayed into each other by
//! batches, and TCP and UDP of the kernel across both. Needs root.
//!
//! A namespace lives as long as its devices and sockets, which live as long as the test.

#![allow(clippy::unwrap_used)]

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use wayfare_transport::tun::{
    Framing, Offloads, PacketBatch, Tun, TunDevice, TunError, TunExt, TunOptions,
};

/// As a tunnel's pump would ask for.
const FRAMING: Framing = Framing {
    head: 16,
    tail: 16,
    multiple: 16,
    mtu: 1420,
};

/// Runs `test` on a thread of its own, which may change its namespace.
fn on_a_thread<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(60), test())
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

/// Host number `host` in a namespace of its own, into which this thread moves.
fn house(host: u8, mtu: usize, options: TunOptions) -> Arc<TunDevice> {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let tun = TunDevice::create_with("wfoff%d", mtu, options).unwrap();
    let name = tun.name();
    ip(&format!("address add 10.87.0.{host}/24 dev {name}"));
    ip(&format!("-6 address add fd87::{host}/64 dev {name} nodad"));
    until_local(&format!("fd87::{host}"), name);
    Arc::new(tun)
}

/// Carries packets one way until the test ends, and checks that each is a whole packet of the MTU at most.
async fn relay(from: Arc<TunDevice>, to: Arc<TunDevice>) {
    let mut batch = PacketBatch::new(FRAMING, 1 << 18);
    loop {
        batch.clear();
        let added = poll_fn(|cx| from.poll_recv_batch(cx, &mut batch))
            .await
            .unwrap();
        assert_eq!(added, batch.len());
        let packets: Vec<&[u8]> = batch
            .frames()
            .map(|frame| &frame.bytes[16..16 + frame.packet])
            .collect();
        assert!(packets.iter().all(|packet| packet.len() <= from.mtu()));
        to.send_batch(&packets);
        // Both ends share one thread with the programs at them.
        tokio::task::yield_now().await;
    }
}

/// A stream nobody could have guessed at byte `at`, and which no lost, doubled or moved packet leaves as it is.
fn filled(at: u64, into: &mut [u8]) {
    for (word, target) in (at / 8..).zip(into.chunks_mut(8)) {
        let mixed = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ word;
        target.copy_from_slice(&mixed.to_le_bytes()[..target.len()]);
    }
}

const PIECE: usize = 1 << 17;

async fn send_all(mut stream: impl AsyncWriteExt + Unpin, bytes: u64) {
    let mut piece = vec![0; PIECE];
    for at in (0..bytes).step_by(PIECE) {
        filled(at, &mut piece);
        stream.write_all(&piece).await.unwrap();
    }
}

async fn receive_all(mut stream: impl AsyncReadExt + Unpin, bytes: u64) {
    let (mut piece, mut expect) = (vec![0; PIECE], vec![0; PIECE]);
    for at in (0..bytes).step_by(PIECE) {
        stream.read_exact(&mut piece).await.unwrap();
        filled(at, &mut expect);
        assert!(piece == expect, "other bytes than were sent, from {at}");
    }
}

/// 64 MiB there and then back.
async fn transfer(listener: TcpListener, far: SocketAddr) {
    const BYTES: u64 = 64 << 20;
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        receive_all(&mut stream, BYTES).await;
        send_all(&mut stream, BYTES).await;
    });
    let mut stream = TcpStream::connect(far).await.unwrap();
    send_all(&mut stream, BYTES).await;
    receive_all(&mut stream, BYTES).await;
    answering.await.unwrap();
}

fn tcp_crosses(mtu: usize, near: &'static str, far: &'static str, options: TunOptions) {
    on_a_thread(move || async move {
        let there = house(2, mtu, options);
        let far: SocketAddr = far.parse().unwrap();
        let listener = TcpListener::bind(far).await.unwrap();
        let here = house(1, mtu, options);
        assert!(ip("address").contains(near));
        let there_to_here = tokio::spawn(relay(Arc::clone(&there), Arc::clone(&here)));
        let here_to_there = tokio::spawn(relay(Arc::clone(&here), Arc::clone(&there)));
        transfer(listener, far).await;
        for relay in [there_to_here, here_to_there] {
            assert!(!relay.is_finished());
            relay.abort();
        }
        for device in [here, there] {
            let counts = device.counts();
            eprintln!("{mtu} {far}: {counts:?}");
            assert_eq!((counts.malformed, counts.lost), (0, 0));
            if !options.offload {
                assert_eq!(device.offloads(), Offloads::default());
                assert_eq!((counts.supers_received, counts.supers_sent), (0, 0));
                continue;
            }
            assert!(device.offloads().tcp);
            // Nearly all of 64 MiB came in super-packets and went in super-packets.
            let packets = (64 << 20) / mtu as u64;
            assert!(counts.segments_received > packets * 9 / 10, "{counts:?}");
            assert!(counts.segments_sent > packets * 9 / 10, "{counts:?}");
            for (supers, segments) in [
                (counts.supers_received, counts.segments_received),
                (counts.supers_sent, counts.segments_sent),
            ] {
                let each = segments / supers;
                assert!((5..=options.segments as u64).contains(&each), "{counts:?}");
            }
        }
    });
}

const OFF: TunOptions = TunOptions {
    offload: false,
    queues: 1,
    segments: 45,
};

#[test]
fn tcp_over_ipv4_crosses_in_super_packets() {
    tcp_crosses(1420, "10.87.0.1", "10.87.0.2:5001", TunOptions::default());
}

#[test]
fn tcp_over_ipv6_crosses_in_super_packets() {
    tcp_crosses(1420, "fd87::1", "[fd87::2]:5001", TunOptions::default());
}

#[test]
fn tcp_crosses_at_the_smallest_mtu_of_ipv6() {
    tcp_crosses(1280, "fd87::1", "[fd87::2]:5001", TunOptions::default());
    tcp_crosses(1280, "10.87.0.1", "10.87.0.2:5001", TunOptions::default());
}

#[test]
fn tcp_crosses_without_offload() {
    tcp_crosses(1420, "10.87.0.1", "10.87.0.2:5001", OFF);
}

#[test]
fn tcp_over_ipv6_crosses_without_offload() {
    tcp_crosses(1280, "fd87::1", "[fd87::2]:5001", OFF);
}

#[test]
fn udp_segments_cross_in_super_packets() {
    on_a_thread(|| async {
        let there = house(2, 1420, TunOptions::default());
        let receivers = [
            UdpSocket::bind("10.87.0.2:7").await.unwrap(),
            UdpSocket::bind("[fd87::2]:7").await.unwrap(),
        ];
        let here = house(1, 1420, TunOptions::default());
        let senders = [
            UdpSocket::bind("10.87.0.1:0").await.unwrap(),
            UdpSocket::bind("[fd87::1]:0").await.unwrap(),
        ];
        let relays = [(&here, &there), (&there, &here)]
            .map(|(from, to)| tokio::spawn(relay(Arc::clone(from), Arc::clone(to))));
        for (receiver, sender) in receivers.iter().zip(&senders) {
            let far = receiver.local_addr().unwrap();
            // 20 datagrams of 1,000 bytes and one of 333 in one call.
            let mut bytes = vec![0; 20_333];
            filled(0, &mut bytes);
            setsockopt(sender, sockopt::UdpGsoSegment, &1000).unwrap();
            sender.send_to(&bytes, far).await.unwrap();
            let mut buffer = vec![0; 2000];
            for piece in bytes.chunks(1000) {
                let (length, _) = receiver.recv_from(&mut buffer).await.unwrap();
                assert!(buffer[..length] == *piece);
            }
        }
        for relay in relays {
            assert!(!relay.is_finished());
            relay.abort();
        }
        if here.offloads().udp {
            assert_eq!(here.counts().segments_received, 42);
            assert_eq!(there.counts().segments_sent, 42);
            assert_eq!(there.counts().supers_sent, 2);
        }
    });
}

#[test]
fn one_packet_at_a_time_comes_out_of_super_packets_too() {
    on_a_thread(|| async {
        let there = house(2, 1420, TunOptions::default());
        let far: SocketAddr = "10.87.0.2:5001".parse().unwrap();
        let listener = TcpListener::bind(far).await.unwrap();
        let here = house(1, 1420, TunOptions::default());
        let relays = [(&here, &there), (&there, &here)].map(|(from, to)| {
            let (from, to) = (Arc::clone(from), Arc::clone(to));
            tokio::spawn(async move {
                let mut packet = vec![0; from.mtu()];
                loop {
                    let length = from.recv(&mut packet).await.unwrap();
                    to.send(&packet[..length]).await.unwrap();
                }
            })
        });
        let receiving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            receive_all(stream, 8 << 20).await;
        });
        let stream = TcpStream::connect(far).await.unwrap();
        send_all(stream, 8 << 20).await;
        receiving.await.unwrap();
        assert!(here.counts().supers_received > 0);
        for relay in relays {
            assert!(!relay.is_finished());
            relay.abort();
        }
    });
}

#[test]
fn super_packets_are_limited_to_what_one_send_holds() {
    on_a_thread(|| async {
        let options = TunOptions {
            segments: 30,
            ..TunOptions::default()
        };
        let tun = house(1, 1400, options);
        let shown = ip(&format!("-d link show {}", tun.name()));
        assert!(shown.contains("gso_max_segs 30"), "{shown}");
        assert!(shown.contains("gso_max_size 42000"), "{shown}");
        drop(tun);
        let tun = house(1, 1420, TunOptions::default());
        let shown = ip(&format!("-d link show {}", tun.name()));
        assert!(shown.contains("gso_max_segs 45"), "{shown}");
        assert!(shown.contains("gso_max_size 63900"), "{shown}");
        // Without offloads there is nothing to limit.
        let tun = house(1, 1420, OFF);
        let shown = ip(&format!("-d link show {}", tun.name()));
        assert!(shown.contains("gso_max_size 65536"), "{shown}");
    });
}

#[test]
fn a_descriptor_with_offload_headers_is_taken_over_with_them() {
    on_a_thread(|| async {
        let made = house(1, 1420, TunOptions::default());
        let granted = made.offloads();
        assert!(granted.checksum && granted.tcp);
        let fd = Arc::into_inner(made).unwrap().into_fd();
        let tun = TunDevice::from_fd(fd).unwrap();
        assert_eq!((tun.offloads(), tun.mtu()), (granted, 1420));
        let program = UdpSocket::bind("10.87.0.1:0").await.unwrap();
        program
            .send_to(b"whole and right", "10.87.0.9:9")
            .await
            .unwrap();
        let mut packet = vec![0; 1420];
        loop {
            let length = tun.recv(&mut packet).await.unwrap();
            if packet[0] == 0x45 && packet[9] == 17 {
                assert_eq!(packet[28..length], *b"whole and right");
                assert_ne!(packet[26..28], [0, 0]);
                break;
            }
        }
    });
}

#[test]
fn flows_spread_over_several_queues() {
    on_a_thread(|| async {
        let options = TunOptions {
            queues: 2,
            ..TunOptions::default()
        };
        let first = house(1, 1420, options);
        let second = first.another_queue().unwrap();
        assert_eq!(second.name(), first.name());
        assert_eq!(second.offloads(), first.offloads());
        let mut seen = [0, 0];
        let [mut one, mut other] = [0, 0].map(|_| PacketBatch::new(FRAMING, 0));
        for _ in 0..200 {
            // Another flow each time; the kernel chooses the queue.
            let program = UdpSocket::bind("10.87.0.1:0").await.unwrap();
            program.send_to(b"somewhere", "10.87.0.9:9").await.unwrap();
            let from_first = poll_fn(|cx| first.poll_recv_batch(cx, &mut one));
            let from_second = poll_fn(|cx| second.poll_recv_batch(cx, &mut other));
            tokio::select! {
                added = from_first => seen[0] += added.unwrap(),
                added = from_second => seen[1] += added.unwrap(),
            }
            one.clear();
            other.clear();
        }
        assert!(seen.iter().all(|packets| *packets > 20), "{seen:?}");

        let single = house(1, 1420, TunOptions::default());
        let error = single.another_queue().unwrap_err();
        assert!(matches!(error, TunError::OneQueue { .. }), "{error:?}");
    });
}
