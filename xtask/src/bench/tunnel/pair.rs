//! One program at both ends of the cable: started, configured, answering, and gone with its guard.
//! It refuses to mix programs, and to be told ready by anything but a datagram that came back.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::latency;
use super::link::{self, LEFT, LEFT_INNER, Link, RIGHT, RIGHT_INNER};
use super::program::Program;
use crate::lab::{Background, Lab, Namespace, wait_for};
use crate::process::{GRACE, SHORT, command, output};

/// For a program to make its device, and for the first handshake.
const PATIENCE: Duration = Duration::from_secs(20);

/// The inner MTU: 1,500 less what WireGuard adds at most (60 over IPv4, 80 over IPv6).
pub(super) const MTU: &str = "1420";

/// Where WireGuard programs that are configured by `wg` listen for it.
const SOCKETS: &str = "/var/run/wireguard";

/// One end: where it is and what it is called.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub(crate) at: Namespace,
    /// Of the device; unique on the machine, as [`SOCKETS`] is one folder for all namespaces.
    pub(crate) interface: String,
    pub(super) outer: Ipv4Addr,
    pub(crate) inner: Ipv4Addr,
    /// A file with its private key.
    secret: PathBuf,
    pub(super) public: String,
}

impl Side {
    /// What a configuration file says of this end itself.
    ///
    /// # Errors
    /// When its key cannot be read.
    pub(super) fn interface_section(&self) -> anyhow::Result<String> {
        let secret = std::fs::read_to_string(&self.secret).context("cannot read a key")?;
        let secret = secret.trim();
        Ok(format!(
            "[Interface]\nPrivateKey = {secret}\nListenPort = {PORT}\n"
        ))
    }

    /// Runs `ip` with each of these for the device of `program`. Where it refuses because the
    /// program is no more, that is told.
    ///
    /// # Errors
    /// As said.
    pub(super) fn set_up(&self, program: &mut Background, words: &[String]) -> anyhow::Result<()> {
        for words in words {
            if let Err(error) = self.at.ip(words) {
                program.must_live()?;
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Keys and names for both ends, made once for all programs.
#[derive(Clone, Debug)]
pub(crate) struct Sides {
    pub(crate) left: Side,
    pub(crate) right: Side,
}

/// The UDP port of both ends.
pub(crate) const PORT: u16 = 51_820;

impl Sides {
    /// Makes keys for both ends of `link`, which are called by these letters.
    ///
    /// # Errors
    /// When `wg` fails.
    pub(crate) fn new(lab: &Lab, link: &Link, letters: [&str; 2]) -> anyhow::Result<Self> {
        let side = |letter: &str, at: &Namespace, outer, inner| {
            let secret = lab.folder().join(format!("{letter}.key"));
            let script = "umask 077; wg genkey > \"$1\" && wg pubkey < \"$1\"";
            let words = ["-c", script, "sh", &secret.to_string_lossy()];
            let public = output(&mut command("sh", words), SHORT)?;
            anyhow::Ok(Side {
                at: at.clone(),
                interface: format!("wf{}{letter}", std::process::id()),
                outer,
                inner,
                secret,
                public: public.trim().to_owned(),
            })
        };
        Ok(Self {
            left: side(letters[0], &link.left, LEFT, LEFT_INNER)?,
            right: side(letters[1], &link.right, RIGHT, RIGHT_INNER)?,
        })
    }
}

/// A running pair. Dropping it ends both ends.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The server's address for what goes through it.
    pub(super) to: Ipv4Addr,
    ends: Vec<Background>,
    sockets: Vec<PathBuf>,
}

impl Pair {
    /// Starts `program` at both ends and waits until a datagram came back through it. There must
    /// be an [`latency::Echo`] on the right.
    ///
    /// # Errors
    /// When an end does not come up, with its last words.
    pub(super) fn start(
        program: Program,
        file: Option<&Path>,
        sides: &Sides,
        lab: &Lab,
    ) -> anyhow::Result<Self> {
        let mut pair = match file {
            Some(file) => Self::between([(program, file); 2], sides, lab)?,
            None => Self::none(RIGHT),
        };
        pair.wait_for_answer(&sides.left.at, pair.to)?;
        Ok(pair)
    }

    /// Starts these programs at the left and at the right end. Nothing has gone through the tunnel
    /// yet: whose end sends first begins the handshake.
    ///
    /// # Errors
    /// When an end does not come up, with its last words.
    pub(crate) fn between(
        [left, right]: [(Program, &Path); 2],
        sides: &Sides,
        lab: &Lab,
    ) -> anyhow::Result<Self> {
        let mut pair = Self::none(RIGHT_INNER);
        pair.start_end(left, &sides.left, &sides.right, lab)?;
        pair.start_end(right, &sides.right, &sides.left, lab)?;
        Ok(pair)
    }

    fn none(to: Ipv4Addr) -> Self {
        Self {
            to,
            ends: Vec::new(),
            sockets: Vec::new(),
        }
    }

    /// Waits until the echo at `to` answers `from`.
    ///
    /// # Errors
    /// When an end is no more, with its last words, or no answer comes.
    pub(crate) fn wait_for_answer(&mut self, from: &Namespace, to: Ipv4Addr) -> anyhow::Result<()> {
        let answer = latency::wait_for_answer(from, to, PATIENCE);
        self.must_live()?;
        answer
    }

    /// The processes of both ends; none for the cable.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.ends.iter().map(Background::id).collect()
    }

    /// An error with its last words once an end is no more.
    ///
    /// # Errors
    /// As said.
    pub(crate) fn must_live(&mut self) -> anyhow::Result<()> {
        self.ends.iter_mut().try_for_each(Background::must_live)
    }

    /// Ends both ends.
    ///
    /// # Errors
    /// When one cannot be ended.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        for end in self.ends.drain(..) {
            end.stop(GRACE)?;
        }
        Ok(())
    }

