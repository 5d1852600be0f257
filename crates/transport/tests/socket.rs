//! The shared socket over loopback: sorting, addresses, segmentation, bounds, errors.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use wayfare_transport::{Batch, BindError, SharedSocket, SocketOptions, TunnelReceiver};

fn bind(addr: &str) -> (SharedSocket, TunnelReceiver) {
    SharedSocket::bind(addr.parse().unwrap(), SocketOptions::default()).unwrap()
}

/// A tunnel message of `length` bytes that carries `number`.
fn message(number: u32, length: usize) -> Vec<u8> {
    let mut message = vec![0; length];
    message[0] = 4;
    message[4..8].copy_from_slice(&number.to_be_bytes());
    message
}

fn number(datagram: &[u8]) -> u32 {
    u32::from_be_bytes(datagram[4..8].try_into().unwrap())
}

/// Waits for an event that other tasks bring about; fails instead of hanging.
async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let wait = async {
        while !happened() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect(what);
}

async fn receive(tunnel: &mut TunnelReceiver, batch: &mut Batch) -> usize {
    tokio::time::timeout(Duration::from_secs(20), tunnel.recv(batch))
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn tunnel_messages_arrive_and_junk_does_not() {
    let (socket, mut tunnel) = bind("127.0.0.1:0");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for junk in [&b""[..], b"\0", b"\x07\0\0\0", b"\x01\0\0", b"?hello"] {
        peer.send_to(junk, socket.local_addr()).unwrap();
    }
    peer.send_to(&message(7, 148), socket.local_addr()).unwrap();
    let mut batch = Batch::new();
    assert_eq!(receive(&mut tunnel, &mut batch).await, 1);
    let (from, datagram) = batch.iter().next().unwrap();
    assert_eq!(from, peer.local_addr().unwrap());
    assert_eq!(datagram, message(7, 148));
    let stats = socket.stats();
    assert_eq!((stats.junk_in, stats.tunnel_in, stats.quic_in), (5, 1, 0));
}

#[tokio::test]
async fn a_dual_stack_socket_speaks_to_both_families_by_their_own_addresses() {
    let (socket, mut tunnel) = bind("[::]:0");
    let port = socket.local_addr().port();
    let mut batch = Batch::new();
    for (here, there) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let peer = UdpSocket::bind(here).unwrap();
        peer.send_to(&message(1, 32), (there, port)).unwrap();
        receive(&mut tunnel, &mut batch).await;
        let (from, _) = batch.iter().next().unwrap();
        assert_eq!(from, peer.local_addr().unwrap());
        socket.send(from, &message(2, 64)).await.unwrap();
        let mut buffer = [0; 100];
        let (length, _) = peer.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..length], message(2, 64));
    }
}

#[tokio::test]
async fn segments_arrive_one_by_one_in_order_over_both_families() {
    for (from, addr) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("[::1]:0", "[::1]:0"),
        // As every node sends by default.
        ("[::]:0", "127.0.0.1:0"),
        ("[::]:0", "[::1]:0"),
    ] {
        let (sender, _unused) = bind(from);
        let (receiver, mut tunnel) = bind(addr);
        let to = receiver.local_addr();
        let from = SocketAddr::new(to.ip(), sender.local_addr().port());
        // 150 is more than two kernel calls' worth; the last segment is short.
        let mut buffer: Vec<u8> = (0..150).flat_map(|n| message(n, 1200)).collect();
        buffer.extend(message(150, 100));
        sender.send_segments(to, &buffer, 1200).await.unwrap();
        let mut batch = Batch::new();
        let mut next = 0;
        while next < 151 {
            receive(&mut tunnel, &mut batch).await;
            for (at, datagram) in batch.iter_mut() {
                assert_eq!(at, from);
                assert_eq!(number(datagram), next);
                assert_eq!(datagram.len(), if next == 150 { 100 } else { 1200 });
                next += 1;
            }
        }
        assert_eq!(sender.stats().sent, 151);
        assert_eq!(sender.stats().segmentation_refused, 0);
    }
}

