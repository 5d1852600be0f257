//! What the router says in each language, for a person who asks. It refuses to map anything.

use std::fmt;
use std::net::Ipv4Addr;

use super::gateway::{self, Inside};
use super::speaker::Speaker;
use super::{Protocol, Refusal};

/// What the default gateway said.
#[derive(Debug, Clone)]
pub struct RouterAnswers {
    /// For each language, the address outside if it tells.
    pub said: Vec<(Protocol, Result<Option<Ipv4Addr>, Refusal>)>,
}

impl RouterAnswers {
    /// Asks the default gateway in all languages, and maps nothing. Takes four seconds at most where one is silent.
    pub async fn ask() -> Self {
        let Some(inside) = Inside::look(None).await else {
            return Self { said: Vec::new() };
        };
        let ask = |protocol| async move {
            let found = Speaker::find(protocol, inside).await;
            let external = found.map(|speaker| speaker.external());
            let checked = external.and_then(|ip| match ip {
                Some(ip) if !gateway::is_public(ip) => Err(Refusal::NotPublic(ip)),
                Some(_) | None => Ok(ip),
            });
            (protocol, checked)
        };
        let said = futures::future::join_all(Protocol::ALL.map(ask)).await;
        Self { said }
    }

    /// Whether a mapping may be had.
    #[must_use]
    pub fn forwards(&self) -> bool {
        let nat_stands = |said: &Result<_, Refusal>| matches!(said, Err(Refusal::NotPublic(_)));
        self.said.iter().any(|(_, said)| said.is_ok())
            && !self.said.iter().any(|(_, s)| nat_stands(s))
    }
}

impl fmt::Display for RouterAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.said.is_empty() {
            return f.write_str("there is no router: no default route of IPv4");
        }
        for (at, (protocol, said)) in self.said.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match said {
                Ok(_) => write!(f, "{comma}{protocol} yes")?,
                Err(refusal) => write!(f, "{comma}{protocol} no ({refusal})")?,
            }
        }
        Ok(())
    }
}
