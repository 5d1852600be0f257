//! Kinds as they are typed, and those that are refused.
#![allow(clippy::unwrap_used)]

use super::*;

fn kind(text: &str) -> Kind {
    text.parse().unwrap()
}

#[test]
fn every_name_is_a_kind_of_its_own() {
    for (name, nat) in NAMES {
        let kind = kind(name);
        assert_eq!(kind.to_string(), *name);
        match nat {
            Nat::Pub => assert!(kind.layers.is_empty()),
            other => assert_eq!(kind.layers, [Layer::plain(*other)]),
        }
    }
}

#[test]
fn chains_are_as_dependent_and_as_strict_as_their_worst_box() {
    use Filtering::{Adf, Apdf, Eif};
    use Mapping::{Adm, Edm, Eim, Untouched};
    for (text, mapping, filtering, ports) in [
        ("pub", Untouched, Eif, Ports::Kept),
        ("fw", Untouched, Apdf, Ports::Kept),
        ("7xpr", Eim, Apdf, Ports::Kept),
        ("7xfc", Eim, Eif, Ports::Kept),
        ("fc+ar", Eim, Adf, Ports::Kept),
        ("pr+cgn", Eim, Apdf, Ports::Random),
        ("pr+cgnsym", Edm, Apdf, Ports::Random),
        ("symseq+pr", Edm, Apdf, Ports::Sequential),
        ("symseq+prr", Edm, Apdf, Ports::Random),
        ("adm+fc", Adm, Apdf, Ports::Random),
    ] {
        let kind = kind(text);
        assert_eq!(kind.mapping(), mapping, "{text}");
        assert_eq!(kind.filtering(), filtering, "{text}");
        assert_eq!(kind.ports(), ports, "{text}");
    }
    assert_eq!(kind("7xpr").layers.len(), 7);
}

#[test]
fn options_belong_to_their_box_and_ipv6_to_the_home() {
    let home = kind("pr:upnp:timeout=30+cgn:hairpin:mtu=1400:fw6");
    assert!(home.layers[0].upnp && !home.layers[1].upnp);
    assert_eq!(home.layers[0].timeout, Some(30));
    assert_eq!(
        (home.layers[1].hairpin, home.layers[1].mtu),
        (true, Some(1_400))
    );
    assert_eq!(home.v6, V6::Firewalled);
    assert!(!home.is_mappable() && kind("sym:upnp").is_mappable());
    assert!(kind("pr:tcp443").blocks_udp() && kind("pr:udpblock").blocks_udp());
    assert!(kind("v6only").is_v6_only());
}

#[test]
fn what_cannot_exist_is_refused_with_its_reason() {
    for (text, why) in [
        ("", "is none of pub, fw"),
        ("prx", "is none of pub, fw"),
        ("pr+", "is none of pub, fw"),
        ("pub+pr", "stands alone"),
        ("pub:udpblock", "no box"),
        ("fw+pr", "outermost"),
        ("sym:hairpin", "hairpin"),
        ("fw:upnp", "nothing to map"),
        ("pr:mtu=500", "less than 1280"),
        ("pr:timeout", "not a number"),
        ("pr:warp", "none of hairpin"),
        ("0xpr", "layers"),
        ("9xpr+pr", "layers"),
    ] {
        let error = format!("{:#}", text.parse::<Kind>().unwrap_err());
        assert!(error.contains(why), "{text}: {error}");
    }
}
