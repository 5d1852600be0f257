//! QUIC and tunnel messages on one socket at the same time: nobody starves, nobody gets the
//! other's datagrams.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wayfare_transport::{
    Batch, BiStream, QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions, TunnelReceiver,
    quic_endpoint, remote_address,
};

struct Node {
    socket: SharedSocket,
    tunnel: TunnelReceiver,
    quic: QuicEndpoint,
}

fn node(addr: &str, seed: u8) -> Node {
    let (socket, tunnel) =
        SharedSocket::bind(addr.parse().unwrap(), SocketOptions::default()).unwrap();
    let identity = QuicIdentity::from_ed25519_seed([seed; 32]).unwrap();
    let quic = quic_endpoint(&socket, &identity).unwrap();
    Node {
        socket,
        tunnel,
        quic,
    }
}

/// Sends every tunnel message back to where it came from.
fn echo_tunnel(socket: SharedSocket, mut tunnel: TunnelReceiver, leads: bool) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut batch = Batch::new();
        if leads {
            tunnel.lead();
        }
        while tunnel.recv(&mut batch).await.is_ok() {
            for (from, datagram) in batch.iter() {
                socket.send(from, datagram).await.unwrap();
            }
        }
    })
}

/// Sends back every byte of every stream.
fn echo_streams(quic: QuicEndpoint) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(connection) = quic.accept().await {
            while let Ok(stream) = BiStream::accept(&connection).await {
                tokio::spawn(async move {
                    assert!(stream.peer_node_key().is_some());
                    let (mut read, mut write) = tokio::io::split(stream);
                    tokio::io::copy(&mut read, &mut write).await.unwrap();
                    write.shutdown().await.unwrap();
                });
            }
        }
    })
}

async fn interleave(server_binds: &str, client_binds: &str, server_host: &str, server_leads: bool) {
    let server = node(server_binds, 1);
    let addr: SocketAddr = SocketAddr::new(
        server_host.parse().unwrap(),
        server.socket.local_addr().port(),
    );
    let key = server.quic.node_key();
    let echoes = [
        echo_tunnel(server.socket, server.tunnel, server_leads),
        echo_streams(server.quic.clone()),
    ];

    let mut client = node(client_binds, 2);
    let connection = client.quic.dial(addr, key).await.unwrap();
    assert_eq!(remote_address(&connection), addr);
    let mut batch = Batch::new();
    for round in 0..200u8 {
        let mut stream = BiStream::open(&connection).await.unwrap();
        assert_eq!(
            (stream.remote_addr(), stream.peer_node_key()),
            (addr, Some(key))
        );
        let message = [4, 0, 0, 0, round];
        client.socket.send(addr, &message).await.unwrap();
        stream.write_all(&[round; 100]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, [round; 100]);
        assert_eq!(client.tunnel.recv(&mut batch).await.unwrap(), 1);
        assert_eq!(batch.iter().next(), Some((addr, &message[..])));
    }
    let stats = client.socket.stats();
    assert_eq!((stats.tunnel_in, stats.junk_in), (200, 0));
    assert_eq!(
        (stats.tunnel_dropped, stats.quic_dropped, stats.send_errors),
        (0, 0, 0)
    );
    client.quic.close().await;
    server.quic.close().await;
    echoes.into_iter().for_each(|echo| echo.abort());
}

#[tokio::test]
async fn both_protocols_interleave_over_ipv4() {
    for leads in [false, true] {
        within(interleave("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1", leads)).await;
    }
}

#[tokio::test]
async fn both_protocols_interleave_over_ipv6() {
    for leads in [false, true] {
        within(interleave("[::1]:0", "[::1]:0", "::1", leads)).await;
    }
}

#[tokio::test]
async fn both_protocols_interleave_between_dual_stack_and_either_family() {
    for leads in [false, true] {
        within(interleave("[::]:0", "127.0.0.1:0", "127.0.0.1", leads)).await;
    }
    for leads in [false, true] {
        within(interleave("[::]:0", "[::]:0", "127.0.0.1", leads)).await;
    }
    for leads in [false, true] {
        within(interleave("[::]:0", "[::1]:0", "::1", leads)).await;
    }
}

/// Who reads the sockets while a stream and a tunnel flow share them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Background,
    Leaders,
    InTurn,
}

/// 32 datagrams of 1,400 bytes under way, each replaced as it returns.
const WINDOW: u64 = 32;

