//! A router that has answered, in the language in which it did. It refuses to believe an answer to another question.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::ask::ask;
use super::epoch::Epoch;
use super::gateway::{Inside, SERVER, is_public};
use super::undo::Undo;
use super::upnp::Upnp;
use super::{Granted, Junk, MapperConfig, Protocol, Refusal, nat_pmp, pcp};

/// No router is asked, or believed, for more: a day. RFC 6887 section 15.
const LONGEST: Duration = Duration::from_secs(86_400);

#[derive(Debug)]
pub(super) enum Speaker {
    Pcp {
        line: UdpSocket,
        inside: Inside,
    },
    NatPmp {
        line: UdpSocket,
        inside: Inside,
        external: Ipv4Addr,
    },
    Upnp {
        upnp: Upnp,
    },
}

impl Speaker {
    /// Asks whether the router speaks a protocol. Nothing is mapped yet.
    pub(super) async fn find(protocol: Protocol, inside: Inside) -> Result<Self, Refusal> {
        match protocol {
            Protocol::Pcp => {
                let line = inside.line().await.map_err(|_| Refusal::Silent)?;
                announced(&line, inside.local).await?;
                Ok(Self::Pcp { line, inside })
            }
            Protocol::NatPmp => {
                let line = inside.line().await.map_err(|_| Refusal::Silent)?;
                let (external, _) = external(&line).await?;
                Ok(Self::NatPmp {
                    line,
                    inside,
                    external,
                })
            }
            Protocol::Upnp => {
                let upnp = Upnp::find(inside).await?;
                Ok(Self::Upnp { upnp })
            }
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Pcp { .. } => Protocol::Pcp,
            Self::NatPmp { .. } => Protocol::NatPmp,
            Self::Upnp { .. } => Protocol::Upnp,
        }
    }

    /// The address outside, where the protocol tells it before a mapping.
    pub(super) fn external(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Pcp { .. } => None,
            Self::NatPmp { external, .. } => Some(*external),
            Self::Upnp { upnp } => Some(upnp.external),
        }
    }

    /// Asks for a mapping, or for the one that we have again. What is not public is given back.
    pub(super) async fn map(
        &mut self,
        config: &MapperConfig,
        had: Option<SocketAddrV4>,
    ) -> Result<Granted, Refusal> {
        // Nothing is mapped that nobody could use.
        if let Some(ip) = self.external().filter(|ip| !is_public(*ip)) {
            return Err(Refusal::NotPublic(ip));
        }
        let wished = had.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, config.port));
        let lifetime = config.lifetime.min(LONGEST);
        let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        let granted = match self {
            Self::Pcp { line, inside } => {
                let request = pcp::MapRequest {
                    lifetime: seconds,
                    client: inside.local,
                    nonce: config.nonce,
                    port: config.port,
                    wished,
                };
                let heard = |bytes: &[u8]| pcp_granted(bytes, &request);
                ask(line, &request.to_bytes(), heard).await?
            }
            Self::NatPmp {
                line,
                external: known,
                ..
            } => {
                let (ip, _) = external(line).await?;
                *known = ip;
                let question = nat_pmp::map_request(config.port, wished.port(), seconds);
                let heard = |bytes: &[u8]| nat_pmp_granted(bytes, config.port, ip);
                ask(line, &question, heard).await?
            }
            Self::Upnp { upnp } => upnp.map(config.port, wished.port(), lifetime).await?,
        };
        let ip = *granted.external.ip();
        if !is_public(ip) {
            self.undo(config, granted.external).in_background();
            return Err(Refusal::NotPublic(ip));
        }
        if granted.external.port() == 0 || granted.lifetime.is_zero() {
            return Err(Refusal::Refused("its grant makes no sense".into()));
        }
        Ok(Granted {
            lifetime: granted.lifetime.min(LONGEST),
            ..granted
        })
    }

    /// How long the router has known its mappings, if it can tell.
    pub(super) async fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::Pcp { line, inside } => announced(line, inside.local).await.ok(),
            Self::NatPmp { line, .. } => external(line).await.ok().map(|(_, epoch)| epoch),
            Self::Upnp { .. } => None,
        }
    }

    /// What gives the mapping back.
    pub(super) fn undo(&self, config: &MapperConfig, external: SocketAddrV4) -> Undo {
        let question = |inside: &Inside, bytes: Vec<u8>| Undo::Question {
            to: SocketAddrV4::new(inside.gateway, SERVER),
            mark: inside.mark,
            bytes,
        };
        match self {
            Self::Pcp { inside, .. } => {
                let request = pcp::MapRequest {
                    lifetime: 0,
                    client: inside.local,
                    nonce: config.nonce,
                    port: config.port,
                    wished: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
                };
                question(inside, request.to_bytes().to_vec())
            }
            Self::NatPmp { inside, .. } => {
                question(inside, nat_pmp::map_request(config.port, 0, 0).to_vec())
            }
            Self::Upnp { upnp } => Undo::Upnp {
                upnp: Box::new(upnp.clone()),
                port: external.port(),
            },
        }
    }
}

