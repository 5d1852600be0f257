//! Interfaces: giving ours its addresses, and reading what the others are attached to.
//!
//! Refuses to create or delete interfaces: `transport` owns the tunnel device, and what is set on it vanishes
//! with it, which is why nothing here needs an undo.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;
use tracing::info;

use crate::command::{ip_batch, ip_json};
use crate::undo::Family;
use crate::{HostError, blocking, name, privilege, sysctl};

/// Smallest MTU that IPv6 allows (RFC 8200 section 5).
pub(crate) const LEAST_MTU: u16 = 1280;

/// Sets MTU and addresses of an existing interface and brings it up.
///
/// Addresses are host addresses with their prefix length (`10.8.0.2/16`); those already there stay.
///
/// # Errors
/// No such interface, missing privilege, an IPv6 address with an MTU below 1,280 or where the kernel has no IPv6.
pub async fn configure_interface(
    name: &str,
    addresses: &[IpNet],
    mtu: u16,
) -> Result<(), HostError> {
    let (name, addresses) = (name.to_owned(), addresses.to_vec());
    blocking(move || configure(&name, &addresses, mtu)).await
}

fn configure(name: &str, addresses: &[IpNet], mtu: u16) -> Result<(), HostError> {
    check_exists(name)?;
    privilege::check_net_admin("configuring an interface")?;
    let carries_v6 = addresses
        .iter()
        .any(|address| matches!(address, IpNet::V6(_)));
    if carries_v6 && mtu < LEAST_MTU {
        return Err(HostError::BadConfig {
            why: format!("an MTU of {mtu} is below {LEAST_MTU}, the least that IPv6 allows"),
        });
    }
    if carries_v6 {
        enable_ipv6(name)?;
    }
    let mut script = format!("link set dev {name} mtu {mtu}\n");
    for address in addresses {
        // A tunnel has no neighbours to collide with: waiting for duplicate detection only delays.
        let how = match address {
            IpNet::V4(_) => "",
            IpNet::V6(_) => " nodad",
        };
        let _infallible = writeln!(script, "address replace {address} dev {name}{how}");
    }
    let _infallible = writeln!(script, "link set dev {name} up");
    ip_batch(&script, false)?;
    info!(
        interface = name,
        mtu,
        addresses = addresses.len(),
        "interface configured"
    );
    Ok(())
}

/// On a host where IPv6 is switched off per interface, it is switched on for ours only.
fn enable_ipv6(name: &str) -> Result<(), HostError> {
    let key = format!("net/ipv6/conf/{name}/disable_ipv6");
    match sysctl::read(&key)?.as_deref() {
        None => Err(HostError::BadConfig {
            why: "the kernel has no IPv6 (ipv6.disable=1): leave the IPv6 address out".to_owned(),
        }),
        Some("0") => Ok(()),
        Some(_) => sysctl::write(&key, "0"),
    }
}

/// Fails with [`HostError::NoInterface`] when the calling thread's namespace lacks the interface.
pub(crate) fn check_exists(name: &str) -> Result<(), HostError> {
    name::check_interface(name)?;
    // Per namespace, unlike /sys, which keeps the view of whoever mounted it.
    if Path::new("/proc/sys/net/ipv4/conf").join(name).exists() {
        return Ok(());
    }
    Err(HostError::NoInterface {
        name: name.to_owned(),
    })
}

/// What this computer is, and what it is directly attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attached {
    /// Our own addresses, all interfaces and families.
    pub(crate) own: BTreeSet<IpAddr>,
    /// Prefixes of those addresses and on-link routes.
    pub(crate) lan: BTreeSet<IpNet>,
    /// Whether there is an IPv6 way to the internet.
    pub(crate) default_v6: bool,
}

impl Attached {
    /// Reads addresses and routes as they are now. `uplink`: only its default route counts; `tun`: its routes
    /// do not count.
    pub(crate) fn read(tun: &str, uplink: Option<&str>) -> Result<Self, HostError> {
        let mut attached = Self::default();
        for interface in ip_json::<Interface>(&["address", "show"])? {
            for address in interface.addr_info {
                attached.add(&address);
            }
        }
        let mut families = vec![Family::V4];
        if sysctl::has_ipv6() {
            families.push(Family::V6);
        }
        for family in families {
            for route in ip_json::<Route>(&[family.switch(), "route", "show", "table", "main"])? {
                attached.add_route(family, &route, tun, uplink);
            }
        }
        Ok(attached)
    }

