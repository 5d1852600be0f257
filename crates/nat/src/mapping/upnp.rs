//! UPnP-IGD: the router found on its own network, and mappings asked of it in XML (UPnP WANIPConnection:1). It refuses every box
//! that is not our gateway: what another one forwards never reaches us.

mod http;
pub(super) mod search;
pub(super) mod soap;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use self::soap::{Fault, Service};
use super::gateway::Inside;
use super::{Granted, Refusal};

/// What the router's pages show.
const NAME: &str = "Wayfare";
/// Ports that are asked for beside the wished one, when others have it: three of 64,512 are hardly all taken.
const OTHER_PORTS: u16 = 3;

/// Somebody else has that port (ConflictInMappingEntry, ConflictWithOtherMechanisms).
const TAKEN: [u16; 2] = [718, 729];
/// Only mappings without an end are known here (OnlyPermanentLeasesSupported); some say that the arguments are invalid.
const NO_LEASES: [u16; 2] = [725, 402];

/// A gateway that has answered.
#[derive(Debug, Clone)]
pub(super) struct Upnp {
    inside: Inside,
    at: SocketAddrV4,
    service: Service,
    pub(super) external: Ipv4Addr,
}

impl Upnp {
    /// Searches, and reads what the box says about itself.
    pub(super) async fn find(inside: Inside) -> Result<Self, Refusal> {
        let page = search::search(inside).await?;
        let description = http::get(inside, page.at, &page.path).await?;
        let service = Service::in_description(&description, inside.gateway)
            .ok_or_else(|| Refusal::Refused("it connects nothing".into()))?;
        let at = SocketAddrV4::new(inside.gateway, service.port.unwrap_or(page.at.port()));
        let mut upnp = Self {
            inside,
            at,
            service,
            external: Ipv4Addr::UNSPECIFIED,
        };
        upnp.external = upnp.look().await?;
        Ok(upnp)
    }

    /// Asks for a mapping of our `port`, outside `wished` if that is free.
    pub(super) async fn map(
        &mut self,
        port: u16,
        wished: u16,
        lifetime: Duration,
    ) -> Result<Granted, Refusal> {
        let local = SocketAddrV4::new(self.inside.local, port);
        let mut lease = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        self.external = self.look().await?;
        let others = (1..=OTHER_PORTS).map(|step| another(wished, step));
        let mut ports = std::iter::once(wished).chain(others);
        let mut port = wished;
        loop {
            let arguments = soap::mapping(local, port, lease, NAME);
            match self.act("AddPortMapping", &arguments).await {
                Ok(_) => break,
                Err(Fault::Code(code, _)) if NO_LEASES.contains(&code) && lease != 0 => lease = 0,
                Err(Fault::Code(code, why)) if TAKEN.contains(&code) => {
                    let next = ports.find(|next| *next != port);
                    port = next.ok_or(Refusal::Refused(why))?;
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(Granted {
            external: SocketAddrV4::new(self.external, port),
            lifetime,
            epoch: None,
        })
    }

    /// Gives a mapping back.
    pub(super) async fn remove(&self, port: u16) -> Result<(), Refusal> {
        self.act("DeletePortMapping", &soap::mapping_of(port))
            .await?;
        Ok(())
    }

    /// The address outside.
    async fn look(&self) -> Result<Ipv4Addr, Refusal> {
        let said = self.act("GetExternalIPAddress", "").await?;
        // Not connected yet, some say nothing.
        said.ok_or_else(|| Refusal::Refused("it has no IPv4 outside".into()))
    }

    /// Lets the box act; the address outside, if it is told.
    async fn act(&self, action: &str, arguments: &str) -> Result<Option<Ipv4Addr>, Fault> {
        let call = http::Call {
            path: &self.service.path,
            action: format!("\"{}#{action}\"", self.service.kind),
            body: self.service.envelope(action, arguments),
        };
        let (well, body) = http::post(self.inside, self.at, call)
            .await
            .map_err(Fault::Other)?;
        soap::read(well, &body)
    }
}

/// Another port than the wished one, the same at each try so that a restart finds its own mapping: 7,919 is prime to the range.
fn another(wished: u16, step: u16) -> u16 {
    const FIRST: u32 = 1_024;
    let range = u32::from(u16::MAX) + 1 - FIRST;
    let port = FIRST + (u32::from(wished) + u32::from(step) * 7_919) % range;
    u16::try_from(port).expect("below the range's end by its remainder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_ports_are_other_ports() {
        for wished in [1, 1_024, 51_820, u16::MAX] {
            let mut all: Vec<u16> = (1..=OTHER_PORTS)
                .map(|step| another(wished, step))
                .collect();
            assert!(all.iter().all(|port| *port >= 1_024));
            all.push(wished);
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 1 + usize::from(OTHER_PORTS), "{wished}");
        }
    }
}
