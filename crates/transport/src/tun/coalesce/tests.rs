//! One rule of putting packets together a test: what is written is taken apart again and must be what it was.
//! The kernel takes no part here.

#![allow(clippy::unwrap_used)]

mod runs;

use super::super::batch::{Framing, PacketBatch};
use super::super::packets::{ACK, CWR, FIN, PSH, Recipe, assert_right};
use super::super::segment::unpack;
use super::*;

const BOTH: Allowed = Allowed {
    tcp: true,
    udp: true,
};
const BARE: Framing = Framing {
    head: 0,
    tail: 0,
    multiple: 1,
    mtu: 1420,
};

/// Everything that was written, each write in one piece.
fn written(packets: &[Vec<u8>], allowed: Allowed) -> (Vec<Vec<u8>>, Coalesced) {
    let borrowed: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    let mut writes = Vec::new();
    let outcome = coalesce(borrowed.iter().copied(), allowed, |parts| {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        writes.push(bytes);
        Ok(())
    });
    assert_eq!(outcome.taken, packets.len());
    (writes, outcome)
}

/// What the kernel makes of one write.
fn apart(write: &[u8]) -> Vec<Vec<u8>> {
    let (header, packet) = write.split_first_chunk().unwrap();
    let header = VnetHeader::decode(*header).unwrap();
    let mut batch = PacketBatch::new(BARE, 1 << 20);
    let unpacked = unpack(header, packet, &mut batch).unwrap();
    assert_eq!(unpacked.lost, 0);
    batch.frames().map(|frame| frame.bytes.to_vec()).collect()
}

/// Writes `packets` and tells how many went into each write, after checking that they come out again as they were.
fn sizes(packets: &[Vec<u8>]) -> Vec<usize> {
    let (writes, outcome) = written(packets, BOTH);
    let found: Vec<_> = writes.iter().map(|write| apart(write)).collect();
    let sizes: Vec<_> = found.iter().map(Vec::len).collect();
    let supers = sizes.iter().filter(|size| **size > 1);
    assert_eq!(outcome.supers, supers.clone().count());
    assert_eq!(outcome.segments, supers.sum::<usize>());
    let found: Vec<_> = found.into_iter().flatten().collect();
    assert!(found == packets, "bytes changed or packets moved");
    sizes
}

/// A train of `count` packets of one flow, `size` bytes each.
fn train(recipe: &Recipe, count: usize, size: usize) -> Vec<Vec<u8>> {
    let whole = recipe.with(|it| it.payload = vec![0x5a; count * size]);
    whole.segments(size)
}

/// The second of two packets is changed so that its group must end before it.
fn parted_by(base: &Recipe, change: impl Fn(&mut Recipe)) {
    let second = base.with(|it| {
        it.sequence = it.sequence.wrapping_add(it.payload.len() as u32);
        it.identification = it.identification.wrapping_add(1);
    });
    assert_eq!(sizes(&[base.build(), second.build()]), [2], "{base:?}");
    let changed = second.with(change);
    assert_eq!(
        sizes(&[base.build(), changed.build()]),
        [1, 1],
        "{changed:?}"
    );
}

fn tcp() -> [Recipe; 2] {
    [false, true].map(|v6| Recipe::new(v6, false, 1000))
}

#[test]
fn a_train_becomes_one_write_and_comes_out_as_it_was() {
    for recipe in Recipe::four(0) {
        for size in [1, 99, 1000, 1381] {
            assert_eq!(sizes(&train(&recipe, 40, size)), [40]);
        }
    }
}

#[test]
fn a_super_packet_is_what_the_kernel_would_have_given() {
    for recipe in Recipe::four(4000) {
        let (writes, _) = written(&recipe.segments(1000), BOTH);
        let (header, packet) = recipe.unfinished(Some(1000));
        assert_eq!(writes, [[&header.encode()[..], &packet[..]].concat()]);
    }
}

#[test]
fn a_single_packet_is_written_as_it_is() {
    for recipe in Recipe::four(100) {
        let packet = recipe.build();
        let (writes, _) = written(std::slice::from_ref(&packet), BOTH);
        assert_eq!(writes, [[&[0; VNET_LEN][..], &packet[..]].concat()]);
    }
}

#[test]
fn other_addresses_and_ports_are_another_flow() {
    for recipe in Recipe::four(1000) {
        parted_by(&recipe, |it| it.host = 2);
        parted_by(&recipe, |it| it.port = 444);
    }
    let (tcp, udp) = (
        Recipe::new(false, false, 100),
        Recipe::new(false, true, 100),
    );
    assert_eq!(sizes(&[tcp.build(), udp.build()]), [1, 1]);
}

