//! The routes of a consumer: everything through the tunnel except the tunnel's own socket.
//!
//! Policy routing for both families: packets without our firewall mark are looked up in a table of our own,
//! whose default is the tunnel. Behind it stands an unreachable default, so that when the tunnel device vanishes
//! (or never had IPv6) packets fail here rather than take the old way. The main table is left as it is, and a
//! route pushed into it by DHCP or a router advertisement is never asked.
//!
//! Refuses to filter: what ignores routes (a socket bound to an interface) is stopped by [`crate::Gate`].

use std::fmt::Write;

use ipnet::IpNet;
use tracing::info;

use crate::changes::Changes;
use crate::interface::check_exists;
use crate::journal::Journal;
use crate::narrow::TunnelLimiter;
use crate::undo::{Family, PolicyRule, RoutingStep, TableRoute};
use crate::{HostError, blocking, name, privilege, sysctl};

/// Where a consumer's traffic goes.
#[derive(Debug, Clone)]
pub struct RoutesConfig {
    /// Suffix of the table's name: letters, digits, `_`.
    pub node: String,
    /// The tunnel interface; it must be up.
    pub tun: String,
    /// Addresses of the tunnel interface: packets for them from any other interface are dropped, so that a
    /// neighbour cannot find out which they are. Without an IPv6 one, IPv6 is unreachable while this holds.
    pub addresses: Vec<IpNet>,
    /// The firewall mark (`SO_MARK`) of our own sockets; not 0.
    pub mark: u32,
    /// Number of our routing table.
    pub table: u32,
    /// Priority of our first rule; the second has the next one.
    pub priority: u32,
    /// Whether attached networks (and every other non-default route of the main table, also one that a hostile
    /// DHCP server pushed) stay reachable beside the tunnel.
    pub keep_lan: bool,
}

impl RoutesConfig {
    /// `w` and `f` of "wayfare": unlikely to be anybody else's.
    pub const DEFAULT_MARK: u32 = 0x7766;
    /// Same number as the mark, to be recognised in `ip rule`.
    pub const DEFAULT_TABLE: u32 = 0x7766;
    /// After the local table (0), before the main one (32,766).
    pub const DEFAULT_PRIORITY: u32 = 5_200;

    /// Everything through the tunnel, with the default numbers.
    pub fn new(node: impl Into<String>, tun: impl Into<String>, addresses: Vec<IpNet>) -> Self {
        Self {
            node: node.into(),
            tun: tun.into(),
            addresses,
            mark: Self::DEFAULT_MARK,
            table: Self::DEFAULT_TABLE,
            priority: Self::DEFAULT_PRIORITY,
            keep_lan: false,
        }
    }

    fn check(&self) -> Result<(), HostError> {
        name::check_node(&self.node)?;
        check_exists(&self.tun)?;
        let why = if self.mark == 0 {
            "the firewall mark 0 is what every packet has: choose another"
        } else if matches!(self.table, 0 | 253..=255) {
            "routing tables 0 and 253 to 255 are the system's: choose another"
        } else if !(1..32_765).contains(&self.priority) {
            "the rule priority must be between 1 and 32764, before the main table"
        } else {
            return Ok(());
        };
        Err(HostError::BadConfig {
            why: why.to_owned(),
        })
    }

    fn carries(&self, family: Family) -> bool {
        self.addresses.iter().any(|address| match family {
            Family::V4 => matches!(address, IpNet::V4(_)),
            Family::V6 => matches!(address, IpNet::V6(_)),
        })
    }

    /// Our socket's answers carry its mark on their way in, too, so that a strict reverse path filter looks them
    /// up where the questions went.
    fn script(&self) -> String {
        let (node, tun, mark) = (&self.node, &self.tun, self.mark);
        let mut strangers = String::new();
        for address in &self.addresses {
            let (word, ip) = match address {
                IpNet::V4(net) => ("ip", net.addr().to_string()),
                IpNet::V6(net) => ("ip6", net.addr().to_string()),
            };
            let _infallible = writeln!(
                strangers,
                "    iifname != {{ \"{tun}\", \"lo\" }} {word} daddr {ip} drop"
            );
        }
        format!(
            "table inet wayfare_route_{node} {{\n  chain strangers {{\n    \
             type filter hook prerouting priority raw; policy accept;\n{strangers}  }}\n  chain answers {{\n    \
             type filter hook prerouting priority mangle; policy accept;\n    \
             ct mark {mark} meta mark set ct mark\n  }}\n  chain questions {{\n    \
             type filter hook postrouting priority mangle; policy accept;\n    \
             meta mark {mark} ct mark set meta mark\n  }}\n}}\n"
        )
    }
}

/// A consumer's routes in force. Undone by [`ConsumerRoutes::undo`], or by dropping them (blocking, best effort).
#[derive(Debug)]
pub struct ConsumerRoutes {
    changes: Changes,
    limiter: TunnelLimiter,
}

impl ConsumerRoutes {
    /// Puts the routes in force, one family after the other; the rule that switches its traffic over comes last.
    ///
    /// # Errors
    /// Missing program or privilege, a number or name that cannot be used, no such interface or one that is
    /// down, or a node of that name that runs already. Nothing is left behind in any of these cases.
    pub async fn apply(config: RoutesConfig, journal: &Journal) -> Result<Self, HostError> {
        let changes = Changes::new(journal.clone());
        let limiter = TunnelLimiter {
            tun: config.tun.clone(),
            table: config.table,
            carries_v4: config.carries(Family::V4),
            carries_v6: config.carries(Family::V6) && sysctl::has_ipv6(),
        };
        let changes = blocking(move || apply(&config, changes)).await?;
        Ok(Self { changes, limiter })
    }

    /// Changes how large packets may be, while these routes are in force.
    #[must_use]
    pub fn limiter(&self) -> TunnelLimiter {
        self.limiter.clone()
    }

    /// Takes the routes back; traffic goes the way it went before.
    ///
    /// # Errors
    /// The first undo that failed; it stays in the journal for the next [`Journal::recover`].
    pub async fn undo(mut self) -> Result<(), HostError> {
        blocking(move || self.changes.undo()).await
    }
}

fn apply(config: &RoutesConfig, mut changes: Changes) -> Result<Changes, HostError> {
    config.check()?;
    privilege::check_net_admin("routing through the tunnel")?;
    changes.table(
        &format!("wayfare_route_{}", config.node),
        &config.script(),
        false,
    )?;
    changes.setting("net/ipv4/conf/all/src_valid_mark", "1", &[])?;

    let mut families = vec![Family::V4];
    if sysctl::has_ipv6() {
        families.push(Family::V6);
    }
    let table = config.table;
    for family in families {
        let mut steps = vec![RoutingStep::Route(TableRoute::DefaultUnreachable { table })];
        if config.carries(family) {
            steps.push(RoutingStep::Route(TableRoute::DefaultVia {
                interface: config.tun.clone(),
                table,
            }));
        }
        if config.keep_lan {
            steps.push(RoutingStep::Rule(PolicyRule::MainWithoutDefault {
                priority: config.priority,
            }));
        }
        steps.push(RoutingStep::Rule(PolicyRule::UnmarkedTo {
            table,
            mark: config.mark,
            priority: config.priority + 1,
        }));
        changes.routing(family, &steps)?;
    }
    info!(tun = config.tun, table, "traffic goes through the tunnel");
    Ok(changes)
}