    fn add(&mut self, address: &Address) {
        let Some(local) = address.local else { return };
        self.own.insert(local);
        // A point-to-point address names the other end, which is as much LAN as ours.
        for ip in [Some(local), address.address].into_iter().flatten() {
            if let Ok(net) = IpNet::new(ip, address.prefixlen) {
                self.lan.insert(net.trunc());
            }
        }
    }

    fn add_route(&mut self, family: Family, route: &Route, tun: &str, uplink: Option<&str>) {
        let forwards = matches!(route.kind.as_deref(), None | Some("unicast"));
        if !forwards {
            return;
        }
        if route.dst == "default" {
            let ours = route.dev.as_deref() != Some(tun);
            let wanted = uplink.is_none_or(|uplink| route.uses(uplink));
            self.default_v6 |= matches!(family, Family::V6) && ours && wanted;
            return;
        }
        // A cloud machine with a /32 address reaches its gateway by an on-link route: that is LAN, too.
        if route.gateway.is_none() && route.via.is_none() && route.nexthops.is_none() {
            let net = route
                .dst
                .parse::<IpNet>()
                .or_else(|_| route.dst.parse::<IpAddr>().map(IpNet::from));
            self.lan.extend(net.ok());
        }
    }
}

#[derive(Debug, Deserialize)]
struct Interface {
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    local: Option<IpAddr>,
    address: Option<IpAddr>,
    #[serde(default)]
    prefixlen: u8,
}

#[derive(Debug, Deserialize)]
struct Route {
    #[serde(default)]
    dst: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    dev: Option<String>,
    gateway: Option<serde_json::Value>,
    via: Option<serde_json::Value>,
    nexthops: Option<Vec<Hop>>,
}

#[derive(Debug, Deserialize)]
struct Hop {
    dev: Option<String>,
}

impl Route {
    fn uses(&self, interface: &str) -> bool {
        let hops = self.nexthops.iter().flatten().map(|hop| hop.dev.as_deref());
        hops.chain([self.dev.as_deref()])
            .any(|dev| dev == Some(interface))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn prefixes_peers_and_on_link_routes_are_lan_and_gateways_are_not() {
        let mut attached = Attached::default();
        let address = r#"{"family":"inet","local":"11.0.0.5","address":"11.7.7.7","prefixlen":32}"#;
        attached.add(&serde_json::from_str(address).unwrap());
        for (family, route) in [
            (
                Family::V4,
                r#"{"dst":"default","gateway":"11.0.0.1","dev":"eth0"}"#,
            ),
            (
                Family::V4,
                r#"{"dst":"11.0.0.1","dev":"eth0","scope":"link"}"#,
            ),
            (
                Family::V4,
                r#"{"dst":"11.3.0.0/16","gateway":"11.0.0.1","dev":"eth0"}"#,
            ),
            (
                Family::V6,
                r#"{"dst":"2a00:1::/64","dev":"eth0","protocol":"ra"}"#,
            ),
            (
                Family::V6,
                r#"{"type":"unreachable","dst":"default","dev":"lo"}"#,
            ),
        ] {
            attached.add_route(family, &serde_json::from_str(route).unwrap(), "tun0", None);
        }
        let lan: Vec<String> = attached.lan.iter().map(ToString::to_string).collect();
        assert_eq!(
            lan,
            ["11.0.0.1/32", "11.0.0.5/32", "11.7.7.7/32", "2a00:1::/64"]
        );
        assert!(!attached.default_v6);
        let multipath = r#"{"dst":"default","nexthops":[{"dev":"eth1","gateway":"fe80::1"}]}"#;
        attached.add_route(
            Family::V6,
            &serde_json::from_str(multipath).unwrap(),
            "tun0",
            Some("eth0"),
        );
        assert!(!attached.default_v6);
        attached.add_route(
            Family::V6,
            &serde_json::from_str(multipath).unwrap(),
            "tun0",
            Some("eth1"),
        );
        assert!(attached.default_v6);
    }
}
