//! MAC1, MAC2 and cookies: what keeps a handshake from being free of charge for whoever floods us.
//! It refuses to tell time or to count load; it only makes and checks proofs.
//!
//! MAC1 proves that the sender knows our public key (a scanner does not). MAC2 proves that the sender received what we
//! sent to its address **and port**: it is keyed by a cookie, which only a loaded responder hands out.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{Aad, Nonce};
use chacha20::{R20, hchacha};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::chance::Chance;
use crate::hash;
use crate::key::PublicKey;
use crate::message::{COOKIE_LEN, MACS, TAG, index_at};
use crate::noise::aead;
use crate::timers::elapsed;

/// The responder's secret changes this often (WireGuard paper, section 5.4.7: "every two minutes").
const SECRET_LIFETIME: Duration = Duration::from_secs(120);
/// The initiator stops using a cookie five seconds (one retry) before the responder could have forgotten it.
const COOKIE_LIFETIME: Duration = Duration::from_secs(120 - 5);

const MAC: usize = 16;
const COOKIE_NONCE: usize = 24;

/// The two keys that follow from a responder's public key.
pub(crate) struct MacKeys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl MacKeys {
    pub(crate) fn of(responder: &PublicKey) -> Self {
        Self {
            mac1: hash::digest(&[b"mac1----", &responder.0]),
            cookie: hash::digest(&[b"cookie--", &responder.0]),
        }
    }

    /// Whether a handshake message carries the right MAC1 for us.
    pub(crate) fn mac1_is_right(&self, message: &[u8]) -> bool {
        let (body, macs) = message.split_at(message.len() - MACS);
        hash::keyed_16(&self.mac1, &[body])
            .ct_eq(&macs[..MAC])
            .into()
    }
}

/// What one side keeps about the other's cookies, per peer.
#[derive(Default)]
pub(crate) struct CookieJar {
    /// MAC1 of the last handshake message we sent; a cookie reply answers exactly that one, once.
    last_mac1: Option<[u8; MAC]>,
    cookie: Option<([u8; MAC], Instant)>,
}

impl CookieJar {
    /// Fills both MACs of a handshake message to the owner of `keys`.
    pub(crate) fn seal(&mut self, message: &mut [u8], keys: &MacKeys, now: Instant) {
        let at = message.len() - MACS;
        let mac1 = hash::keyed_16(&keys.mac1, &[&message[..at]]);
        message[at..at + MAC].copy_from_slice(&mac1);
        self.last_mac1 = Some(mac1);
        if let Some((cookie, _)) = self
            .cookie
            .filter(|(_, since)| elapsed(*since, now) < COOKIE_LIFETIME)
        {
            let mac2 = hash::keyed_16(&cookie, &[&message[..at + MAC]]);
            message[at + MAC..].copy_from_slice(&mac2);
        }
    }

    /// Takes the cookie out of a reply, if it answers our last handshake message.
    pub(crate) fn accept(&mut self, reply: &[u8], keys: &MacKeys, now: Instant) -> bool {
        let Some(mac1) = self.last_mac1 else {
            return false;
        };
        let mut sealed: [u8; MAC + TAG] = reply[8 + COOKIE_NONCE..COOKIE_LEN]
            .try_into()
            .expect("64 − 32 = 32");
        let nonce = reply[8..8 + COOKIE_NONCE]
            .try_into()
            .expect("a slice of 24 is 24");
        let (key, nonce) = extended(&keys.cookie, &nonce);
        let Ok(cookie) = aead(&key).open_in_place(nonce, Aad::from(mac1), &mut sealed) else {
            return false;
        };
        let cookie = (&*cookie).try_into().expect("32 − 16 = 16");
        self.cookie = Some((cookie, now));
        self.last_mac1 = None;
        true
    }
}

/// The responder's side: no state per sender, only a secret that changes.
#[derive(Default)]
pub(crate) struct CookieMint {
    secret: Option<Secret>,
    /// Still honoured for one lifetime, so that a cookie is good for at least [`COOKIE_LIFETIME`].
    previous: Option<Secret>,
}

struct Secret {
    bytes: Zeroizing<[u8; 32]>,
    since: Instant,
}

impl CookieMint {
    /// Whether MAC2 of `message` was made with a cookie that we gave to `from`.
    pub(crate) fn mac2_is_right(&self, message: &[u8], from: SocketAddr, now: Instant) -> bool {
        let (body, mac2) = message.split_at(message.len() - MAC);
        let oldest = SECRET_LIFETIME * 2;
        [&self.secret, &self.previous]
            .into_iter()
            .flatten()
            .filter(|secret| elapsed(secret.since, now) < oldest)
            .any(|secret| {
                let cookie = cookie_for(&secret.bytes, from);
                bool::from(hash::keyed_16(&cookie, &[body]).ct_eq(mac2))
            })
    }

