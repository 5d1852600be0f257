//! Two namespaces and the cable between them, and sockets of this very process inside them. It
//! refuses to tune the cable: it is what the kernel gives, the same for every program.

use std::net::Ipv4Addr;
use std::thread;

use anyhow::{Context as _, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::lab::{End, Lab, Namespace};

/// The clients' end of the cable.
pub(super) const LEFT: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);

/// The servers' end of the cable.
pub(super) const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 2);

/// The clients' address inside a tunnel.
pub(super) const LEFT_INNER: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);

/// The servers' address inside a tunnel.
pub(super) const RIGHT_INNER: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 2);

/// What a Debian machine uses unless told otherwise. A machine may have another default, which
/// would make two reports differ for a reason that is none of the programs'.
const CONGESTION: &str = "cubic";

/// The two computers of the bench.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Where clients run.
    pub(crate) left: Namespace,
    /// Where servers run.
    pub(crate) right: Namespace,
}

impl Link {
    /// Builds and cables them.
    ///
    /// # Errors
    /// When the kernel refuses a part.
    pub(super) fn build(lab: &Lab) -> anyhow::Result<Self> {
        Self::named(lab, ["left", "right"])
    }

    /// As [`Link::build`], with these names for the left and the right one.
    ///
    /// # Errors
    /// When the kernel refuses a part.
    pub(crate) fn named(lab: &Lab, [left, right]: [&str; 2]) -> anyhow::Result<Self> {
        let left = lab.namespace(left)?;
        let right = lab.namespace(right)?;
        let end = |at, address: Ipv4Addr| (at, format!("{address}/24"));
        let (a, b) = (end(&left, LEFT), end(&right, RIGHT));
        lab.cable(
            &End {
                at: a.0,
                interface: "eth0",
                addresses: &[&a.1],
            },
            &End {
                at: b.0,
                interface: "eth0",
                addresses: &[&b.1],
            },
        )?;
        for (at, address) in [(&left, LEFT), (&right, RIGHT)] {
            at.ip(&way(address, "eth0")?)?;
        }
        Ok(Self { left, right })
    }
}

/// What `ip` is told so that streams to the /24 of `address` behind `device` are born with
/// [`congestion`]. A stream that a program changes later keeps the pacing of what it was born with.
///
/// # Errors
/// As [`congestion`].
pub(super) fn way(address: Ipv4Addr, device: &str) -> anyhow::Result<String> {
    let [a, b, c, _] = address.octets();
    let congestion = congestion()?;
    Ok(format!(
        "route change {a}.{b}.{c}.0/24 dev {device} proto kernel scope link src {address} \
         congctl {congestion}"
    ))
}

/// The congestion control of every stream: [`CONGESTION`] where the kernel has it, else its own
/// choice. It is asked for by routes and by each stream, as a namespace may not change its default.
///
/// # Errors
/// When the kernel does not tell what it has.
pub(crate) fn congestion() -> anyhow::Result<String> {
    let ask = |what: &str| {
        let path = format!("/proc/sys/net/ipv4/{what}");
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    };
    let known = ask("tcp_available_congestion_control")?;
    if known.split_whitespace().any(|name| name == CONGESTION) {
        return Ok(CONGESTION.to_owned());
    }
    Ok(ask("tcp_congestion_control")?.trim().to_owned())
}

/// Runs `work` in a thread of its own inside the namespace. A socket made there stays there,
/// whichever thread uses it afterwards.
///
/// # Errors
/// When the namespace cannot be entered, or those of `work`.
pub(crate) fn inside<T: Send>(
    namespace: &Namespace,
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let path = format!("/run/netns/{}", namespace.name());
    let door = std::fs::File::open(&path).with_context(|| format!("cannot open {path}"))?;
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            setns(&door, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter {}", namespace.name()))?;
            work()
        });
        let ended = entered.join();
        ended.map_err(|_| anyhow!("a thread inside {} panicked", namespace.name()))?
    })
}
