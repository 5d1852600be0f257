//! The messages of NAT-PMP (RFC 6886): the outside address, and a mapping of UDP. Pure bytes; it refuses to decide whether an
//! answer is the awaited one, which the protocol itself can tell only by port and source.

use std::net::Ipv4Addr;

use super::Junk;

const VERSION: u8 = 0;
const EXTERNAL: u8 = 0;
const MAP_UDP: u8 = 1;
const REPLY: u8 = 0x80;

/// Asks for the outside address: RFC 6886 section 3.2.
pub(super) const EXTERNAL_REQUEST: [u8; 2] = [VERSION, EXTERNAL];

/// Asks for a mapping of `port`, for so many seconds; 0 of them give it back, and then no port is wished: section 3.3.
pub(super) fn map_request(port: u16, wished: u16, lifetime: u32) -> [u8; 12] {
    let mut out = [0; 12];
    out[1] = MAP_UDP;
    out[4..6].copy_from_slice(&port.to_be_bytes());
    out[6..8].copy_from_slice(&wished.to_be_bytes());
    out[8..].copy_from_slice(&lifetime.to_be_bytes());
    out
}

/// What a router says, asked or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    /// 0 is success: section 3.5.
    pub(super) code: u16,
    /// Seconds since the router has known its mappings.
    pub(super) epoch: u32,
    pub(super) body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    External(Ipv4Addr),
    Mapped {
        port: u16,
        external: u16,
        /// Seconds.
        lifetime: u32,
    },
    /// A refusal may end after the epoch.
    Refused,
}

impl Reply {
    /// Reads an answer.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Junk> {
        let [version, opcode, code @ ..] = bytes else {
            return Err(Junk::Length);
        };
        if *version != VERSION {
            return Err(Junk::OtherVersion(*version));
        }
        let ([c0, c1, e0, e1, e2, e3], rest) = code.split_first_chunk().ok_or(Junk::Length)?;
        let code = u16::from_be_bytes([*c0, *c1]);
        let epoch = u32::from_be_bytes([*e0, *e1, *e2, *e3]);
        let known = *opcode == REPLY | EXTERNAL || *opcode == REPLY | MAP_UDP;
        let body = match rest {
            _ if !known => return Err(Junk::NotAReply),
            _ if code != 0 => Body::Refused,
            [a, b, c, d] if *opcode == REPLY | EXTERNAL => {
                Body::External(Ipv4Addr::new(*a, *b, *c, *d))
            }
            [p0, p1, x0, x1, l0, l1, l2, l3] if *opcode == REPLY | MAP_UDP => Body::Mapped {
                port: u16::from_be_bytes([*p0, *p1]),
                external: u16::from_be_bytes([*x0, *x1]),
                lifetime: u32::from_be_bytes([*l0, *l1, *l2, *l3]),
            },
            _ => return Err(Junk::Length),
        };
        Ok(Self { code, epoch, body })
    }
}

/// A result code as a person reads it: section 3.5.
pub(super) fn why(code: u16) -> &'static str {
    match code {
        1 => "it does not speak this version",
        2 => "not authorized",
        3 => "its network is down",
        4 => "no resources",
        5 => "it does not support this",
        _ => "for a reason that is not known",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_lies_as_the_rfc_has_it() {
        let bytes = map_request(0x1234, 0x5678, 7_200);
        assert_eq!(
            bytes,
            [0, 1, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x1c, 0x20]
        );
    }

    #[test]
    fn answers_are_read() {
        let external = [0, 128, 0, 0, 0, 0, 0, 5, 11, 0, 1, 2];
        let body = Body::External(Ipv4Addr::new(11, 0, 1, 2));
        let (code, epoch) = (0, 5);
        assert_eq!(Reply::parse(&external), Ok(Reply { code, epoch, body }));
        let mapped = [0, 129, 0, 0, 0, 0, 0, 5, 0, 1, 0, 2, 0, 0, 0, 3];
        let body = Body::Mapped {
            port: 1,
            external: 2,
            lifetime: 3,
        };
        assert_eq!(Reply::parse(&mapped), Ok(Reply { code, epoch, body }));
        let refused = [0, 129, 0, 2, 0, 0, 0, 5];
        assert_eq!(Reply::parse(&refused).unwrap().body, Body::Refused);
        assert_eq!(Reply::parse(&map_request(1, 2, 3)), Err(Junk::NotAReply));
        assert_eq!(Reply::parse(&[2, 129, 0, 0]), Err(Junk::OtherVersion(2)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Reply::parse(&bytes);
        }

        #[test]
        fn only_whole_answers_are_read(mut bytes in prop::collection::vec(any::<u8>(), 8..24), opcode in 0u8..3) {
            bytes[..4].copy_from_slice(&[0, REPLY | opcode, 0, 0]);
            let whole = match opcode { EXTERNAL => 12, MAP_UDP => 16, _ => usize::MAX };
            prop_assert_eq!(Reply::parse(&bytes).is_ok(), bytes.len() == whole);
        }
    }
}
