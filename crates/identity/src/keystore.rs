//! Web3 Secret Storage, version 3: the JSON keystore that Ethereum wallets exchange.
//!
//! Export uses scrypt with `N = 2^18, r = 8, p = 1` (256 MiB of memory for one guess) and AES-128-CTR; import takes scrypt and
//! PBKDF2-HMAC-SHA256 with bounded cost, so that a hostile file cannot exhaust the machine.

use std::num::NonZeroU32;

use alloy_primitives::{Address, hex, keccak256};
use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{KeyError, SecretKey};

/// scrypt's largest accepted cost: `128 · N · r` bytes of memory, here 1 GiB.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
/// scrypt's largest accepted parallelism (time, not memory).
const MAX_SCRYPT_P: u32 = 16;
/// Most PBKDF2 rounds that are tried: about ten seconds.
const MAX_PBKDF2_ROUNDS: u32 = 20_000_000;
/// A keystore file is under 1 KiB; nothing near this size is one.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// How hard it is to guess the passphrase of an exported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kdf {
    /// scrypt `N = 2^18, r = 8, p = 1`: the standard, for files that leave this machine.
    Standard,
    /// scrypt `N = 2^12`: for throw-away development keys only.
    Development,
}

/// Chance, as an argument: made by the caller from the system's generator and used once.
#[derive(Debug, Clone, Copy)]
pub struct KeystoreSalt {
    /// Salt of the key derivation.
    pub salt: [u8; 32],
    /// Initial counter of AES-CTR.
    pub iv: [u8; 16],
    /// The file's UUID (version 4 bits are set here).
    pub id: [u8; 16],
}

/// Why a keystore file was not opened or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// Not a keystore file at all.
    #[error("not a version 3 keystore file: {0}")]
    Format(String),
    /// A cipher or KDF that this reader does not know.
    #[error("unsupported {what} {name:?} in the keystore file")]
    Unsupported {
        /// `cipher` or `kdf`.
        what: &'static str,
        /// What the file asks for.
        name: String,
    },
    /// Parameters so costly that they look like an attack.
    #[error(
        "the keystore file asks for more memory or time than is sane; re-export it with standard parameters"
    )]
    TooCostly,
    /// The passphrase is wrong, or the file damaged: the format cannot tell the two apart.
    #[error("wrong passphrase, or a damaged keystore file")]
    WrongPassphrase,
    /// The decrypted bytes are no key.
    #[error("the keystore file holds no valid key: {0}")]
    Key(#[from] KeyError),
    /// The file names another address than its key has.
    #[error("the keystore file names {named} but its key belongs to {actual}")]
    AddressMismatch {
        /// The file's `address`.
        named: String,
        /// The key's address.
        actual: Address,
    },
}

#[derive(Serialize, Deserialize)]
struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    #[serde(default)]
    id: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: KdfParams,
    mac: String,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Serialize, Deserialize)]
struct KdfParams {
    dklen: u32,
    salt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prf: Option<String>,
}

/// Encrypts `key` under `passphrase` and returns the JSON text of the file.
///
/// # Errors
/// [`KeystoreError::TooCostly`] if the machine's scrypt refuses the parameters.
pub fn seal_keystore(
    key: &SecretKey,
    passphrase: &str,
    kdf: Kdf,
    chance: &KeystoreSalt,
) -> Result<String, KeystoreError> {
    let log_n: u8 = match kdf {
        Kdf::Standard => 18,
        Kdf::Development => 12,
    };
    let derived = derive_scrypt(passphrase, &chance.salt, 1 << log_n, 8, 1)?;
    let mut ciphertext = key.to_bytes().to_vec();
    apply_ctr(&derived, chance.iv, &mut ciphertext, Direction::Seal)?;
    let params = KdfParams {
        dklen: 32,
        salt: hex::encode(chance.salt),
        n: Some(1 << log_n),
        r: Some(8),
        p: Some(1),
        c: None,
        prf: None,
    };
    let file = File {
        address: Some(hex::encode(key.address())),
        crypto: Crypto {
            cipher: "aes-128-ctr".into(),
            cipherparams: CipherParams {
                iv: hex::encode(chance.iv),
            },
            mac: hex::encode(mac(&derived, &ciphertext)),
            ciphertext: hex::encode(&ciphertext),
            kdf: "scrypt".into(),
            kdfparams: params,
        },
        id: uuid(chance.id),
        version: 3,
    };
    serde_json::to_string_pretty(&file).map_err(|error| KeystoreError::Format(error.to_string()))
}

/// Decrypts a keystore file.
///
/// # Errors
/// See [`KeystoreError`]; a wrong passphrase is [`KeystoreError::WrongPassphrase`].
pub fn open_keystore(json: &str, passphrase: &str) -> Result<SecretKey, KeystoreError> {
    let file = parse(json)?;
    let crypto = &file.crypto;
    if crypto.cipher != "aes-128-ctr" {
        return Err(KeystoreError::Unsupported {
            what: "cipher",
            name: crypto.cipher.clone(),
        });
    }
    let ciphertext = decode("ciphertext", &crypto.ciphertext)?;
    let iv: [u8; 16] = decode("iv", &crypto.cipherparams.iv)?
        .try_into()
        .map_err(|_| KeystoreError::Format("iv is not 16 bytes".into()))?;
    let derived = derive(crypto, passphrase)?;
    let named = decode("mac", &crypto.mac)?;
    verify_slices_are_equal(&mac(&derived, &ciphertext), &named)
        .map_err(|_| KeystoreError::WrongPassphrase)?;
    let mut secret = Zeroizing::new(ciphertext);
    apply_ctr(&derived, iv, &mut secret, Direction::Open)?;
    let bytes: [u8; 32] = secret
        .as_slice()
        .try_into()
        .map_err(|_| KeystoreError::Format("the key is not 32 bytes".into()))?;
    let key = SecretKey::from_bytes(bytes)?;
    match file.address {
        Some(named)
            if !named
                .trim_start_matches("0x")
                .eq_ignore_ascii_case(&hex::encode(key.address())) =>
        {
            Err(KeystoreError::AddressMismatch {
                named,
                actual: key.address(),
            })
        }
        Some(_) | None => Ok(key),
    }
}

