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
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    connection.closed().await;
                }
            });
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
    let judged = tokio::spawn({
        let honest = honest.clone();
        async move { honest.accept().await.unwrap().await }
    });
    // TLS 1.3 lets the client finish first; the server's verdict is what counts.
    let _ = lying_client.dial(addr, honest.node_key()).await;
    assert!(judged.await.unwrap().is_err());
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
