//! A lab: two namespaces, a cable, our end in one and somebody else's WireGuard in the other.
//!
//! Whatever happens to the test, everything is taken down again. It refuses to judge; the tests do.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use wayfare_transport::Clock;
use wayfare_tunnel::{PeerConfig, REKEY_AFTER_TIME, StaticSecret};

use super::driver::{Driver, Settings};
use super::netns::{Namespace, cable};
use super::peer::{Ours, Peer, Program};

const OUR_PORT: u16 = 51_820;
const THEIR_PORT: u16 = 51_821;
const OUR_INNER: &str = "10.9.0.1";
const THEIR_INNER: &str = "10.9.0.2";

/// Who calls. Only the caller is told where the other one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Us,
    Them,
}

/// What is special about a lab.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) program: Program,
    pub(crate) caller: Caller,
    pub(crate) our_psk: Option<[u8; 32]>,
    pub(crate) their_psk: Option<[u8; 32]>,
    /// The cable carries IPv6 alone.
    pub(crate) ipv6: bool,
    pub(crate) rekey_after: Duration,
    pub(crate) under_load: bool,
}

impl Case {
    pub(crate) fn new(program: Program, caller: Caller) -> Self {
        Self {
            program,
            caller,
            our_psk: None,
            their_psk: None,
            ipv6: false,
            rekey_after: REKEY_AFTER_TIME,
            under_load: false,
        }
    }

    pub(crate) fn preshared(self) -> Self {
        Self {
            our_psk: Some([0x77; 32]),
            their_psk: Some([0x77; 32]),
            ..self
        }
    }
}

/// A running lab. The fields go in this order: our end, their end, the namespaces.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) case: Case,
    pub(crate) driver: Driver,
    pub(crate) peer: Peer,
    pub(crate) here: Namespace,
    pub(crate) there: Namespace,
}

impl Lab {
    pub(crate) fn new(case: Case) -> Self {
        let (here, there) = (Namespace::new(), Namespace::new());
        let (cables, outer, any) = if case.ipv6 {
            let cables = ["fd09:1::1/64", "fd09:1::2/64"];
            (cables, ["[fd09:1::1]", "[fd09:1::2]"], "[::]")
        } else {
            let cables = ["192.0.2.1/24", "192.0.2.2/24"];
            (cables, ["192.0.2.1", "192.0.2.2"], "0.0.0.0")
        };
        cable(&here, &there, cables);
        let at = |host: &str, port: u16| format!("{host}:{port}").parse::<SocketAddr>().unwrap();

        let secret = StaticSecret::from_bytes([0x11; 32]);
        let their_secret = [0x22; 32];
        let ours = Ours {
            public_key: secret.public(),
            preshared_key: case.their_psk,
            endpoint: (case.caller == Caller::Them).then(|| at(outer[0], OUR_PORT)),
            allowed_ips: "10.9.0.1/32",
        };
        let mut theirs = PeerConfig::new(StaticSecret::from_bytes(their_secret).public());
        theirs.preshared_key = case.our_psk;
        theirs.endpoint = (case.caller == Caller::Us).then(|| at(outer[1], THEIR_PORT));
        theirs.allowed_ips = vec!["10.9.0.2/32".parse().unwrap()];
        let settings = Settings {
            secret,
            listen: at(any, OUR_PORT),
            peer: theirs,
            rekey_after: case.rekey_after,
            under_load: case.under_load,
            address: "10.9.0.1/24",
        };

        let program = case.program;
        let address = "10.9.0.2/24";
        let peer = Peer::start(program, &there, their_secret, THEIR_PORT, address, ours);
        Self {
            case,
            driver: Driver::start(&here, settings),
            peer,
            here,
            there,
        }
    }

    /// A TCP connection through the tunnel, made by the caller: our end and theirs.
    pub(crate) fn connect(&self) -> (TcpStream, TcpStream) {
        let (from, to, address) = match self.case.caller {
            Caller::Us => (&self.here, &self.there, THEIR_INNER),
            Caller::Them => (&self.there, &self.here, OUR_INNER),
        };
        let listener = to.enter(|| TcpListener::bind((address, 0)).unwrap());
        let target = listener.local_addr().unwrap();
        let patience = Duration::from_secs(30);
        let calling = from.enter(|| TcpStream::connect_timeout(&target, patience));
        let calling = calling.unwrap_or_else(|e| panic!("no connection through the tunnel: {e}"));
        let (called, _) = listener.accept().unwrap();
        match self.case.caller {
            Caller::Us => (calling, called),
            Caller::Them => (called, calling),
        }
    }

    /// Sends one packet from here into the tunnel, or from there if they call.
    pub(crate) fn knock(&self) {
        let (from, own, far) = match self.case.caller {
            Caller::Us => (&self.here, OUR_INNER, THEIR_INNER),
            Caller::Them => (&self.there, THEIR_INNER, OUR_INNER),
        };
        let socket = from.enter(|| UdpSocket::bind((own, 0)).unwrap());
        socket.send_to(b"knock", (far, 9)).unwrap();
    }

    /// Whether `wg show` dates their latest handshake as we date ours. Their date has whole
    /// seconds; the rest is what a busy machine may take between the two ends' noticing.
    pub(crate) fn agrees_on_latest_handshake(&self) -> bool {
        let seen = self.driver.witness.seen();
        let latest = seen.rekeyed().last().copied().or(seen.established());
        let (Some(latest), Some(theirs)) = (latest, self.peer.latest_handshake()) else {
            return false;
        };
        let age = Clock::now().saturating_duration_since(latest).as_secs();
        let ours = Clock::unix_ms() / 1_000 - age;
        println!("latest handshake: wg show says {theirs}, we say {ours} (seconds since 1970)");
        ours.abs_diff(theirs) <= 4
    }
}
