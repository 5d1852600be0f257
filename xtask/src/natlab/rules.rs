//! The rules that make a box of a kind, as nft reads them. The box's interfaces are `wan` and
//! `lan`. It refuses to trust itself: what the rules make is proved by a prober afterwards.
//!
//! Endpoint-independent mapping is no kernel feature. It is built of two maps that the packets
//! themselves fill: `alloc` remembers the external port that an internal endpoint was given, so
//! that its later flows get the same; `rev` leads back from the external port, for whom filtering
//! lets in first.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::kind::{Filtering, Layer, Mapping, Nat, Ports};

/// What the kernel gives a UDP flow that was answered, in seconds.
const KERNEL_TIMEOUT: u32 = 120;

/// An external port, once allocated, stays allocated: a box that hands it out anew while the flow
/// lives would be no cone. In seconds; longer than any run.
const ALLOCATED: u32 = 3_600;

/// First port of a sequential box, and how many until it begins anew.
const SEQUENCE: (u16, u16) = (30_000, 4_096);

/// How many endpoints a box remembers.
const SIZE: u32 = 65_535;

/// Everything that `nft` needs to make the box. `firewall6`: it keeps unasked IPv6 out.
pub(super) fn text(layer: &Layer, wan: Ipv4Addr, firewall6: bool) -> String {
    let mut text = String::new();
    if layer.nat.translates() {
        translation(&mut text, layer, wan);
    }
    if layer.upnp {
        text.push_str(
            "table inet nat {\n\
             chain upnp_pre { }\n\
             chain upnp_post { }\n\
             chain pre { type nat hook prerouting priority dstnat - 5;\n jump upnp_pre\n }\n\
             chain post { type nat hook postrouting priority srcnat - 5;\n jump upnp_post\n }\n\
             }\n",
        );
    }
    firewall(&mut text, layer, firewall6);
    text
}

/// What forgets everything that the box has learned.
pub(super) fn flush(layer: &Layer) -> String {
    let mut text = String::new();
    if layer.nat.has_maps() {
        text.push_str("flush map ip nat alloc\nflush map ip nat rev\n");
    } else if layer.nat.mapping() == Mapping::Adm {
        text.push_str("flush map ip nat alloc\n");
    }
    if is_address_restricted(layer) {
        text.push_str("flush set inet fw contacted\n");
    }
    text
}

fn is_address_restricted(layer: &Layer) -> bool {
    layer.nat.filtering() == Filtering::Adf
}

fn translation(text: &mut String, layer: &Layer, wan: Ipv4Addr) {
    let timeout = layer.timeout.unwrap_or(KERNEL_TIMEOUT);
    let nat = layer.nat;
    text.push_str("table ip nat {\n");
    if nat.has_maps() || nat.mapping() == Mapping::Adm {
        let key = match nat.mapping() {
            Mapping::Adm => "ipv4_addr . inet_service . ipv4_addr",
            Mapping::Untouched | Mapping::Eim | Mapping::Edm => "ipv4_addr . inet_service",
        };
        let _ = writeln!(
            text,
            "map alloc {{ type {key} : inet_service; flags dynamic,timeout; \
             timeout {ALLOCATED}s; size {SIZE}; }}"
        );
    }
    if nat.has_maps() {
        let _ = writeln!(
            text,
            "map rev {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; \
             timeout {timeout}s; size {SIZE}; }}"
        );
    }
    text.push_str("chain pre { type nat hook prerouting priority dstnat;\n");
    if nat.has_maps() && nat.filtering() != Filtering::Apdf {
        text.push_str("iifname \"wan\" meta l4proto udp dnat ip to udp dport map @rev\n");
    }
    if layer.hairpin {
        let _ = writeln!(
            text,
            "iifname \"lan\" ip daddr {wan} meta l4proto udp dnat ip to udp dport map @rev"
        );
    }
    text.push_str("}\nchain post { type nat hook postrouting priority srcnat;\n");
    if layer.hairpin {
        let _ = writeln!(
            text,
            "iifname \"lan\" oifname \"lan\" meta l4proto udp \
             snat ip to {wan} : ip saddr . udp sport map @alloc"
        );
    }
    text.push_str(&source(nat, wan));
    text.push_str("oifname \"wan\" masquerade\n}\n");
    text.push_str(&learning(nat));
    text.push_str("}\n");
}

