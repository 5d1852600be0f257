//! What a router, or who claims to be one, can say. It refuses to be part of any product.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::announcements::clock_in;
use super::speaker::{nat_pmp_granted, pcp_granted};
use super::upnp::search::page_in;
use super::upnp::soap::{Service, read};
use super::{nat_pmp as pmp, pcp as messages};
use crate::fuzzed::{Ending, Script};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const PORT: u16 = 51_820;

/// Answers to a MAP of PCP: what grants repeats what was asked.
pub(crate) fn pcp(bytes: &[u8]) -> Ending {
    let mut script = Script(bytes);
    let asked = messages::MapRequest {
        lifetime: 7_200,
        client: Ipv4Addr::new(192, 168, 1, 2),
        nonce: *b"twelve bytes",
        port: PORT,
        wished: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT),
    };
    let message = if script.byte() & 1 == 0 {
        let external = SocketAddrV4::new(Ipv4Addr::from(script.array()), PORT);
        let mut genuine = asked.to_bytes();
        genuine[1] |= 0x80;
        genuine[44..].copy_from_slice(&external.ip().to_ipv6_mapped().octets());
        let message = script.changed(&genuine);
        if message == genuine {
            let granted = pcp_granted(&message, &asked).and_then(Result::ok);
            assert_eq!(granted.map(|granted| granted.external), Some(external));
        }
        message
    } else {
        script.0.to_vec()
    };
    // Whoever announces says a time, and nothing else.
    let _ = clock_in(&message);
    let granted = pcp_granted(&message, &asked).and_then(Result::ok);
    if granted.is_some() {
        assert_eq!((message[0], message[1], message[3]), (2, 0x81, 0));
        assert_eq!(message[24..36], asked.nonce);
        assert_eq!(message[40..42], PORT.to_be_bytes());
    }
    Ending::accepted_if(granted.is_some())
}

/// Answers to a request of NAT-PMP: what grants is of our port.
pub(crate) fn nat_pmp(bytes: &[u8]) -> Ending {
    let mut script = Script(bytes);
    let outside = Ipv4Addr::new(11, 0, 1, 2);
    let message = if script.byte() & 1 == 0 {
        let mut genuine = [0; 16];
        genuine[1] = 0x81;
        genuine[8..10].copy_from_slice(&PORT.to_be_bytes());
        genuine[10..].copy_from_slice(&script.array::<6>());
        let message = script.changed(&genuine);
        if message == genuine {
            let granted = nat_pmp_granted(&message, PORT, outside).and_then(Result::ok);
            let port = u16::from_be_bytes([genuine[10], genuine[11]]);
            let external = SocketAddrV4::new(outside, port);
            assert_eq!(granted.map(|granted| granted.external), Some(external));
        }
        message
    } else {
        script.0.to_vec()
    };
    let _ = clock_in(&message);
    if let Ok(reply) = pmp::Reply::parse(&message) {
        assert!(message.len() >= 8 && message[1] & 0x80 != 0, "{reply:?}");
    }
    let granted = nat_pmp_granted(&message, PORT, outside).and_then(Result::ok);
    if granted.is_some() {
        assert_eq!((message.len(), message[1]), (16, 0x81));
        assert_eq!(message[8..10], PORT.to_be_bytes());
    }
    Ending::accepted_if(granted.is_some())
}

/// What boxes say about themselves: nothing of it leads away from the gateway.
pub(crate) fn upnp(bytes: &[u8]) -> Ending {
    let Some((choice, said)) = bytes.split_first() else {
        return Ending::Refused;
    };
    Ending::accepted_if(match choice % 4 {
        0 => page_in(said, GATEWAY).is_some_and(|page| {
            assert_eq!(*page.at.ip(), GATEWAY);
            assert!(page.path.starts_with('/'), "{page:?}");
            true
        }),
        1 => Service::in_description(said, GATEWAY).is_some_and(|service| {
            assert!(service.path.starts_with('/'), "{service:?}");
            true
        }),
        choice => read(choice == 2, said).is_ok_and(|ip| ip.is_some()),
    })
}
