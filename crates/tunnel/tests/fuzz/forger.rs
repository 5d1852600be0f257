//! The initiator's half of the protocol, written a second time from the paper (Donenfeld, "WireGuard", section 5.4) so
//! that it can be told to lie: any timestamp, any index, any counter, any content under good keys.
//! It refuses to know the library: what it and the library agree on, they agree on by the wire alone.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};
use x25519_dalek::{PublicKey, StaticSecret};

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Blake2s256::new();
    parts
        .iter()
        .for_each(|part| Digest::update(&mut hasher, part));
    Digest::finalize(hasher).into()
}

/// RFC 2104 over BLAKE2s: block of 64 bytes.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let (inner_pad, outer_pad) = (pad(0x36), pad(0x5c));
    let inner = hash(&[&[&inner_pad[..]], parts].concat());
    hash(&[&outer_pad, &inner])
}

/// `Kdf_n(key, input)`, as many outputs as are asked for.
fn kdf<const N: usize>(key: &[u8; 32], input: &[u8]) -> [[u8; 32]; N] {
    let secret = hmac(key, &[input]);
    let mut outputs = [[0; 32]; N];
    let mut last: Vec<u8> = Vec::new();
    for (number, output) in (1_u8..).zip(&mut outputs) {
        *output = hmac(&secret, &[&last, &[number]]);
        last = output.to_vec();
    }
    outputs
}

fn key(bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, bytes).unwrap())
}

fn seal(with: &[u8; 32], counter: u64, plain: &[u8], aad: &[u8]) -> Vec<u8> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    let mut sealed = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key(with)
        .seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed)
        .unwrap();
    sealed
}

/// Makes MAC1 of a handshake message right for the owner of `responder`; shorter messages are left alone.
pub fn fix_mac1(message: &mut [u8], responder: &[u8; 32]) {
    let Some(body) = message.len().checked_sub(32) else {
        return;
    };
    let mut mac = Blake2sMac::<U16>::new_from_slice(&hash(&[b"mac1----", responder])).unwrap();
    Mac::update(&mut mac, &message[..body]);
    message[body..body + 16].copy_from_slice(&mac.finalize_fixed());
}

/// An initiation that waits for its response.
#[derive(Debug)]
pub struct Asked {
    /// The initiation as sent, MAC2 zero.
    pub message: Vec<u8>,
    secret: [u8; 32],
    ephemeral: [u8; 32],
    chain: [u8; 32],
    hash: [u8; 32],
}

/// Asks `responder` for keys.
pub fn ask(
    secret: [u8; 32],
    responder: [u8; 32],
    ephemeral: [u8; 32],
    index: u32,
    timestamp: [u8; 12],
) -> Asked {
    let (ours, fresh) = (StaticSecret::from(secret), StaticSecret::from(ephemeral));
    let theirs = PublicKey::from(responder);
    let mut message = vec![1, 0, 0, 0];
    message.extend(index.to_le_bytes());
    let chain = hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
    let seen = hash(&[&chain, b"WireGuard v1 zx2c4 Jason@zx2c4.com"]);
    let seen = hash(&[&seen, &responder]);
    let public = PublicKey::from(&fresh).to_bytes();
    message.extend(public);
    let [chain] = kdf(&chain, &public);
    let seen = hash(&[&seen, &public]);
    let [chain, k] = kdf(&chain, fresh.diffie_hellman(&theirs).as_bytes());
    let sealed = seal(&k, 0, PublicKey::from(&ours).as_bytes(), &seen);
    let seen = hash(&[&seen, &sealed]);
    message.extend(sealed);
    let [chain, k] = kdf(&chain, ours.diffie_hellman(&theirs).as_bytes());
    let sealed = seal(&k, 0, &timestamp, &seen);
    let hash = hash(&[&seen, &sealed]);
    message.extend(sealed);
    message.extend([0; 32]);
    fix_mac1(&mut message, &responder);
    Asked {
        message,
        secret,
        ephemeral,
        chain,
        hash,
    }
}

/// Good keys, to be used badly.
#[derive(Debug)]
pub struct Keys {
    send: [u8; 32],
    /// The responder's index for these keys.
    pub index: u32,
}

impl Asked {
    /// Reads the response, without a preshared key. `None` if it does not answer this initiation.
    pub fn answered(&self, response: &[u8]) -> Option<Keys> {
        let fresh: [u8; 32] = response.get(12..44)?.try_into().ok()?;
        let theirs = PublicKey::from(fresh);
        let [chain] = kdf(&self.chain, &fresh);
        let seen = hash(&[&self.hash, &fresh]);
        let mixed = |secret: [u8; 32]| StaticSecret::from(secret).diffie_hellman(&theirs);
        let [chain] = kdf(&chain, mixed(self.ephemeral).as_bytes());
        let [chain] = kdf(&chain, mixed(self.secret).as_bytes());
        let [chain, t, k] = kdf(&chain, &[0; 32]);
        let seen = hash(&[&seen, &t]);
        if seal(&k, 0, &[], &seen) != response.get(44..60)? {
            return None;
        }
        let [send, _receive] = kdf(&chain, &[]);
        let index = u32::from_le_bytes(response.get(4..8)?.try_into().ok()?);
        Some(Keys { send, index })
    }
}

impl Keys {
    /// A transport message with any counter and any content, no padding added.
    pub fn seal(&self, counter: u64, content: &[u8]) -> Vec<u8> {
        let mut message = vec![4, 0, 0, 0];
        message.extend(self.index.to_le_bytes());
        message.extend(counter.to_le_bytes());
        message.extend(seal(&self.send, counter, content, &[]));
        message
    }
}