#[test]
fn other_service_bits_hops_or_flow_label_end_a_group() {
    for recipe in Recipe::four(1000) {
        parted_by(&recipe, |it| it.service = 3);
        parted_by(&recipe, |it| it.hops = 63);
    }
    parted_by(&Recipe::new(true, false, 1000), |it| it.flow_label = 8);
}

#[test]
fn tcp_with_another_sequence_acknowledgement_window_or_options_ends_a_group() {
    for recipe in tcp() {
        parted_by(&recipe, |it| it.sequence = it.sequence.wrapping_add(1));
        parted_by(&recipe, |it| it.sequence = it.sequence.wrapping_sub(1000));
        parted_by(&recipe, |it| it.acknowledged += 1);
        parted_by(&recipe, |it| it.window += 1);
        parted_by(&recipe, |it| it.options[7] += 1);
        parted_by(&recipe, |it| it.options.truncate(4));
        parted_by(&recipe, |it| it.options.extend([1; 4]));
    }
}

#[test]
fn tcp_with_any_flag_but_ack_and_psh_goes_alone() {
    for recipe in tcp() {
        for flags in [
            0,
            PSH,
            ACK | FIN,
            ACK | 0x02,
            ACK | 0x04,
            ACK | 0x20,
            ACK | 0x40,
            ACK | CWR,
        ] {
            parted_by(&recipe, |it| it.flags = flags);
            let train = train(&recipe.with(|it| it.flags = flags & !(FIN | CWR)), 3, 100);
            let grouped = if flags & !(FIN | CWR) == ACK { 1 } else { 3 };
            assert_eq!(sizes(&train).len(), grouped, "{flags:#x}");
        }
    }
}

#[test]
fn reserved_tcp_bits_go_alone() {
    let recipe = Recipe::new(true, false, 1000);
    let mut second = recipe.segments(500).remove(1);
    second[40 + 12] |= 1;
    // The bit is the high byte's lowest of a word that the checksum takes away.
    let sum = u16::from_be_bytes([second[56], second[57]]);
    let (less, borrow) = sum.overflowing_sub(0x0100);
    second[56..58].copy_from_slice(&(less - u16::from(borrow)).to_be_bytes());
    assert_right(&second);
    assert_eq!(sizes(&[recipe.segments(500).remove(0), second]), [1, 1]);
}

#[test]
fn psh_ends_no_group_and_is_on_its_last() {
    for recipe in tcp() {
        let plain = recipe.with(|it| it.payload = vec![0x5a; 5_000]);
        let pushed = plain.with(|it| it.flags |= PSH);
        // Bursts as the kernel sends them: PSH on the last of each. One ends in the middle, or begins.
        for bursts in [[2, 3], [1, 4]] {
            let mut packets = Vec::new();
            for (number, length) in bursts.into_iter().enumerate() {
                let all = if number == 0 { &plain } else { &pushed };
                let mut burst = all.segments(1_000).split_off(packets.len());
                burst.truncate(length);
                packets.extend(burst);
            }
            let split = bursts[0] - 1;
            packets[split] = pushed
                .with(|it| {
                    it.sequence = it.sequence.wrapping_add(1_000 * split as u32);
                    it.identification = it.identification.wrapping_add(split as u16);
                    it.payload.truncate(1_000);
                })
                .build();
            let (writes, outcome) = written(&packets, BOTH);
            assert_eq!((writes.len(), outcome.segments), (1, 5));
            assert_eq!(apart(&writes[0]), pushed.segments(1_000));
        }
        // Where nothing with PSH comes last, the super-packet has it all the same: what it asks for is not lost.
        let mut packets = plain.segments(1_000);
        packets[0] = pushed.with(|it| it.payload.truncate(1_000)).build();
        let (writes, _) = written(&packets, BOTH);
        assert_eq!(apart(&writes[0]), pushed.segments(1_000));
    }
}

