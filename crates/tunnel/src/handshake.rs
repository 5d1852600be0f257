//! The handshake: Noise_IKpsk2 in two messages, run by `snow`, laid out as WireGuard lays it out.
//! It refuses to remember: who a peer is, which timestamp was the last and when to retry are the endpoint's.

use snow::params::NoiseParams;
use snow::{Builder, HandshakeState};
use zeroize::{Zeroize, Zeroizing};

use crate::chance::Chance;
use crate::cookie::MacKeys;
use crate::key::{PublicKey, StaticSecret};
use crate::keypair::{Keypair, Role};
use crate::message::{INITIATION_LEN, MACS, RESPONSE_LEN, index_at};
use crate::noise::{self, Resolver};
use crate::timestamp::Timestamp;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// `psk2`: mixed at the end of the second message.
const PSK_PLACE: u8 = 2;

/// Where the Noise message starts and ends inside each WireGuard message.
const INITIATION_NOISE: std::ops::Range<usize> = 8..INITIATION_LEN - MACS;
const RESPONSE_NOISE: std::ops::Range<usize> = 12..RESPONSE_LEN - MACS;

/// A preshared key; all zero when a peer has none, as the protocol defines.
pub(crate) type Psk = Zeroizing<[u8; 32]>;

/// Our own half: key pair, the keys of MACs addressed to us, the parsed pattern.
pub(crate) struct Local {
    secret: StaticSecret,
    pub(crate) public: PublicKey,
    pub(crate) macs: MacKeys,
    pattern: NoiseParams,
}

/// The handshake failed: wrong key, altered bytes, or a low-order point. Which of them is nobody's business.
#[derive(Debug)]
pub(crate) struct Refused;

impl From<snow::Error> for Refused {
    fn from(_: snow::Error) -> Self {
        Self
    }
}

/// An initiation that was decrypted: the sender has proven its static key, not yet its freshness.
pub(crate) struct Opened {
    state: HandshakeState,
    pub(crate) sender: PublicKey,
    pub(crate) timestamp: Timestamp,
    remote_index: u32,
}

impl Local {
    pub(crate) fn new(secret: StaticSecret) -> Self {
        let public = secret.public();
        let pattern = PATTERN
            .parse()
            .expect("the pattern is a constant of the protocol and snow knows it");
        Self {
            secret,
            public,
            macs: MacKeys::of(&public),
            pattern,
        }
    }

    fn builder(&self, chance: &mut Chance) -> Builder<'_> {
        let resolver = Resolver {
            secret: self.secret.clone(),
            public: self.public,
            ephemeral: chance.draw(),
        };
        Builder::with_resolver(self.pattern.clone(), Box::new(resolver))
    }

    /// Writes an initiation to `remote`, MACs left zero.
    pub(crate) fn initiate(
        &self,
        remote: &PublicKey,
        psk: &Psk,
        index: u32,
        timestamp: Timestamp,
        chance: &mut Chance,
    ) -> Result<(HandshakeState, Vec<u8>), Refused> {
        let mut state = self
            .builder(chance)
            .local_private_key(self.secret.as_bytes())?
            .remote_public_key(&remote.0)?
            .prologue(PROLOGUE)?
            .psk(PSK_PLACE, psk)?
            .build_initiator()?;
        let mut message = vec![0; INITIATION_LEN];
        message[0] = 1;
        message[4..8].copy_from_slice(&index.to_le_bytes());
        state.write_message(&timestamp.0, &mut message[INITIATION_NOISE])?;
        Ok((state, message))
    }

    /// Opens an initiation of the right length whose MAC1 was right.
    pub(crate) fn open_initiation(
        &self,
        message: &[u8],
        chance: &mut Chance,
    ) -> Result<Opened, Refused> {
        let mut state = self
            .builder(chance)
            .local_private_key(self.secret.as_bytes())?
            .prologue(PROLOGUE)?
            .build_responder()?;
        let mut timestamp = [0; 12];
        state.read_message(&message[INITIATION_NOISE], &mut timestamp)?;
        let sender = state
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .ok_or(Refused)?;
        let remote_index = index_at(message, 4);
        Ok(Opened {
            state,
            sender: PublicKey(sender),
            timestamp: Timestamp(timestamp),
            remote_index,
        })
    }
}

impl Opened {
    /// Answers the initiation: the response with MACs left zero, and the responder's keys.
    pub(crate) fn respond(
        mut self,
        psk: &Psk,
        index: u32,
        now: std::time::Instant,
    ) -> Result<(Vec<u8>, Keypair), Refused> {
        self.state.set_psk(usize::from(PSK_PLACE), &**psk)?;
        let mut message = vec![0; RESPONSE_LEN];
        message[0] = 2;
        message[4..8].copy_from_slice(&index.to_le_bytes());
        message[8..12].copy_from_slice(&self.remote_index.to_le_bytes());
        self.state
            .write_message(&[], &mut message[RESPONSE_NOISE])?;
        let (mut theirs, mut ours) = self.state.dangerously_get_raw_split();
        let pair = Keypair::new(
            Role::Responder,
            index,
            self.remote_index,
            noise::aead(&ours),
            noise::aead(&theirs),
            now,
        );
        theirs.zeroize();
        ours.zeroize();
        Ok((message, pair))
    }
}

/// Reads the response to our initiation. A response that fails leaves `state` able to read the right one.
pub(crate) fn open_response(
    state: &mut HandshakeState,
    message: &[u8],
    index: u32,
    now: std::time::Instant,
) -> Result<Keypair, Refused> {
    state.read_message(&message[RESPONSE_NOISE], &mut [])?;
    let (mut ours, mut theirs) = state.dangerously_get_raw_split();
    let remote_index = index_at(message, 4);
    let pair = Keypair::new(
        Role::Initiator,
        index,
        remote_index,
        noise::aead(&ours),
        noise::aead(&theirs),
        now,
    );
    ours.zeroize();
    theirs.zeroize();
    Ok(pair)
}

/// Replaces the preshared key of a handshake in flight; it is mixed only when the response arrives.
pub(crate) fn change_psk(state: &mut HandshakeState, psk: &Psk) {
    state
        .set_psk(usize::from(PSK_PLACE), &**psk)
        .expect("32 bytes at place 2 of 10");
}