#[tokio::test]
async fn impossible_destinations_and_sizes_are_refused_without_harm() {
    let (socket, mut tunnel) = bind("127.0.0.1:0");
    let own = socket.local_addr();
    for bad in ["127.0.0.1:0", "0.0.0.0:51820", "[::1]:51820"] {
        let error = socket
            .send(bad.parse().unwrap(), &[4, 0, 0, 0])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
    }
    for segment in [0, 65_508] {
        let error = socket
            .try_send_segments(own, &[4, 0, 0, 0], segment)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert!(socket.send(own, &[4; 65_508]).await.is_err());
    socket
        .send_segments(own, &[message(1, 500), message(2, 500)].concat(), 500)
        .await
        .unwrap();
    let mut batch = Batch::new();
    let mut got = 0;
    while got < 2 {
        got += receive(&mut tunnel, &mut batch).await;
    }
    assert_eq!(socket.stats().send_errors, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_nobody_fetches_is_bounded_and_what_comes_after_it_arrives() {
    let (victim, mut tunnel) = bind("127.0.0.1:0");
    let (attacker, _unused) = bind("127.0.0.1:0");
    let to = victim.local_addr();
    let tunnel_like: Vec<u8> = (0..50).flat_map(|n| message(n, 1400)).collect();
    let mut junk = tunnel_like.clone();
    junk.iter_mut().step_by(1400).for_each(|first| *first = 9);
    let mut quic_like = tunnel_like.clone();
    quic_like
        .iter_mut()
        .step_by(1400)
        .for_each(|first| *first = 0x5a);
    // 400 x 3 x 50 x 1,400 bytes = 84 MB against bounds of 4 MiB and, without endpoint, 0.
    for _ in 0..400 {
        for flood in [&tunnel_like, &junk, &quic_like] {
            attacker.send_segments(to, flood, 1400).await.unwrap();
        }
        let stats = victim.stats();
        assert!(stats.tunnel_queued_bytes <= 4 << 20);
        assert_eq!(stats.quic_queued_bytes, 0);
    }
    eventually("drops", || victim.stats().tunnel_dropped > 0).await;
    let stats = victim.stats();
    assert!(stats.junk_in > 0 && stats.quic_dropped == stats.quic_in && stats.quic_in > 0);

    // What was kept is the oldest, in order; then the queue is free again.
    let mut batch = Batch::new();
    receive(&mut tunnel, &mut batch).await;
    assert_eq!(batch.iter().next().map(|(_, d)| number(d)), Some(0));
    let mark = u32::MAX;
    let found = async {
        loop {
            attacker.send(to, &message(mark, 64)).await.unwrap();
            tunnel.recv(&mut batch).await.unwrap();
            if batch.iter().any(|(_, datagram)| number(datagram) == mark) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found)
        .await
        .unwrap();
}

#[tokio::test]
async fn without_a_receiver_tunnel_messages_are_counted_and_dropped() {
    let (socket, tunnel) = bind("127.0.0.1:0");
    drop(tunnel);
    socket
        .send(socket.local_addr(), &message(1, 40))
        .await
        .unwrap();
    eventually("drop", || socket.stats().tunnel_dropped == 1).await;
    assert_eq!(socket.stats().tunnel_queued_bytes, 0);
}

#[tokio::test]
async fn a_used_port_is_named_and_free_again_when_all_holders_are_gone() {
    let (socket, tunnel) = bind("127.0.0.1:0");
    let addr = socket.local_addr();
    let error = SharedSocket::bind(addr, SocketOptions::default()).unwrap_err();
    assert!(matches!(error, BindError::PortInUse { addr: named, .. } if named == addr));
    assert!(
        error.to_string().contains(&addr.port().to_string()),
        "{error}"
    );
    drop(tunnel);
    drop(socket);
    eventually("free port", || {
        SharedSocket::bind(addr, SocketOptions::default()).is_ok()
    })
    .await;
}

#[tokio::test]
async fn an_address_of_another_computer_is_named() {
    // TEST-NET-1 (RFC 5737) belongs to nobody.
    let addr: SocketAddr = "192.0.2.1:0".parse().unwrap();
    let error = SharedSocket::bind(addr, SocketOptions::default()).unwrap_err();
    assert!(
        matches!(error, BindError::NotOurAddress { .. }),
        "{error:?}"
    );
}

#[test]
fn outside_a_runtime_there_is_an_error_and_no_panic() {
    let addr: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let error = SharedSocket::bind(addr, SocketOptions::default()).unwrap_err();
    assert!(matches!(error, BindError::NoRuntime));
}
