//! A home in the making, from the outside in: boxes, cables, routes, the host. What was made goes
//! with it. It refuses to know of other homes: all have the same addresses inside, as in the world.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;

use crate::demo::network::UPLINK;
use crate::lab::{End, Lab, Namespace, pause};
use crate::process::{SHORT, command, output};
use crate::progress::say;

use super::super::kind::{Kind, Layer, V6};
use super::super::mapper::Mapper;
use super::super::rules;
use super::{forwarding, roomy};

/// A home: a host, and the boxes before it. Dropping it takes all of them away.
#[derive(Debug)]
pub struct Home {
    /// Where the program runs.
    pub host: Namespace,
    /// The address of the host itself, if it has IPv4.
    pub inside: Option<Ipv4Addr>,
    /// The address at which the world sees it, if it has IPv4.
    pub outside: Option<Ipv4Addr>,
    /// The box nearest to it, if any.
    pub gateway: Option<Ipv4Addr>,
    boxes: Vec<(Namespace, Layer)>,
    mappers: Vec<Mapper>,
    _unplug: Unplug,
}

/// What disappears with a home: namespaces, and its end of the cable in the middle first, whose
/// addresses the next home will have.
#[derive(Debug, Default)]
struct Unplug {
    namespaces: Vec<String>,
    ends: Vec<(Namespace, String)>,
}

/// A place to plug the next box or host in.
pub(super) struct Socket<'a> {
    pub(super) at: Namespace,
    pub(super) interface: String,
    /// At the place's end; none where a bridge has them.
    pub(super) near: Vec<String>,
    pub(super) bridge: Option<&'a str>,
    pub(super) far4: Option<Ipv4Addr>,
    pub(super) gateway4: Option<Ipv4Addr>,
    pub(super) far6: Option<String>,
    pub(super) gateway6: Option<String>,
}

/// Where the outermost box of a side, or its public host, is plugged in: with IPv4, with IPv6.
pub(super) fn outer(
    router: &Namespace,
    side: u8,
    name: &str,
    (four, six): (bool, bool),
) -> Socket<'static> {
    let mut near = Vec::new();
    if four {
        near.push(format!("11.0.{side}.1/24"));
    }
    if six {
        near.push(format!("2a11:{side}::1/64"));
    }
    let address = |last: u8| Ipv4Addr::new(11, 0, side, last);
    Socket {
        at: router.clone(),
        interface: name.to_owned(),
        near,
        bridge: None,
        far4: four.then(|| address(2)),
        gateway4: four.then(|| address(1)),
        far6: six.then(|| format!("2a11:{side}::2")),
        gateway6: six.then(|| format!("2a11:{side}::1")),
    }
}

impl Home {
    /// The address at which the world sees it, where that is another's.
    pub(super) fn seen_at(mut self, outside: Option<Ipv4Addr>) -> Self {
        self.outside = outside;
        self
    }

    /// Forgets every mapping of the home's own boxes, as if nobody had ever been out.
    ///
    /// # Errors
    /// When a box refuses.
    pub fn forget(&self) -> anyhow::Result<()> {
        for (at, layer) in &self.boxes {
            let flush = rules::flush(layer);
            if !flush.is_empty() {
                at.nft(&flush)?;
            }
            at.output("conntrack", &["-F"])?;
        }
        Ok(())
    }

    /// As [`Home::forget`], with nothing passing meanwhile: packets on their way would teach the
    /// boxes their old mappings again. The boxes stay dark for this long.
    ///
    /// # Errors
    /// When a box refuses, or on a signal.
    pub fn reboot(&self, dark: Duration) -> anyhow::Result<()> {
        for (at, _) in &self.boxes {
            at.nft(DARK)?;
        }
        self.forget()?;
        pause(dark)?;
        for (at, _) in &self.boxes {
            at.nft("delete table inet dark\n")?;
        }
        Ok(())
    }

    /// An error once a program of a box is no more.
    ///
    /// # Errors
    /// As said.
    pub fn must_live(&mut self) -> anyhow::Result<()> {
        self.mappers.iter_mut().try_for_each(Mapper::must_live)
    }
}

/// A home in the making.
pub(super) struct Plan<'a> {
    lab: &'a Lab,
    side: u8,
    name: String,
    v6: bool,
    boxes: Vec<(Namespace, Layer)>,
    mappers: Vec<Mapper>,
    unplug: Unplug,
}

