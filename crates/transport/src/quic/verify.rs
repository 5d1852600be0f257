//! Certificate checks by node key alone.
//!
//! The certificate is taken apart for its ed25519 key; names, dates and issuers are not read,
//! because nobody is trusted to sign them. That the peer *holds* the key is proved by the TLS
//! handshake signature, checked by the provider's own algorithms. Anything but ed25519 is refused.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    SignatureScheme,
};

/// SubjectPublicKeyInfo of an ed25519 key (RFC 8410 section 4): everything but the key.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The ed25519 key in a certificate, if it has one and nothing else in its place.
pub(super) fn node_key_of(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let spki = parsed.subject_public_key_info();
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()
}

/// The dialer's check: this node and no other, or any node if none is named.
#[derive(Debug)]
pub(super) struct ExactNode {
    expected: Option<[u8; 32]>,
    /// What was shown, for the dialer's error; `None` inside for a certificate of another kind.
    presented: Arc<OnceLock<Option<[u8; 32]>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ExactNode {
    pub(super) fn new(
        expected: [u8; 32],
        presented: Arc<OnceLock<Option<[u8; 32]>>>,
        provider: &CryptoProvider,
    ) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self {
            expected: Some(expected),
            presented,
            algorithms,
        }
    }

    /// Whoever it is, it shows a node key; the dialer asks for it afterwards.
    pub(super) fn any(provider: &CryptoProvider) -> Self {
        Self {
            expected: None,
            presented: Arc::default(),
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for ExactNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = node_key_of(end_entity);
        // The handshake asks once; a second value could not be the certificate that was signed for.
        let _ = self.presented.set(shown);
        match shown {
            None => Err(CertificateError::BadEncoding.into()),
            Some(key) if self.expected.is_none_or(|expected| expected == key) => {
                Ok(ServerCertVerified::assertion())
            }
            Some(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The server's check: any node, or a client that shows no key where that is allowed.
#[derive(Debug)]
pub(super) struct AnyNode {
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyNode {
    pub(super) fn new(provider: &CryptoProvider) -> Self {
        Self {
            mandatory: false,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Nobody without a node key.
    pub(super) fn mandatory(provider: &CryptoProvider) -> Self {
        Self {
            mandatory: true,
            ..Self::new(provider)
        }
    }
}

impl ClientCertVerifier for AnyNode {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match node_key_of(end_entity) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_certificate_of_another_kind_or_broken_bytes_have_no_node_key() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let ecdsa = params.self_signed(&pair).unwrap();
        assert_eq!(node_key_of(ecdsa.der()), None);
        assert_eq!(node_key_of(&CertificateDer::from(Vec::new())), None);
        let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let good = params.self_signed(&ed25519).unwrap().der().to_vec();
        assert!(node_key_of(&CertificateDer::from(good.clone())).is_some());
        for cut in 0..good.len() {
            assert_eq!(
                node_key_of(&CertificateDer::from(good[..cut].to_vec())),
                None
            );
        }
    }
}
