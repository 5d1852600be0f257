//! BLAKE2s in the three shapes this room uses: plain, keyed to 32 bytes, keyed to 16 bytes.
//! It refuses to know what is being hashed.

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Blake2sMac256, Digest};

/// `BLAKE2s(parts…)`, the parts concatenated: every part but the last has a fixed length.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Blake2s256::new();
    for part in parts {
        Digest::update(&mut hasher, part);
    }
    Digest::finalize(hasher).into()
}

/// Keyed BLAKE2s with 32 bytes of output.
pub(crate) fn keyed_32(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac =
        Blake2sMac256::new_from_slice(key).expect("BLAKE2s takes any key of at most 32 bytes");
    for part in parts {
        Mac::update(&mut mac, part);
    }
    mac.finalize_fixed().into()
}

/// Keyed BLAKE2s with 16 bytes of output.
pub(crate) fn keyed_16(key: &[u8; 32], bytes: &[u8]) -> [u8; 16] {
    let mut mac =
        Blake2sMac::<U16>::new_from_slice(key).expect("BLAKE2s takes any key of at most 32 bytes");
    Mac::update(&mut mac, bytes);
    mac.finalize_fixed().into()
}
