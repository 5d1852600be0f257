//! IP packets: any bytes, parsed twice over, and sealed and opened if they are one.
//! It refuses packets of its own making: the input is the packet.

use std::net::IpAddr;

use wayfare_tunnel::packet::{IpPacket, IpVersion};
use wayfare_tunnel::{DropReason, OVERHEAD, Received, Sealed, TRANSPORT_HEADER};

use super::Ending;
use super::world::{HERE, Pair, address};

/// Any bytes as an IP packet: parsed, and sealed if they are one.
pub fn packet(bytes: &[u8]) -> Ending {
    let parsed = IpPacket::parse(bytes);
    let read = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    // The same question, asked the other way round: how long would it be, if it were one?
    let stated = match bytes.first().map(|first| first >> 4) {
        Some(4) if bytes.len() >= 20 => {
            let header = usize::from(bytes[0] & 15) * 4;
            Some(read(2)).filter(|total| header >= 20 && *total >= header)
        }
        Some(6) if bytes.len() >= 40 => Some(40 + read(4)),
        _ => None,
    };
    let whole = stated.filter(|total| *total <= bytes.len());
    assert_eq!(parsed.ok().map(|packet| packet.total_length()), whole);
    let Ok(packet) = parsed else {
        return Ending::Refused;
    };
    assert_eq!(packet.as_bytes(), &bytes[..packet.total_length()]);
    assert_eq!(IpPacket::parse(packet.as_bytes()), Ok(packet));
    let (source, destination) = match packet.version() {
        IpVersion::V4 => (octets::<4>(bytes, 12), octets::<4>(bytes, 16)),
        IpVersion::V6 => (octets::<16>(bytes, 8), octets::<16>(bytes, 24)),
    };
    assert_eq!(
        (packet.source(), packet.destination()),
        (source, destination)
    );
    let mut pair = Pair::established();
    sealed_and_opened(&mut pair, packet);
    Ending::Accepted
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> IpAddr
where
    IpAddr: From<[u8; N]>,
{
    let octets: [u8; N] = bytes[at..at + N].try_into().expect("N bytes");
    IpAddr::from(octets)
}

/// A packet goes through an established tunnel, sealed out of place and in place, and comes out as it was if its
/// source is the consumer's.
fn sealed_and_opened(pair: &mut Pair, packet: IpPacket<'_>) {
    let bytes = packet.as_bytes();
    let mut out = vec![0xee; bytes.len() + 15 + OVERHEAD];
    let Sealed::Datagram { len, .. } = pair.consumer.seal(bytes, pair.now, &mut out) else {
        panic!("everything is routed to the provider");
    };
    out.truncate(len);
    let mut frame = vec![0; out.len()];
    frame[TRANSPORT_HEADER..][..bytes.len()].copy_from_slice(bytes);
    let sealed = pair
        .consumer
        .seal_in_place(&mut frame, bytes.len(), pair.now);
    assert!(matches!(sealed, Sealed::Datagram { len, .. } if len == out.len()));
    let own: [IpAddr; 2] = ["10.8.0.2", "fd00::2"].map(|text| text.parse().unwrap());
    for mut datagram in [out, frame] {
        let got = pair
            .provider
            .handle_datagram(address(HERE), &mut datagram, pair.now);
        let expect = if own.contains(&packet.source()) {
            Received::Packet {
                peer: pair.guest,
                packet: bytes,
            }
        } else {
            Received::Dropped(DropReason::SpoofedSource)
        };
        assert_eq!(got, expect);
    }
}
