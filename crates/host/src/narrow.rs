//! Narrow paths: where the way between two ends of a tunnel carries less than its device, packets are kept that small
//! before they are sealed.
//!
//! At the provider a consumer on a narrow path gets a host route with an MTU ([`limit_consumers`]), and the kernel does
//! the rest as for any narrow link: what is larger and may not be cut is answered with *fragmentation needed* or
//! *packet too big*, other IPv4 packets are cut before they are sealed, and the exit's `rt mtu` clamp tells TCP on both
//! sides from the first packet. At the consumer the device shrinks ([`TunnelLimiter`]). IPv6 leaves a device below
//! 1,280 bytes (RFC 8200 section 5): there the device stays at that and our own default routes carry the smaller MTU,
//! which the kernel heeds for what this computer sends, in both families.
//!
//! Refuses to find out how large packets may be, and to journal: all of it vanishes with the tunnel device.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::command::ip_batch;
use crate::interface::{LEAST_MTU, check_exists};
use crate::{HostError, blocking, privilege};

/// How large packets for one consumer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerLimit {
    /// The consumer's address inside the tunnel.
    pub address: IpAddr,
    /// Bytes of an inner packet; `None`: what the device carries.
    pub mtu: Option<u16>,
}

/// Puts limits of consumers behind the tunnel interface `tun` in force, all by one program. A limit replaces an earlier
/// one of its address; taking one back that is not there is an error, after which the others are in force all the same.
///
/// The kernel forwards IPv6 packets of up to 1,280 bytes whatever the limit.
///
/// # Errors
/// Missing program or privilege, no such interface, or the kernel's refusal of one of them.
pub async fn limit_consumers(tun: &str, limits: Vec<ConsumerLimit>) -> Result<(), HostError> {
    let tun = tun.to_owned();
    blocking(move || {
        check_exists(&tun)?;
        privilege::check_net_admin("routing to consumers")?;
        ip_batch(&consumers(&tun, &limits), true)
    })
    .await
}

fn consumers(tun: &str, limits: &[ConsumerLimit]) -> String {
    let mut script = String::new();
    for limit in limits {
        let to = IpNet::from(limit.address);
        // Locked: without it the kernel heeds an IPv6 route's MTU only for what it sends itself.
        let _infallible = match limit.mtu {
            Some(mtu) => writeln!(script, "route replace {to} dev {tun} mtu lock {mtu}"),
            None => writeln!(script, "route del {to} dev {tun}"),
        };
    }
    script
}

/// Changes how large the packets of a consumer's tunnel are; of [`crate::ConsumerRoutes`] in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelLimiter {
    pub(crate) tun: String,
    pub(crate) table: u32,
    pub(crate) carries_v4: bool,
    pub(crate) carries_v6: bool,
}

impl TunnelLimiter {
    /// Packets of this computer are at most `mtu` bytes from now on. To be called only while the routes are in force.
    ///
    /// # Errors
    /// Missing program or privilege, or the kernel's refusal.
    pub async fn set(&self, mtu: u16) -> Result<(), HostError> {
        let (tun, script) = (self.tun.clone(), self.script(mtu));
        blocking(move || {
            check_exists(&tun)?;
            privilege::check_net_admin("changing the tunnel's MTU")?;
            ip_batch(&script, false)
        })
        .await
    }

    fn script(&self, mtu: u16) -> String {
        let Self { tun, table, .. } = self;
        let device = if self.carries_v6 {
            mtu.max(LEAST_MTU)
        } else {
            mtu
        };
        let own = if mtu < device {
            format!(" mtu {mtu}")
        } else {
            String::new()
        };
        let mut script = format!("link set dev {tun} mtu {device}\n");
        for (carried, default) in [(self.carries_v4, "0.0.0.0/0"), (self.carries_v6, "::/0")] {
            if carried {
                let _infallible = writeln!(
                    script,
                    "route replace {default} dev {tun} table {table}{own}"
                );
            }
        }
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(carries_v6: bool) -> TunnelLimiter {
        TunnelLimiter {
            tun: "tun0".to_owned(),
            table: 7,
            carries_v4: true,
            carries_v6,
        }
    }

    #[test]
    fn ipv6_keeps_its_device_and_the_routes_carry_what_is_below() {
        let expected = "link set dev tun0 mtu 1280\n\
            route replace 0.0.0.0/0 dev tun0 table 7 mtu 1184\n\
            route replace ::/0 dev tun0 table 7 mtu 1184\n";
        assert_eq!(limiter(true).script(1_184), expected);
        let expected = "link set dev tun0 mtu 1328\n\
            route replace 0.0.0.0/0 dev tun0 table 7\n\
            route replace ::/0 dev tun0 table 7\n";
        assert_eq!(limiter(true).script(1_328), expected);
        let expected = "link set dev tun0 mtu 1184\nroute replace 0.0.0.0/0 dev tun0 table 7\n";
        assert_eq!(limiter(false).script(1_184), expected);
    }
}