impl<'a> Plan<'a> {
    pub(super) fn new(lab: &'a Lab, side: u8, name: &str, v6: bool) -> Self {
        Self {
            lab,
            side,
            name: name.to_owned(),
            v6,
            boxes: Vec::new(),
            mappers: Vec::new(),
            unplug: Unplug::default(),
        }
    }

    /// The end of its cable in the middle goes when the home goes.
    pub(super) fn unplug_from(&mut self, at: &Namespace, interface: &str) {
        self.unplug.ends.push((at.clone(), interface.to_owned()));
    }

    /// The boxes so far are not the home's alone: what it forgets, another still needs.
    pub(super) fn keep_memory(&mut self) {
        self.boxes.clear();
    }

    pub(super) fn namespace(&mut self, part: &str) -> anyhow::Result<Namespace> {
        let namespace = self.lab.namespace(&format!("{}{part}", self.name))?;
        self.unplug.namespaces.push(namespace.name().to_owned());
        Ok(namespace)
    }

    /// From the outside in.
    pub(super) fn build(mut self, kind: &Kind, outer: Socket<'_>) -> anyhow::Result<Home> {
        let mut socket = outer;
        let outside = socket.far4;
        for (at, layer) in kind.layers.iter().enumerate().rev() {
            let number = u8::try_from(at + 1).context("layers are few")?;
            let namespace = self.namespace(&number.to_string())?;
            plug(self.lab, &socket, &namespace, "wan")?;
            if let Some(bytes) = layer.mtu {
                namespace.ip(&format!("link set wan mtu {bytes}"))?;
                socket
                    .at
                    .ip(&format!("link set {} mtu {bytes}", socket.interface))?;
            }
            let outermost = at + 1 == kind.layers.len();
            let firewall6 = outermost && kind.v6 == V6::Firewalled;
            self.make_box(&namespace, layer, socket.far4, firewall6)?;
            let inner = self.inner(&namespace, layer, number, &socket)?;
            let public_inside = inner.far4.is_some() && !layer.nat.translates();
            if let Some(far) = socket.far4.filter(|_| public_inside) {
                socket
                    .at
                    .ip(&format!("route add {}/24 via {far}", network(inner.far4)))?;
            }
            socket = inner;
        }
        let host = self.namespace("h")?;
        roomy(&host)?;
        plug(self.lab, &socket, &host, UPLINK)?;
        if kind.layers.is_empty() && kind.v6 == V6::Firewalled {
            host.nft(HOST_FIREWALL)?;
        }
        // Both sides of every box are cabled now.
        self.mappers.iter_mut().try_for_each(Mapper::start)?;
        let behind_wall = kind
            .layers
            .last()
            .is_some_and(|layer| !layer.nat.translates());
        let home = Home {
            host,
            inside: socket.far4,
            // Behind a mere firewall the host's own address is the public one.
            outside: if behind_wall { socket.far4 } else { outside },
            gateway: socket.gateway4,
            boxes: std::mem::take(&mut self.boxes),
            mappers: std::mem::take(&mut self.mappers),
            _unplug: std::mem::take(&mut self.unplug),
        };
        Ok(home)
    }

    /// Turns a namespace with a `wan` into a box.
    pub(super) fn make_box(
        &mut self,
        at: &Namespace,
        layer: &Layer,
        wan: Option<Ipv4Addr>,
        firewall6: bool,
    ) -> anyhow::Result<()> {
        forwarding(at)?;
        let text = rules::text(layer, wan.unwrap_or(Ipv4Addr::UNSPECIFIED), firewall6);
        at.nft(&text)?;
        if let Some(seconds) = layer.timeout {
            for setting in ["udp_timeout", "udp_timeout_stream"] {
                let name = format!("net.netfilter.nf_conntrack_{setting}");
                at.sysctl(&name, &seconds.to_string())?;
            }
        }
        self.boxes.push((at.clone(), *layer));
        Ok(())
    }