    /// The reply that gives `from` its cookie, sealed so that only the sender of `message` can read it.
    pub(crate) fn reply(
        &mut self,
        message: &[u8],
        from: SocketAddr,
        keys: &MacKeys,
        now: Instant,
        chance: &mut Chance,
    ) -> Vec<u8> {
        let secret = self.current(now, chance);
        let mut sealed = cookie_for(secret, from);
        let mut reply = vec![0; COOKIE_LEN];
        reply[0] = 3;
        reply[4..8].copy_from_slice(&index_at(message, 4).to_le_bytes());
        let wide: [u8; COOKIE_NONCE] = chance.draw()[..COOKIE_NONCE].try_into().expect("24 of 32");
        reply[8..8 + COOKIE_NONCE].copy_from_slice(&wide);
        let at = message.len() - MACS;
        let (key, nonce) = extended(&keys.cookie, &wide);
        let tag = aead(&key)
            .seal_in_place_separate_tag(nonce, Aad::from(&message[at..at + MAC]), &mut sealed)
            .expect("sixteen bytes are below the cipher's limit");
        reply[8 + COOKIE_NONCE..COOKIE_LEN - TAG].copy_from_slice(&sealed);
        reply[COOKIE_LEN - TAG..].copy_from_slice(tag.as_ref());
        reply
    }

    fn current(&mut self, now: Instant, chance: &mut Chance) -> &[u8; 32] {
        let stale = self
            .secret
            .as_ref()
            .is_none_or(|secret| elapsed(secret.since, now) >= SECRET_LIFETIME);
        if stale {
            self.previous = self.secret.take();
        }
        &self
            .secret
            .get_or_insert_with(|| Secret {
                bytes: chance.draw(),
                since: now,
            })
            .bytes
    }
}

/// `Mac(secret, address ‖ port)`: without the port, everybody behind one NAT would share a cookie.
fn cookie_for(secret: &[u8; 32], from: SocketAddr) -> [u8; MAC] {
    let port = from.port().to_be_bytes();
    match from.ip() {
        IpAddr::V4(v4) => hash::keyed_16(secret, &[&v4.octets(), &port]),
        IpAddr::V6(v6) => hash::keyed_16(secret, &[&v6.octets(), &port]),
    }
}

/// XChaCha20: HChaCha20 over the first 16 bytes of the nonce gives the key for the last 8.
fn extended(key: &[u8; 32], nonce: &[u8; COOKIE_NONCE]) -> (Zeroizing<[u8; 32]>, Nonce) {
    let (head, tail) = nonce.split_at(16);
    let head: [u8; 16] = head.try_into().expect("split at 16");
    let mut subkey = hchacha::<R20>(&(*key).into(), &head.into());
    let key = Zeroizing::new(subkey.into());
    subkey.0.zeroize();
    let mut narrow = [0; 12];
    narrow[4..].copy_from_slice(tail);
    (key, Nonce::assume_unique_for_key(narrow))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::instant;

    #[test]
    fn the_extended_nonce_matches_the_published_vector() {
        // draft-irtf-cfrg-xchacha-03, appendix A.3.1.
        let plaintext = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let aad = [
            0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
        ];
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + i as u8);
        let nonce: [u8; 24] = std::array::from_fn(|i| 0x40 + i as u8);
        let mut text = *plaintext;
        let (key, nonce) = extended(&key, &nonce);
        let tag = aead(&key)
            .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut text)
            .expect("short");
        assert_eq!(text[..8], [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]);
        let expect = [
            0xc0, 0x87, 0x59, 0x24, 0xc1, 0xc7, 0x98, 0x79, 0x47, 0xde, 0xaf, 0xd8, 0x78, 0x0a,
            0xcf, 0x49,
        ];
        assert_eq!(tag.as_ref(), expect);
    }

    #[test]
    fn a_cookie_outlives_one_change_of_the_secret_and_not_two() {
        let (keys, mut chance, mut mint) = (
            MacKeys::of(&PublicKey([3; 32])),
            Chance::new([1; 32]),
            CookieMint::default(),
        );
        let (mut jar, from, start) = (
            CookieJar::default(),
            SocketAddr::from(([192, 0, 2, 1], 7)),
            instant(),
        );
        let mut message = vec![1; 148];
        message[132..].fill(0);
        jar.seal(&mut message, &keys, start);
        assert!(!mint.mac2_is_right(&message, from, start));
        let reply = mint.reply(&message, from, &keys, start, &mut chance);
        assert!(jar.accept(&reply, &keys, start));
        assert!(!jar.accept(&reply, &keys, start), "a reply is good once");
        jar.seal(&mut message, &keys, start);
        assert!(mint.mac2_is_right(&message, from, start));
        let later = start + SECRET_LIFETIME;
        mint.reply(&message, from, &keys, later, &mut chance);
        assert!(mint.mac2_is_right(&message, from, later));
        mint.reply(&message, from, &keys, later + SECRET_LIFETIME, &mut chance);
        assert!(!mint.mac2_is_right(&message, from, later + SECRET_LIFETIME));
    }

    #[test]
    fn an_initiator_forgets_a_cookie_before_the_responder_does() {
        let (keys, mut chance, mut mint) = (
            MacKeys::of(&PublicKey([3; 32])),
            Chance::new([1; 32]),
            CookieMint::default(),
        );
        let (mut jar, from, start) = (
            CookieJar::default(),
            SocketAddr::from(([192, 0, 2, 1], 7)),
            instant(),
        );
        let mut message = vec![1; 148];
        jar.seal(&mut message, &keys, start);
        let reply = mint.reply(&message, from, &keys, start, &mut chance);
        assert!(jar.accept(&reply, &keys, start));
        message[132..].fill(0);
        jar.seal(&mut message, &keys, start + COOKIE_LIFETIME);
        assert_eq!(message[132..], [0; 16]);
    }
}
