//! The exit of a provider: what a consumer's packets may reach, and by which door they leave.
//!
//! One nftables table, `inet wayfare_<node>`, is loaded in one kernel transaction before forwarding is switched
//! on. A consumer's packet reaches the internet and nothing else: not this computer, not its networks, not
//! another consumer, not a special-purpose address (see the rules in `exit/ruleset.rs`). Only answers come back
//! in. When anything of this fails, all of it is undone and nothing is forwarded.
//!
//! Refuses to count or to know consumers: credit, rate and identity were judged before a packet reaches the
//! tunnel device.

mod policy;
mod ports;
mod ruleset;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tracing::info;

use crate::changes::Changes;
use crate::command::nft_replace;
use crate::interface::{Attached, check_exists};
use crate::journal::Journal;
use crate::{HostError, blocking, name, privilege, sysctl};
pub use policy::{ExitPolicy, PortRule, Transport};
use ruleset::Ruleset;

const FORWARD_V4: &str = "net/ipv4/ip_forward";
const FORWARD_V6: &str = "net/ipv6/conf/all/forwarding";

/// What a provider wants of its exit.
#[derive(Debug, Clone)]
pub struct ExitConfig {
    /// Suffix of the table's name: letters, digits, `_`.
    pub node: String,
    /// The tunnel interface that consumers' packets come from. It must exist; it may still be down.
    pub tun: String,
    /// Addresses of consumers.
    pub pool_v4: Ipv4Net,
    /// IPv6 addresses of consumers; `None`: their IPv6 is rejected.
    pub pool_v6: Option<Ipv6Net>,
    /// The only interface consumers' packets may leave by; `None`: any but the tunnel.
    pub uplink: Option<String>,
    /// What may be reached beyond addresses.
    pub policy: ExitPolicy,
    /// UDP and TCP ports our own daemon listens on: never used as a translated source port, so that no consumer
    /// can catch what is meant for the daemon.
    pub listen_ports: Vec<u16>,
    /// Addresses that are ours without being on an interface (the public address of the router before us).
    pub also_ours: Vec<IpAddr>,
    /// Exceptions to the special-purpose registries, for laboratories and private networks. Own addresses and
    /// attached networks stay closed all the same.
    pub allow: Vec<IpNet>,
}

impl ExitConfig {
    /// An IPv4 exit by any uplink, with the default policy.
    pub fn new(node: impl Into<String>, tun: impl Into<String>, pool_v4: Ipv4Net) -> Self {
        Self {
            node: node.into(),
            tun: tun.into(),
            pool_v4,
            pool_v6: None,
            uplink: None,
            policy: ExitPolicy::default(),
            listen_ports: Vec::new(),
            also_ours: Vec::new(),
            allow: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), HostError> {
        name::check_node(&self.node)?;
        check_exists(&self.tun)?;
        if let Some(uplink) = &self.uplink {
            check_exists(uplink)?;
            if *uplink == self.tun {
                return Err(HostError::BadConfig {
                    why: "the uplink cannot be the tunnel itself".to_owned(),
                });
            }
        }
        if self.pool_v4.prefix_len() == 0 || self.pool_v6.is_some_and(|pool| pool.prefix_len() == 0)
        {
            return Err(HostError::BadConfig {
                why: "the consumers' pool is the whole internet: give a prefix".to_owned(),
            });
        }
        self.policy.check()
    }

    fn table(&self) -> String {
        format!("wayfare_{}", self.node)
    }
}

/// An exit in force. Undone by [`ExitRules::undo`], or by dropping it (blocking, best effort).
#[derive(Debug)]
pub struct ExitRules {
    /// Shared only with a refresh that runs on the blocking pool.
    state: Arc<Mutex<State>>,
    carries_v6: bool,
}

#[derive(Debug)]
struct State {
    config: ExitConfig,
    opened: Opened,
    changes: Changes,
    carries_v6: bool,
}

/// Which families did not forward before us: there, nobody but our consumers is forwarded while we run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opened {
    v4: bool,
    v6: bool,
}

