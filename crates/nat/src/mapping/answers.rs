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

    /// Whether a mapping may be had: somebody tells a public address, or nobody tells of an obstacle. PCP tells of one only when
    /// it maps.
    #[must_use]
    pub fn forwards(&self) -> bool {
        let mut said = self.said.iter().map(|(_, said)| said);
        let (mut speaks, mut obstacle) = (false, false);
        let public = said.any(|said| {
            match said {
                Ok(None) => speaks = true,
                Ok(Some(_)) => return true,
                Err(Refusal::Refused(_) | Refusal::NotPublic(_)) => obstacle = true,
                Err(Refusal::Silent | Refusal::OtherVersion) => {}
            }
            false
        });
        public || (speaks && !obstacle)
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
