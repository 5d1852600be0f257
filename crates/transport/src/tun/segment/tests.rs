//! Super-packets taken apart are compared with packets built one by one; arbitrary bytes are refused or survived.
//! The kernel takes no part here.

#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::super::batch::{Framing, MAX_PACKET};
use super::super::packets::{ACK, CWR, FIN, PSH, Recipe, assert_right};
use super::*;

const FRAMING: Framing = Framing {
    head: 16,
    tail: 16,
    multiple: 16,
    mtu: 1420,
};

fn apart(header: VnetHeader, packet: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut batch = PacketBatch::new(FRAMING, 0);
    let unpacked = unpack(header, packet, &mut batch)?;
    assert_eq!((unpacked.added, unpacked.lost), (batch.len(), 0));
    let packets = batch
        .frames()
        .map(|frame| frame.bytes[16..16 + frame.packet].to_vec());
    Ok(packets.collect())
}

fn check(recipe: &Recipe, size: u16) {
    let expect = recipe.segments(usize::from(size));
    let (header, packet) = recipe.unfinished(Some(size));
    let found = apart(header, &packet).unwrap();
    for packet in &found {
        assert_right(packet);
    }
    assert!(found == expect, "{recipe:?} in {size}");
    // A super-packet whose checksum was finished stands for the same.
    let finished = VnetHeader {
        unfinished: None,
        ..header
    };
    assert!(apart(finished, &recipe.build()).unwrap() == expect);
}

#[test]
fn both_protocols_over_both_versions_and_odd_lengths() {
    for payload in [1, 99, 1000, 1001, 2000, 3999, 4000] {
        for recipe in Recipe::four(payload) {
            for size in [100, 101, 1000, 1380] {
                check(&recipe, size);
            }
        }
    }
}

#[test]
fn the_largest_super_packets() {
    for recipe in Recipe::four(0) {
        let room = MAX_PACKET - recipe.headers();
        let recipe = recipe.with(|it| it.payload = vec![0xff; room]);
        check(&recipe, 1380);
    }
    // IPv6 does not count its own header.
    let recipe = Recipe::new(true, false, 65_535 - 32);
    assert_eq!(recipe.build().len(), 65_575);
    check(&recipe, 1380);
}

#[test]
fn all_sizes_of_tcp_options() {
    for words in 0..=10 {
        for v6 in [false, true] {
            let recipe = Recipe::new(v6, false, 2500).with(|it| it.options = vec![1; words * 4]);
            check(&recipe, 1200);
        }
    }
}

#[test]
fn ipv4_options_are_repeated() {
    for udp in [false, true] {
        let recipe = Recipe::new(false, udp, 2500).with(|it| it.ip_options = vec![1; 40]);
        check(&recipe, 1200);
    }
}

#[test]
fn fin_and_psh_on_the_last_cwr_on_the_first() {
    for v6 in [false, true] {
        let recipe = Recipe::new(v6, false, 300).with(|it| it.flags = ACK | FIN | PSH | CWR);
        check(&recipe, 100);
        let (header, packet) = recipe.unfinished(Some(100));
        let flags: Vec<u8> = apart(header, &packet)
            .unwrap()
            .iter()
            .map(|packet| packet[recipe.transport() + 13])
            .collect();
        assert_eq!(flags, [ACK | CWR, ACK, ACK | FIN | PSH]);
    }
}

#[test]
fn udp_over_ipv4_without_a_checksum_stays_without() {
    let recipe = Recipe::new(false, true, 250);
    let (header, _) = recipe.unfinished(Some(100));
    let header = VnetHeader {
        unfinished: None,
        ..header
    };
    let mut packet = recipe.build();
    packet[26..28].fill(0);
    let found = apart(header, &packet).unwrap();
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|packet| packet[26..28] == [0, 0]));
}

#[test]
fn extension_headers_are_repeated_and_the_begun_sum_is_kept() {
    let recipe = Recipe::new(true, false, 2500);
    let (header, packet) = recipe.unfinished(Some(1000));
    let behind = |packet: &[u8]| {
        let mut longer = packet[..40].to_vec();
        longer[6] = 0; // hop-by-hop options, 8 bytes, then TCP
        longer.extend([6, 0, 1, 4, 0, 0, 0, 0]);
        longer.extend(&packet[40..]);
        let length = longer.len() as u16 - 40;
        longer[4..6].copy_from_slice(&length.to_be_bytes());
        longer
    };
    let header = VnetHeader {
        unfinished: Some(Unfinished {
            start: 48,
            offset: 16,
        }),
        ..header
    };
    let expect: Vec<_> = recipe.segments(1000).iter().map(|s| behind(s)).collect();
    assert_eq!(apart(header, &behind(&packet)), Ok(expect));
}

#[test]
fn a_plain_packet_passes_and_gets_the_checksum_it_lacks() {
    for payload in [0, 1, 63, 64, 1000, 1379] {
        for recipe in Recipe::four(payload) {
            let right = recipe.build();
            let plain = VnetHeader::default();
            assert_eq!(apart(plain, &right), Ok(vec![right.clone()]));
            let (header, packet) = recipe.unfinished(None);
            assert_eq!(apart(header, &packet), Ok(vec![right]));
        }
    }
}

