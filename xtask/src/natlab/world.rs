//! The laboratory's geography: a router in the middle that carries packets and takes its time, a
//! host of services with several public addresses, a host of relays, and two homes behind boxes.
//! Addresses look public, and exist inside namespaces only. It refuses to say what a box does: that
//! is in the rules, and proved by the prober.

mod home;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::demo::network::{SERVICES, UPLINK};
use crate::lab::{End, Lab, Namespace};

use super::kind::{Kind, Layer, V6};

pub use home::Home;

use home::{Plan, Socket, inner_addresses, outer, plug};

/// The prober's two addresses, with IPv4 and with IPv6.
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

/// The web server's port: an exit whose own network lets nothing else out reaches it, too.
pub const PAGE_PORT: u16 = 443;

/// The web server, whose name stands for both, as a resolver orders them for who has a tunnel address
/// that is unique local (RFC 6724: its label is no global address's): IPv4 first.
pub const PAGES: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(11, 0, 0, 1)), PAGE_PORT),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2a11, 9, 80, 0, 0, 0, 0, 1)),
        PAGE_PORT,
    ),
];

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

impl World {
    /// Builds it.
    ///
    /// # Errors
    /// When the kernel refuses a part.
    pub fn build(lab: &Lab) -> anyhow::Result<Self> {
        let router = lab.namespace("core")?;
        forwarding(&router)?;
        let services = lab.namespace("srv")?;
        roomy(&services)?;
        let relays = [lab.namespace("relay1")?, lab.namespace("relay2")?];
        let four = [SERVICES].iter().chain(&PROBED).chain(&ON_443).copied();
        let page6 = PAGES[1].ip().to_string();
        let six = PROBED6.iter().chain(&ON_443_V6).copied();
        let six = six.chain([&*page6]);
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
        plan.unplug_from(&self.router, &name);
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
        plan.unplug_from(&self.router, &name);
        let outer = outer(&self.router, 1, &name, (true, false));
        let outside = outer.far4;
        let at = plan.namespace("s")?;
        plug(lab, &outer, &at, "wan")?;
        plan.make_box(&at, shared, outer.far4, false)?;
        plan.keep_memory();
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
        Ok([first, second].map(|home| home.seen_at(outside)))
    }

    /// `a1`, `b2`, …: no name is used twice, as what has it may linger.
    fn next(&self, side: u8) -> String {
        let letter = if side % 2 == 1 { 'a' } else { 'b' };
        format!("{letter}{}", self.built.fetch_add(1, Ordering::Relaxed))
    }
}

fn forwarding(at: &Namespace) -> anyhow::Result<()> {
    // A bridge's packets are to be seen by the box's rules once, as what they are.
    let script = "echo 1 > /proc/sys/net/ipv4/ip_forward; \
        echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; \
        for f in all default; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done; \
        f=/proc/sys/net/bridge/bridge-nf-call-iptables; if [ -e $f ]; then echo 0 > $f; fi; true";
    at.output("sh", &["-ec", script]).map(drop)
}

/// What one stream may have on its way: 200 Mb/s for a second, so that the path is the limit and not
/// the hosts.
fn roomy(at: &Namespace) -> anyhow::Result<()> {
    for name in ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"] {
        at.sysctl(name, "4096 131072 67108864")?;
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
