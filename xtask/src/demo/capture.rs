//! What passes an interface, seen by `tcpdump`: an eye that is not the product's own. It refuses
//! to look before it is listening: a capture that began too late would prove nothing.

use std::time::Duration;

use crate::lab::{Background, Namespace, wait_for};

/// `tcpdump` opens its socket within a second even under load.
const READY: Duration = Duration::from_secs(20);

/// A running capture; one line of its log per packet.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Background,
}

impl Capture {
    /// Begins to watch `interface` for packets that `filter` (of pcap-filter) matches.
    ///
    /// # Errors
    /// When tcpdump does not come to listen.
    pub fn start(at: &Namespace, interface: &str, filter: &str) -> anyhow::Result<Self> {
        let log = format!("capture-{}", at.name());
        let args = [
            "-i",
            interface,
            "-n",
            "-l",
            "-q",
            "-Z",
            "root",
            "--immediate-mode",
            filter,
        ];
        let mut tcpdump = at.spawn(&log, "tcpdump", args)?;
        wait_for("tcpdump to listen", READY, || {
            tcpdump.must_live()?;
            Ok(tcpdump.said().contains("listening on").then_some(()))
        })?;
        Ok(Self { tcpdump })
    }

    /// The packets so far, one line each, beginning with the time of day.
    ///
    /// # Errors
    /// When tcpdump is no more: it would see nothing for the wrong reason.
    pub fn packets(&mut self) -> anyhow::Result<Vec<String>> {
        self.tcpdump.must_live()?;
        Ok(packets(&self.tcpdump.said()))
    }
}

fn packets(said: &str) -> Vec<String> {
    let whole = said.rfind('\n').map_or("", |end| &said[..end]);
    let lines = whole.lines();
    let begins_with_time = |line: &&str| {
        let hour = line.split(':').next().unwrap_or_default();
        hour.len() == 2 && hour.bytes().all(|byte| byte.is_ascii_digit())
    };
    lines.filter(begins_with_time).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_a_whole_line_that_begins_with_its_time() {
        let said = "tcpdump: verbose output suppressed\n\
            listening on eth0, link-type EN10MB\n\
            12:00:01.5 IP 11.0.2.2.7 > 11.0.0.1.80: tcp 0\n\
            12:00:02.5 IP6 fe80::1 > ff02::2: ICMP6\n\
            12:00:03.5 IP 11.0";
        assert_eq!(packets(said).len(), 2);
    }
}
