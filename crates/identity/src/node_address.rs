//! Who a node is and where: what one must know of a relay or of a first contact. It refuses to say whether anybody answers there.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use alloy_primitives::hex;
use serde::{Deserialize, Serialize};

use crate::NodeId;

/// A node and its UDP address. Written `NODE@ADDRESS`: 64 hexadecimal digits, and for example `203.0.113.7:4433`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeAddress {
    /// Who.
    pub node: NodeId,
    /// Where its QUIC endpoint listens.
    pub at: SocketAddr,
}

/// Not a node and its address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not NODE@ADDRESS, for example 64 hexadecimal digits, then @203.0.113.7:4433")]
pub struct NodeAddressError(String);

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.at)
    }
}

impl FromStr for NodeAddress {
    type Err = NodeAddressError;

    fn from_str(text: &str) -> Result<Self, NodeAddressError> {
        let read = || {
            let (node, at) = text.split_once('@')?;
            let node: [u8; 32] = hex::decode(node).ok()?.try_into().ok()?;
            let at: SocketAddr = at.parse().ok()?;
            let usable = at.port() != 0 && !at.ip().is_unspecified() && !at.ip().is_multicast();
            usable.then_some(Self {
                node: NodeId(node),
                at,
            })
        };
        read().ok_or_else(|| NodeAddressError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_node_address_is_read_as_it_is_written() {
        for at in ["203.0.113.7:4433", "[2001:db8::1]:4433"] {
            let address = NodeAddress {
                node: NodeId([0xab; 32]),
                at: at.parse().unwrap(),
            };
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        let node = "ab".repeat(32);
        for bad in [
            "",
            "@1.2.3.4:5",
            &format!("{node}@1.2.3.4"),
            &format!("{node}@1.2.3.4:0"),
            &format!("{node}@0.0.0.0:1"),
            &format!("{node}@224.0.0.1:1"),
            &format!("{}@1.2.3.4:5", &node[1..]),
        ] {
            assert!(bad.parse::<NodeAddress>().is_err(), "{bad}");
        }
    }
}
