//! The laboratory's geography: an internet that carries packets between everybody and holds the
//! services, a provider with a LAN of its own behind it, and consumers with one way out each.
//! Addresses are public-looking; all of them exist inside namespaces only.

use std::fmt::Write as _;

use crate::lab::{End, Lab, Namespace};

/// Where web server, chain, index and Hermes are.
pub const SERVICES: &str = "11.0.0.1";

/// The provider's address on the internet.
pub const PROVIDER: &str = "11.0.1.2";

/// The provider's UDP port.
pub const PORT: u16 = 51_820;

/// A relay's address on the internet, where there is one.
pub const RELAY: &str = "11.0.250.2";

/// The relay's UDP port.
pub const RELAY_PORT: u16 = 443;

/// A host in the provider's own network that no consumer may ever reach.
pub const LAN_HOST: &str = "192.168.7.2";

/// The interface of everybody's way out.
pub const UPLINK: &str = "uplink0";

/// The LAN host's interface.
pub const LAN: &str = "lan0";

/// The namespaces, cabled and addressed.
#[derive(Debug)]
pub struct Network {
    /// Carries packets, holds the services.
    pub internet: Namespace,
    /// The provider's computer.
    pub provider: Namespace,
    /// A computer beside the provider's.
    pub lan: Namespace,
    /// The consumers' computers.
    pub consumers: Vec<Namespace>,
    /// A relay's computer.
    pub relay: Option<Namespace>,
}

impl Network {
    /// Builds it in `lab`, with this many consumers (below 200).
    ///
    /// # Errors
    /// When the kernel refuses a part.
    pub fn build(lab: &Lab, consumers: u8) -> anyhow::Result<Self> {
        let internet = lab.namespace("internet")?;
        internet.ip(&format!("address add {SERVICES}/32 dev lo"))?;
        internet.sysctl("net.ipv4.ip_forward", "1")?;
        let provider = lab.namespace("provider")?;
        uplink(lab, &internet, &provider, 1)?;
        let lan = lab.namespace("lan")?;
        lab.cable(
            &End {
                at: &provider,
                interface: LAN,
                addresses: &["192.168.7.1/24"],
            },
            &End {
                at: &lan,
                interface: LAN,
                addresses: &[&format!("{LAN_HOST}/24")],
            },
        )?;
        lan.ip("route add default via 192.168.7.1")?;
        let mut network = Self {
            internet,
            provider,
            lan,
            consumers: Vec::new(),
            relay: None,
        };
        for number in 1..=consumers {
            let name = format!("consumer{number}");
            let consumer = lab.namespace(&name)?;
            uplink(lab, &network.internet, &consumer, number + 1)?;
            network.consumers.push(consumer);
        }
        Ok(network)
    }

    /// Adds a relay's computer, and keeps UDP between provider and consumers from passing: what is
    /// left goes through the relay.
    ///
    /// # Errors
    /// When the kernel refuses a part.
    pub fn only_by_relay(&mut self, lab: &Lab) -> anyhow::Result<Namespace> {
        let relay = lab.namespace("relay")?;
        uplink(lab, &self.internet, &relay, 250)?;
        let mut rules = String::from("table inet apart {\n");
        rules.push_str(
            "  chain forward {\n    type filter hook forward priority 0; policy accept;\n",
        );
        for at in 0..self.consumers.len() {
            let consumer = Self::consumer_address(at);
            for (from, to) in [(PROVIDER, &*consumer), (&*consumer, PROVIDER)] {
                let _ = writeln!(
                    rules,
                    "    ip saddr {from} ip daddr {to} meta l4proto udp drop"
                );
            }
        }
        rules.push_str("  }\n}\n");
        self.internet.nft(&rules)?;
        self.relay = Some(relay.clone());
        Ok(relay)
    }

    /// The address of a consumer, counted from 0.
    pub fn consumer_address(consumer: usize) -> String {
        format!("11.0.{}.2", consumer + 2)
    }
}

/// Cables `home` to the internet as `11.0.<net>.2`, with its default route.
fn uplink(lab: &Lab, internet: &Namespace, home: &Namespace, net: u8) -> anyhow::Result<()> {
    lab.cable(
        &End {
            at: internet,
            interface: &format!("net{net}"),
            addresses: &[&format!("11.0.{net}.1/24")],
        },
        &End {
            at: home,
            interface: UPLINK,
            addresses: &[&format!("11.0.{net}.2/24")],
        },
    )?;
    home.ip(&format!("route add default via 11.0.{net}.1"))
        .map(drop)
}
