//! The laboratory's geography: a router in the middle that carries packets and takes its time, a
//! host of services with several public addresses, a host of relays, and two homes behind boxes.
//! Addresses look public, and exist inside namespaces only. It refuses to say what a box does: that
//! is in the rules, and proved by the prober.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

use crate::demo::network::{SERVICES, UPLINK};
use crate::lab::{End, Lab, Namespace};
use crate::process::{SHORT, command, output};
use crate::progress::say;

use super::kind::{Kind, Layer, V6};
use super::mapper::Mapper;
use super::rules;

/// The prober's two addresses, with IPv4 and with IPv6; the web server is at the first, too.
pub const PROBED: [&str; 2] = ["11.9.1.1", "11.9.2.1"];
/// See [`PROBED`].
pub const PROBED6: [&str; 2] = ["2a11:9:1::1", "2a11:9:2::1"];

/// Chain, Hermes and index, each on TCP port 443 of an address of its own, so that a network that
/// lets nothing else out reaches them as it would out there.
pub const ON_443: [&str; 3] = ["11.9.11.1", "11.9.12.1", "11.9.13.1"];
/// See [`ON_443`].
pub const ON_443_V6: [&str; 3] = ["2a11:9:11::1", "2a11:9:12::1", "2a11:9:13::1"];

/// The relays, one computer each: who asks both for its address learns how its box maps.
pub const RELAYS: [&str; 2] = ["11.8.0.2", "11.7.0.2"];
/// See [`RELAYS`].
pub const RELAYS6: [&str; 2] = ["2a11:8::2", "2a11:7::2"];

/// Interfaces of the router, as the way's times are asked for.
pub const PLACES: [&str; 4] = ["a", "b", "srv", "relay"];

/// Everything but the homes.
#[derive(Debug)]
pub struct World {
    /// The router in the middle.
    pub router: Namespace,
    /// The services.
    pub services: Namespace,
    /// The relays.
    pub relays: [Namespace; 2],
    workshop: PathBuf,
    built: AtomicU32,
}

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
struct Socket<'a> {
    at: Namespace,
    interface: String,
    /// At the place's end; none where a bridge has them.
    near: Vec<String>,
    bridge: Option<&'a str>,
    far4: Option<Ipv4Addr>,
    gateway4: Option<Ipv4Addr>,
    far6: Option<String>,
    gateway6: Option<String>,
}

impl World {
    /// Builds it.
    ///
    /// # Errors
    /// When the kernel refuses a part.
    pub fn build(lab: &Lab) -> anyhow::Result<Self> {
        let router = lab.namespace("core")?;
        forwarding(&router)?;
        let services = lab.namespace("srv")?;
        let relays = [lab.namespace("relay1")?, lab.namespace("relay2")?];
        let four = [SERVICES].iter().chain(&PROBED).chain(&ON_443).copied();
        let six = PROBED6.iter().chain(&ON_443_V6).copied();
        plug_in(
            lab,
            &router,
            &services,
            9,
            &four.chain(six).collect::<Vec<_>>(),
        )?;
        for (relay, net) in relays.iter().zip([8, 7]) {
            plug_in(lab, &router, relay, net, &[])?;
        }
        Ok(Self {
            router,
            services,
            relays,
            workshop: PathBuf::from(format!("/proc/{}/exe", std::process::id())),
            built: AtomicU32::new(0),
        })
    }

    /// This program, as a namespace can run it.
    pub fn workshop(&self) -> &PathBuf {
        &self.workshop
    }

    /// A home of this kind on side `a` (1) or `b` (2). Further sides, up to 9, are further homes.
    ///
    /// # Errors
    /// When the kernel refuses a part.
    pub fn home(&self, lab: &Lab, side: u8, kind: &Kind) -> anyhow::Result<Home> {
        let name = self.next(side);
        let mut plan = Plan::new(lab, side, &name, kind.v6 != V6::None);
        let families = (!kind.is_v6_only(), kind.v6 != V6::None);
        let outer = outer(&self.router, side, &name, families);
        plan.unplug.ends.push((self.router.clone(), name.clone()));
        plan.build(kind, outer)
    }