#[test]
fn a_shorter_packet_ends_a_group_and_a_longer_one_is_not_taken_in() {
    for recipe in Recipe::four(0) {
        let long = recipe.with(|it| it.payload = vec![1; 2500]);
        let mut packets = long.segments(1000);
        let after = recipe.with(|it| {
            it.sequence = it.sequence.wrapping_add(2500);
            it.identification = it.identification.wrapping_add(3);
        });
        packets.extend(train(&after, 2, 500));
        assert_eq!(sizes(&packets), [3, 2]);
        let longer = after.with(|it| {
            it.payload = vec![1; 501];
            it.sequence = it.sequence.wrapping_add(1000);
            it.identification = it.identification.wrapping_add(2);
        });
        packets.push(longer.build());
        assert_eq!(sizes(&packets), [3, 2, 1]);
    }
}

#[test]
fn ipv4_identification_must_count_up_unless_fragments_are_forbidden() {
    for udp in [false, true] {
        let base = Recipe::new(false, udp, 1000).with(|it| it.dont_fragment = false);
        parted_by(&base, |it| it.identification = 5);
        parted_by(&base, |it| it.dont_fragment = true);
        // Under DF it carries no meaning, and the kernel counts it up.
        let base = base.with(|it| it.dont_fragment = true);
        let next = base.with(|it| it.sequence = it.sequence.wrapping_add(1000));
        let (writes, _) = written(&[base.build(), next.build()], BOTH);
        assert_eq!(writes.len(), 1);
    }
}

