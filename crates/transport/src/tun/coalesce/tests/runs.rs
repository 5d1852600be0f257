//! Long runs of packets of many flows, with oddities and damage: each flow comes out in order and as it was.
//! Which packets go together is not asked here.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::super::packets::{FIN, PSH, Recipe, assert_right};
use super::super::VNET_LEN;
use super::{BOTH, apart, written};

/// Bytes of a packet but for the identification under DF, which the kernel writes anew, its checksum, and PSH, which
/// moves to the last of those that went together; a checksum that was right without it is right again.
fn comparable(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let Some(version) = packet.first().map(|first| first >> 4) else {
        return packet;
    };
    if version == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    let (protocol, at) = match version {
        4 => (packet[9], usize::from(packet[0] & 0x0f) * 4),
        _ => (packet[6], 40),
    };
    if protocol == 6 && packet.len() >= at + 20 && packet[at + 13] & PSH != 0 {
        packet[at + 13] &= !PSH;
        let sum = u16::from_be_bytes([packet[at + 16], packet[at + 17]]);
        let (sum, carry) = sum.overflowing_add(u16::from(PSH));
        let sum = sum + u16::from(carry);
        let sum = if sum == u16::MAX { 0 } else { sum };
        packet[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

#[derive(Debug, Clone)]
struct Step {
    flow: usize,
    payload: usize,
    /// What is out of the ordinary, mostly nothing.
    oddity: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let payload = prop_oneof![6 => Just(1000usize), 1 => 0usize..1000, 1 => 1000usize..1380];
    let step = (0usize..12, payload, 0u8..40);
    prop::collection::vec(
        step.prop_map(|(flow, payload, oddity)| Step {
            flow,
            payload,
            oddity,
        }),
        1..200,
    )
}

fn run_of(steps: &[Step]) -> Vec<Vec<u8>> {
    let mut flows: Vec<_> = (0..12)
        .map(|number| Recipe::four(0)[number % 4].with(|it| it.host = number as u8 / 4))
        .collect();
    let mut packets = Vec::new();
    for step in steps {
        let flow = &mut flows[step.flow];
        let recipe = flow.with(|it| {
            it.payload = (0..step.payload)
                .map(|byte| (byte ^ it.sequence as usize) as u8)
                .collect();
            match step.oddity {
                0 => it.flags |= PSH,
                1 => it.flags |= FIN,
                2 => it.dont_fragment = false,
                3 => it.acknowledged += 1,
                4 => it.ip_options = vec![1; 4],
                5 => it.sequence ^= 0x40,
                6 => it.service = 2,
                _ => {}
            }
        });
        let mut packet = recipe.build();
        if step.oddity == 7 {
            *packet.last_mut().unwrap() ^= 1;
        }
        packets.push(packet);
        flow.sequence = flow.sequence.wrapping_add(step.payload as u32);
        flow.identification = flow.identification.wrapping_add(1);
    }
    packets
}

fn by_flow(packets: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for packet in packets {
        let flow = if packet[0] >> 4 == 4 {
            [&packet[9..10], &packet[12..20]].concat()
        } else {
            [&packet[6..7], &packet[8..40]].concat()
        };
        flows.entry(flow).or_default().push(comparable(packet));
    }
    flows
}

proptest! {
    #[test]
    fn any_run_of_packets_comes_out_in_each_flows_order(steps in steps()) {
        let packets = run_of(&steps);
        let (writes, _) = written(&packets, BOTH);
        let found: Vec<_> = writes.iter().flat_map(|write| apart(write)).collect();
        prop_assert_eq!(by_flow(&found), by_flow(&packets));
    }

    #[test]
    fn damaged_packets_come_out_as_damaged(
        steps in steps(), damage in prop::collection::vec((any::<prop::sample::Index>(), 0usize..80, any::<u8>()), 0..20),
    ) {
        let mut packets = run_of(&steps);
        for (which, at, value) in damage {
            let packet = which.get_mut(&mut packets);
            let at = at % packet.len();
            packet[at] = value;
        }
        let (writes, outcome) = written(&packets, BOTH);
        let mut found = Vec::new();
        for write in &writes {
            if write[..VNET_LEN] == [0; VNET_LEN] {
                found.push(comparable(&write[VNET_LEN..]));
            } else {
                let segments = apart(write);
                segments.iter().for_each(|packet| assert_right(packet));
                found.extend(segments.iter().map(|packet| comparable(packet)));
            }
        }
        prop_assert_eq!(found.len(), outcome.taken);
        let mut expect: Vec<_> = packets.iter().map(|packet| comparable(packet)).collect();
        expect.sort();
        found.sort();
        prop_assert_eq!(found, expect);
    }
}
