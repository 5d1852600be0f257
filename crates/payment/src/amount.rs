//! Money, prices and usage: integers with types, checked arithmetic, and the rounding direction in the name.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wayfare_identity::U256;

/// Bytes in a gibibyte, the unit of [`Price::per_gib`].
pub const GIB: u64 = 1 << 30;

/// An amount of the token in its smallest unit (18 decimals: 10^18 is one token).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(U256);

/// Why text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an amount: a decimal number of smallest units below 2^256 is expected")]
pub struct AmountError(String);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(U256::ZERO);
    /// The largest amount.
    pub const MAX: Self = Self(U256::MAX);

    /// From a number of smallest units.
    #[must_use]
    pub const fn new(units: U256) -> Self {
        Self(units)
    }

    /// From a number of smallest units that fits 128 bits.
    #[must_use]
    pub fn from_units(units: u128) -> Self {
        Self(U256::from(units))
    }

    /// The number of smallest units.
    #[must_use]
    pub const fn units(self) -> U256 {
        self.0
    }

    /// Whether this is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Sum, or `None` above 2^256.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Sum, at most [`Amount::MAX`].
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Difference, at least zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self · numerator / denominator`, rounded down; saturates at [`Amount::MAX`].
    ///
    /// A zero denominator yields [`Amount::MAX`]: callers pass constants.
    #[must_use]
    pub fn mul_div_down(self, numerator: u128, denominator: u128) -> Self {
        let product = self.0.widening_mul::<256, 4, 512, 8>(U256::from(numerator));
        let denominator = U256::from(denominator);
        if denominator.is_zero() {
            return Self::MAX;
        }
        let (low, high) = split(&product);
        if high.is_zero() {
            return Self(low / denominator);
        }
        // The product does not fit 256 bits: divide first, which rounds down by at most `numerator` units.
        Self((self.0 / denominator).saturating_mul(U256::from(numerator)))
    }

    /// `self · numerator / denominator`, rounded up; saturates at [`Amount::MAX`].
    #[must_use]
    pub fn mul_div_up(self, numerator: u128, denominator: u128) -> Self {
        let down = self.mul_div_down(numerator, denominator);
        let back = down
            .0
            .widening_mul::<256, 4, 512, 8>(U256::from(denominator));
        let product = self.0.widening_mul::<256, 4, 512, 8>(U256::from(numerator));
        if back < product {
            down.saturating_add(Self(U256::from(1)))
        } else {
            down
        }
    }
}

fn split(product: &wayfare_identity::U512) -> (U256, U256) {
    let limbs = product.as_limbs();
    let low = U256::from_limbs([limbs[0], limbs[1], limbs[2], limbs[3]]);
    let high = U256::from_limbs([limbs[4], limbs[5], limbs[6], limbs[7]]);
    (low, high)
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Amount({})", self.0)
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let bad = || AmountError(text.to_owned());
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        U256::from_str_radix(text, 10).map(Self).map_err(|_| bad())
    }
}

/// Readable formats carry a decimal string, binary formats the 32 bytes, big-endian.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.to_string())
        } else {
            self.0.to_be_bytes::<32>().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(|bytes| Self(U256::from_be_bytes(bytes)))
        }
    }
}

/// What a provider asks for: time and traffic are priced apart and added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Price {
    /// Units per hour of session time.
    pub per_hour: Amount,
    /// Units per gibibyte of inner IP packets, both directions together.
    pub per_gib: Amount,
}

impl Price {
    /// `hours · per_hour + GiB · per_gib`, each part rounded down, then added.
    #[must_use]
    pub fn cost_rounded_down(&self, usage: &Usage) -> Amount {
        let time = self
            .per_hour
            .mul_div_down(usage.time.as_millis(), 3_600_000);
        let traffic = self
            .per_gib
            .mul_div_down(u128::from(usage.bytes()), u128::from(GIB));
        time.saturating_add(traffic)
    }
}

/// What one side counted in one session. Cumulative, never reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Inner IP bytes from consumer to provider.
    pub up: u64,
    /// Inner IP bytes from provider to consumer.
    pub down: u64,
    /// Time since the session became active.
    pub time: Duration,
}

impl Usage {
    /// Both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.up.saturating_add(self.down)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_part_of_a_price_is_rounded_down_before_they_are_added() {
        let price = Price {
            per_hour: Amount::from_units(3_600_001),
            per_gib: Amount::from_units(3),
        };
        let usage = Usage {
            up: GIB / 2,
            down: 0,
            time: Duration::from_secs(1),
        };
        assert_eq!(
            price.cost_rounded_down(&usage),
            Amount::from_units(1_000 + 1)
        );
    }

    #[test]
    fn extremes_do_not_overflow() {
        let price = Price {
            per_hour: Amount::MAX,
            per_gib: Amount::MAX,
        };
        let usage = Usage {
            up: u64::MAX,
            down: u64::MAX,
            time: Duration::MAX,
        };
        assert_eq!(price.cost_rounded_down(&usage), Amount::MAX);
    }

    #[test]
    fn a_share_is_rounded_as_its_name_says() {
        for (units, down, up) in [
            (0, 0, 0),
            (1, 0, 1),
            (99, 0, 1),
            (100, 1, 1),
            (101, 1, 2),
            (250, 2, 3),
        ] {
            let amount = Amount::from_units(units);
            assert_eq!(
                amount.mul_div_down(1, 100),
                Amount::from_units(down),
                "{units}"
            );
            assert_eq!(amount.mul_div_up(1, 100), Amount::from_units(up), "{units}");
        }
        assert_eq!(Amount::MAX.mul_div_up(2, 1), Amount::MAX);
    }

    #[test]
    fn text_that_is_no_amount_is_refused() {
        for text in ["", "-1", "+1", "1.5", "0x10", " 1", "1e3", &"9".repeat(80)] {
            assert!(text.parse::<Amount>().is_err(), "{text:?}");
        }
        assert_eq!(
            "123456789012345678901"
                .parse::<Amount>()
                .unwrap()
                .to_string(),
            "123456789012345678901"
        );
    }
}
