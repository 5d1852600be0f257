//! Data messages, with a model beside the provider that knows counters and contents and no cipher.
//! It refuses to ask the provider what it should do.

use std::collections::BTreeSet;
use std::net::IpAddr;

use wayfare_tunnel::packet::IpPacket;
use wayfare_tunnel::{DropReason, Received};

use super::Ending;
use super::script::Script;
use super::world::{HERE, Pair, address, transmits};

/// What a provider must make of authenticated packets, from their counters and contents alone.
struct Expected {
    seen: BTreeSet<u64>,
    packets: u64,
    bytes: u64,
}

impl Expected {
    /// The reason why a good packet with this counter and content is dropped, or `None`.
    fn verdict(&mut self, counter: u64, content: &[u8]) -> Option<DropReason> {
        let newest = self.seen.last().copied().unwrap_or(0);
        if counter >= u64::MAX - 8_192 {
            return Some(DropReason::KeyExpired);
        }
        if counter.saturating_add(8_192) <= newest || !self.seen.insert(counter) {
            return Some(DropReason::Replayed);
        }
        if content.is_empty() {
            return None;
        }
        let Ok(inner) = IpPacket::parse(content) else {
            return Some(DropReason::NotIp);
        };
        let own: [IpAddr; 2] = ["10.8.0.2", "fd00::2"].map(|text| text.parse().unwrap());
        if !own.contains(&inner.source()) {
            return Some(DropReason::SpoofedSource);
        }
        self.packets += 1;
        self.bytes += inner.total_length() as u64;
        None
    }
}

/// Data messages to a provider: under good keys with any counter and content, changed ones, and mere noise.
pub fn transport(bytes: &[u8]) -> Ending {
    let mut script = Script::new(bytes);
    let (mut pair, keys) = Pair::forged();
    let mut expected = Expected {
        seen: BTreeSet::from([0]),
        packets: 0,
        bytes: 0,
    };
    let mut accepted = false;
    let mut newest = 0;
    let mut home = address(HERE);
    for _ in 0..32 {
        if script.is_over() {
            break;
        }
        let how = script.byte();
        // Near the window's edge, anywhere, or at the very end of all counters.
        let counter = match how & 3 {
            0 => u64::from(script.byte()),
            1 => u64::from(script.short()),
            2 => newest + 1,
            _ => u64::from_le_bytes(script.array()),
        };
        let len = usize::from(script.short() % 2_048);
        let content = content(how, script.slice(len));
        let mut message = keys.seal(counter, &content);
        let edits = how >> 6;
        script.edit(&mut message, edits);
        let from = address(script.byte());
        let is_good = message == keys.seal(counter, &content);
        let mut sent = message.clone();
        let got = pair.provider.handle_datagram(from, &mut sent, pair.now);
        if !is_good {
            assert!(matches!(got, Received::Dropped(_)), "{got:?}");
        } else {
            let expect = match expected.verdict(counter, &content) {
                Some(why) => Received::Dropped(why),
                None if content.is_empty() => Received::Keepalive { peer: pair.guest },
                None => Received::Packet {
                    peer: pair.guest,
                    packet: IpPacket::parse(&content).expect("the verdict").as_bytes(),
                },
            };
            assert_eq!(got, expect, "counter {counter}");
            accepted |= !matches!(expect, Received::Dropped(_));
        }
        if is_good && expected.seen.last().is_some_and(|last| *last > newest) {
            newest = expected.seen.last().copied().unwrap_or(newest);
            home = from;
        }
        let stats = pair.provider.peer_stats(pair.guest).expect("our peer");
        assert_eq!(stats.endpoint, Some(home), "only the newest moves the peer");
        assert_eq!(
            (stats.rx_packets, stats.rx_bytes),
            (expected.packets, expected.bytes)
        );
        assert_eq!(transmits(&mut pair.provider), [], "data is not answered");
    }
    Ending::accepted_if(accepted)
}

/// The input as it is, or as the body of a packet with an honest header.
fn content(how: u8, raw: &[u8]) -> Vec<u8> {
    if how & 4 == 0 {
        return raw.to_vec();
    }
    let (six, spoofed) = (how & 8 != 0, how & 16 != 0);
    let host = if spoofed { 3 } else { 2 };
    let mut packet;
    if six {
        packet = vec![0; 40];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&(raw.len() as u16).to_be_bytes());
        packet[8..10].copy_from_slice(&[0xfd, 0]);
        packet[23] = host;
    } else {
        packet = vec![0; 20];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(20 + raw.len() as u16).to_be_bytes());
        packet[12..16].copy_from_slice(&[10, 8, 0, host]);
    }
    packet.extend(raw);
    // Padding behind it, as a sealed packet has.
    if how & 32 != 0 {
        packet.resize(packet.len().next_multiple_of(16), 0);
    }
    packet
}