#[test]
fn a_udp_checksum_is_never_zero() {
    // The payload is chosen so that the sum of all else and it comes to ffff.
    let recipe = Recipe::new(true, true, 0).with(|it| it.payload = vec![0, 0]);
    let sum = &recipe.build()[46..48];
    let recipe = recipe.with(|it| it.payload = sum.to_vec());
    let (header, packet) = recipe.unfinished(None);
    let found = apart(header, &packet).unwrap();
    assert_eq!(found[0][46..48], [0xff, 0xff]);
    assert_right(&found[0]);
    check(&recipe, 2);
}

#[test]
fn what_a_batch_has_no_room_for_is_counted() {
    let (header, packet) = Recipe::new(true, false, 60_000).unfinished(Some(10));
    let mut batch = PacketBatch::new(FRAMING, 0);
    let unpacked = unpack(header, &packet, &mut batch).unwrap();
    assert_eq!(unpacked.added, batch.len());
    assert_eq!(unpacked.added + unpacked.lost, 6000);
    assert!(unpacked.lost > 0);
}

#[test]
fn a_header_that_does_not_fit_its_packet_is_malformed() {
    let recipe = Recipe::new(false, false, 2500);
    let (header, packet) = recipe.unfinished(Some(1000));
    let malformed = |header: VnetHeader, packet: &[u8]| {
        let outcome = apart(header, packet);
        assert_eq!(outcome, Err(Malformed), "{header:?}");
    };
    let gso = |kind, size| VnetHeader {
        gso: Some((kind, size)),
        ..header
    };
    malformed(gso(Super::Tcp4, 0), &packet);
    malformed(gso(Super::Tcp6, 1000), &packet);
    malformed(gso(Super::Udp, 1000), &packet);
    malformed(header, &[]);
    for cut in [1, 19, 20, 32, 33, 51] {
        malformed(header, &packet[..cut]);
    }
    for (start, offset) in [
        (0, 16),
        (19, 16),
        (24, 16),
        (20, 6),
        (20, 65_535),
        (65_535, 16),
    ] {
        let unfinished = Some(Unfinished { start, offset });
        malformed(
            VnetHeader {
                unfinished,
                ..header
            },
            &packet,
        );
        if start > 5000 || offset > 5000 {
            let plain = VnetHeader {
                gso: None,
                unfinished,
                headers: 0,
            };
            malformed(plain, &packet);
        }
    }
    for (at, value) in [(0, 0x41), (0, 0x4f), (0, 0x00), (9, 17), (32, 0x40)] {
        let mut broken = packet.clone();
        broken[at] = value;
        malformed(header, &broken);
    }
}

fn header() -> impl Strategy<Value = VnetHeader> {
    let gso = prop::option::of((
        prop::sample::select(vec![Super::Tcp4, Super::Tcp6, Super::Udp]),
        prop_oneof![0u16..2000, any::<u16>()],
    ));
    let place = prop_oneof![0u16..120, any::<u16>()];
    let offset = prop_oneof![Just(16), Just(6), any::<u16>()];
    let unfinished = prop::option::of((place, offset));
    (gso, unfinished, any::<u16>()).prop_map(|(gso, unfinished, headers)| VnetHeader {
        gso,
        unfinished: unfinished.map(|(start, offset)| Unfinished { start, offset }),
        headers,
    })
}

proptest! {
    #[test]
    fn anything_at_all_is_taken_apart_or_refused(
        header in header(),
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            (0usize..200).prop_map(|more| vec![0x45; MAX_PACKET - 100 + more]),
            (0usize..200).prop_map(|more| vec![0x6a; MAX_PACKET - 100 + more]),
        ],
    ) {
        let mut batch = PacketBatch::new(FRAMING, 0);
        let before = batch.len();
        match unpack(header, &bytes, &mut batch) {
            Ok(unpacked) => prop_assert_eq!(unpacked.added, batch.len() - before),
            Err(Malformed) => prop_assert!(batch.is_empty()),
        }
    }

    #[test]
    fn a_damaged_super_packet_is_taken_apart_or_refused(
        which in 0usize..4,
        header in prop::option::weighted(0.5, header()),
        flips in prop::collection::vec((0usize..70, any::<u8>()), 0..4),
        cut in 0usize..3000,
    ) {
        let recipe = &Recipe::four(2500)[which];
        let (own, mut packet) = recipe.unfinished(Some(500));
        for (at, value) in flips {
            packet[at] = value;
        }
        packet.truncate(cut);
        let mut batch = PacketBatch::new(FRAMING, 0);
        match unpack(header.unwrap_or(own), &packet, &mut batch) {
            Ok(unpacked) => prop_assert_eq!(unpacked.added, batch.len()),
            Err(Malformed) => prop_assert!(batch.is_empty()),
        }
    }

    #[test]
    fn segments_are_right_and_are_the_super_packet(
        which in 0usize..4, payload in 1usize..9000, size in 1000u16..2000, identification: u16, sequence: u32,
    ) {
        let recipe = Recipe::four(payload)[which].with(|it| {
            it.identification = identification;
            it.sequence = sequence;
        });
        check(&recipe, size);
    }
}