impl ExitRules {
    /// Puts the exit in force: table first, then settings of the tunnel, then forwarding.
    ///
    /// # Errors
    /// Missing program or privilege, a name that cannot be used, no such interface, a node of that name that
    /// runs already, or the kernel's refusal. Nothing is left behind in any of these cases.
    pub async fn apply(config: ExitConfig, journal: &Journal) -> Result<Self, HostError> {
        let changes = Changes::new(journal.clone());
        let state = blocking(move || State::apply(config, changes)).await?;
        Ok(Self {
            carries_v6: state.carries_v6,
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// Reads this computer's addresses, networks and routes again and replaces the table in one transaction;
    /// running flows go on if they are still allowed. Also puts the table back when somebody flushed it. To be
    /// called when an address or route changes.
    ///
    /// # Errors
    /// As for [`ExitRules::apply`]; the rules in force stay as they were.
    pub async fn refresh(&mut self) -> Result<(), HostError> {
        let state = Arc::clone(&self.state);
        self.carries_v6 = blocking(move || lock(&state).refresh()).await?;
        Ok(())
    }

    /// Whether consumers have IPv6: a pool was given and there was an IPv6 default route at the last look.
    pub fn carries_v6(&self) -> bool {
        self.carries_v6
    }

    /// Takes everything back.
    ///
    /// # Errors
    /// The first undo that failed; it stays in the journal for the next [`Journal::recover`].
    pub async fn undo(self) -> Result<(), HostError> {
        blocking(move || lock(&self.state).changes.undo()).await
    }
}

/// A panic in the middle poisons nothing: the stack of changes is true at every step.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn apply(config: ExitConfig, mut changes: Changes) -> Result<Self, HostError> {
        config.check()?;
        privilege::check_net_admin("providing an exit")?;
        let closed = |key| Ok::<_, HostError>(sysctl::read(key)?.as_deref() == Some("0"));
        let opened = Opened {
            v4: closed(FORWARD_V4)?,
            v6: closed(FORWARD_V6)?,
        };
        let (script, carries_v6) = render(&config, opened)?;

        changes.table(&config.table(), &script, false)?;
        // Own addresses as sources, and questions for other interfaces' addresses, end at the tunnel.
        changes.setting(&format!("net/ipv4/conf/{}/rp_filter", config.tun), "1", &[])?;
        changes.setting(
            &format!("net/ipv4/conf/{}/arp_ignore", config.tun),
            "1",
            &[],
        )?;
        forward_v4(&mut changes)?;
        if carries_v6 {
            forward_v6(&mut changes, &config.tun)?;
        }
        info!(table = config.table(), carries_v6, "exit rules in force");
        Ok(Self {
            config,
            opened,
            changes,
            carries_v6,
        })
    }

    fn refresh(&mut self) -> Result<bool, HostError> {
        let (script, carries_v6) = render(&self.config, self.opened)?;
        nft_replace(&self.config.table(), &script)?;
        if carries_v6 && !self.carries_v6 {
            forward_v6(&mut self.changes, &self.config.tun)?;
        }
        self.carries_v6 = carries_v6;
        Ok(carries_v6)
    }
}

fn render(config: &ExitConfig, opened: Opened) -> Result<(String, bool), HostError> {
    let attached = Attached::read(&config.tun, config.uplink.as_deref())?;
    let carries_v6 = config.pool_v6.is_some() && attached.default_v6;
    let nat_ports = ports::translated(&config.listen_ports)?;
    let ruleset = Ruleset {
        config,
        attached: &attached,
        opened,
        carries_v6,
        nat_ports,
    };
    Ok((ruleset.script(), carries_v6))
}

fn forward_v4(changes: &mut Changes) -> Result<(), HostError> {
    // The kernel copies the switch to every interface, and ties the acceptance of redirects to it.
    let mut also = per_interface("ipv4", "forwarding")?;
    also.push("net/ipv4/conf/all/accept_redirects".to_owned());
    changes.setting(FORWARD_V4, "1", &also).map(drop)
}

fn forward_v6(changes: &mut Changes, tun: &str) -> Result<(), HostError> {
    // A forwarding host stops listening to router advertisements and loses its own default route, unless 2.
    for interface in sysctl::interfaces("ipv6")? {
        let key = format!("net/ipv6/conf/{interface}/accept_ra");
        let listens = sysctl::read(&key)?.as_deref() == Some("1");
        if listens && !["all", "default", "lo", tun].contains(&interface.as_str()) {
            changes.setting(&key, "2", &[])?;
        }
    }
    changes
        .setting(FORWARD_V6, "1", &per_interface("ipv6", "forwarding")?)
        .map(drop)
}

fn per_interface(family: &str, setting: &str) -> Result<Vec<String>, HostError> {
    let names = sysctl::interfaces(family)?;
    Ok(names
        .into_iter()
        .filter(|name| name != "all")
        .map(|name| format!("net/{family}/conf/{name}/{setting}"))
        .collect())
}
