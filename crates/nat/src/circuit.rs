//! TLS 1.3 between two node keys on a stream that a relay carries: the relay can break it off, and nothing else. It refuses a
//! peer without a node key.

use std::io;
use std::iter;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p_core::UpgradeInfo;
use libp2p_core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p_identity::PeerId;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::Ground;
use crate::address::peer_id;

const PROTOCOL: &str = "/wayfare/tls/1";
/// The name TLS wants; the configuration neither sends nor compares it.
const NO_NAME: &str = "node";

/// Makes both ends of a carried stream know each other.
#[derive(Debug, Clone)]
pub(crate) struct CircuitTls(pub(crate) Arc<dyn Ground>);

impl UpgradeInfo for CircuitTls {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once(PROTOCOL)
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C>
    for CircuitTls
{
    type Output = (PeerId, TlsStream<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_inbound(self, stream: C, _: &'static str) -> Self::Future {
        let acceptor = TlsAcceptor::from(self.0.called());
        async move {
            let stream = acceptor.accept(stream).await?;
            let (_, tls) = stream.get_ref();
            Ok((self.peer(tls.peer_certificates())?, stream.into()))
        }
        .boxed()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C>
    for CircuitTls
{
    type Output = (PeerId, TlsStream<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_outbound(self, stream: C, _: &'static str) -> Self::Future {
        let connector = TlsConnector::from(self.0.calling());
        async move {
            let name = ServerName::try_from(NO_NAME).expect("a constant host name");
            let stream = connector.connect(name, stream).await?;
            let (_, tls) = stream.get_ref();
            Ok((self.peer(tls.peer_certificates())?, stream.into()))
        }
        .boxed()
    }
}

impl CircuitTls {
    fn peer(&self, chain: Option<&[CertificateDer<'_>]>) -> io::Result<PeerId> {
        let certificate = chain.and_then(<[_]>::first);
        certificate
            .and_then(|certificate| self.0.certified(certificate))
            .and_then(peer_id)
            .ok_or_else(|| io::Error::other("the peer showed no node key"))
    }
}
