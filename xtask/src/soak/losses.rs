//! Where the kernel drops what a program did not take in time: the queue of its device and that
//! of its socket. It refuses to say anything of what a program itself dropped.

use anyhow::Context as _;

use crate::bench::tunnel::pair::Side;

/// What the kernel dropped at one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Inner packets, before the program: the queue of the device was full.
    pub(super) device: u64,
    /// Outer datagrams, before the program, and inner ones, before the receiver of the soak: the
    /// queue of a socket was full.
    pub(super) socket: u64,
}

impl Losses {
    /// Those at `side` so far.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(super) fn at(side: &Side) -> anyhow::Result<Self> {
        let file = format!("/sys/class/net/{}/statistics/tx_dropped", side.interface);
        let device = side.at.output("cat", &[&file])?;
        let snmp = side.at.output("cat", &["/proc/net/snmp"])?;
        let socket = column(&snmp, "Udp", "RcvbufErrors");
        Ok(Self {
            device: device.trim().parse().context("tx_dropped is no number")?,
            socket: socket.context("/proc/net/snmp has another form")?,
        })
    }
}

/// A number of `/proc/net/snmp`: a line of names, and a line of numbers below it.
fn column(snmp: &str, protocol: &str, name: &str) -> Option<u64> {
    let prefix = format!("{protocol}: ");
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix(&prefix));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|one| one == name)?;
    numbers.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_below_its_name() {
        let snmp = "Tcp: A RcvbufErrors\nTcp: 1 2\nUdp: In RcvbufErrors\nUdp: 7 5\n\
                    UdpLite: In RcvbufErrors\nUdpLite: 0 9\n";
        assert_eq!(column(snmp, "Udp", "RcvbufErrors"), Some(5));
        assert_eq!(column(snmp, "Udp", "Out"), None);
        assert_eq!(column("", "Udp", "In"), None);
    }
}
