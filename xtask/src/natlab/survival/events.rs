//! What befalls the way, done to the laboratory by the kernel's own tools. It refuses to touch the
//! programs, but for a relay that is killed.

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::demo::network::UPLINK;
use crate::lab::Namespace;

use super::super::kind::Kind;
use super::super::services::Services;
use super::super::world::{Home, World};
use super::scenario::Event;

/// The relays' cables in the router, in the relays' order.
const CABLES: [&str; 2] = ["relay8", "relay7"];

/// How long a box that reboots passes nothing: the least that a quick one needs.
const DARK: Duration = Duration::from_secs(1);

/// A host's address in one family and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lease {
    address: String,
    gateway: String,
}

/// One home's host, and what its uplink had at first.
#[derive(Debug)]
pub(super) struct Tenant {
    /// The home.
    pub(super) home: Home,
    /// Its kind.
    pub(super) kind: Kind,
    v4: Option<Lease>,
    v6: Option<Lease>,
}

/// Everything that an event may do something to.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) world: &'a World,
    pub(super) services: &'a mut Services,
    pub(super) consumer: &'a Tenant,
    pub(super) provider: &'a Tenant,
    /// What the relays' cables had carried at the download's begin.
    pub(super) carried: [u64; 2],
    /// Which relay was killed.
    pub(super) killed: Option<usize>,
}

impl Tenant {
    /// Reads what the uplink has.
    pub(super) fn settle(home: Home, kind: Kind) -> anyhow::Result<Self> {
        Ok(Self {
            v4: lease(&home.host, "-4")?,
            v6: lease(&home.host, "-6")?,
            home,
            kind,
        })
    }

    fn lose(&self, family: &str) -> anyhow::Result<()> {
        // The routes go with it.
        self.home
            .host
            .ip(&format!("{family} address flush dev {UPLINK} scope global"))?;
        let rest = format!("{family} route flush dev {UPLINK} proto boot");
        self.home.host.ip(&rest).map(drop)
    }

    fn gain(&self, family: &str, lease: Option<&Lease>) -> anyhow::Result<()> {
        let lease = lease.context("this home never had that family")?;
        let host = &self.home.host;
        host.ip(&format!(
            "{family} address add {} dev {UPLINK}",
            lease.address
        ))?;
        let route = format!(
            "{family} route replace default via {} dev {UPLINK}",
            lease.gateway
        );
        host.ip(&route).map(drop)
    }

    /// As a router does that hands out another address: the old one goes first.
    fn relocate(&self) -> anyhow::Result<()> {
        let next = self.next()?;
        self.lose("-4")?;
        self.gain("-4", Some(&next))
    }

    /// As a network does that is renumbered with care (RFC 4192): what begins now has the new
    /// address, what has begun keeps the old one.
    fn renumber(&self) -> anyhow::Result<()> {
        let next = self.next()?;
        let host = &self.home.host;
        host.ip(&format!("-4 address add {} dev {UPLINK}", next.address))?;
        let (source, _) = next.address.split_once('/').context("no prefix length")?;
        let gateway = &next.gateway;
        let route = format!("-4 route replace default via {gateway} dev {UPLINK} src {source}");
        host.ip(&route).map(drop)
    }

    fn next(&self) -> anyhow::Result<Lease> {
        let lease = self.v4.as_ref().context("this home has no IPv4")?;
        Ok(Lease {
            address: moved(&lease.address)?,
            gateway: lease.gateway.clone(),
        })
    }
}