/// Which external port a flow gets. The first line that applies decides.
fn source(nat: Nat, wan: Ipv4Addr) -> String {
    let udp = "oifname \"wan\" meta l4proto udp";
    let random = format!("{udp} snat ip to {wan} random,fully-random\n");
    match nat {
        Nat::Pub | Nat::Fw | Nat::V6only | Nat::Masq | Nat::Masqacc => String::new(),
        Nat::Fc | Nat::Ar | Nat::Pr => {
            format!("{udp} snat ip to {wan} : ip saddr . udp sport map @alloc\n")
        }
        Nat::Fcr | Nat::Arr | Nat::Prr | Nat::Cgn | Nat::Cgnfc => {
            format!("{udp} snat ip to {wan} : ip saddr . udp sport map @alloc\n{random}")
        }
        Nat::Adm => {
            format!("{udp} snat ip to {wan} : ip saddr . udp sport . ip daddr map @alloc\n{random}")
        }
        Nat::Sym | Nat::Cgnsym => format!("{udp} masquerade random,fully-random\n"),
        Nat::Symseq => {
            // A number is in the host's byte order and a port in the network's, so that adding
            // would step by 256: each port is written out.
            let (first, count) = SEQUENCE;
            let ports: Vec<String> = (0..count).map(|n| format!("{n} : {}", first + n)).collect();
            format!(
                "{udp} snat ip to {wan} : numgen inc mod {count} map {{ {} }}\n",
                ports.join(", ")
            )
        }
    }
}

/// The chains that fill the maps.
fn learning(nat: Nat) -> String {
    let mut text = String::new();
    // A chain of NAT sees only the first packet of a flow, this one every packet; and before it.
    if nat.has_maps() && nat.ports() == Ports::Kept {
        text.push_str(
            "chain keep { type filter hook forward priority filter;\n\
             oifname \"wan\" meta l4proto udp add @alloc { ip saddr . udp sport : udp sport }\n}\n",
        );
    }
    if !nat.has_maps() && nat.mapping() != Mapping::Adm {
        return text;
    }
    // After the translation: the port is the external one, the flow's original the internal one.
    text.push_str("chain learn { type filter hook postrouting priority 150;\n");
    let inside = "ct original ip saddr . ct original proto-src";
    if nat.has_maps() {
        let _ = writeln!(
            text,
            "oifname \"wan\" meta l4proto udp update @rev {{ udp sport : {inside} }}"
        );
    }
    // `add` leaves alone what is there: a mapping is never rolled anew.
    if nat.ports() == Ports::Random {
        let key = match nat.mapping() {
            Mapping::Adm => format!("{inside} . ip daddr"),
            Mapping::Untouched | Mapping::Eim | Mapping::Edm => inside.to_owned(),
        };
        let _ = writeln!(
            text,
            "oifname \"wan\" meta l4proto udp add @alloc {{ {key} : udp sport }}"
        );
    }
    text.push_str("}\n");
    text
}

fn firewall(text: &mut String, layer: &Layer, firewall6: bool) {
    text.push_str("table inet fw {\n");
    if is_address_restricted(layer) {
        let timeout = layer.timeout.unwrap_or(KERNEL_TIMEOUT);
        let _ = writeln!(
            text,
            "set contacted {{ type ipv4_addr . inet_service . ipv4_addr; flags dynamic,timeout; \
             timeout {timeout}s; size {SIZE}; }}\n\
             chain contact {{ type filter hook forward priority filter;\n\
             oifname \"wan\" meta l4proto udp \
             update @contacted {{ ip saddr . udp sport . ip daddr }}\n}}"
        );
    }
    if layer.upnp {
        text.push_str("chain upnp_forward { }\n");
    }
    text.push_str("chain forward { type filter hook forward priority filter + 10;\n");
    if layer.udpblock || layer.tcp443 {
        text.push_str("iifname \"lan\" meta l4proto udp drop\n");
    }
    if layer.tcp443 {
        text.push_str("iifname \"lan\" tcp dport != 443 drop\n");
    }
    text.push_str("iifname \"wan\" ct state established,related accept\n");
    if !firewall6 {
        text.push_str("iifname \"wan\" meta nfproto ipv6 accept\n");
    }
    match layer.nat.filtering() {
        Filtering::Eif => text.push_str("iifname \"wan\" ip version 4 ct status dnat accept\n"),
        Filtering::Adf => text.push_str(
            "iifname \"wan\" ct status dnat \
             ip daddr . udp dport . ip saddr @contacted accept\n",
        ),
        Filtering::Apdf => {}
    }
    if layer.upnp {
        text.push_str("iifname \"wan\" jump upnp_forward\n");
    }
    text.push_str("iifname \"wan\" drop\n}\n");
    text.push_str("chain input { type filter hook input priority filter;\n");
    if layer.nat != Nat::Masqacc {
        // Neighbour discovery has no state that could be established.
        text.push_str(
            "iifname \"wan\" meta l4proto { icmp, ipv6-icmp } accept\n\
             iifname \"wan\" ct state established,related accept\n\
             iifname \"wan\" drop\n",
        );
    }
    text.push_str("}\n}\n");
}

