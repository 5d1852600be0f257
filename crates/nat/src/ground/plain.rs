//! A swarm's ground of nothing but quinn on a loopback address of its own. It refuses carried streams: the table needs none.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use tokio::sync::mpsc;
use wayfare_identity::{NodeId, NodeKey};

use crate::{Ground, Port};

/// An ed25519 key in a certificate follows these bytes (RFC 8410 section 4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// And in PKCS #8 its seed follows these.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

#[derive(Debug, Clone)]
pub(crate) struct PlainGround {
    pub(crate) endpoint: quinn::Endpoint,
    client: Arc<rustls::ClientConfig>,
    server: Arc<rustls::ServerConfig>,
}

/// Whoever shows a key that it holds; the test compares it afterwards.
#[derive(Debug)]
struct Anybody(CryptoProvider);

fn key_in(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let at = certificate
        .windows(SPKI_PREFIX.len())
        .position(|window| window == SPKI_PREFIX)?;
    let key = &certificate[at + SPKI_PREFIX.len()..];
    Some(NodeId(*key.first_chunk()?))
}

fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    // A hundred nodes in one process: the cheapest exchange is enough.
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    provider
}

impl PlainGround {
    /// On a loopback network of its own. The receiver gets what others dial.
    pub(crate) fn open(
        key: &NodeKey,
        ip: [u8; 4],
    ) -> (Self, SocketAddr, mpsc::Receiver<quinn::Connection>) {
        let der = PrivatePkcs8KeyDer::from([PKCS8_PREFIX.as_slice(), &*key.seed()].concat());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        let chain = vec![params.self_signed(&pair).unwrap().der().clone()];
        let der = PrivateKeyDer::Pkcs8(der);
        let versions = &[&rustls::version::TLS13];
        let verifier = Arc::new(Anybody(provider()));
        let mut client = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_auth_cert(chain.clone(), der.clone_key())
            .unwrap();
        client.alpn_protocols = vec![b"plain".to_vec()];
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, der)
            .unwrap();
        server.alpn_protocols = vec![b"plain".to_vec()];
        let (client, server) = (Arc::new(client), Arc::new(server));
        let serving = QuicServerConfig::try_from(Arc::clone(&server)).unwrap();
        let serving = quinn::ServerConfig::with_crypto(Arc::new(serving));
        let endpoint = quinn::Endpoint::server(serving, (ip, 0).into()).unwrap();
        let at = endpoint.local_addr().unwrap();
        let (found, incoming) = mpsc::channel(64);
        let accepting = endpoint.clone();
        tokio::spawn(async move {
            while let Some(dialed) = accepting.accept().await {
                let found = found.clone();
                tokio::spawn(async move {
                    if let Ok(connection) = dialed.await {
                        let _ = found.send(connection).await;
                    }
                });
            }
        });
        let ground = Self {
            endpoint,
            client,
            server,
        };
        (ground, at, incoming)
    }

    /// From now on nothing arrives and nothing leaves.
    pub(crate) fn die(&self) {
        let elsewhere = std::net::UdpSocket::bind("[::1]:0").unwrap();
        self.endpoint.rebind(elsewhere).unwrap();
    }
}

impl Ground for PlainGround {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn dial(
        &self,
        to: SocketAddr,
        node: NodeId,
        _: Port,
    ) -> BoxFuture<'static, io::Result<quinn::Connection>> {
        let (this, client) = (self.clone(), Arc::clone(&self.client));
        async move {
            let client = QuicClientConfig::try_from(client).map_err(io::Error::other)?;
            let client = quinn::ClientConfig::new(Arc::new(client));
            let dialing = this.endpoint.connect_with(client, to, "node");
            let connection = dialing.map_err(io::Error::other)?.await?;
            match this.node_of(&connection) {
                Some(shown) if shown == node => Ok(connection),
                _ => Err(io::Error::other("somebody else")),
            }
        }
        .boxed()
    }

    fn node_of(&self, connection: &quinn::Connection) -> Option<NodeId> {
        let shown = connection.peer_identity()?;
        let chain = shown.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        key_in(chain.first()?)
    }

    fn knock(&self, _: SocketAddr) {}

    fn vouches(&self, cookie: [u8; 8], of: SocketAddr) -> bool {
        cookie == [of.port().to_be_bytes()[1]; 8]
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.endpoint.local_addr().into_iter().collect()
    }

    fn called(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.server)
    }

    fn calling(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.client)
    }

    fn certified(&self, certificate: &CertificateDer<'_>) -> Option<NodeId> {
        key_in(certificate)
    }
}

impl Anybody {
    fn signed(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