#[test]
fn fragments_and_options_of_ipv4_go_alone() {
    for udp in [false, true] {
        let recipe = Recipe::new(false, udp, 1000);
        let options = recipe.with(|it| it.ip_options = vec![1; 4]);
        assert_eq!(sizes(&train(&options, 2, 1000)), [1, 1]);
        for fragment in [0x2000u16, 0x0003, 0x2003] {
            let mut packets = train(&recipe, 2, 1000);
            for packet in &mut packets {
                packet[6..8].copy_from_slice(&fragment.to_be_bytes());
                packet[10..12].fill(0);
                let sum = super::super::checksum::naive(&packet[..20]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            assert_eq!(sizes(&packets), [1, 1]);
        }
    }
}

#[test]
fn extension_headers_of_ipv6_go_alone() {
    let recipe = Recipe::new(true, false, 100);
    let mut packets = train(&recipe, 2, 100);
    for packet in &mut packets {
        packet[6] = 0;
        packet.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
        packet[5] += 8;
    }
    assert_eq!(sizes(&packets), [1, 1]);
}

#[test]
fn without_payload_nothing_is_put_together() {
    for recipe in Recipe::four(0) {
        assert_eq!(sizes(&[recipe.build(), recipe.build()]), [1, 1]);
    }
}

#[test]
fn a_length_that_is_not_the_packets_goes_alone() {
    for recipe in Recipe::four(0) {
        let mut packets = train(&recipe, 2, 100);
        packets.iter_mut().for_each(|packet| packet.push(0));
        assert_eq!(sizes(&packets), [1, 1]);
    }
    let recipe = Recipe::new(true, true, 0);
    let mut packets = train(&recipe, 2, 100);
    packets.iter_mut().for_each(|packet| packet[45] -= 1);
    assert_eq!(sizes(&packets), [1, 1]);
}

#[test]
fn udp_without_checksum_goes_alone() {
    let mut packets = train(&Recipe::new(false, true, 0), 2, 100);
    packets.iter_mut().for_each(|packet| packet[26..28].fill(0));
    assert_eq!(sizes(&packets), [1, 1]);
}

#[test]
fn a_wrong_checksum_is_not_mended() {
    for recipe in Recipe::four(0) {
        // In the payload, and in the transport header's last word (window, or UDP checksum).
        for at in [recipe.headers() + 50, recipe.transport() + 7] {
            for damaged in 0..4 {
                let mut packets = train(&recipe, 4, 100);
                packets[damaged][at] ^= 0x10;
                let groups = sizes(&packets);
                let expect: &[usize] = match damaged {
                    0 => &[1, 3],
                    1 => &[1, 1, 2],
                    2 => &[2, 1, 1],
                    _ => &[3, 1],
                };
                assert_eq!(groups, expect, "{recipe:?}");
            }
        }
    }
}

#[test]
fn a_wrong_ipv4_checksum_is_not_mended() {
    for udp in [false, true] {
        let mut packets = train(&Recipe::new(false, udp, 0), 3, 100);
        packets[1][10] ^= 1;
        assert_eq!(sizes(&packets), [1, 1, 1]);
    }
}

#[test]
fn no_more_than_64_packets_and_64_kib() {
    for recipe in Recipe::four(0) {
        assert_eq!(sizes(&train(&recipe, 150, 100)), [64, 64, 22]);
        let most = (65_535 - recipe.headers()) / 1381;
        let groups = sizes(&train(&recipe, 60, 1381));
        assert_eq!(groups, [most, 60 - most]);
    }
}

#[test]
fn eight_interleaved_flows_are_put_together_and_a_ninth_ends_the_oldest() {
    let flows = |count: u8| {
        let trains: Vec<_> = (0..count)
            .map(|host| {
                let recipe = &Recipe::four(0)[usize::from(host) % 4];
                train(&recipe.with(|it| it.host = host), 5, 300)
            })
            .collect();
        let packets: Vec<_> = (0..5)
            .flat_map(|n| trains.iter().map(move |train| train[n].clone()))
            .collect();
        written(&packets, BOTH).0
    };
    assert_eq!(flows(8).len(), 8);
    assert_eq!(flows(9).len(), 45);
}

#[test]
fn nothing_overtakes_its_own_flow() {
    let flow = Recipe::new(false, false, 0).with(|it| it.identification = 0);
    let other = flow.with(|it| it.host = 2);
    let later = |offset: u32| flow.with(|it| it.sequence = it.sequence.wrapping_add(offset));
    let acknowledgement = later(200).build();
    let mut fragment = later(200).with(|it| it.dont_fragment = false).build();
    fragment[7] = 3;
    let mut foreign = later(200).build();
    foreign[9] = 47; // GRE between the same hosts
    for between in [acknowledgement, fragment, foreign] {
        let mut packets = train(&flow, 2, 100);
        packets.push(train(&other, 1, 100).remove(0));
        packets.push(between.clone());
        packets.push(train(&other, 2, 100).remove(1));
        packets.extend(train(&later(200), 2, 100));
        let (writes, _) = written(&packets, BOTH);
        let shapes: Vec<_> = writes
            .iter()
            .map(|write| (write[VNET_LEN + 15], write.len()))
            .collect();
        let pair = VNET_LEN + 52 + 200;
        let alone = VNET_LEN + between.len();
        assert_eq!(shapes, [(1, pair), (1, alone), (2, pair), (1, pair)]);
    }
}

#[test]
fn what_is_no_ip_packet_is_left_to_the_kernel() {
    let strange = [vec![], vec![0x45; 19], vec![0x60; 39], vec![0xff; 100]];
    let (writes, outcome) = written(&strange, BOTH);
    assert_eq!((writes.len(), outcome.supers), (4, 0));
    assert!(
        writes
            .iter()
            .zip(&strange)
            .all(|(w, s)| w[VNET_LEN..] == *s)
    );
}

#[test]
fn a_kind_that_is_not_allowed_goes_alone() {
    let packets: Vec<_> = Recipe::four(0)
        .iter()
        .flat_map(|recipe| train(recipe, 3, 100))
        .collect();
    let count = |tcp, udp| written(&packets, Allowed { tcp, udp }).0.len();
    assert_eq!(count(true, true), 4);
    assert_eq!(count(true, false), 2 + 6);
    assert_eq!(count(false, true), 2 + 6);
    assert_eq!(count(false, false), 12);
}

#[test]
fn a_refused_super_packet_is_written_again_in_parts_and_its_kind_given_up() {
    for (recipe, udp) in Recipe::four(0).iter().zip([false, true, false, true]) {
        let packets = train(recipe, 130, 100);
        let borrowed: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        let mut refusals = 0;
        let mut writes = Vec::new();
        let outcome = coalesce(borrowed.iter().copied(), BOTH, |parts| {
            if parts.len() > 2 {
                refusals += 1;
                return Err(io::ErrorKind::InvalidInput.into());
            }
            writes.push(parts[1].to_vec());
            Ok(())
        });
        assert!(writes == packets);
        // The group that was open while the first was refused may still be tried.
        assert!(refusals <= 2, "{refusals}");
        assert_eq!((outcome.taken, outcome.supers), (130, 0));
        assert_eq!((outcome.tcp_refused, outcome.udp_refused), (!udp, udp));
    }
}

#[test]
fn what_a_full_device_does_not_take_is_not_counted() {
    let packets = train(&Recipe::new(true, false, 0), 70, 100);
    let borrowed: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    let mut calls = 0;
    let outcome = coalesce(borrowed.iter().copied(), BOTH, |_| {
        calls += 1;
        match calls {
            1 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    });
    assert_eq!((calls, outcome.taken, outcome.supers), (2, 6, 1));
    assert!(!outcome.tcp_refused);
}