fn epoch(seconds: u32) -> Epoch {
    Epoch {
        seconds,
        at: Instant::now().into_std(),
    }
}

async fn announced(line: &UdpSocket, local: Ipv4Addr) -> Result<Epoch, Refusal> {
    let heard = |bytes: &[u8]| match pcp::Reply::parse(bytes) {
        Ok(reply) if reply.body == pcp::Body::Announce => Some(match reply.code {
            0 => Ok(epoch(reply.epoch)),
            code => Err(Refusal::Refused(pcp::why(code).into())),
        }),
        Ok(_) | Err(Junk::Length | Junk::NotAReply) => None,
        Err(Junk::OtherVersion(_)) => Some(Err(Refusal::OtherVersion)),
    };
    ask(line, &pcp::announce_request(local), heard).await
}

async fn external(line: &UdpSocket) -> Result<(Ipv4Addr, Epoch), Refusal> {
    let heard = |bytes: &[u8]| match nat_pmp::Reply::parse(bytes) {
        Ok(reply) => match reply.body {
            nat_pmp::Body::External(ip) => Some(Ok((ip, epoch(reply.epoch)))),
            nat_pmp::Body::Mapped { .. } => None,
            nat_pmp::Body::Refused => Some(Err(Refusal::Refused(nat_pmp::why(reply.code).into()))),
        },
        Err(Junk::Length | Junk::NotAReply) => None,
        Err(Junk::OtherVersion(_)) => Some(Err(Refusal::OtherVersion)),
    };
    ask(line, &nat_pmp::EXTERNAL_REQUEST, heard).await
}

pub(super) fn pcp_granted(
    bytes: &[u8],
    asked: &pcp::MapRequest,
) -> Option<Result<Granted, Refusal>> {
    let reply = match pcp::Reply::parse(bytes) {
        Ok(reply) => reply,
        Err(Junk::OtherVersion(_)) => return Some(Err(Refusal::OtherVersion)),
        Err(Junk::Length | Junk::NotAReply) => return None,
    };
    let pcp::Body::Map {
        nonce,
        port,
        external,
    } = reply.body
    else {
        return None;
    };
    if nonce != asked.nonce || port != asked.port {
        return None;
    }
    Some(match (reply.code, external) {
        (0, Some(external)) => Ok(Granted {
            external,
            lifetime: Duration::from_secs(reply.lifetime.into()),
            epoch: Some(epoch(reply.epoch)),
        }),
        (0, None) => Err(Refusal::Refused("it has no IPv4 outside".into())),
        (code, _) => Err(Refusal::Refused(pcp::why(code).into())),
    })
}

pub(super) fn nat_pmp_granted(
    bytes: &[u8],
    asked: u16,
    ip: Ipv4Addr,
) -> Option<Result<Granted, Refusal>> {
    let reply = match nat_pmp::Reply::parse(bytes) {
        Ok(reply) => reply,
        Err(Junk::OtherVersion(_)) => return Some(Err(Refusal::OtherVersion)),
        Err(Junk::Length | Junk::NotAReply) => return None,
    };
    match reply.body {
        nat_pmp::Body::Mapped {
            port,
            external,
            lifetime,
        } if port == asked => Some(Ok(Granted {
            external: SocketAddrV4::new(ip, external),
            lifetime: Duration::from_secs(lifetime.into()),
            epoch: Some(epoch(reply.epoch)),
        })),
        nat_pmp::Body::Mapped { .. } | nat_pmp::Body::External(_) => None,
        nat_pmp::Body::Refused => Some(Err(Refusal::Refused(nat_pmp::why(reply.code).into()))),
    }
}
