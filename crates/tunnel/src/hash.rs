//! BLAKE2s in the three shapes the protocol uses: plain, keyed to 32 bytes, keyed to 16 bytes.
//! It refuses to know what is being hashed; HMAC and HKDF belong to the Noise machinery.

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Blake2sMac256, Digest};

/// `BLAKE2s(parts…)`, the parts concatenated.
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

/// Keyed BLAKE2s with 16 bytes of output: the `Mac` function of the WireGuard paper, section 5.4.
pub(crate) fn keyed_16(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    debug_assert!(
        key.len() <= 32,
        "every key of this protocol is 16 or 32 bytes"
    );
    let mut mac =
        Blake2sMac::<U16>::new_from_slice(key).expect("BLAKE2s takes any key of at most 32 bytes");
    for part in parts {
        Mac::update(&mut mac, part);
    }
    mac.finalize_fixed().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_matches_rfc_7693() {
        // RFC 7693, appendix B: BLAKE2s-256("abc").
        let expect = [
            0x50, 0x8c, 0x5e, 0x8c, 0x32, 0x7c, 0x14, 0xe2, 0xe1, 0xa7, 0x2b, 0xa3, 0x4e, 0xeb,
            0x45, 0x2f, 0x37, 0x45, 0x8b, 0x20, 0x9e, 0xd6, 0x3a, 0x29, 0x4d, 0x99, 0x9b, 0x4c,
            0x86, 0x67, 0x59, 0x82,
        ];
        assert_eq!(digest(&[b"a", b"bc"]), expect);
    }

    #[test]
    fn a_shorter_mac_is_not_a_truncated_longer_one() {
        // BLAKE2 binds the output length: a truncation would break interoperability silently.
        let key = [7; 32];
        assert_ne!(keyed_16(&key, &[b"x"])[..], keyed_32(&key, &[b"x"])[..16]);
    }
}
