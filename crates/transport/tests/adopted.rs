//! Adopted sockets over loopback: what leaves and arrives through them, and what does not.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wayfare_transport::{
    Batch, BiStream, Outgoing, QuicIdentity, SharedSocket, SocketOptions, TunnelReceiver,
    quic_endpoint, remote_address,
};

fn bind(addr: &str) -> (SharedSocket, TunnelReceiver) {
    SharedSocket::bind(addr.parse().unwrap(), SocketOptions::default()).unwrap()
}

fn plain() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .unwrap()
}

/// The source of the next datagram.
fn heard_from(peer: &UdpSocket) -> SocketAddr {
    peer.recv_from(&mut [0; 2000]).unwrap().1
}

#[tokio::test]
async fn one_peers_datagrams_leave_and_arrive_through_the_adopted_socket() {
    for (own, leads) in [
        ("127.0.0.1:0", false),
        ("127.0.0.1:0", true),
        ("[::]:0", true),
    ] {
        let (socket, mut tunnel) = bind(own);
        if leads {
            tunnel.lead();
        }
        let [peer, other, extra] = [plain(), plain(), plain()];
        let [at, elsewhere, through] = [&peer, &other, &extra].map(|s| s.local_addr().unwrap());
        let adopted = socket.adopt(extra, at).unwrap();
        assert_eq!((adopted.remote(), adopted.local_addr()), (at, through));
        let datagram = [4, 0, 0, 0, 1, 2, 3, 4];
        let out = |to| Outgoing {
            to,
            bytes: &datagram,
            segment: 4,
        };
        socket.try_send(at, &datagram).unwrap();
        socket.try_send_segments(at, &datagram, 8).unwrap();
        socket.try_send_ttl(at, &datagram, 9).unwrap();
        let sent = socket.try_send_many(&[out(elsewhere), out(at), out(elsewhere)]);
        assert_eq!(sent.unwrap(), 24);
        for _ in 0..5 {
            assert_eq!(heard_from(&peer), through);
        }
        for _ in 0..4 {
            assert_eq!(heard_from(&other).port(), socket.local_addr().port());
        }
        // What is not its peer's is junk, whatever it looks like.
        other.send_to(&datagram, through).unwrap();
        peer.send_to(&[4, 0, 0, 0, 9], through).unwrap();
        let mut batch = Batch::new();
        assert_eq!(within(tunnel.recv(&mut batch)).await.unwrap(), 1);
        assert_eq!(batch.iter().next(), Some((at, &[4, 0, 0, 0, 9][..])));
        let stats = socket.stats();
        assert_eq!(
            (stats.adopted_in, stats.junk_in, stats.tunnel_in),
            (1, 1, 1)
        );

        let [again, more] = [plain(), plain()];
        let refused = socket.adopt(again, at).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        for bad in ["240.0.0.1:9", "127.0.0.1:0", "[::1]:9"] {
            let refused = socket.adopt(more.try_clone().unwrap(), bad.parse().unwrap());
            assert_eq!(
                refused.unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{bad}"
            );
        }
        drop(adopted);
        socket.try_send(at, &datagram).unwrap();
        assert_eq!(heard_from(&peer).port(), socket.local_addr().port());
    }
}

#[tokio::test]
async fn quic_runs_through_an_adopted_socket() {
    let (server, _server_tunnel) = bind("127.0.0.1:0");
    let (client, _client_tunnel) = bind("[::]:0");
    let endpoints = [(&client, 1), (&server, 2)].map(|(socket, seed)| {
        let identity = QuicIdentity::from_ed25519_seed([seed; 32]).unwrap();
        quic_endpoint(socket, &identity).unwrap()
    });
    let [dialer, acceptor] = &endpoints;
    let extra = plain();
    let through = extra.local_addr().unwrap();
    let _adopted = client.adopt(extra, server.local_addr()).unwrap();
    let (near, far) = tokio::join!(
        dialer.dial(server.local_addr(), acceptor.node_key()),
        acceptor.accept()
    );
    let (near, far) = (near.unwrap(), far.unwrap());
    assert_eq!(remote_address(&far), through);
    let mut stream = BiStream::open(&near).await.unwrap();
    stream.write_all(&[7; 100_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = Vec::new();
    let mut stream = BiStream::accept(&far).await.unwrap();
    within(stream.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, [7; 100_000]);
    assert!(client.stats().adopted_in > 0);
}

#[tokio::test]
async fn sixty_four_sockets_may_be_adopted() {
    let (socket, _tunnel) = bind("127.0.0.1:0");
    let remote = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let mut adopted: Vec<_> = (1..=64)
        .map(|port| socket.adopt(plain(), remote(port)).unwrap())
        .collect();
    let full = socket.adopt(plain(), remote(65)).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::QuotaExceeded);
    adopted.pop();
    socket.adopt(plain(), remote(65)).unwrap();
}
