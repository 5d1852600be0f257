//! A steady stream through the tunnel that survives what happens to it, and a meter of it that is
//! not the product's: a counter in the consumer's kernel. It refuses to count what did not pass
//! the tunnel's device. Packets that the kernel or the tunnel has put together are one to it, with
//! the headers of one, so it tells at least what was carried.

use anyhow::Context as _;
use serde_json::Value;

use crate::demo::network::SERVICES;
use crate::lab::{Background, Namespace};

/// The stream and its meter.
#[derive(Debug)]
pub(super) struct Traffic {
    at: Namespace,
    stream: Background,
}

/// Bytes of inner IP packets, both directions, over all lives of the device.
const METER: &str = "\
table inet stream {
    counter passed {
    }
    chain entering {
        type filter hook input priority 300
        iifname \"wayfare0\" counter name \"passed\"
    }
    chain leaving {
        type filter hook postrouting priority 300
        oifname \"wayfare0\" counter name \"passed\"
    }
}
";

impl Traffic {
    /// Begins to stream, 4 MB/s, again and again.
    pub(super) fn start(at: &Namespace) -> anyhow::Result<Self> {
        at.nft(METER)?;
        let url = format!("http://{SERVICES}/endless");
        // Short fetches: one that a kill has orphaned must not be waited for by the next.
        let script = format!(
            "while :; do curl -s -o /dev/null --connect-timeout 1 --max-time 2 \
             --limit-rate 4M {url}; sleep 0.05; done"
        );
        let stream = at.spawn("stream", "sh", ["-c", &script])?;
        Ok(Self {
            at: at.clone(),
            stream,
        })
    }

    pub(super) fn must_live(&mut self) -> anyhow::Result<()> {
        self.stream.must_live()
    }

    /// Ends the stream and answers how many bytes passed; the meter is gone afterwards.
    pub(super) fn end(&mut self) -> anyhow::Result<u64> {
        self.stream.signal(nix::sys::signal::Signal::SIGKILL)?;
        let told = self.at.output(
            "nft",
            &["-j", "list", "counters", "table", "inet", "stream"],
        )?;
        self.at
            .output("nft", &["delete", "table", "inet", "stream"])?;
        bytes(&told).with_context(|| format!("nft tells no counter: {told}"))
    }
}

fn bytes(told: &str) -> Option<u64> {
    let told: Value = serde_json::from_str(told).ok()?;
    let mut counters = told["nftables"].as_array()?.iter();
    counters.find_map(|one| one["counter"]["bytes"].as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_in_what_nft_tells() {
        let told = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"counter": {"family": "inet", "name": "used", "packets": 3, "bytes": 4200}}]}"#;
        assert_eq!(bytes(told), Some(4_200));
        assert_eq!(bytes(r#"{"nftables": []}"#), None);
    }
}
