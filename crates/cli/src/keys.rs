//! Keys on disk: identities as keystore files, one directory of them, read and written with the owner's permissions only.

use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use wayfare_identity::{
    Address, Kdf, KeystoreSalt, SecretKey, keystore_address, open_keystore, seal_keystore,
};

use crate::{Failure, Kind, Next};

/// An identity in the keystore directory.
#[derive(Debug, Clone)]
pub struct IdentityFile {
    /// Who.
    pub address: Address,
    /// Where.
    pub path: PathBuf,
}

/// Chance from the operating system.
///
/// # Errors
/// The system has none: nothing that needs a key can go on.
pub fn chance<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).or_fail(
        Kind::Other,
        "the system's random generator failed; nothing can go on",
    )?;
    Ok(bytes)
}

/// Reads the passphrase: from a file (its first line), else from the variable `WAYFARE_PASSPHRASE`, else from the terminal's
/// standard input.
///
/// # Errors
/// An unreadable file, or no passphrase anywhere.
pub fn read_passphrase(
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<String, Failure> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| {
                format!(
                    "cannot read the passphrase file {}: {error}",
                    path.display()
                )
            })
            .or_fail(Kind::Storage, "check passphrase_file")?,
        None => match environment("WAYFARE_PASSPHRASE") {
            Some(passphrase) => passphrase,
            None => {
                // Programs that give it on standard input read no prompts.
                if std::io::stdin().is_terminal() {
                    let _ = write!(std::io::stderr(), "Passphrase of the keystore: ");
                }
                let mut line = String::new();
                std::io::stdin()
                    .lock()
                    .read_line(&mut line)
                    .or_fail(Kind::Storage, "give --set passphrase_file=FILE")?;
                line
            }
        },
    };
    let passphrase = text.lines().next().unwrap_or_default().to_owned();
    if passphrase.is_empty() {
        return Err(Failure::new(Kind::Storage, "the passphrase is empty")
            .next("give --set passphrase_file=FILE or WAYFARE_PASSPHRASE"));
    }
    Ok(passphrase)
}

/// Every identity in a keystore directory; a directory that is not there holds none.
///
/// # Errors
/// An unreadable directory. Files that are no keystores are skipped.
pub fn list_identities(directory: &Path) -> Result<Vec<IdentityFile>, Failure> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Failure::new(
                Kind::Storage,
                format!("cannot read {}: {error}", directory.display()),
            )
            .next("run it as the owner of that directory, or give another --set state_dir=…"));
        }
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if let Ok(address) = address_of(&path) {
            found.push(IdentityFile { address, path });
        }
    }
    found.sort_by_key(|identity| identity.address);
    Ok(found)
}