#[cfg(test)]
mod tests {
    use super::super::kind::Kind;
    use super::*;

    fn rules(kind: &str) -> String {
        let kind: Kind = kind.parse().unwrap();
        text(&kind.layers[0], Ipv4Addr::new(11, 0, 1, 2), true)
    }

    #[test]
    fn cones_differ_in_who_is_let_in() {
        let [full, address, port] = ["fcr", "arr", "prr"].map(rules);
        for cone in [&full, &address, &port] {
            assert!(cone.contains("snat ip to 11.0.1.2 : ip saddr . udp sport map @alloc"));
            assert!(cone.contains("random,fully-random") && cone.contains("update @rev"));
        }
        for (cone, forwards, restricts) in [
            (&full, true, false),
            (&address, true, true),
            (&port, false, false),
        ] {
            assert_eq!(cone.contains("dnat ip to udp dport map @rev"), forwards);
            assert_eq!(cone.contains("@contacted accept"), restricts);
        }
    }

    #[test]
    fn kept_ports_are_written_down_before_they_are_translated() {
        assert!(rules("pr").contains("add @alloc { ip saddr . udp sport : udp sport }"));
        assert!(!rules("prr").contains("chain keep"));
        assert!(!rules("pr").contains("random"));
    }

    #[test]
    fn a_sequence_is_written_out_port_by_port() {
        let text = rules("symseq");
        assert!(text.contains("0 : 30000, 1 : 30001,") && text.contains("4095 : 34095 }"));
        assert!(!text.contains("@alloc"));
    }

    #[test]
    fn blocking_boxes_block_what_comes_from_inside() {
        assert!(rules("pr:udpblock").contains("iifname \"lan\" meta l4proto udp drop"));
        let only = rules("pr:tcp443");
        assert!(only.contains("tcp dport != 443 drop") && only.contains("udp drop"));
        assert!(!rules("pr").contains("udp drop"));
    }

    #[test]
    fn only_the_accepting_masquerade_takes_strangers_in() {
        let input = |kind: &str| {
            rules(kind)
                .split("chain input")
                .nth(1)
                .unwrap()
                .contains("drop")
        };
        assert!(input("masq") && !input("masqacc"));
    }

    #[test]
    fn what_is_flushed_is_what_was_made() {
        for name in [
            "fw", "fc", "ar", "prr", "sym", "symseq", "adm", "cgn", "masq",
        ] {
            let kind: Kind = name.parse().unwrap();
            let made = rules(name);
            for line in flush(&kind.layers[0]).lines() {
                let thing = line.rsplit(' ').next().unwrap();
                let what = line.split(' ').nth(1).unwrap();
                assert!(
                    made.contains(&format!("{what} {thing} {{")),
                    "{name}: {line}"
                );
            }
        }
        let cone: Kind = "ar".parse().unwrap();
        assert_eq!(flush(&cone.layers[0]).lines().count(), 3);
    }

    #[test]
    fn ipv6_is_open_unless_the_home_asks_for_a_firewall() {
        let kind: Kind = "sym:v6".parse().unwrap();
        let open = text(&kind.layers[0], Ipv4Addr::LOCALHOST, false);
        assert!(open.contains("meta nfproto ipv6 accept"));
        assert!(!rules("sym:fw6").contains("meta nfproto ipv6 accept"));
    }
}
