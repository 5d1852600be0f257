//! What a dialer must refuse, with peers that lie in ways the public interface does not allow.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use rustls::sign::CertifiedKey;

use super::*;
use crate::socket::{SocketOptions, TunnelReceiver};

fn endpoint(identity: &QuicIdentity) -> (QuicEndpoint, SocketAddr, TunnelReceiver) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (socket, tunnel) = SharedSocket::bind(any, SocketOptions::default()).unwrap();
    (
        quic_endpoint(&socket, identity).unwrap(),
        socket.local_addr(),
        tunnel,
    )
}

fn identity(seed: u8) -> QuicIdentity {
    QuicIdentity::from_ed25519_seed([seed; 32]).unwrap()
}

/// Answers handshakes until the endpoint closes; their outcome is the dialer's to judge.
fn serve(endpoint: &QuicEndpoint) {
    let endpoint = endpoint.clone();
    tokio::spawn(async move {
        while let Some(connection) = endpoint.accept().await {
            tokio::spawn(async move { connection.closed().await });
        }
    });
}

#[tokio::test]
async fn the_key_that_was_dialed_is_the_key_that_answers() {
    let (server, addr, _tunnel) = endpoint(&identity(1));
    let (client, _, _tunnel) = endpoint(&identity(2));
    serve(&server);
    let connection = client.dial(addr, server.node_key()).await.unwrap();
    assert_eq!(peer_node_key(&connection), Some(server.node_key()));
    assert_eq!(remote_address(&connection), addr);
}

#[tokio::test]
async fn another_nodes_key_is_refused_and_both_keys_are_named() {
    let (server, addr, _tunnel) = endpoint(&identity(1));
    let (client, _, _tunnel) = endpoint(&identity(2));
    serve(&server);
    let wanted = identity(3).node_key();
    match client.dial(addr, wanted).await.unwrap_err() {
        DialError::WrongNode {
            addr: named,
            expected,
            presented,
        } => {
            assert_eq!(
                (named, expected, presented),
                (addr, wanted, server.node_key())
            );
        }
        other => panic!("{other:?}"),
    }
    // The endpoint is none the worse for it.
    client.dial(addr, server.node_key()).await.unwrap();
}

#[tokio::test]
async fn a_stolen_certificate_without_its_key_is_refused() {
    let (victim, thief) = (identity(1), identity(4));
    let liar = QuicIdentity {
        node_key: victim.node_key,
        certified: Arc::new(CertifiedKey::new(
            victim.certified.cert.clone(),
            Arc::clone(&thief.certified.key),
        )),
    };
    let (server, addr, _tunnel) = endpoint(&liar);
    let (client, _, _tunnel) = endpoint(&identity(2));
    serve(&server);
    let error = client.dial(addr, victim.node_key()).await.unwrap_err();
    assert!(matches!(error, DialError::Handshake { .. }), "{error:?}");

    // And the other way round: a client that claims a key it does not hold.
    let (honest, addr, _tunnel) = endpoint(&identity(5));
    let (lying_client, _, _tunnel) = endpoint(&liar);
    serve(&honest);
    // TLS 1.3 lets the client finish first; the server's verdict is what counts.
    let verdict = match lying_client.dial(addr, honest.node_key()).await {
        Ok(connection) => connection.closed().await,
        Err(DialError::Handshake { source, .. }) => source,
        Err(other) => panic!("{other:?}"),
    };
    let quinn::ConnectionError::ConnectionClosed(close) = verdict else {
        panic!("{verdict:?}");
    };
    // CRYPTO_ERROR with the alert decrypt_error (RFC 9001 section 4.8, RFC 8446 section 6).
    assert_eq!(u64::from(close.error_code), 0x100 + 51);
}

#[tokio::test]
async fn a_server_of_another_protocol_is_refused() {
    let provider = identity::provider();
    let node = identity(1);
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(node.certificate());
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = QuicServerConfig::try_from(tls).unwrap();
    let server = quinn::Endpoint::server(
        quinn::ServerConfig::with_crypto(Arc::new(tls)),
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    )
    .unwrap();
    let addr = server.local_addr().unwrap();
    let refused = tokio::spawn(async move { server.accept().await.unwrap().await.is_err() });
    let (client, _, _tunnel) = endpoint(&identity(2));
    let error = client.dial(addr, node.node_key()).await.unwrap_err();
    assert!(matches!(error, DialError::Handshake { .. }), "{error:?}");
    assert!(refused.await.unwrap());
}

