//! Everything that the laboratory knows of the product's command line, settings and answers. It
//! refuses to guess: what a program does not tell is told as not told.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::demo::json;
use crate::demo::party::{Daemon, Party};
use crate::demo::programs::Programs;
use crate::lab::Namespace;
use crate::process::{SHORT, capture, command};

use super::kind::Kind;
use super::world::{Home, RELAYS, RELAYS6};

/// The provider's UDP port, its preset.
pub const PORT: u16 = 51_820;

/// The relays' port, UDP and TCP: the one that every network lets out.
const RELAY_PORT: u16 = 443;

/// For a relay to listen.
const UP: std::time::Duration = std::time::Duration::from_secs(20);

/// Connects, and stays so until it is interrupted.
pub const CONNECT: &[&str] = &["up", "--country", "NL"];

/// Tells how the running session stands.
pub const STATUS: &[&str] = &["status"];

/// Sells.
pub const SELL: &[&str] = &["run"];

/// The way that a session's packets take, as the consumer tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Whether nobody is in between.
    pub direct: bool,
    /// `udp`, `quic` or `tls`.
    pub carrier: String,
}

/// The route in an answer to [`STATUS`]: `"path": {"kind": "direct" | "relayed", "carrier": …}`, of
/// the answer or of its first session.
pub fn route(status: &Value) -> Option<Route> {
    let sessions = status["sessions"].as_array();
    let inner = sessions
        .and_then(|all| all.first())
        .map(|first| &first["path"]);
    let path = [Some(&status["path"]), inner]
        .into_iter()
        .flatten()
        .find(|it| it.is_object())?;
    let direct = match path["kind"].as_str()? {
        "direct" => true,
        "relayed" => false,
        _ => return None,
    };
    let carrier = path["carrier"].as_str().unwrap_or("untold").to_owned();
    Some(Route { direct, carrier })
}

/// The relays' entries in the settings of every provider, by their node ids: in both families, as
/// whoever wants to reach it may have either, IPv4 first.
fn entries(nodes: &[String]) -> Vec<String> {
    let of_node = |relays: [&str; 2]| {
        let each = nodes.iter().zip(relays.map(of_relay));
        each.map(|(node, at)| format!("{node}@{at}"))
            .collect::<Vec<_>>()
    };
    [of_node(RELAYS), of_node(RELAYS6)].concat()
}

fn of_relay(address: &str) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{RELAY_PORT}"),
        false => format!("{address}:{RELAY_PORT}"),
    }
}

/// What a provider in this home is told beside what every provider is. Where it listens is the
/// preset's matter.
pub fn provider_settings(
    home: &Home,
    kind: &Kind,
    relays: Option<&Relays>,
) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if let Some(address) = home.outside.filter(|_| kind.layers.is_empty()) {
        settings.push(("advertise", format!("{address}:{PORT}")));
    }
    if let Some(relays) = relays {
        settings.push(("relays", entries(&relays.nodes).join(",")));
    }
    settings
}

/// Running relays.
#[derive(Debug)]
pub struct Relays {
    nodes: Vec<String>,
    parties: Vec<Party>,
    running: Vec<Daemon>,
}

impl Relays {
    /// Starts one at each place, listening in both families. None where the programs know no relays.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(
        at: &[Namespace; 2],
        programs: &Programs,
        folder: &Path,
    ) -> anyhow::Result<Option<Self>> {
        let program = programs.provider();
        let help = capture(
            &mut command(&program.to_string_lossy(), ["relay", "--help"]),
            SHORT,
        )?;
        if !help.status.success() {
            return Ok(None);
        }
        let mut relays = Self {
            nodes: Vec::new(),
            parties: Vec::new(),
            running: Vec::new(),
        };
        for (number, at) in at.iter().enumerate() {
            let mut relay = Party::new(&format!("relay{number}"), at, program.clone(), folder)?;
            let listen = format!("[::]:{RELAY_PORT}");
            let advertise = [RELAYS[number], RELAYS6[number]].map(of_relay).join(",");
            relay.set(&[("listen", &listen), ("advertise", &advertise)])?;
            let (node, running) = carry(&relay)?;
            relays.nodes.push(node);
            relays.parties.push(relay);
            relays.running.push(running);
        }
        Ok(Some(relays))
    }

    /// `kill -9` for one of them.
    ///
    /// # Errors
    /// When it does not end.
    pub fn crash(&mut self, number: usize) -> anyhow::Result<()> {
        let running = self.running.get_mut(number);
        running.context("there is no such relay")?.crash()
    }

    /// Starts one anew that was killed.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn revive(&mut self, number: usize) -> anyhow::Result<()> {
        let party = self.parties.get(number).context("there is no such relay")?;
        (_, self.running[number]) = carry(party)?;
        Ok(())
    }

    /// An error once one is no more.
    ///
    /// # Errors
    /// As said.
    pub fn must_live(&mut self) -> anyhow::Result<()> {
        self.running.iter_mut().try_for_each(Daemon::must_live)
    }
}

/// Starts a relay; its node id, once it relays.
fn carry(relay: &Party) -> anyhow::Result<(String, Daemon)> {
    let mut running = relay.start(&["relay"])?;
    let told = running.wait_for("relaying", UP)?;
    let entry = json::text(&told, "relay")?;
    let (node, _) = entry
        .split_once('@')
        .context("a relay is NODE@ADDRESS:PORT")?;
    Ok((node.to_owned(), running))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn routes_are_read_where_they_are_told() {
        let direct = json!({"path": {"kind": "direct", "carrier": "udp"}});
        assert!(route(&direct).unwrap().direct);
        let relayed = json!({"sessions": [{"path": {"kind": "relayed", "carrier": "tls"}}]});
        let relayed = route(&relayed).unwrap();
        assert!(!relayed.direct && relayed.carrier == "tls");
        for untold in [
            json!({}),
            json!({"sessions": 1}),
            json!({"path": {"kind": "odd"}}),
        ] {
            assert_eq!(route(&untold), None);
        }
    }

    #[test]
    fn relays_are_named_by_node_and_place() {
        let nodes = ["m", "n"].map(str::to_owned);
        let four = ["m@11.8.0.2:443", "n@11.7.0.2:443"];
        let six = ["m@[2a11:8::2]:443", "n@[2a11:7::2]:443"];
        assert_eq!(entries(&nodes), [four, six].concat());
    }
}
