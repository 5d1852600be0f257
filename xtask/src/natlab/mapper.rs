//! A box that gives out ports for the asking: `miniupnpd`, with UPnP-IGD, NAT-PMP and PCP. It
//! refuses to share anything with another box: identity, lease file and log are its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::lab::{Background, Namespace};
use crate::process::GRACE;

/// A running port mapper.
#[derive(Debug)]
pub(super) struct Mapper {
    running: Option<Background>,
    at: Namespace,
    lan: Ipv4Addr,
    folder: PathBuf,
}

impl Mapper {
    /// One that is to run on a box whose inside is not cabled yet.
    pub(super) fn new(at: &Namespace, lan: Ipv4Addr, folder: &Path) -> Self {
        Self {
            running: None,
            at: at.clone(),
            lan,
            folder: folder.to_owned(),
        }
    }

    /// Starts it: both interfaces are there now.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let name = format!("{}-upnp", self.at.name());
        let file = self.folder.join(format!("{name}.conf"));
        let leases = self.folder.join(format!("{name}.leases"));
        let text = settings(self.lan, &leases);
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let file = file.to_string_lossy();
        let pid = self.folder.join(format!("{name}.pid"));
        let pid = pid.to_string_lossy();
        let args = ["-d", "-f", &*file, "-P", &*pid];
        self.running = Some(self.at.spawn(&name, "miniupnpd", args)?);
        Ok(())
    }

    /// An error once it is no more.
    ///
    /// # Errors
    /// As said.
    pub(super) fn must_live(&mut self) -> anyhow::Result<()> {
        match &mut self.running {
            Some(running) => running.must_live(),
            None => Ok(()),
        }
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Its end is the lab's concern if it does not obey.
            let _ = running.stop(GRACE);
        }
    }
}

fn settings(lan: Ipv4Addr, leases: &Path) -> String {
    let octets = lan.octets();
    let uuid = format!(
        "00000000-0000-4000-8000-0000{:02x}{:02x}{:02x}{:02x}",
        octets[0], octets[1], octets[2], octets[3]
    );
    format!(
        "ext_ifname=wan\nlistening_ip=lan\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\n\
         system_uptime=yes\nnotify_interval=60\nuuid={uuid}\nlease_file={}\n\
         upnp_table_name=fw\nupnp_nat_table_name=nat\nupnp_forward_chain=upnp_forward\n\
         upnp_nat_chain=upnp_pre\nupnp_nat_postrouting_chain=upnp_post\n\
         allow 1024-65535 0.0.0.0/0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
        leases.display()
    )
}