    /// Two homes behind one box; the box goes with the first.
    ///
    /// # Errors
    /// When the kernel refuses a part.
    pub fn homes_behind(
        &self,
        lab: &Lab,
        shared: &Layer,
        kinds: [&Kind; 2],
    ) -> anyhow::Result<[Home; 2]> {
        let name = self.next(1);
        let mut plan = Plan::new(lab, 1, &name, false);
        plan.unplug.ends.push((self.router.clone(), name.clone()));
        let outer = outer(&self.router, 1, &name, (true, false));
        let outside = outer.far4;
        let at = plan.namespace("s")?;
        plug(lab, &outer, &at, "wan")?;
        plan.make_box(&at, shared, outer.far4, false)?;
        // What one of the homes forgets, the other still needs.
        plan.boxes.clear();
        at.ip("link add lan type bridge")?;
        let (gateway, _) = inner_addresses(shared, 9);
        at.ip(&format!("address add {gateway}/24 dev lan"))?;
        at.ip("link set lan up")?;
        let socket = |number: u8| Socket {
            at: at.clone(),
            interface: format!("lan{number}"),
            near: Vec::new(),
            bridge: Some("lan"),
            far4: Some(Ipv4Addr::from(u32::from(gateway) + u32::from(number))),
            gateway4: Some(gateway),
            far6: None,
            gateway6: None,
        };
        let second_name = format!("{name}z");
        let second = Plan::new(lab, 2, &second_name, false).build(kinds[1], socket(2))?;
        let first = plan.build(kinds[0], socket(1))?;
        Ok([first, second].map(|mut home| {
            home.outside = outside;
            home
        }))
    }

    /// `a1`, `b2`, …: no name is used twice, as what has it may linger.
    fn next(&self, side: u8) -> String {
        let letter = if side % 2 == 1 { 'a' } else { 'b' };
        format!("{letter}{}", self.built.fetch_add(1, Ordering::Relaxed))
    }
}

/// Where the outermost box of a side, or its public host, is plugged in: with IPv4, with IPv6.
fn outer(router: &Namespace, side: u8, name: &str, (four, six): (bool, bool)) -> Socket<'static> {
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

    /// An error once a program of a box is no more.
    ///
    /// # Errors
    /// As said.
    pub fn must_live(&mut self) -> anyhow::Result<()> {
        self.mappers.iter_mut().try_for_each(Mapper::must_live)
    }
}

/// A home in the making.
struct Plan<'a> {
    lab: &'a Lab,
    side: u8,
    name: String,
    v6: bool,
    boxes: Vec<(Namespace, Layer)>,
    mappers: Vec<Mapper>,
    unplug: Unplug,
}

impl<'a> Plan<'a> {
    fn new(lab: &'a Lab, side: u8, name: &str, v6: bool) -> Self {
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

    fn namespace(&mut self, part: &str) -> anyhow::Result<Namespace> {
        let namespace = self.lab.namespace(&format!("{}{part}", self.name))?;
        self.unplug.namespaces.push(namespace.name().to_owned());
        Ok(namespace)
    }

    /// From the outside in.
    fn build(mut self, kind: &Kind, outer: Socket<'_>) -> anyhow::Result<Home> {
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
    fn make_box(
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
fn inner_addresses(layer: &Layer, number: u8) -> (Ipv4Addr, Ipv4Addr) {
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

/// A public host with a firewall of its own for IPv6.
const HOST_FIREWALL: &str = "table inet fw {\n\
    chain input { type filter hook input priority filter;\n\
    iifname \"uplink0\" meta l4proto ipv6-icmp accept\n\
    iifname \"uplink0\" meta nfproto ipv6 ct state established,related accept\n\
    iifname \"uplink0\" meta nfproto ipv6 drop\n}\n}\n";

fn forwarding(at: &Namespace) -> anyhow::Result<()> {
    // A bridge's packets are to be seen by the box's rules once, as what they are.
    let script = "echo 1 > /proc/sys/net/ipv4/ip_forward; \
        echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; \
        for f in all default; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done; \
        f=/proc/sys/net/bridge/bridge-nf-call-iptables; if [ -e $f ]; then echo 0 > $f; fi; true";
    at.output("sh", &["-ec", script]).map(drop)
}

fn plug(lab: &Lab, socket: &Socket<'_>, far: &Namespace, interface: &str) -> anyhow::Result<()> {
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

/// A host in the middle of the world with all these addresses.
fn plug_in(
    lab: &Lab,
    router: &Namespace,
    host: &Namespace,
    net: u8,
    addresses: &[&str],
) -> anyhow::Result<()> {
    let name = match net {
        9 => "srv".to_owned(),
        other => format!("relay{other}"),
    };
    let (four, six) = (format!("11.{net}.0"), format!("2a11:{net}"));
    lab.cable(
        &End {
            at: router,
            interface: &name,
            addresses: &[&format!("{four}.1/24"), &format!("{six}::1/64")],
        },
        &End {
            at: host,
            interface: UPLINK,
            addresses: &[&format!("{four}.2/24"), &format!("{six}::2/64")],
        },
    )?;
    host.ip(&format!("route add default via {four}.1"))?;
    host.ip(&format!("-6 route add default via {six}::1"))?;
    for address in addresses {
        host.ip(&format!("address add {address} dev lo"))?;
        let (family, via) = match address.contains(':') {
            true => ("-6", format!("{six}::2")),
            false => ("-4", format!("{four}.2")),
        };
        router.ip(&format!("{family} route add {address} via {via}"))?;
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
