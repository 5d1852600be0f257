//! What left where it should not, as `tcpdump` sees it on the consumer's uplink and in the
//! provider's own network. It refuses a count of nothing from an eye that has seen nothing before.

use std::time::Duration;

use anyhow::ensure;

use crate::demo::capture::Capture;
use crate::demo::network::{LAN, LAN_HOST, PORT, PROVIDER, UPLINK};
use crate::demo::stage::{Consumer, SOON, Stage};
use crate::lab::wait_for;
use crate::report::{Bar, Report};

use super::Connected;

/// A probe that must not be answered.
const PROBE: Duration = Duration::from_secs(2);

/// Captures on a consumer's uplink and on the provider's neighbour.
pub(super) struct Eyes {
    uplink: Capture,
    lan: Capture,
    /// Packets that the uplink's capture saw before the tunnel was up.
    control: usize,
}

impl Eyes {
    /// Opens them, before there is a tunnel.
    pub(super) fn open(stage: &Stage, consumer: &Consumer) -> anyhow::Result<Self> {
        let lan = Capture::start(&stage.network.lan, LAN, "ip or ip6")?;
        // Everything but the tunnel's own datagrams; ARP is no IP.
        let beside = format!("(ip or ip6) and not (udp and host {PROVIDER} and port {PORT})");
        let uplink = Capture::start(&consumer.party.at, UPLINK, &beside)?;
        Ok(Self {
            uplink,
            lan,
            control: 0,
        })
    }

    /// From now on nothing may pass beside the tunnel; until now something must have.
    pub(super) fn tunnel_is_up(&mut self) -> anyhow::Result<()> {
        self.control = self.uplink.packets()?.len();
        ensure!(
            self.control > 0,
            "the capture has not seen the packets before the tunnel"
        );
        Ok(())
    }

    /// Adds the check `off_tunnel_packets`.
    pub(super) fn judge_uplink(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let seen = self.uplink.packets()?;
        let beside = seen.get(self.control..).unwrap_or_default();
        let first: Vec<&str> = beside.iter().take(3).map(String::as_str).collect();
        let note = if first.is_empty() {
            format!(
                "the same capture saw {} before the tunnel was up",
                self.control
            )
        } else {
            first.join("; ")
        };
        let count = Some(beside.len() as f64);
        let bar = Bar::Exactly(0.0);
        report.number("off_tunnel_packets", count, "packets", &bar, &note);
        Ok(())
    }

    /// Tries to reach the provider's neighbour through the tunnel, by TCP and UDP; then shows that a
    /// packet would have been seen.
    pub(super) fn probe_lan(
        &mut self,
        stage: &Stage,
        connected: &Connected,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let seconds = PROBE.as_secs().to_string();
        let before = self.lan.packets()?.len();
        for scheme in ["http", "tftp"] {
            let url = format!("{scheme}://{LAN_HOST}/x");
            let args = ["-sS", "--max-time", &seconds, &url];
            let said = connected.consumer.party.at.capture("curl", &args, SOON)?;
            ensure!(
                !said.status.success(),
                "the provider's neighbour answers a consumer"
            );
        }
        let reached = self.lan.packets()?.len() - before;
        let url = format!("http://{LAN_HOST}/x");
        stage
            .network
            .provider
            .capture("curl", &["-sS", "--max-time", &seconds, &url], SOON)?;
        let control = wait_for("the capture to see the provider itself", SOON, || {
            let seen = self.lan.packets()?.len() - before - reached;
            Ok((seen > 0).then_some(seen))
        })?;
        let note = format!("TCP and UDP to {LAN_HOST}; the provider itself made {control} there");
        report.number(
            "lan_packets",
            Some(reached as f64),
            "packets",
            &Bar::Exactly(0.0),
            &note,
        );
        Ok(())
    }
}