/// Whose keystore file this is, or why it is none.
fn address_of(path: &Path) -> Result<Address, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match keystore_address(&text) {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err("it names no address".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The first file that ought to be an identity and cannot be read as one. Whoever misses an identity must hear of it before
/// being told to make a new one.
fn damaged(directory: &Path) -> Option<Failure> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .collect();
    files.sort();
    files.into_iter().find_map(|path| {
        let why = address_of(&path).err()?;
        let cause = format!("the keystore file {} is damaged: {why}", path.display());
        Some(
            Failure::new(Kind::Storage, cause)
                .next("put its copy back with `identity import FILE`, or move the file away"),
        )
    })
}

/// Makes a keystore file for a new or imported key.
///
/// # Errors
/// An identity that is there already, or a directory that cannot be written.
pub fn create_identity(
    directory: &Path,
    key: &SecretKey,
    passphrase: &str,
    kdf: Kdf,
) -> Result<IdentityFile, Failure> {
    let address = key.address();
    let path = directory.join(format!("{}.json", address.to_string().to_lowercase()));
    if path.exists() {
        return Err(Failure::new(
            Kind::Busy,
            format!(
                "the identity {address} is already in {}",
                directory.display()
            ),
        )
        .next("nothing was written; `identity list` shows what is there"));
    }
    let salt = KeystoreSalt {
        salt: chance()?,
        iv: chance()?,
        id: chance()?,
    };
    let text = seal_keystore(key, passphrase, kdf, &salt).or_fail(Kind::Storage, "")?;
    write_secret(&path, text.as_bytes())?;
    Ok(IdentityFile { address, path })
}

/// Opens an identity: the one named, or the only one there.
///
/// # Errors
/// None, several and none named, an unknown one, or a wrong passphrase.
pub fn open_identity(
    directory: &Path,
    named: Option<Address>,
    passphrase: &str,
) -> Result<SecretKey, Failure> {
    let found = list_identities(directory)?;
    let chosen = match (named, found.as_slice()) {
        (Some(address), all) => all
            .iter()
            .find(|identity| identity.address == address)
            .ok_or_else(|| {
                damaged(directory).unwrap_or_else(|| {
                    Failure::new(
                        Kind::Storage,
                        format!("no identity {address} in {}", directory.display()),
                    )
                    .next("`identity list` shows what is there, `identity import` adds one")
                })
            })?,
        (None, [only]) => only,
        (None, []) => {
            return Err(damaged(directory).unwrap_or_else(|| {
                Failure::new(
                    Kind::Storage,
                    format!("no identity in {}", directory.display()),
                )
                .next("make one with `identity new`")
            }));
        }
        (None, several) => {
            return Err(Failure::new(
                Kind::Usage,
                format!("{} identities in {}", several.len(), directory.display()),
            )
            .next("choose one with --set identity=0x…"));
        }
    };
    let text = std::fs::read_to_string(&chosen.path)
        .or_fail(Kind::Storage, "check the keystore's permissions")?;
    open_keystore(&text, passphrase)
        .map_err(|error| format!("{}: {error}", chosen.path.display()))
        .or_fail(
            Kind::Storage,
            "check the passphrase (passphrase_file, WAYFARE_PASSPHRASE); if it is right, put a copy of the file back",
        )
}

/// Writes a file that only its owner may read, whole or not at all, durably.
///
/// # Errors
/// Whatever the disk says.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let fail = |error: std::io::Error| {
        Failure::new(
            Kind::Storage,
            format!("cannot write {}: {error}", path.display()),
        )
        .next("check that the directory may be written and the disk has room")
    };
    if !directory.exists() {
        std::fs::create_dir_all(directory).map_err(fail)?;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
            .map_err(fail)?;
    }
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    std::fs::rename(&temporary, path).map_err(fail)?;
    std::fs::File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(fail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_damaged_file_is_named_rather_than_a_new_identity_advised() {
        let keystore = tempfile::tempdir().unwrap();
        let key = SecretKey::from_bytes([7; 32]).unwrap();
        let made = create_identity(keystore.path(), &key, "x", Kdf::Development).unwrap();
        std::fs::write(&made.path, "{\"address\": 7").unwrap();
        for named in [None, Some(key.address())] {
            let failure = open_identity(keystore.path(), named, "x").unwrap_err();
            assert_eq!(failure.kind, Kind::Storage);
            let told = failure.to_string();
            assert!(
                told.contains("is damaged") && !told.contains("identity new"),
                "{told}"
            );
        }
    }

    #[test]
    fn an_identity_is_made_listed_opened_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let keystore = directory.path().join("keystore");
        assert!(
            open_identity(&keystore, None, "x")
                .unwrap_err()
                .to_string()
                .contains("identity new")
        );
        let key = SecretKey::from_bytes([7; 32]).unwrap();
        let made = create_identity(&keystore, &key, "x", Kdf::Development).unwrap();
        assert_eq!(
            std::fs::metadata(&made.path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(list_identities(&keystore).unwrap().len(), 1);
        assert_eq!(
            open_identity(&keystore, None, "x").unwrap().address(),
            key.address()
        );
        assert_eq!(
            open_identity(&keystore, None, "y").unwrap_err().kind,
            Kind::Storage
        );
        assert_eq!(
            create_identity(&keystore, &key, "x", Kdf::Development)
                .unwrap_err()
                .kind,
            Kind::Busy
        );
        let other = SecretKey::from_bytes([8; 32]).unwrap();
        create_identity(&keystore, &other, "x", Kdf::Development).unwrap();
        assert_eq!(
            open_identity(&keystore, None, "x").unwrap_err().kind,
            Kind::Usage
        );
        assert_eq!(
            open_identity(&keystore, Some(other.address()), "x")
                .unwrap()
                .address(),
            other.address()
        );
    }
}
