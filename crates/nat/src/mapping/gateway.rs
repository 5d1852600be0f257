//! Which router is ours, as the kernel has it, and which of our addresses it sees. It refuses to guess one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::SockRef;
use tokio::net::UdpSocket;

/// The main table, of the namespace that this thread is in.
const ROUTES: &str = "/proc/thread-self/net/route";
/// The port of PCP and NAT-PMP servers: RFC 6887 section 19.
pub(super) const SERVER: u16 = 5_351;

/// Where we are on our own network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) gateway: Ipv4Addr,
    /// Our address towards it.
    pub(super) local: Ipv4Addr,
    /// Of our packets to it, where a firewall wants one.
    pub(super) mark: Option<u32>,
}

impl Inside {
    /// `None` without a default route of IPv4.
    pub(super) async fn look(mark: Option<u32>) -> Option<Self> {
        let gateway = default_gateway(&std::fs::read_to_string(ROUTES).ok()?)?;
        let socket = line(gateway, mark).await.ok()?;
        match socket.local_addr().ok()? {
            SocketAddr::V4(local) => Some(Self {
                gateway,
                local: *local.ip(),
                mark,
            }),
            SocketAddr::V6(_) => None,
        }
    }

    /// A socket that hears nobody but the router's PCP and NAT-PMP server.
    pub(super) async fn line(&self) -> io::Result<UdpSocket> {
        line(self.gateway, self.mark).await
    }
}

async fn line(gateway: Ipv4Addr, mark: Option<u32>) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).await?;
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    socket.connect(SocketAddrV4::new(gateway, SERVER)).await?;
    Ok(socket)
}

/// The gateway of the best default route in a table as `/proc/net/route` tells it.
fn default_gateway(table: &str) -> Option<Ipv4Addr> {
    /// RTF_UP and RTF_GATEWAY of the kernel.
    const UP_BY_GATEWAY: u32 = 3;
    let route = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let hex = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
        let is_default = hex(1)? == 0 && hex(7)? == 0 && hex(3)? & UP_BY_GATEWAY == UP_BY_GATEWAY;
        let metric: u32 = words.get(6)?.parse().ok()?;
        // The kernel prints the four bytes as a number of this machine.
        let gateway = Ipv4Addr::from(hex(2)?.to_ne_bytes());
        is_default.then_some((metric, gateway))
    };
    let routes = table.lines().filter_map(route);
    routes
        .min_by_key(|(metric, _)| *metric)
        .map(|(_, gateway)| gateway)
}

/// Whether an address is one that the internet routes to a host: outside of what IANA's registry of special-purpose addresses
/// keeps for other uses, and no multicast.
pub(super) fn is_public(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = match (a, b, c) {
        (0 | 10 | 127, ..) | (169, 254, _) | (192, 168, _) => true,
        // Between a provider of internet access and its customers: RFC 6598.
        (100, b, _) => b & 0xc0 == 64,
        (172, b, _) => b & 0xf0 == 16,
        (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) => true,
        (198, b, _) => b & 0xfe == 18,
        (a, ..) => a >= 224,
    };
    !special
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";

    #[test]
    fn the_best_default_route_counts() {
        let at = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let row = |to: &str, by: [u8; 4], flags: u32, metric: u32, mask: &str| {
            format!(
                "eth0\t{to}\t{}\t{flags:04X}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n",
                at(by)
            )
        };
        let all = "00000000";
        let table = [
            HEAD.to_owned(),
            row(all, [10, 0, 0, 9], 3, 200, all),
            row(all, [10, 0, 0, 1], 3, 100, all),
            row(all, [10, 0, 0, 7], 2, 1, all),
            row(all, [0, 0, 0, 0], 1, 2, all),
            row("0000000A", [10, 0, 0, 8], 3, 0, "000000FF"),
            row(all, [10, 0, 0, 6], 3, 0, "00000080"),
        ];
        assert_eq!(
            default_gateway(&table.concat()),
            Some(Ipv4Addr::new(10, 0, 0, 1))
        );
        assert_eq!(default_gateway(HEAD), None);
    }

    #[test]
    fn what_is_not_the_internet_is_not_public() {
        for (ip, public) in [
            ("11.0.1.2", true),
            ("8.8.8.8", true),
            ("100.63.0.1", true),
            ("100.64.0.1", false),
            ("100.127.255.1", false),
            ("100.128.0.1", true),
            ("172.15.0.1", true),
            ("172.31.0.1", false),
            ("192.168.3.4", false),
            ("10.1.2.3", false),
            ("169.254.1.1", false),
            ("198.19.0.1", false),
            ("203.0.113.7", false),
            ("0.0.0.0", false),
            ("127.0.0.1", false),
            ("240.0.0.1", false),
            ("224.0.0.1", false),
        ] {
            assert_eq!(is_public(ip.parse().unwrap()), public, "{ip}");
        }
    }

    proptest! {
        #[test]
        fn any_table_is_read_without_harm(table in "[0-9A-Fa-f \t\n]{0,300}") {
            let _ = default_gateway(&table);
        }
    }
}
