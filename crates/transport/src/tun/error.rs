//! Why there is no TUN device, in words an operator can act on.

use std::io;

/// A TUN device could not be made or adopted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunError {
    /// Creating network devices is privileged.
    #[error(
        "cannot {step} the TUN device {name:?}: needs CAP_NET_ADMIN; run as root or give the program the capability (`setcap cap_net_admin+ep PROGRAM`)"
    )]
    Privilege {
        /// The step that was refused.
        step: &'static str,
        /// The device asked for.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel's door to TUN devices is missing.
    #[error(
        "/dev/net/tun is missing or dead ({source}); load the driver (`modprobe tun`), and in a container pass the device in (`--device /dev/net/tun`)"
    )]
    NoDriver {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another program has a device of that name, or it is not a TUN device.
    #[error(
        "the interface name {name:?} is taken by another program or another kind of interface; stop it (see `ip link`) or choose another name"
    )]
    NameTaken {
        /// The device asked for.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not a name the kernel takes.
    #[error(
        "{name:?} is no interface name: 1 to 15 printable characters without '/', ':' or blanks, with at most one %d"
    )]
    BadName {
        /// The device asked for.
        name: String,
    },
    /// Not an MTU a TUN device takes.
    #[error(
        "an MTU of {mtu} is impossible for a TUN device: 576 to 65,535 (1,280 at least with IPv6)"
    )]
    BadMtu {
        /// The MTU asked for, bytes.
        mtu: usize,
    },
    /// The descriptor handed over is something else.
    #[error("the file descriptor is not a TUN device of bare IP packets: {why}")]
    NotATun {
        /// What it is.
        why: String,
    },
    /// The device was made for one queue.
    #[error("the TUN device {name:?} was made with one queue; make it with more")]
    OneQueue {
        /// The device.
        name: String,
    },
    /// Anything else the system refused.
    #[error("cannot {step} the TUN device {name:?}: {source}")]
    Os {
        /// The step that failed.
        step: &'static str,
        /// The device asked for.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The caller is not inside a tokio runtime.
    #[error("a TUN device must be opened inside a tokio runtime")]
    NoRuntime,
}

impl TunError {
    pub(super) fn os(step: &'static str, name: &str, source: io::Error) -> Self {
        let name = name.to_owned();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Privilege { step, name, source },
            // EINVAL to the request for a well-formed name: an interface of another kind has it.
            Some(libc::EBUSY | libc::EEXIST | libc::EINVAL) if step == "create" => {
                Self::NameTaken { name, source }
            }
            _ => Self::Os { step, name, source },
        }
    }
}
