//! Where the deployed contracts lie, as far as a client has to know it before it asks anybody: the registry, the token, and for
//! each Hermes the channel implementation that was fixed when it registered. It refuses to take these from a server: whoever
//! names the implementation names the address that consumers pay to.

use alloy::primitives::{Address, address};
use wayfare_payment::ChannelId;

use super::addresses::channel_address;

/// Which of the deployed versions a Hermes and its channels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// A consumer may leave alone after four days; the operator pauses.
    First,
    /// A consumer leaves only with its Hermes' consent; the operator pauses.
    Second,
    /// As the second, but the owner pauses, and the owner is the operator at first.
    Third,
}

impl Version {
    /// What the registry counts from 0.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::First => 0,
            Self::Second => 1,
            Self::Third => 2,
        }
    }
}

/// A Hermes that a client deals with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownHermes {
    /// Its contract.
    pub id: Address,
    /// Its version.
    pub version: Version,
    /// What its consumers' channels are proxies of.
    pub channel_implementation: Address,
}

/// The contracts of one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// EIP-155 id.
    pub chain_id: u64,
    /// The root registry.
    pub registry: Address,
    /// The ERC-20 that everything is counted in.
    pub token: Address,
    /// The Hermes that are known; calls about others are refused.
    pub hermes: Vec<KnownHermes>,
}

impl Deployment {
    /// Polygon, with the Hermes of all three versions.
    #[must_use]
    pub fn polygon() -> Self {
        let known = |id, version, channel_implementation| KnownHermes {
            id,
            version,
            channel_implementation,
        };
        Self {
            chain_id: 137,
            registry: address!("87F0F4b7e0FAb14A565C87BAbbA6c40c92281b51"),
            token: address!("1379e8886a944d2d9d440b3d88df536aea08d9f3"),
            hermes: vec![
                known(
                    address!("a62a2A75949d25e17C6F08a7818e7bE97c18a8d2"),
                    Version::First,
                    address!("25882f4966065ca13b7bac15cc48391d9a4124f6"),
                ),
                known(
                    address!("De82990405aCc36B4Fd53c94A24D1010fcc1F83d"),
                    Version::Second,
                    address!("813d3A0ef42FD4F25F2854811A64D5842EF3F8D1"),
                ),
                known(
                    address!("80Ed28d84792d8b153bf2F25F0C4B7a1381dE4ab"),
                    Version::Third,
                    address!("6b423D3885B4877b5760E149364f85f185f477aD"),
                ),
            ],
        }
    }

    /// A Hermes, when it is known.
    #[must_use]
    pub fn known(&self, hermes: Address) -> Option<&KnownHermes> {
        self.hermes.iter().find(|known| known.id == hermes)
    }

    /// Where a consumer's tokens for a Hermes go; `None` for a Hermes that is not known, since a wrong address is money burnt.
    #[must_use]
    pub fn deposit_address(&self, consumer: Address, hermes: Address) -> Option<Address> {
        self.known(hermes).map(|known| {
            channel_address(
                self.registry,
                consumer,
                hermes,
                known.channel_implementation,
            )
        })
    }

    /// The channel of a consumer; of a Hermes that is not known the channel of nobody, on which nothing can be cashed.
    #[must_use]
    pub fn consumer_channel(&self, consumer: Address, hermes: Address) -> ChannelId {
        ChannelId::of_deposit(self.deposit_address(consumer, hermes).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysterium::hermes_address;

    #[test]
    fn the_known_hermes_of_polygon_are_where_the_registry_puts_them() {
        let polygon = Deployment::polygon();
        let first = address!("213a1B1d08F2715aE054ade98DEEd8a8F1cc937E");
        let third = address!("4f7265afc1373317975a306023574BE5Ec87157A");
        let made_of = [
            (address!("95327DA500eD6841e161A6b369F6fBA4af8EeDD6"), first),
            (address!("133cd135ebfaaf074c0068edefb1ca6d22112490"), first),
            (address!("bb322f4a93f4001d3f2dd07aa957c3e8361e8976"), third),
        ];
        assert_eq!(polygon.hermes.len(), made_of.len());
        for (known, (operator, implementation)) in polygon.hermes.iter().zip(made_of) {
            let expected = hermes_address(polygon.registry, operator, implementation);
            assert_eq!(known.id, expected, "{:?}", known.version);
        }
        let consumer = Address::repeat_byte(1);
        let places: std::collections::BTreeSet<_> = polygon
            .hermes
            .iter()
            .map(|known| polygon.deposit_address(consumer, known.id))
            .collect();
        assert_eq!(places.len(), made_of.len());
        assert_eq!(polygon.deposit_address(consumer, consumer), None);
    }
}
