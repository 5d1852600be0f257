//! The `.conf` format of `wg` and `wg-quick`, read strictly. It refuses what it does not know: a misspelt word must not
//! silently weaken a tunnel.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use wayfare_tunnel::{PeerConfig, PublicKey, StaticSecret};

use super::WireGuard;

/// What is wrong with a `.conf`, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ConfError {
    /// Counted from 1; 0 when something is missing as a whole.
    pub line: usize,
    /// In words.
    pub what: String,
}

/// Words of `[Interface]` that tell `wg-quick` about the system, not the tunnel.
const SYSTEM: &[&str] = &[
    "address",
    "dns",
    "mtu",
    "table",
    "preup",
    "postup",
    "predown",
    "postdown",
    "saveconfig",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    None,
    Interface,
    Peer,
}

#[derive(Default)]
struct Draft {
    secret: Option<StaticSecret>,
    port: u16,
    mark: Option<u32>,
    peers: Vec<PeerConfig>,
}

impl FromStr for WireGuard {
    type Err = ConfError;

    fn from_str(text: &str) -> Result<Self, ConfError> {
        let mut draft = Draft::default();
        let mut section = Section::None;
        // A peer begins with its section and is known by the key that follows.
        let mut keyed = true;
        for (number, raw) in text.lines().enumerate() {
            let line = number + 1;
            let fail = |what: String| ConfError { line, what };
            let content = raw.split('#').next().unwrap_or_default().trim();
            match content.to_ascii_lowercase().as_str() {
                "" => continue,
                "[interface]" => {
                    section = Section::Interface;
                    continue;
                }
                "[peer]" => {
                    if !keyed {
                        return Err(fail("the peer before this one has no PublicKey".into()));
                    }
                    section = Section::Peer;
                    keyed = false;
                    draft.peers.push(PeerConfig::new(PublicKey([0; 32])));
                    continue;
                }
                _ => {}
            }
            let (word, value) = content.split_once('=').ok_or_else(|| {
                fail(format!(
                    "`{content}` is neither a section nor `Word = value`"
                ))
            })?;
            let (word, value) = (word.trim().to_ascii_lowercase(), value.trim());
            match (section, draft.peers.last_mut()) {
                (Section::None, _) => {
                    return Err(fail("a word before the first section".into()));
                }
                (Section::Peer, Some(peer)) => {
                    keyed |= word == "publickey";
                    peer_word(peer, &word, value).map_err(fail)?;
                }
                (Section::Interface | Section::Peer, _) => {
                    interface_word(&mut draft, &word, value).map_err(fail)?;
                }
            }
        }
        let missing = |what: &str| ConfError {
            line: 0,
            what: what.into(),
        };
        if !keyed {
            return Err(missing("the last [Peer] has no PublicKey"));
        }
        Ok(Self {
            secret: draft
                .secret
                .ok_or_else(|| missing("[Interface] has no PrivateKey"))?,
            port: draft.port,
            mark: draft.mark,
            peers: draft.peers,
        })
    }
}

fn interface_word(draft: &mut Draft, word: &str, value: &str) -> Result<(), String> {
    match word {
        "privatekey" => draft.secret = Some(StaticSecret::from_bytes(key(value)?)),
        "listenport" => draft.port = number(value)?,
        "fwmark" => draft.mark = mark(value)?,
        system if SYSTEM.contains(&system) => {}
        other => return Err(format!("[Interface] has no word `{other}`")),
    }
    Ok(())
}

fn peer_word(peer: &mut PeerConfig, word: &str, value: &str) -> Result<(), String> {
    match word {
        "publickey" => peer.public_key = PublicKey(key(value)?),
        "presharedkey" => peer.preshared_key = Some(key(value)?),
        "allowedips" => {
            for prefix in value.split(',').map(str::trim).filter(|p| !p.is_empty()) {
                peer.allowed_ips.push(self::prefix(prefix)?);
            }
        }
        "endpoint" => peer.endpoint = Some(endpoint(value)?),
        "persistentkeepalive" if value == "off" => peer.keepalive = None,
        "persistentkeepalive" => {
            let seconds: u16 = number(value)?;
            peer.keepalive = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        }
        other => return Err(format!("[Peer] has no word `{other}`")),
    }
    Ok(())
}

