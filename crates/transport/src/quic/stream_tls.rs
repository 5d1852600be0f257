//! The same TLS, node key to node key, for byte streams that others carry: a relay's circuit, a TCP connection.
//!
//! Each end shows its certificate and takes any that holds a node key; whose it is, is asked afterwards, see
//! [`node_key_in`]. It refuses to know what the streams are for.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::version::TLS13;
use rustls::{ClientConfig, Error, ServerConfig};

use super::identity::{self, QuicIdentity};
use super::verify::{AnyNode, ExactNode, node_key_of};

/// The ed25519 node key in a certificate; `None` if it is of another kind. That its holder is at the other end is what the
/// handshake proves.
#[must_use]
pub fn node_key_in(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    node_key_of(certificate)
}

impl QuicIdentity {
    /// For the end that is called. It demands a certificate.
    ///
    /// # Errors
    /// TLS refused the configuration.
    pub fn called(&self) -> Result<Arc<ServerConfig>, Error> {
        let provider = identity::provider();
        let verifier = AnyNode::mandatory(&provider);
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.certificate());
        tls.send_tls13_tickets = 0;
        Ok(Arc::new(tls))
    }

    /// For the end that calls. The caller checks afterwards whom it reached.
    ///
    /// # Errors
    /// TLS refused the configuration.
    pub fn calling(&self) -> Result<Arc<ClientConfig>, Error> {
        let provider = identity::provider();
        let verifier = ExactNode::any(&provider);
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.certificate());
        tls.enable_sni = false;
        tls.resumption = Resumption::disabled();
        Ok(Arc::new(tls))
    }
}