#[tokio::test]
async fn silence_and_impossible_addresses_have_errors_of_their_own() {
    let (client, _, _tunnel) = endpoint(&identity(2));
    let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let limit = Duration::from_millis(200);
    let error = client
        .dial_within(silent.local_addr().unwrap(), [0; 32], limit)
        .await
        .unwrap_err();
    assert!(
        matches!(error, DialError::TimedOut { after, .. } if after == limit),
        "{error:?}"
    );
    for bad in ["127.0.0.1:0", "[::1]:443"] {
        let error = client
            .dial(bad.parse().unwrap(), [0; 32])
            .await
            .unwrap_err();
        assert!(matches!(error, DialError::BadAddress { .. }), "{error:?}");
    }
    client.close().await;
    let error = client
        .dial(silent.local_addr().unwrap(), [0; 32])
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Endpoint(_)), "{error:?}");
}

#[tokio::test]
async fn one_endpoint_per_socket_until_it_is_gone() {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (socket, _tunnel) = SharedSocket::bind(any, SocketOptions::default()).unwrap();
    let first = quic_endpoint(&socket, &identity(1)).unwrap();
    let error = quic_endpoint(&socket, &identity(1)).unwrap_err();
    assert!(matches!(error, QuicError::AlreadyOnThisSocket), "{error:?}");
    first.close().await;
    drop(first);
    // quinn's driver task lets go of the socket when it next runs.
    for _ in 0..1000 {
        if quic_endpoint(&socket, &identity(1)).is_ok() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the socket stayed taken");
}

/// What both ends of a connection of `protocol` say of it, and its far end.
async fn meet(
    client: &QuicEndpoint,
    server: &QuicEndpoint,
    (addr, protocol): (SocketAddr, Protocol),
    [swarm, pipes]: [&mut mpsc::Receiver<Connection>; 2],
) -> Connection {
    let dialed = match protocol {
        Protocol::Session => client.dial(addr, server.node_key()).await,
        Protocol::Swarm => client.dial_swarm(addr, server.node_key()).await,
        Protocol::Pipe => client.dial_pipe(addr, server.node_key()).await,
    };
    let near = dialed.unwrap();
    let far = match protocol {
        Protocol::Session => server.accept().await,
        Protocol::Swarm => swarm.recv().await,
        Protocol::Pipe => pipes.recv().await,
    };
    let far = far.unwrap();
    assert_eq!([alpn(&near), alpn(&far)], [protocol; 2]);
    assert_eq!(peer_node_key(&far), Some(client.node_key()));
    near.close(VarInt::from_u32(7), b"");
    far
}

#[tokio::test]
async fn connections_go_to_who_serves_their_protocol() {
    let (server, addr, _tunnel) = endpoint(&identity(1));
    let (client, _, _tunnel) = endpoint(&identity(2));
    let mut swarm = server.swarm_connections().unwrap();
    assert!(server.swarm_connections().is_none(), "there is one line");
    let mut pipes = server.pipe_connections().unwrap();
    use Protocol::{Pipe, Session, Swarm};
    for protocol in [Swarm, Session, Pipe, Swarm] {
        let lines = [&mut swarm, &mut pipes];
        let far = meet(&client, &server, (addr, protocol), lines).await;
        far.closed().await;
    }
    server.close().await;
    assert!(server.accept().await.is_none() && swarm.recv().await.is_none());
}

#[tokio::test]
async fn a_protocol_nobody_serves_is_turned_away() {
    let (server, addr, _tunnel) = endpoint(&identity(1));
    let (client, _, _tunnel) = endpoint(&identity(2));
    drop(server.swarm_connections());
    let (unserved, abandoned) = tokio::join!(
        client.dial(addr, server.node_key()),
        client.dial_swarm(addr, server.node_key())
    );
    for connection in [unserved.unwrap(), abandoned.unwrap()] {
        let why = connection.closed().await;
        let quinn::ConnectionError::ApplicationClosed(close) = why else {
            panic!("{why:?}");
        };
        assert_eq!(close.error_code, VarInt::from_u32(1));
    }
}

#[tokio::test]
async fn in_the_swarm_both_ends_may_open_256_streams() {
    let (server, addr, _tunnel) = endpoint(&identity(1));
    let (client, _, _tunnel) = endpoint(&identity(2));
    let mut swarm = server.swarm_connections().unwrap();
    let near = client.dial_swarm(addr, server.node_key()).await.unwrap();
    let far = swarm.recv().await.unwrap();
    for connection in [&near, &far] {
        assert!(connection.max_datagram_size().is_some());
        let mut streams = Vec::new();
        for _ in 0..SWARM_BIDI_STREAMS {
            let opening = tokio::time::timeout(Duration::from_secs(5), connection.open_bi());
            streams.push(opening.await.unwrap().unwrap());
        }
        let one_more = tokio::time::timeout(Duration::from_millis(50), connection.open_bi());
        assert!(one_more.await.is_err(), "and no more");
    }
}
