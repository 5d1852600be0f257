//! The kill switch of a consumer: nothing leaves this computer beside the tunnel.
//!
//! One nftables table, `inet wayfare_gate_<node>`, independent of routes: a packet leaves by the tunnel, by
//! loopback, with the mark of our own socket, or as the little a link needs to stay alive (DHCP, neighbour and
//! router discovery). Running connections are no exception. It can stand while tunnels come and go.
//!
//! A killed process leaves it standing, closed; [`Journal::recover`] opens it, unless it was asked to hold.
//! Refuses exceptions for attached networks (a later capability).

use tracing::info;

use crate::changes::Changes;
use crate::journal::Journal;
use crate::{HostError, blocking, name, privilege};

/// What the gate lets pass.
#[derive(Debug, Clone)]
pub struct GateConfig {
    /// Suffix of the table's name: letters, digits, `_`.
    pub node: String,
    /// The tunnel interface; it need not exist yet.
    pub tun: String,
    /// The firewall mark (`SO_MARK`) of our own sockets; not 0.
    pub mark: u32,
    /// Stay closed after a crash until the next run of the node, or a recovery with
    /// [`crate::Held::Release`].
    pub hold_on_crash: bool,
}

impl GateConfig {
    fn script(&self) -> String {
        let Self {
            node, tun, mark, ..
        } = self;
        format!(
            r#"table inet wayfare_gate_{node} {{
  chain output {{
    type filter hook output priority filter + 10; policy drop;
    oifname {{ "lo", "{tun}" }} accept
    meta mark {mark} accept
    udp sport 68 udp dport 67 accept
    ip6 saddr fe80::/10 udp sport 546 udp dport 547 accept
    ip6 hoplimit 255 icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} accept
    ip6 daddr ff02::16 icmpv6 type mld2-listener-report accept
  }}
  chain forward {{
    type filter hook forward priority filter + 10; policy drop;
    iifname "{tun}" accept
    oifname "{tun}" accept
  }}
}}
"#
        )
    }
}

/// A closed gate. Opened by [`Gate::undo`], or by dropping it (blocking, best effort).
#[derive(Debug)]
pub struct Gate {
    changes: Changes,
}

impl Gate {
    /// Closes the gate, in one transaction.
    ///
    /// # Errors
    /// Missing program or privilege, a name or mark that cannot be used, or a node of that name that runs
    /// already. The gate is open in any of these cases.
    pub async fn apply(config: GateConfig, journal: &Journal) -> Result<Self, HostError> {
        let mut changes = Changes::new(journal.clone());
        blocking(move || {
            name::check_node(&config.node)?;
            name::check_interface(&config.tun)?;
            if config.mark == 0 {
                let why = "the firewall mark 0 is what every packet has: choose another".to_owned();
                return Err(HostError::BadConfig { why });
            }
            privilege::check_net_admin("closing the kill switch")?;
            changes.table(
                &format!("wayfare_gate_{}", config.node),
                &config.script(),
                config.hold_on_crash,
            )?;
            info!(tun = config.tun, "kill switch closed");
            Ok(Self { changes })
        })
        .await
    }

    /// Opens the gate.
    ///
    /// # Errors
    /// The table could not be removed; it stays in the journal for the next [`Journal::recover`].
    pub async fn undo(mut self) -> Result<(), HostError> {
        blocking(move || self.changes.undo()).await
    }
}