/// Keeps the window going until it is stopped, and gives the receiver back.
async fn flow(
    (socket, addr): (SharedSocket, SocketAddr),
    mut tunnel: TunnelReceiver,
    reading: Reading,
    returned: Arc<AtomicU64>,
    mut stop: oneshot::Receiver<()>,
) -> TunnelReceiver {
    let mut message = [0; 1400];
    message[0] = 4;
    let mut batch = Batch::new();
    if reading == Reading::Leaders {
        tunnel.lead();
    }
    for _ in 0..WINDOW {
        socket.send(addr, &message).await.unwrap();
    }
    for round in 0u64.. {
        match (reading, round % 16) {
            (Reading::InTurn, 0) => tunnel.lead(),
            (Reading::InTurn, 8) => tunnel.follow(),
            (Reading::Background | Reading::Leaders | Reading::InTurn, _) => {}
        }
        let count = tokio::select! {
            count = tunnel.recv(&mut batch) => count.unwrap(),
            _ = &mut stop => break,
        };
        assert!(batch.iter().all(|(_, datagram)| datagram == message));
        returned.fetch_add(count as u64, Ordering::Relaxed);
        for _ in 0..count {
            socket.send(addr, &message).await.unwrap();
        }
    }
    tunnel
}

/// Echoes `bytes` over a stream of its own, compared on return; says how many tunnel datagrams
/// had returned after its first quarter and at its end.
async fn echo_a_stream(
    connection: &quinn::Connection,
    bytes: usize,
    returned: &AtomicU64,
) -> (u64, u64) {
    const PIECE: usize = 65_536;
    let stream = BiStream::open(connection).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let sender = tokio::spawn(async move {
        for piece in 0..bytes / PIECE {
            write.write_all(&[piece as u8; PIECE]).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut piece = vec![0; PIECE];
    let mut at_quarter = 0;
    for number in 0..bytes / PIECE {
        read.read_exact(&mut piece).await.unwrap();
        assert!(piece.iter().all(|byte| *byte == number as u8));
        if number == bytes / PIECE / 4 {
            at_quarter = returned.load(Ordering::Relaxed);
        }
    }
    assert_eq!(read.read(&mut piece).await.unwrap(), 0);
    sender.await.unwrap();
    (at_quarter, returned.load(Ordering::Relaxed))
}

async fn stream_beside_a_flow(reading: Reading, bytes: usize) {
    let server = node("127.0.0.1:0", 1);
    let addr = server.socket.local_addr();
    let key = server.quic.node_key();
    let echoes = [
        echo_tunnel(server.socket, server.tunnel, reading != Reading::Background),
        echo_streams(server.quic.clone()),
    ];
    let client = node("127.0.0.1:0", 2);
    let connection = client.quic.dial(addr, key).await.unwrap();
    let returned = Arc::new(AtomicU64::new(0));
    let (stop, stopped) = oneshot::channel();
    let socket = client.socket.clone();
    let flow = tokio::spawn(flow(
        (socket, addr),
        client.tunnel,
        reading,
        returned.clone(),
        stopped,
    ));
    let (at_quarter, during) = echo_a_stream(&connection, bytes, &returned).await;
    // It flowed at the start and went on flowing while the stream was busy.
    assert!(at_quarter >= WINDOW, "{at_quarter}");
    assert!(
        during >= at_quarter + 10 * WINDOW,
        "{at_quarter} then {during}"
    );
    stop.send(()).unwrap();
    let tunnel = flow.await.unwrap();
    drop(tunnel);
    // Afterwards, with nobody left to take tunnel messages, QUIC goes on.
    echo_a_stream(&connection, bytes / 8, &returned).await;
    println!("{reading:?}: {bytes} stream bytes echoed beside {during} tunnel datagrams");
    echoes.into_iter().for_each(|echo| echo.abort());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_stream_and_a_tunnel_flow_do_not_starve_each_other() {
    within(stream_beside_a_flow(Reading::Background, 32 << 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_lives_beside_tunnel_receivers_that_lead_and_after_them() {
    within(stream_beside_a_flow(Reading::Leaders, 16 << 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_lives_through_changes_of_the_reader() {
    within(stream_beside_a_flow(Reading::InTurn, 16 << 20)).await;
}

async fn within(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test)
        .await
        .unwrap();
}