    /// The inside of a box.
    fn inner(
        &mut self,
        at: &Namespace,
        layer: &Layer,
        number: u8,
        outer: &Socket<'_>,
    ) -> anyhow::Result<Socket<'static>> {
        let side = self.side;
        let four = outer.far4.map(|_| match layer.nat.translates() {
            true => inner_addresses(layer, number),
            false => {
                let net = 10 * side + number;
                [1, 2].map(|last| Ipv4Addr::new(11, 0, net, last)).into()
            }
        });
        let mut near = Vec::new();
        if let Some((gateway, _)) = four {
            near.push(format!("{gateway}/24"));
        }
        let (mut far6, mut gateway6) = (None, None);
        if self.v6 {
            let of = |last: u8| format!("2a11:{side}:{number}::{last}");
            near.push(format!("{}/64", of(1)));
            (far6, gateway6) = (Some(of(2)), Some(of(1)));
            // Everything further in is behind it, too.
            if let Some(via) = &outer.far6 {
                for net in 1..=number {
                    let route = format!("-6 route replace 2a11:{side}:{net}::/64 via {via}");
                    outer.at.ip(&route)?;
                }
            }
        }
        let socket = Socket {
            at: at.clone(),
            interface: "lan".to_owned(),
            near,
            bridge: None,
            far4: four.map(|(_, host)| host),
            gateway4: four.map(|(gateway, _)| gateway),
            far6,
            gateway6,
        };
        if layer.upnp {
            let lan = socket.gateway4.context("a box with UPnP has IPv4")?;
            self.mappers.push(Mapper::new(at, lan, self.lab.folder()));
        }
        Ok(socket)
    }
}

/// Gateway and host inside a box; the same in every home, as in the world.
pub(super) fn inner_addresses(layer: &Layer, number: u8) -> (Ipv4Addr, Ipv4Addr) {
    let of = |last: u8| match layer.nat.is_carrier() {
        true => Ipv4Addr::new(100, 64, number, last),
        false => Ipv4Addr::new(192, 168, number, last),
    };
    (of(1), of(2))
}

fn network(of: Option<Ipv4Addr>) -> Ipv4Addr {
    let bits = u32::from(of.unwrap_or(Ipv4Addr::UNSPECIFIED));
    Ipv4Addr::from(bits & 0xffff_ff00)
}

/// A box that is off: nothing enters, nothing leaves.
const DARK: &str = "table inet dark {\n\
    chain raw { type filter hook prerouting priority raw - 10; drop\n}\n}\n";

/// A public host with a firewall of its own for IPv6.
const HOST_FIREWALL: &str = "table inet fw {\n\
    chain input { type filter hook input priority filter;\n\
    iifname \"uplink0\" meta l4proto ipv6-icmp accept\n\
    iifname \"uplink0\" meta nfproto ipv6 ct state established,related accept\n\
    iifname \"uplink0\" meta nfproto ipv6 drop\n}\n}\n";

pub(super) fn plug(
    lab: &Lab,
    socket: &Socket<'_>,
    far: &Namespace,
    interface: &str,
) -> anyhow::Result<()> {
    let mut addresses = Vec::new();
    if let Some(address) = socket.far4 {
        addresses.push(format!("{address}/24"));
    }
    if let Some(address) = &socket.far6 {
        addresses.push(format!("{address}/64"));
    }
    let near: Vec<&str> = socket.near.iter().map(String::as_str).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    lab.cable(
        &End {
            at: &socket.at,
            interface: &socket.interface,
            addresses: &near,
        },
        &End {
            at: far,
            interface,
            addresses: &addresses,
        },
    )?;
    if let Some(bridge) = socket.bridge {
        socket
            .at
            .ip(&format!("link set {} master {bridge}", socket.interface))?;
    }
    if let Some(gateway) = socket.gateway4 {
        far.ip(&format!("route add default via {gateway}"))?;
    }
    if let Some(gateway) = &socket.gateway6 {
        far.ip(&format!("-6 route add default via {gateway}"))?;
    }
    Ok(())
}

impl Drop for Unplug {
    fn drop(&mut self) {
        crate::interrupt::shielded(|| {
            for (at, interface) in &self.ends {
                // Gone already when the other end's namespace is.
                let _ = at.ip(&format!("link delete {interface}"));
            }
            for name in &self.namespaces {
                let deleted = output(&mut command("ip", ["netns", "delete", name]), SHORT);
                if let Err(error) = deleted {
                    say(&format!("left to the lab: {error:#}"));
                }
            }
        });
    }
}
