//! QUIC and tunnel messages on one socket at the same time: nobody starves, nobody gets the
//! other's datagrams.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
fn echo_tunnel(socket: SharedSocket, mut tunnel: TunnelReceiver) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut batch = Batch::new();
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
        while let Some(incoming) = quic.accept().await {
            let connection = incoming.await.unwrap();
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

async fn interleave(server_binds: &str, client_binds: &str, server_host: &str) {
    let server = node(server_binds, 1);
    let addr: SocketAddr = SocketAddr::new(
        server_host.parse().unwrap(),
        server.socket.local_addr().port(),
    );
    let key = server.quic.node_key();
    let echoes = [
        echo_tunnel(server.socket, server.tunnel),
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
    within(interleave("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1")).await;
}

#[tokio::test]
async fn both_protocols_interleave_over_ipv6() {
    within(interleave("[::1]:0", "[::1]:0", "::1")).await;
}

#[tokio::test]
async fn both_protocols_interleave_between_dual_stack_and_either_family() {
    within(interleave("[::]:0", "127.0.0.1:0", "127.0.0.1")).await;
    within(interleave("[::]:0", "[::]:0", "127.0.0.1")).await;
    within(interleave("[::]:0", "[::1]:0", "::1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_stream_and_a_tunnel_flow_do_not_starve_each_other() {
    const BYTES: usize = 32 << 20;
    const WINDOW: u64 = 32;
    within(async {
        let server = node("127.0.0.1:0", 1);
        let addr = server.socket.local_addr();
        let key = server.quic.node_key();
        let _echoes = [
            echo_tunnel(server.socket.clone(), server.tunnel),
            echo_streams(server.quic.clone()),
        ];
        let Node {
            socket,
            mut tunnel,
            quic,
        } = node("127.0.0.1:0", 2);
        let stream = BiStream::open(&quic.dial(addr, key).await.unwrap())
            .await
            .unwrap();

        // The tunnel flow: 32 datagrams of 1,400 bytes under way, each replaced as it returns.
        let returned = Arc::new(AtomicU64::new(0));
        let flow = tokio::spawn({
            let returned = Arc::clone(&returned);
            let socket = socket.clone();
            async move {
                let mut message = [0; 1400];
                message[0] = 4;
                let mut batch = Batch::new();
                for _ in 0..WINDOW {
                    socket.send(addr, &message).await.unwrap();
                }
                while let Ok(count) = tunnel.recv(&mut batch).await {
                    returned.fetch_add(count as u64, Ordering::Relaxed);
                    for _ in 0..count {
                        socket.send(addr, &message).await.unwrap();
                    }
                }
            }
        });

        let (mut read, mut write) = tokio::io::split(stream);
        let sender = tokio::spawn(async move {
            for piece in 0..BYTES / 65_536 {
                write.write_all(&[piece as u8; 65_536]).await.unwrap();
            }
            write.shutdown().await.unwrap();
        });
        let mut piece = vec![0; 65_536];
        let mut tunnel_at_quarter = 0;
        for number in 0..BYTES / 65_536 {
            read.read_exact(&mut piece).await.unwrap();
            assert!(piece.iter().all(|byte| *byte == number as u8));
            if number == BYTES / 65_536 / 4 {
                tunnel_at_quarter = returned.load(Ordering::Relaxed);
            }
        }
        assert_eq!(read.read(&mut piece).await.unwrap(), 0);
        sender.await.unwrap();
        let during = returned.load(Ordering::Relaxed);
        // It flowed at the start and went on flowing while the stream was busy.
        assert!(tunnel_at_quarter >= WINDOW, "{tunnel_at_quarter}");
        assert!(
            during >= tunnel_at_quarter + 10 * WINDOW,
            "{tunnel_at_quarter} then {during}"
        );
        flow.abort();
        println!("{BYTES} stream bytes echoed beside {during} tunnel datagrams");
    })
    .await;
}

async fn within(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test)
        .await
        .unwrap();
}
