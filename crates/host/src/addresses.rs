//! The addresses of this computer's interfaces, read only. It refuses tunnels: what leads through one is no way to this
//! computer.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// Unicast addresses of interfaces that are up, without loopback, link-local and tunnel devices.
///
/// # Errors
/// The system's.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for interface in getifaddrs()? {
        let flags = interface.flags;
        let up = flags.contains(InterfaceFlags::IFF_UP);
        if !up || flags.contains(InterfaceFlags::IFF_LOOPBACK) || is_tun(&interface.interface_name)
        {
            continue;
        }
        let Some(address) = interface.address else {
            continue;
        };
        let v4 = address.as_sockaddr_in().map(|at| IpAddr::V4(at.ip()));
        let v6 = address.as_sockaddr_in6().map(|at| IpAddr::V6(at.ip()));
        let Some(ip) = v4.or(v6) else { continue };
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        if !link_local && !ip.is_unspecified() && !found.contains(&ip) {
            found.push(ip);
        }
    }
    Ok(found)
}

/// The kernel shows a file of this name for TUN and TAP devices only.
fn is_tun(interface: &str) -> bool {
    let class = Path::new("/sys/class/net");
    class.join(interface).join("tun_flags").exists()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nobody_is_told_of_loopback() {
        let found = interface_addresses().unwrap();
        assert!(found.iter().all(|ip| !ip.is_loopback()), "{found:?}");
    }
}
