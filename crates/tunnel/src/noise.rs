//! The primitives behind `snow`, all of them ours to choose: x25519-dalek, BLAKE2s, ChaCha20-Poly1305 by AWS-LC, and
//! an ephemeral key that was drawn by the caller.
//! It refuses hidden randomness: the resolver's generator hands out the 32 bytes it was given, once.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use blake2::{Blake2s256, Digest};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::key::{PublicKey, StaticSecret};
use crate::message::TAG;

/// ChaCha20-Poly1305 under a raw key.
pub(crate) fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(
        UnboundKey::new(&CHACHA20_POLY1305, key)
            .expect("the algorithm takes exactly 32 bytes of key"),
    )
}

/// The Noise and WireGuard nonce: four zero bytes, then the counter, little endian.
pub(crate) fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Resolves one handshake: our static pair (so that its public half is not computed anew) and one ephemeral secret.
pub(crate) struct Resolver {
    pub(crate) secret: StaticSecret,
    pub(crate) public: PublicKey,
    pub(crate) ephemeral: Zeroizing<[u8; 32]>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(Some(self.ephemeral.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519 {
                known: (self.secret.clone(), self.public),
                secret: Zeroizing::new([0; 32]),
                public: [0; 32],
            })),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::Blake2s => Some(Box::new(Blake2sHash(Blake2s256::new()))),
            HashChoice::SHA256 | HashChoice::SHA512 | HashChoice::Blake2b => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaChaPoly(aead(&[0; 32])))),
            CipherChoice::AESGCM => None,
        }
    }
}

/// Randomness that was drawn beforehand: 32 bytes, once.
struct Drawn(Option<Zeroizing<[u8; 32]>>);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let drawn = self.0.take().ok_or(snow::Error::Rng)?;
        if dest.len() != drawn.len() {
            return Err(snow::Error::Rng);
        }
        dest.copy_from_slice(&*drawn);
        Ok(())
    }
}

struct X25519 {
    known: (StaticSecret, PublicKey),
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        self.secret.copy_from_slice(privkey);
        let is_known: bool = self.known.0.as_bytes().ct_eq(&*self.secret).into();
        self.public = if is_known {
            self.known.1.0
        } else {
            StaticSecret::from_bytes(*self.secret).public().0
        };
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        rng.try_fill_bytes(&mut *self.secret)?;
        self.public = StaticSecret::from_bytes(*self.secret).public().0;
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.secret
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let theirs: [u8; 32] = pubkey
            .get(..32)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(snow::Error::Dh)?;
        let secret = x25519_dalek::StaticSecret::from(*self.secret);
        let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(theirs));
        // A point of low order would make a key that everybody knows.
        if !shared.was_contributory() {
            return Err(snow::Error::Dh);
        }
        out.get_mut(..32)
            .ok_or(snow::Error::Dh)?
            .copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

struct Blake2sHash(Blake2s256);

impl Hash for Blake2sHash {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Blake2s256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hasher = std::mem::take(&mut self.0);
        out[..32].copy_from_slice(&hasher.finalize());
    }
}

struct ChaChaPoly(LessSafeKey);

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = aead(key);
    }

    fn encrypt(&self, counter: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let len = plaintext.len();
        out[..len].copy_from_slice(plaintext);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(counter), Aad::from(authtext), &mut out[..len])
            .expect("a handshake payload is far below the cipher's 256 GiB limit");
        out[len..len + TAG].copy_from_slice(tag.as_ref());
        len + TAG
    }

    fn decrypt(
        &self,
        counter: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let len = ciphertext
            .len()
            .checked_sub(TAG)
            .ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..len).ok_or(snow::Error::Decrypt)?;
        let (body, tag) = ciphertext.split_at(len);
        self.0
            .open_separate_gather(nonce(counter), Aad::from(authtext), body, tag, out)
            .map_err(|_| snow::Error::Decrypt)?;
        Ok(len)
    }
}