/// The address that a keystore file names, readable without its passphrase; `None` where it names none.
///
/// # Errors
/// [`KeystoreError::Format`].
pub fn keystore_address(json: &str) -> Result<Option<Address>, KeystoreError> {
    let Some(named) = parse(json)?.address else {
        return Ok(None);
    };
    let bytes = decode("address", named.trim_start_matches("0x"))?;
    match <[u8; 20]>::try_from(bytes.as_slice()) {
        Ok(address) => Ok(Some(Address::from(address))),
        Err(_) => Err(KeystoreError::Format("address is not 20 bytes".into())),
    }
}

fn parse(json: &str) -> Result<File, KeystoreError> {
    if json.len() > MAX_FILE_BYTES {
        return Err(KeystoreError::Format(
            "the file is larger than 64 KiB".into(),
        ));
    }
    let file: File =
        serde_json::from_str(json).map_err(|error| KeystoreError::Format(error.to_string()))?;
    if file.version != 3 {
        return Err(KeystoreError::Format(format!(
            "version {} instead of 3",
            file.version
        )));
    }
    Ok(file)
}

fn decode(field: &str, text: &str) -> Result<Vec<u8>, KeystoreError> {
    hex::decode(text).map_err(|error| KeystoreError::Format(format!("{field}: {error}")))
}

fn derive(crypto: &Crypto, passphrase: &str) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let params = &crypto.kdfparams;
    let missing = |name: &str| KeystoreError::Format(format!("kdfparams.{name} is missing"));
    if params.dklen != 32 {
        return Err(KeystoreError::Unsupported {
            what: "kdf",
            name: format!("dklen {}", params.dklen),
        });
    }
    let salt = decode("salt", &params.salt)?;
    match crypto.kdf.as_str() {
        "scrypt" => {
            let n = params.n.ok_or_else(|| missing("n"))?;
            let r = params.r.ok_or_else(|| missing("r"))?;
            let p = params.p.ok_or_else(|| missing("p"))?;
            derive_scrypt(passphrase, &salt, n, r, p)
        }
        "pbkdf2" => {
            let rounds = params
                .c
                .and_then(NonZeroU32::new)
                .ok_or_else(|| missing("c"))?;
            if params.prf.as_deref() != Some("hmac-sha256") {
                return Err(KeystoreError::Unsupported {
                    what: "kdf",
                    name: format!(
                        "pbkdf2 with {:?}",
                        params.prf.as_deref().unwrap_or("no prf")
                    ),
                });
            }
            if rounds.get() > MAX_PBKDF2_ROUNDS {
                return Err(KeystoreError::TooCostly);
            }
            let mut derived = Zeroizing::new([0; 32]);
            pbkdf2::derive(
                pbkdf2::PBKDF2_HMAC_SHA256,
                rounds,
                &salt,
                passphrase.as_bytes(),
                &mut *derived,
            );
            Ok(derived)
        }
        other => Err(KeystoreError::Unsupported {
            what: "kdf",
            name: other.to_owned(),
        }),
    }
}

fn derive_scrypt(
    passphrase: &str,
    salt: &[u8],
    n: u64,
    r: u32,
    p: u32,
) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
        return Err(KeystoreError::Format(
            "scrypt parameters: n must be a power of two, r and p positive".into(),
        ));
    }
    let memory = n.checked_mul(u64::from(r)).and_then(|v| v.checked_mul(128));
    if memory.is_none_or(|bytes| bytes > MAX_SCRYPT_BYTES) || p > MAX_SCRYPT_P {
        return Err(KeystoreError::TooCostly);
    }
    let log_n = u8::try_from(n.trailing_zeros()).map_err(|_| KeystoreError::TooCostly)?;
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| KeystoreError::TooCostly)?;
    let mut derived = Zeroizing::new([0; 32]);
    scrypt::scrypt(passphrase.as_bytes(), salt, &params, &mut *derived)
        .map_err(|_| KeystoreError::TooCostly)?;
    Ok(derived)
}

fn mac(derived: &[u8; 32], ciphertext: &[u8]) -> [u8; 32] {
    keccak256([&derived[16..], ciphertext].concat()).0
}

#[derive(Clone, Copy)]
enum Direction {
    Seal,
    Open,
}

fn apply_ctr(
    derived: &[u8; 32],
    iv: [u8; 16],
    bytes: &mut [u8],
    direction: Direction,
) -> Result<(), KeystoreError> {
    let refused = |_| KeystoreError::Format("the cipher refused".into());
    let key = UnboundCipherKey::new(&AES_128, &derived[..16]).map_err(refused)?;
    let iv = FixedLength::from(iv);
    match direction {
        Direction::Seal => {
            let key = EncryptingKey::ctr(key).map_err(refused)?;
            key.less_safe_encrypt(bytes, EncryptionContext::Iv128(iv))
                .map_err(refused)?;
        }
        Direction::Open => {
            let key = DecryptingKey::ctr(key).map_err(refused)?;
            key.decrypt(bytes, DecryptionContext::Iv128(iv))
                .map_err(refused)?;
        }
    }
    Ok(())
}

fn uuid(mut id: [u8; 16]) -> String {
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    let text = hex::encode(id);
    format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    )
}

#[cfg(test)]
mod tests;