    fn start_end(
        &mut self,
        (program, file): (Program, &Path),
        own: &Side,
        far: &Side,
        lab: &Lab,
    ) -> anyhow::Result<()> {
        let log = format!("{}-{}", program.name(), own.interface);
        let socket = Path::new(SOCKETS).join(format!("{}.sock", own.interface));
        let _ = std::fs::remove_file(&socket);
        // A log is appended to, and an earlier round has said it is ready too.
        let _ = std::fs::remove_file(own.at.log(&log));
        let mut start = own.at.command(file, words(program, own, far, lab)?);
        start.env("LOG_LEVEL", "error").env("NO_COLOR", "1");
        let mut end = own.at.spawn_command(&log, start)?;
        let ready = wait_for(&format!("{} to start", program.name()), PATIENCE, || {
            end.must_live()?;
            let said = |word: &str| end.said().contains(word);
            let ready = match program {
                Program::Raw => true,
                Program::Wayfare => said("ready"),
                Program::WireguardGo | Program::Boringtun | Program::Gotatun => socket.exists(),
                Program::Openvpn => own.at.ip(&format!("link show {}", own.interface)).is_ok(),
            };
            Ok(ready.then_some(()))
        });
        self.sockets.push(socket);
        ready?;
        match program {
            Program::WireguardGo | Program::Boringtun | Program::Gotatun => set(own, far)?,
            Program::Raw | Program::Wayfare | Program::Openvpn => {}
        }
        let (device, inner) = (&own.interface, own.inner);
        let words = [
            format!("address add {inner}/24 dev {device}"),
            format!("link set {device} mtu {MTU} up"),
            link::way(inner, device)?,
        ];
        own.set_up(&mut end, &words)?;
        self.ends.push(end);
        Ok(())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.ends.clear();
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}

fn words(program: Program, own: &Side, far: &Side, lab: &Lab) -> anyhow::Result<Vec<String>> {
    let device = own.interface.as_str();
    let words = match program {
        Program::Raw => Vec::new(),
        Program::Wayfare => {
            let file = lab.folder().join(format!("{device}.conf"));
            std::fs::write(&file, conf(own, far)?).context("cannot write a configuration")?;
            let file = file.to_string_lossy();
            ["--config", &file, "--interface", device, "--mtu", MTU]
                .map(str::to_owned)
                .to_vec()
        }
        Program::WireguardGo => ["-f", device].map(str::to_owned).to_vec(),
        Program::Boringtun | Program::Gotatun => {
            ["-f", "--disable-drop-privileges", "-v", "error", device]
                .map(str::to_owned)
                .to_vec()
        }
        Program::Openvpn => super::openvpn::words(own, far, lab)?,
    };
    Ok(words)
}

/// An ordinary configuration file.
fn conf(own: &Side, far: &Side) -> anyhow::Result<String> {
    let (key, inner, outer) = (&far.public, far.inner, far.outer);
    let peer = format!(
        "\n[Peer]\nPublicKey = {key}\nAllowedIPs = {inner}/32\nEndpoint = {outer}:{PORT}\n"
    );
    Ok(own.interface_section()? + &peer)
}

fn set(own: &Side, far: &Side) -> anyhow::Result<()> {
    let secret = own.secret.to_string_lossy();
    let port = PORT.to_string();
    let allowed = format!("{}/32", far.inner);
    let endpoint = format!("{}:{PORT}", far.outer);
    let mut words = vec!["set", &own.interface, "private-key", &secret];
    words.extend(["listen-port", &port, "peer", &far.public]);
    words.extend(["allowed-ips", &allowed, "endpoint", &endpoint]);
    own.at.output("wg", &words).map(drop)
}
