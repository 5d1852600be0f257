//! Asks, before anything is touched, whether this process may administer the network.
//!
//! Refuses to acquire privileges: it only reads what the kernel says about the calling thread.

use crate::HostError;

/// Bit of `CAP_NET_ADMIN` in a capability set (`linux/capability.h`).
const CAP_NET_ADMIN: u32 = 12;

/// Fails with [`HostError::MissingPrivilege`] when the thread lacks `CAP_NET_ADMIN`.
pub(crate) fn check_net_admin(action: &str) -> Result<(), HostError> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    match effective(&status) {
        // An unreadable /proc decides nothing: the kernel will refuse by itself.
        None => Ok(()),
        Some(set) if set & (1 << CAP_NET_ADMIN) != 0 => Ok(()),
        Some(_) => Err(HostError::MissingPrivilege {
            action: action.to_owned(),
        }),
    }
}

/// Whether this thread may administer the network (`CAP_NET_ADMIN`), for a doctor to tell.
#[must_use]
pub fn may_change_network() -> bool {
    check_net_admin("look").is_ok()
}

fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read() {
        assert_eq!(
            effective("Name:\tx\nCapEff:\t0000000000001000\n"),
            Some(1 << CAP_NET_ADMIN)
        );
        assert_eq!(effective("Name:\tx\n"), None);
    }
}