fn key(value: &str) -> Result<[u8; 32], String> {
    let bytes = STANDARD.decode(value).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        // The value may be a secret: it is not repeated.
        .ok_or_else(|| "a key is 32 bytes in base64: 44 characters".into())
}

fn number<T: FromStr>(value: &str) -> Result<T, String> {
    let parsed = value.parse();
    parsed.map_err(|_| format!("`{value}` is not a number that fits"))
}

fn mark(value: &str) -> Result<Option<u32>, String> {
    let parsed = match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if value == "off" => Some(0),
        None => value.parse().ok(),
    };
    let mark: u32 = parsed.ok_or_else(|| format!("`{value}` is not a mark"))?;
    Ok((mark != 0).then_some(mark))
}

fn prefix(value: &str) -> Result<IpNet, String> {
    let net = value.parse::<IpNet>().map(|net| net.trunc());
    let single = || value.parse::<std::net::IpAddr>().map(IpNet::from);
    net.or_else(|_| single())
        .map_err(|_| format!("`{value}` is no address and no prefix"))
}

fn endpoint(value: &str) -> Result<SocketAddr, String> {
    let found = value.to_socket_addrs();
    let mut found = found.map_err(|error| format!("`{value}`: {error}; write host:port"))?;
    found
        .next()
        .ok_or_else(|| format!("`{value}` has no address"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    #[test]
    fn a_whole_file_is_read() {
        let text = format!(
            "# mine\n[Interface]\nPrivateKey = {KEY}\nListenPort=51820 # here\nAddress = 10.0.0.1/24\nFwMark = 0x10\n\n\
             [Peer]\nPublicKey = {KEY}\nPresharedKey={KEY}\nAllowedIPs = 10.0.0.2/32, fd00::/64,10.1.2.3\nAllowedIPs = 10.9.9.9/8\n\
             Endpoint = 192.0.2.1:51820\nPersistentKeepalive = 25\n[Peer]\nPublicKey={KEY}\nPersistentKeepalive = off\n"
        );
        let read: WireGuard = text.parse().unwrap();
        assert_eq!(
            (read.port, read.mark, read.peers.len()),
            (51820, Some(16), 2)
        );
        let peer = &read.peers[0];
        let prefixes: Vec<_> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        assert_eq!(
            prefixes,
            ["10.0.0.2/32", "fd00::/64", "10.1.2.3/32", "10.0.0.0/8"]
        );
        assert_eq!(peer.public_key, PublicKey([1; 32]));
        assert_eq!(peer.preshared_key, Some([1; 32]));
        assert_eq!(peer.endpoint, Some("192.0.2.1:51820".parse().unwrap()));
        assert_eq!(peer.keepalive, Some(Duration::from_secs(25)));
        assert_eq!(read.peers[1].keepalive, None);
        assert_eq!(
            read.secret.public(),
            StaticSecret::from_bytes([1; 32]).public()
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_no_secret() {
        let check = |text: &str, line: usize, part: &str| {
            let error = text.parse::<WireGuard>().unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().contains(part), "{error}");
            assert!(!error.to_string().contains("AQEB"), "{error}");
        };
        check("", 0, "PrivateKey");
        check("PrivateKey = x", 1, "before the first section");
        check("[Interface]\nPrivateKey = AQEBAQ==", 2, "44 characters");
        check("[Interface]\nPrivatKey = x", 2, "no word `privatkey`");
        check("[Interface]\nListenPort = 70000", 2, "70000");
        check("[Interface]\nhello", 2, "neither");
        let with = |peer: &str| format!("[Interface]\nPrivateKey={KEY}\n[Peer]\n{peer}");
        check(&with(""), 0, "PublicKey");
        check(&with("[Peer]"), 4, "PublicKey");
        check(&with("AllowedIPs = 10.0.0.0/33"), 4, "10.0.0.0/33");
        check(&with("Endpoint = 10.0.0.1"), 4, "host:port");
        check(&with("Colour = green"), 4, "colour");
    }
}
