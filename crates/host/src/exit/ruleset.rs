//! The text of a provider's table: every rule an exit has, in the order a packet meets them.
//!
//! Refuses to let a rule depend on an earlier "accept": each packet of a consumer, first or thousandth of its
//! flow, passes every check, so that a refreshed table also closes running flows.

use std::fmt::{Display, Write};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::{ExitConfig, Opened, Transport};
use crate::interface::Attached;
use crate::registry::{special_v4, special_v6};

pub(super) struct Ruleset<'a> {
    pub(super) config: &'a ExitConfig,
    pub(super) attached: &'a Attached,
    pub(super) opened: Opened,
    pub(super) carries_v6: bool,
    pub(super) nat_ports: RangeInclusive<u16>,
}

impl Ruleset<'_> {
    /// The table.
    pub(super) fn script(&self) -> String {
        let table = self.config.table();
        format!(
            "table inet {table} {{\n{}{}{}{}{}{}{}{}}}\n",
            self.sets(),
            self.prerouting(),
            self.input(),
            self.clamp(),
            self.forward(),
            self.outward(),
            self.inward(),
            self.postrouting(),
        )
    }

    fn sets(&self) -> String {
        let (own4, own6) = by_family(
            self.attached
                .own
                .iter()
                .chain(&self.config.also_ours)
                .copied()
                .map(IpNet::from),
        );
        let (lan4, lan6) = by_family(self.attached.lan.iter().copied());
        let (allow4, allow6) = by_family(self.config.allow.iter().copied());
        let mut text = String::new();
        for (name, kind, elements) in [
            ("own4", "ipv4_addr", own4),
            ("own6", "ipv6_addr", own6),
            ("lan4", "ipv4_addr", lan4),
            ("lan6", "ipv6_addr", lan6),
            ("allow4", "ipv4_addr", allow4),
            ("allow6", "ipv6_addr", allow6),
            ("special4", "ipv4_addr", words(special_v4())),
            ("special6", "ipv6_addr", words(special_v6())),
            (
                "closed_tcp",
                "inet_service",
                self.closed_ports(Transport::Tcp),
            ),
            (
                "closed_udp",
                "inet_service",
                self.closed_ports(Transport::Udp),
            ),
        ] {
            text.push_str(&set(name, kind, &elements));
        }
        text
    }

    /// Before connection tracking: forged sources from consumers, and consumers' addresses as destinations from
    /// anywhere else (an honest answer is addressed to us and translated later).
    fn prerouting(&self) -> String {
        let (tun, pool4) = (&self.config.tun, self.config.pool_v4.trunc());
        let mut rules = vec![
            format!("iifname \"{tun}\" ip saddr != {pool4} drop"),
            format!("iifname \"{tun}\" fib saddr type local drop"),
            format!("iifname != {{ \"{tun}\", \"lo\" }} ip daddr {pool4} drop"),
        ];
        if let Some(pool6) = self.config.pool_v6 {
            let pool6 = pool6.trunc();
            rules.push(format!("iifname \"{tun}\" ip6 saddr != {pool6} drop"));
            rules.push(format!(
                "iifname != {{ \"{tun}\", \"lo\" }} ip6 daddr {pool6} drop"
            ));
        }
        chain(
            "prerouting",
            "type filter hook prerouting priority raw; policy accept;",
            &rules,
        )
    }

    /// Nothing of a consumer is for this computer.
    fn input(&self) -> String {
        let rule = format!("iifname \"{}\" drop", self.config.tun);
        chain(
            "input",
            "type filter hook input priority filter - 10; policy accept;",
            &[rule],
        )
    }

    /// TCP never asks for more than fits, in either direction: a segment size is lowered (never raised) to the smaller
    /// of both routes' MTU less the headers. `rt mtu` knows the tunnel's MTU and that of a consumer on a narrow path
    /// ([`crate::limit_consumers`]); so a flow fits from its first packet, also where ICMP is filtered.
    fn clamp(&self) -> String {
        let tun = &self.config.tun;
        let rule = |side: &str| {
            format!(
                "{side} \"{tun}\" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu"
            )
        };
        chain(
            "clamp",
            "type filter hook forward priority mangle; policy accept;",
            &["iifname", "oifname"].map(rule),
        )
    }

    fn forward(&self) -> String {
        let tun = &self.config.tun;
        let mut rules = vec![
            format!("iifname \"{tun}\" jump from_consumers"),
            format!("iifname \"{tun}\" drop"),
            format!("oifname \"{tun}\" jump to_consumers"),
            format!("oifname \"{tun}\" drop"),
        ];
        // We opened the door for our consumers; nobody else walks through it.
        for (opened, family) in [(self.opened.v4, "ipv4"), (self.opened.v6, "ipv6")] {
            if opened {
                rules.push(format!("meta nfproto {family} drop"));
            }
        }
        chain(
            "forward",
            "type filter hook forward priority filter - 10; policy accept;",
            &rules,
        )
    }

    fn outward(&self) -> String {
        let tun = &self.config.tun;
        let mut rules = vec![format!("oifname \"{tun}\" drop")];
        if let Some(uplink) = &self.config.uplink {
            rules.push(format!("oifname != \"{uplink}\" drop"));
        }
        rules.extend([
            "fib daddr type { local, broadcast, anycast, multicast } drop".to_owned(),
            "ip daddr @own4 drop".to_owned(),
            "ip6 daddr @own6 drop".to_owned(),
            "ip daddr @lan4 drop".to_owned(),
            "ip6 daddr @lan6 drop".to_owned(),
            "ip daddr @special4 ip daddr != @allow4 drop".to_owned(),
            "ip6 daddr @special6 ip6 daddr != @allow6 drop".to_owned(),
        ]);
        if !self.carries_v6 {
            rules.push("meta nfproto ipv6 reject with icmpv6 type no-route".to_owned());
        }
        rules.extend([
            "ct state invalid drop".to_owned(),
            "meta l4proto != { tcp, udp, icmp, ipv6-icmp } drop".to_owned(),
            "tcp dport @closed_tcp reject with icmpx type admin-prohibited".to_owned(),
            "udp dport @closed_udp reject with icmpx type admin-prohibited".to_owned(),
            "ct state { new, established, related } accept".to_owned(),
            "drop".to_owned(),
        ]);
        chain("from_consumers", "", &rules)
    }

    fn inward(&self) -> String {
        let mut rules = Vec::new();
        if let Some(uplink) = &self.config.uplink {
            rules.push(format!("iifname != \"{uplink}\" drop"));
        }
        rules.push("ct state { established, related } accept".to_owned());
        rules.push("drop".to_owned());
        chain("to_consumers", "", &rules)
    }

    fn postrouting(&self) -> String {
        let out = match &self.config.uplink {
            Some(uplink) => format!("oifname \"{uplink}\""),
            None => format!("oifname != {{ \"{}\", \"lo\" }}", self.config.tun),
        };
        let (first, last) = (self.nat_ports.start(), self.nat_ports.end());
        let mut pools = vec![format!("ip saddr {}", self.config.pool_v4.trunc())];
        if let (true, Some(pool6)) = (self.carries_v6, self.config.pool_v6) {
            pools.push(format!("ip6 saddr {}", pool6.trunc()));
        }
        let mut rules = Vec::new();
        for pool in pools {
            rules.push(format!(
                "{pool} {out} meta l4proto {{ tcp, udp }} masquerade to :{first}-{last} fully-random"
            ));
            rules.push(format!("{pool} {out} masquerade"));
        }
        chain(
            "postrouting",
            "type nat hook postrouting priority srcnat; policy accept;",
            &rules,
        )
    }

    /// Port ranges of one transport, merged.
    fn closed_ports(&self, transport: Transport) -> Vec<String> {
        let rules = self
            .config
            .policy
            .reject_ports
            .iter()
            .filter(|rule| rule.transport == transport);
        let mut ranges: Vec<(u16, u16)> = rules.map(|rule| (rule.first, rule.last)).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if u32::from(first) <= u32::from(before.1) + 1 => {
                    before.1 = before.1.max(last)
                }
                Some(_) | None => merged.push((first, last)),
            }
        }
        merged
            .into_iter()
            .map(|(first, last)| format!("{first}-{last}"))
            .collect()
    }
}

