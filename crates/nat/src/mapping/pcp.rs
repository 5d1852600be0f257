//! The messages of PCP (RFC 6887) that a mapping takes: MAP and ANNOUNCE, as version 2 has them. Pure bytes; it refuses to
//! decide whether an answer is the awaited one.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::Junk;

const VERSION: u8 = 2;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
const REPLY: u8 = 0x80;
/// Version, opcode, result, lifetime, epoch (or the client's address): RFC 6887 section 7.
const HEAD: usize = 24;
/// Head and 36 bytes of MAP: section 11.1.
const MAP_LEN: usize = HEAD + 36;
/// The longest that there may be: section 7.
const LONGEST: usize = 1_100;
/// IANA's number of UDP.
const UDP: u8 = 17;

/// What tells our mapping from a mapping of somebody who only claims our address: section 11.1.
pub(super) type Nonce = [u8; 12];

/// Asks for a mapping, or with a lifetime of 0 gives it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MapRequest {
    /// Seconds.
    pub(super) lifetime: u32,
    /// The address that the router must see this come from.
    pub(super) client: Ipv4Addr,
    pub(super) nonce: Nonce,
    /// Our port.
    pub(super) port: u16,
    /// What we would like to have outside.
    pub(super) wished: SocketAddrV4,
}

impl MapRequest {
    pub(super) fn to_bytes(self) -> [u8; MAP_LEN] {
        let mut out = [0; MAP_LEN];
        out[..HEAD].copy_from_slice(&head(MAP, self.lifetime, self.client));
        out[24..36].copy_from_slice(&self.nonce);
        out[36] = UDP;
        out[40..42].copy_from_slice(&self.port.to_be_bytes());
        out[42..44].copy_from_slice(&self.wished.port().to_be_bytes());
        out[44..].copy_from_slice(&self.wished.ip().to_ipv6_mapped().octets());
        out
    }
}

/// Asks a router whether it is there, and for how long it has been.
pub(super) fn announce_request(client: Ipv4Addr) -> [u8; HEAD] {
    head(ANNOUNCE, 0, client)
}

fn head(opcode: u8, lifetime: u32, client: Ipv4Addr) -> [u8; HEAD] {
    let mut out = [0; HEAD];
    out[0] = VERSION;
    out[1] = opcode;
    out[4..8].copy_from_slice(&lifetime.to_be_bytes());
    out[8..].copy_from_slice(&client.to_ipv6_mapped().octets());
    out
}

/// What a router says, asked or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    /// 0 is success: section 7.4.
    pub(super) code: u8,
    /// Seconds: of the mapping, or until it is worth asking again.
    pub(super) lifetime: u32,
    /// Seconds since the router has known its mappings.
    pub(super) epoch: u32,
    pub(super) body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Announce,
    Map {
        nonce: Nonce,
        port: u16,
        /// `None` if it is an address of IPv6.
        external: Option<SocketAddrV4>,
    },
}

impl Reply {
    /// Reads an answer.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Junk> {
        // A router that speaks only NAT-PMP says so in 8 bytes.
        match bytes {
            [version, ..] if *version != VERSION => return Err(Junk::OtherVersion(*version)),
            _ if bytes.len() < HEAD || bytes.len() > LONGEST => return Err(Junk::Length),
            _ => {}
        }
        let body = match bytes[1] {
            opcode if opcode & REPLY == 0 => return Err(Junk::NotAReply),
            opcode if opcode == REPLY | ANNOUNCE => Body::Announce,
            opcode if opcode == REPLY | MAP => {
                let map = bytes.get(HEAD..MAP_LEN).ok_or(Junk::Length)?;
                if map[12] != UDP {
                    return Err(Junk::NotAReply);
                }
                let mut nonce = Nonce::default();
                nonce.copy_from_slice(&map[..12]);
                let mut ip = [0; 16];
                ip.copy_from_slice(&map[20..36]);
                let ip = std::net::Ipv6Addr::from(ip).to_ipv4_mapped();
                let outside = u16::from_be_bytes([map[18], map[19]]);
                Body::Map {
                    nonce,
                    port: u16::from_be_bytes([map[16], map[17]]),
                    external: ip.map(|ip| SocketAddrV4::new(ip, outside)),
                }
            }
            _ => return Err(Junk::NotAReply),
        };
        let word = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Ok(Self {
            code: bytes[3],
            lifetime: word(4),
            epoch: word(8),
            body,
        })
    }
}

