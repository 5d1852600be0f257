//! Who is who: the keys and addresses of consumer number 0, 1, 2 …, the same for every role of the
//! program. It refuses secrets: these keys protect a laboratory.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wayfare_tunnel::{PublicKey, StaticSecret};

/// Consumers at most: 10.92.0.0/17 and 10.93.0.0/17 hold more.
pub(crate) const MOST: u16 = 10_000;

/// The consumer's address inside its tunnel.
pub(crate) fn inner(number: u16) -> Ipv4Addr {
    address(Ipv4Addr::new(10, 92, 0, 1), number)
}

/// The consumer's address outside.
pub(crate) fn outer(number: u16) -> Ipv4Addr {
    address(Ipv4Addr::new(10, 93, 0, 1), number)
}

/// The consumer with this inner address.
pub(crate) fn number(inner: Ipv4Addr) -> Option<u16> {
    let first = u32::from(self::inner(0));
    let number = u32::from(inner).checked_sub(first)?;
    u16::try_from(number).ok().filter(|number| *number < MOST)
}

/// The consumer's key.
pub(crate) fn secret(number: u16) -> StaticSecret {
    let mut bytes = *b"a consumer of the swarm, number:";
    // Not the first or the last byte: a key's use ignores some of their bits.
    bytes[8..10].copy_from_slice(&number.to_be_bytes());
    StaticSecret::from_bytes(bytes)
}

/// What the provider's configuration says of `count` consumers.
pub(crate) fn peers(count: u16) -> String {
    let mut text = String::new();
    for number in 0..count {
        let key = STANDARD.encode(secret(number).public().as_bytes());
        let _ = write!(
            text,
            "\n[Peer]\nPublicKey = {key}\nAllowedIPs = {}/32\n",
            inner(number)
        );
    }
    text
}

/// A key as configurations write it.
pub(crate) fn public_key(text: &str) -> anyhow::Result<PublicKey> {
    let bytes = STANDARD.decode(text).ok().context("KEY is not base64")?;
    let bytes = <[u8; 32]>::try_from(bytes).ok();
    bytes.map(PublicKey).context("KEY is not 32 bytes")
}

fn address(first: Ipv4Addr, number: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(first) + u32::from(number))
}
