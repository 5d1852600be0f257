//! The published test vectors of the format, the round trip, and hostile files.
#![allow(clippy::unwrap_used)]

use super::*;

const SECRET: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
const SCRYPT: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"83dbcc02d8ccb40e466191a123791e0e"},
"ciphertext":"d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c","kdf":"scrypt","kdfparams":{"dklen":32,
"n":262144,"p":8,"r":1,"salt":"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},
"mac":"2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
const PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":{"c":262144,
"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

fn chance() -> KeystoreSalt {
    KeystoreSalt {
        salt: [1; 32],
        iv: [2; 16],
        id: [3; 16],
    }
}

#[test]
fn the_published_vectors_open() {
    for file in [SCRYPT, PBKDF2] {
        let key = open_keystore(file, "testpassword").unwrap();
        assert_eq!(hex::encode(*key.to_bytes()), SECRET);
    }
}

#[test]
fn what_is_sealed_opens_again_and_only_with_its_passphrase() {
    let key = SecretKey::from_bytes([8; 32]).unwrap();
    let file = seal_keystore(&key, "correct horse", Kdf::Development, &chance()).unwrap();
    assert_eq!(keystore_address(&file).unwrap(), Some(key.address()));
    assert_eq!(
        open_keystore(&file, "correct horse").unwrap().to_bytes(),
        key.to_bytes()
    );
    assert_eq!(
        open_keystore(&file, "wrong").unwrap_err(),
        KeystoreError::WrongPassphrase
    );
    assert!(!file.contains(&hex::encode([8u8; 32])));
}

#[test]
fn the_standard_export_asks_for_256_mib() {
    let key = SecretKey::from_bytes([8; 32]).unwrap();
    let file = seal_keystore(&key, "x", Kdf::Standard, &chance()).unwrap();
    assert!(
        file.contains("\"n\": 262144") && file.contains("\"r\": 8"),
        "{file}"
    );
}

#[test]
fn hostile_files_are_refused_with_a_reason() {
    let costly = SCRYPT.replace("\"n\":262144", "\"n\":1073741824");
    assert_eq!(
        open_keystore(&costly, "x").unwrap_err(),
        KeystoreError::TooCostly
    );
    let odd = SCRYPT.replace("\"n\":262144", "\"n\":262143");
    assert!(matches!(
        open_keystore(&odd, "x").unwrap_err(),
        KeystoreError::Format(_)
    ));
    let cipher = SCRYPT.replace("aes-128-ctr", "rot13");
    assert!(matches!(
        open_keystore(&cipher, "x").unwrap_err(),
        KeystoreError::Unsupported { what: "cipher", .. }
    ));
    let version = SCRYPT.replace("\"version\":3", "\"version\":4");
    assert!(
        open_keystore(&version, "x")
            .unwrap_err()
            .to_string()
            .contains("version 4")
    );
    for junk in ["", "{}", "[]", "null", "{\"version\":3}"] {
        assert!(matches!(
            open_keystore(junk, "x").unwrap_err(),
            KeystoreError::Format(_)
        ));
    }
}

#[test]
fn a_file_with_a_foreign_address_is_refused() {
    let key = SecretKey::from_bytes([8; 32]).unwrap();
    let file = seal_keystore(&key, "x", Kdf::Development, &chance()).unwrap();
    let foreign = file.replace(&hex::encode(key.address()), &"11".repeat(20));
    assert!(matches!(
        open_keystore(&foreign, "x").unwrap_err(),
        KeystoreError::AddressMismatch { .. }
    ));
}
