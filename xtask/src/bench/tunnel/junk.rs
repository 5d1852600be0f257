//! An honest consumer's download while somebody else on the same switch sends junk to the provider.
//! Three times, one after the other: in peace; with the same junk sent to a host that swallows it,
//! which is what sender and switch cost on this one machine; and with the junk at the provider.
//! It refuses to call anything silent that sent the junk's sender a single packet.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::flood::Flood;
use super::latency::Echo;
use super::link::{LEFT, Link, RIGHT};
use super::memory::{self, Watch};
use super::pair::{PORT, Pair, Sides};
use super::program::Program;
use super::streams::{self, Server, Shape};
use crate::lab::{End, Lab, Namespace};

/// Who sends the junk.
const SENDER: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 3);

/// Who swallows it.
const HOLE: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 4);

const DOWN: Shape = Shape {
    streams: 1,
    reverse: true,
};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Junked {
    /// Goodput with the junk over that in peace.
    pub(super) goodput: f64,
    /// Goodput with the junk over that with the junk elsewhere.
    pub(super) beside_elsewhere: f64,
    /// Goodput in peace, in Gb/s.
    pub(super) peace: f64,
    /// Growth of the provider's memory, in bytes.
    pub(super) memory: f64,
    /// Packets from the provider to the junk's sender.
    pub(super) replies: f64,
    /// Junk a second, the lower of the two floods.
    pub(super) rate: f64,
}

/// A switch and four hosts.
#[derive(Debug)]
pub(super) struct Place {
    link: Link,
    sides: Sides,
    sender: Namespace,
}

impl Place {
    /// Builds it.
    ///
    /// # Errors
    /// When the kernel refuses a part.
    pub(super) fn build(lab: &Lab) -> anyhow::Result<Self> {
        let switch = lab.namespace("switch")?;
        switch.ip("link add bridge type bridge")?;
        switch.ip("link set bridge up")?;
        let plug = |name: &str, address: Ipv4Addr| {
            let host = lab.namespace(name)?;
            let port = format!("port-{name}");
            lab.cable(
                &End {
                    at: &switch,
                    interface: &port,
                    addresses: &[],
                },
                &End {
                    at: &host,
                    interface: "eth0",
                    addresses: &[&format!("{address}/24")],
                },
            )?;
            switch.ip(&format!("link set {port} master bridge"))?;
            // As a network card without receive offload: every datagram arrives by itself.
            if matches!(address, RIGHT | HOLE) {
                switch.ip(&format!("link set {port} gso_max_segs 1"))?;
            }
            anyhow::Ok(host)
        };
        let (left, right) = (plug("honest", LEFT)?, plug("server", RIGHT)?);
        let (sender, hole) = (plug("junk", SENDER)?, plug("hole", HOLE)?);
        sender.nft(&counter(RIGHT))?;
        hole.nft(SWALLOW)?;
        let link = Link { left, right };
        let sides = Sides::new(lab, &link, ["h", "s"])?;
        Ok(Self {
            link,
            sides,
            sender,
        })
    }

    /// One round, of `seconds` for each of the three.
    ///
    /// # Errors
    /// When anything does not come up or ends.
    pub(super) fn round(&self, lab: &Lab, ours: &Path, seconds: u64) -> anyhow::Result<Junked> {
        let (left, right) = (&self.link.left, &self.link.right);
        let _echo = Echo::start(right)?;
        let mut pair = Pair::start(Program::Wayfare, Some(ours), &self.sides, lab)?;
        let provider = *pair.processes().last().context("both ends run")?;
        let _server = Server::start(right, "iperf3-junk")?;
        let goodput = |pair: &mut Pair| {
            let stream = streams::run(left, pair.to, DOWN, seconds, &[]);
            pair.must_live()?;
            Ok::<_, anyhow::Error>(stream?.gbps)
        };
        let peace = goodput(&mut pair)?;
        let flood = Flood::begin(&self.sender, SocketAddrV4::new(HOLE, PORT))?;
        let elsewhere = goodput(&mut pair)?;
        let rate = flood.end()?;
        let (before, heard) = (memory::resident(provider)?, self.replies()?);
        let watch = Watch::begin(provider)?;
        let flood = Flood::begin(&self.sender, SocketAddrV4::new(RIGHT, PORT))?;
        let with_junk = goodput(&mut pair)?;
        let rate = flood.end()?.min(rate);
        let memory = watch.most().saturating_sub(before) as f64;
        let replies = (self.replies()? - heard) as f64;
        pair.stop()?;
        Ok(Junked {
            goodput: with_junk / peace,
            beside_elsewhere: with_junk / elsewhere,
            peace,
            memory,
            replies,
            rate,
        })
    }

    /// Packets that the provider sent to the junk's sender so far.
    fn replies(&self) -> anyhow::Result<u64> {
        let words = ["-j", "list", "counters", "table", "inet", "junk"];
        let told = self.sender.output("nft", &words)?;
        packets(&told).with_context(|| format!("nft tells no counter: {told}"))
    }
}

/// Counts what comes from `provider`, errors that its kernel sends included.
fn counter(provider: Ipv4Addr) -> String {
    format!(
        "table inet junk {{
            counter replies {{
            }}
            chain entering {{
                type filter hook prerouting priority -300
                ip saddr {provider} counter name \"replies\"
            }}
        }}\n"
    )
}

/// Before anything else looks at it, so that nothing answers; fragments too.
const SWALLOW: &str = "\
table inet hole {
    chain entering {
        type filter hook prerouting priority -300
        ip protocol udp drop
    }
}
";

fn packets(told: &str) -> Option<u64> {
    let told: Value = serde_json::from_str(told).ok()?;
    let mut counters = told["nftables"].as_array()?.iter();
    counters.find_map(|one| one["counter"]["packets"].as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_from_the_counter() {
        let told = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"counter": {"family": "inet", "name": "replies", "packets": 3, "bytes": 4200}}]}"#;
        assert_eq!(packets(told), Some(3));
        assert_eq!(packets(r#"{"nftables": []}"#), None);
    }
}
