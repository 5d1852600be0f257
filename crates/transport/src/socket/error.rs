//! Why the shared socket could not be opened, in words an operator can act on.

use std::io;
use std::net::SocketAddr;

/// The shared socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket has the port.
    #[error(
        "UDP port {} on {} is already in use by another program; stop it (see `ss -ulpn`) or choose another port", addr.port(), addr.ip()
    )]
    PortInUse {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The address is not one of this computer's.
    #[error("{} is not an address of this computer; use one listed by `ip address`, or [::] for all", addr.ip())]
    NotOurAddress {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An IPv6 address was asked for and the system has no IPv6.
    #[error("cannot open {addr}: IPv6 is off on this computer; use [::], which is 0.0.0.0 then")]
    NoIpv6 {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The process may not do that.
    #[error("not allowed to {step} the UDP socket {addr}: {need}")]
    Permission {
        /// The address asked for.
        addr: SocketAddr,
        /// The step that was refused.
        step: &'static str,
        /// The privilege that is missing.
        need: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Anything else the system refused.
    #[error("cannot {step} the UDP socket {addr}: {source}")]
    Os {
        /// The address asked for.
        addr: SocketAddr,
        /// The step that failed.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The caller is not inside a tokio runtime.
    #[error("a shared socket must be opened inside a tokio runtime")]
    NoRuntime,
}

impl BindError {
    pub(crate) fn os(addr: SocketAddr, step: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::PortInUse { addr, source },
            Some(libc::EADDRNOTAVAIL) => Self::NotOurAddress { addr, source },
            Some(libc::EAFNOSUPPORT) if addr.is_ipv6() => Self::NoIpv6 { addr, source },
            Some(libc::EACCES | libc::EPERM) => {
                let need = if step == "mark" {
                    "a firewall mark needs CAP_NET_ADMIN; run as root or drop the mark"
                } else {
                    "ports below 1024 need CAP_NET_BIND_SERVICE; run as root or choose a higher port"
                };
                Self::Permission {
                    addr,
                    step,
                    need,
                    source,
                }
            }
            _ => Self::Os { addr, step, source },
        }
    }
}
