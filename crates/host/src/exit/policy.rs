//! What an exit lets out, beyond the addresses that nobody may reach.
//!
//! Refuses to know consumers: the policy is the provider's, the same for all.

use crate::HostError;

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Destination ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRule {
    /// The protocol.
    pub transport: Transport,
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl PortRule {
    /// One port.
    pub fn one(transport: Transport, port: u16) -> Self {
        Self {
            transport,
            first: port,
            last: port,
        }
    }
}

/// What consumers may not use an exit for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitPolicy {
    /// Destination ports that are rejected, at most 1,024 rules.
    pub reject_ports: Vec<PortRule>,
}

impl Default for ExitPolicy {
    /// Rejects TCP 25: mail that a stranger sends from the provider's address ends on block lists.
    fn default() -> Self {
        Self {
            reject_ports: vec![PortRule::one(Transport::Tcp, 25)],
        }
    }
}

/// Bound of the table's size, not of anybody's need.
const MOST_RULES: usize = 1024;

impl ExitPolicy {
    pub(super) fn check(&self) -> Result<(), HostError> {
        if self.reject_ports.len() > MOST_RULES {
            return Err(HostError::BadConfig {
                why: format!("more than {MOST_RULES} rejected port ranges"),
            });
        }
        match self.reject_ports.iter().find(|rule| rule.first > rule.last) {
            None => Ok(()),
            Some(rule) => Err(HostError::BadConfig {
                why: format!(
                    "the port range {}-{} ends before it begins",
                    rule.first, rule.last
                ),
            }),
        }
    }
}