impl Stage<'_> {
    /// Does it.
    pub(super) fn happen(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Block => self.world.router.nft(&block("add")),
            Event::Lift => self.world.router.nft(&block("delete")),
            Event::MoveConsumer => self.consumer.relocate(),
            Event::RenumberProvider => self.provider.renumber(),
            Event::MoveProvider => self.provider.relocate(),
            Event::GainV4 => self.consumer.gain("-4", self.consumer.v4.as_ref()),
            Event::LoseV4 => self.consumer.lose("-4"),
            Event::GainV6 => self.consumer.gain("-6", self.consumer.v6.as_ref()),
            Event::LoseV6 => self.consumer.lose("-6"),
            Event::RebootConsumerBox => self.consumer.home.reboot(DARK),
            Event::RebootProviderBox => self.provider.home.reboot(DARK),
            Event::KillRelay => self.kill_relay(),
        }
    }

    /// The relay whose cable has carried more since the download began.
    fn kill_relay(&mut self) -> anyhow::Result<()> {
        let now = carried(self.world)?;
        let [one, two] = [0, 1].map(|at| now[at].saturating_sub(self.carried[at]));
        if one.max(two) < super::scenario::FILE / 64 {
            bail!("no relay carries the download: {one} and {two} bytes");
        }
        let used = usize::from(two > one);
        let relays = self.services.relays.as_mut();
        relays.context("there are relays")?.crash(used)?;
        self.killed = Some(used);
        Ok(())
    }
}

/// Bytes that came from each relay.
pub(super) fn carried(world: &World) -> anyhow::Result<[u64; 2]> {
    let read = |cable: &str| {
        let file = format!("/sys/class/net/{cable}/statistics/rx_bytes");
        let said = world.router.output("cat", &[&file])?;
        said.trim().parse::<u64>().context("no number of bytes")
    };
    Ok([read(CABLES[0])?, read(CABLES[1])?])
}

/// Rules of the router: between homes no UDP passes. Deleting them is told twice, so that it works
/// whether they are there or not.
fn block(verb: &str) -> String {
    let table = "table inet survival";
    match verb {
        "add" => format!(
            "{table} {{\nchain forward {{\ntype filter hook forward priority filter;\n\
             iifname \"a*\" oifname \"b*\" meta l4proto udp drop\n\
             iifname \"b*\" oifname \"a*\" meta l4proto udp drop\n}}\n}}\n"
        ),
        _ => format!("add {table}\ndelete {table}\n"),
    }
}

/// None where the uplink has no address of this family.
fn lease(host: &Namespace, family: &str) -> anyhow::Result<Option<Lease>> {
    let addresses = host.ip(&format!(
        "-o {family} address show dev {UPLINK} scope global"
    ))?;
    let routes = host.ip(&format!("{family} route show default"))?;
    Ok(after(&addresses, "inet")
        .or(after(&addresses, "inet6"))
        .zip(after(&routes, "via"))
        .map(|(address, gateway)| Lease { address, gateway }))
}

/// The word after this word.
fn after(text: &str, word: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    words.find(|found| *found == word)?;
    words.next().map(str::to_owned)
}

/// Another address of the same network: the last number is 70 more.
fn moved(address: &str) -> anyhow::Result<String> {
    let parts = address.rsplit_once('/').zip(address.rsplit_once('.'));
    let ((whole, prefix), _) = parts.context("no IPv4 address with its prefix length")?;
    let (front, last) = whole.rsplit_once('.').context("no IPv4 address")?;
    let last: u8 = last.parse().context("no IPv4 address")?;
    let last = last.checked_add(70).context("no room in that network")?;
    Ok(format!("{front}.{last}/{prefix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_move_within_their_network() {
        assert_eq!(moved("192.168.1.2/24").unwrap(), "192.168.1.72/24");
        for none in ["192.168.1.2", "192.168.1.200/24", "fd00::1/64"] {
            assert!(moved(none).is_err(), "{none}");
        }
    }

    #[test]
    fn what_ip_tells_is_read() {
        let address = "2: uplink0    inet 192.168.1.2/24 scope global uplink0\\       valid_lft";
        assert_eq!(after(address, "inet").unwrap(), "192.168.1.2/24");
        let route = "default via 192.168.1.1 dev uplink0 \n";
        assert_eq!(after(route, "via").unwrap(), "192.168.1.1");
        assert_eq!(after("", "via"), None);
    }

    #[test]
    fn a_block_names_both_directions_and_is_lifted_whole() {
        let rules = block("add");
        for pair in [["a*", "b*"], ["b*", "a*"]] {
            let line = format!("iifname \"{}\" oifname \"{}\"", pair[0], pair[1]);
            assert!(rules.contains(&line));
        }
        assert!(block("delete").ends_with("delete table inet survival\n"));
    }
}
