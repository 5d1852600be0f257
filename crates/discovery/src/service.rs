//! Kinds of service: an open set of short tokens. It refuses to know what they do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest token.
const MAX_LENGTH: usize = 32;

/// A kind of service, for example `vpn`: lower-case letters, digits and single hyphens, beginning with a letter, at most 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceType(String);

/// Not a kind of service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a kind of service is 1 to 32 lower-case letters, digits and hyphens and begins with a letter, for example vpn"
)]
pub struct ServiceTypeError;

impl ServiceType {
    /// All traffic of a device, by tunnel.
    #[must_use]
    pub fn vpn() -> Self {
        Self("vpn".to_owned())
    }

    /// The token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What both service types and capabilities are made of.
pub(crate) fn is_token(text: &str) -> bool {
    text.len() <= MAX_LENGTH
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && !text.contains("--")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

impl TryFrom<String> for ServiceType {
    type Error = ServiceTypeError;

    fn try_from(text: String) -> Result<Self, ServiceTypeError> {
        if is_token(&text) {
            Ok(Self(text))
        } else {
            Err(ServiceTypeError)
        }
    }
}

impl FromStr for ServiceType {
    type Err = ServiceTypeError;

    fn from_str(text: &str) -> Result<Self, ServiceTypeError> {
        text.to_owned().try_into()
    }
}

impl From<ServiceType> for String {
    fn from(service: ServiceType) -> Self {
        service.0
    }
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for good in ["vpn", "v", "data-transfer", "proxy2", &"x".repeat(32)] {
            assert!(good.parse::<ServiceType>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "VPN",
            "2vpn",
            "-vpn",
            "vpn-",
            "a--b",
            "v p",
            "v\0",
            "ü",
            &"x".repeat(33),
        ] {
            assert!(bad.parse::<ServiceType>().is_err(), "{bad:?}");
        }
    }
}