/// A result code as a person reads it: section 7.4.
pub(super) fn why(code: u8) -> &'static str {
    match code {
        1 => "it does not speak this version",
        2 => "not authorized",
        3 | 6 => "it could not read the request",
        4 | 9 => "it does not support this",
        7 => "its network is down",
        8 => "no resources",
        10 => "too many mappings",
        11 => "it cannot give that port",
        12 => "another router stands between",
        13 => "too many peers",
        _ => "for a reason that is not known",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn reply_to(request: MapRequest, external: SocketAddrV4) -> Vec<u8> {
        let mut bytes = request.to_bytes().to_vec();
        bytes[1] |= REPLY;
        bytes[3] = 0;
        bytes[8..12].copy_from_slice(&77u32.to_be_bytes());
        bytes[42..44].copy_from_slice(&external.port().to_be_bytes());
        bytes[44..60].copy_from_slice(&external.ip().to_ipv6_mapped().octets());
        bytes
    }

    #[test]
    fn a_request_lies_as_the_rfc_has_it() {
        let request = MapRequest {
            lifetime: 7_200,
            client: Ipv4Addr::new(192, 168, 1, 2),
            nonce: *b"twelve bytes",
            port: 0x1234,
            wished: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0x5678),
        };
        let bytes = request.to_bytes();
        assert_eq!(bytes[..8], [2, 1, 0, 0, 0, 0, 0x1c, 0x20]);
        assert_eq!(
            bytes[8..24],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2]
        );
        assert_eq!(bytes[24..36], *b"twelve bytes");
        assert_eq!(bytes[36..44], [17, 0, 0, 0, 0x12, 0x34, 0x56, 0x78]);
        assert_eq!(bytes[54..], [0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(announce_request(Ipv4Addr::LOCALHOST)[..2], [2, 0]);
    }

    #[test]
    fn an_old_router_is_recognised() {
        let said = [0, 0x81, 0, 1, 0, 0, 0, 9];
        assert_eq!(Reply::parse(&said), Err(Junk::OtherVersion(0)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..1_200)) {
            let _ = Reply::parse(&bytes);
        }

        #[test]
        fn almost_right_bytes_are_read_without_harm(mut bytes in prop::collection::vec(any::<u8>(), 2..80), opcode in 0u8..3) {
            bytes[0] = VERSION;
            bytes[1] = REPLY | opcode;
            match Reply::parse(&bytes) {
                Ok(reply) => {
                    let least = match reply.body {
                        Body::Announce => HEAD,
                        Body::Map { .. } => MAP_LEN,
                    };
                    prop_assert!(bytes.len() >= least);
                }
                Err(junk) => prop_assert!(matches!(junk, Junk::Length | Junk::NotAReply)),
            }
        }

        #[test]
        fn what_is_granted_is_read(lifetime: u32, nonce: Nonce, port: u16, ip: u32, outside: u16) {
            let external = SocketAddrV4::new(ip.into(), outside);
            let client = Ipv4Addr::new(10, 0, 0, 2);
            let wished = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
            let request = MapRequest { lifetime, client, nonce, port, wished };
            let reply = Reply::parse(&reply_to(request, external)).unwrap();
            let body = Body::Map { nonce, port, external: Some(external) };
            prop_assert_eq!(reply, Reply { code: 0, lifetime, epoch: 77, body });
            // A request is no answer to itself.
            prop_assert_eq!(Reply::parse(&request.to_bytes()), Err(Junk::NotAReply));
        }
    }
}