fn chain(name: &str, hook: &str, rules: &[String]) -> String {
    let mut text = format!("  chain {name} {{\n");
    for line in std::iter::once(hook)
        .filter(|hook| !hook.is_empty())
        .chain(rules.iter().map(String::as_str))
    {
        let _infallible = writeln!(text, "    {line}");
    }
    text.push_str("  }\n");
    text
}

fn set(name: &str, kind: &str, elements: &[String]) -> String {
    let elements = match elements {
        [] => String::new(),
        some => format!("    elements = {{ {} }}\n", some.join(", ")),
    };
    format!("  set {name} {{\n    type {kind}\n    flags interval\n{elements}  }}\n")
}

/// Splits prefixes by family and merges those that overlap: an interval set accepts no overlap.
fn by_family(nets: impl Iterator<Item = IpNet>) -> (Vec<String>, Vec<String>) {
    let nets: Vec<IpNet> = nets.map(|net| net.trunc()).collect();
    let (v4, v6): (Vec<IpNet>, Vec<IpNet>) = IpNet::aggregate(&nets)
        .into_iter()
        .partition(|net| matches!(net.addr(), IpAddr::V4(_)));
    (words(v4), words(v6))
}

fn words<T: Display>(items: Vec<T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exit::{ExitPolicy, PortRule};

    fn script(change: impl FnOnce(&mut ExitConfig), carries_v6: bool) -> String {
        let mut config = ExitConfig::new("n", "tun0", "10.8.0.1/16".parse().unwrap());
        config.pool_v6 = Some("fd00:8::1/64".parse().unwrap());
        change(&mut config);
        let opened = Opened {
            v4: true,
            v6: false,
        };
        let attached = Attached::default();
        Ruleset {
            config: &config,
            attached: &attached,
            opened,
            carries_v6,
            nat_ports: 4..=9,
        }
        .script()
    }

    #[test]
    fn overlapping_ports_merge() {
        let ports = |first, last| PortRule {
            transport: Transport::Udp,
            first,
            last,
        };
        let text = script(
            |config| {
                config.policy = ExitPolicy {
                    reject_ports: vec![ports(9, 65_535), ports(1, 5), ports(6, 7)],
                }
            },
            true,
        );
        assert!(text.contains("elements = { 1-7, 9-65535 }"), "{text}");
    }

    #[test]
    fn without_ipv6_it_is_rejected_and_never_translated() {
        let text = script(|_| (), false);
        assert!(text.contains("meta nfproto ipv6 reject with icmpv6 type no-route"));
        assert!(!text.contains("ip6 saddr fd00:8::/64 oif"), "{text}");
        assert!(script(|_| (), true).contains("ip6 saddr fd00:8::/64 oif"));
    }

    #[test]
    fn only_families_that_we_opened_are_closed_to_strangers() {
        let text = script(|_| (), true);
        assert!(
            text.contains("    meta nfproto ipv4 drop\n")
                && !text.contains("    meta nfproto ipv6 drop\n")
        );
    }
}
