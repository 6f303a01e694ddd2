//! Secret keys on disk.
//!
//! Here: reading with a check of the permissions, writing so that a crash or a full disk never leaves
//! half a key or loses the old one, the lock that keeps two processes from being one party. Not here:
//! what the key is for.
//!
//! A key file is text: lines starting with `#` are notes, the one other line is the secret in 64 lower-case
//! hex digits: the ed25519 seed of a native key, the scalar of one of the dmsg dialect. Which of the two it
//! is shows in the note of its public key, which is read as well: a file of one dialect is none of the other.
//!
//! Invariant: a key file written here has mode 0600 from its first byte on.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ringway_client::Identity;
use ringway_proto::dialect::Dialect;
use ringway_proto::dmsg;
use ringway_proto::key::{PublicKey, SecretKey};
use rustix::fs::FlockOperation;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::proc_text;

/// Why a key file could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Another process uses the key.
    #[error(
        "the key {} is in use by {}: stop that process, or start this one with another key ({fix})",
        .path.display(), holder_text(*.holder)
    )]
    Busy {
        /// The file.
        path: PathBuf,
        /// The process that holds it, where the kernel tells.
        holder: Option<u32>,
        /// How to start beside it.
        fix: &'static str,
    },
    /// The content is no key.
    #[error(
        "{} is no key file: {what}. Restore it from a backup, or write a new key with \
         `ringway keygen --force {}`",
        .path.display(), .path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The file is there and must not be replaced.
    #[error(
        "{} exists and holds a key: a new key makes this party unreachable under its old address. \
         Show the address with --show, or replace the key with --force",
        .path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error(
        "no space left to store the key {}: free some (`df -h {}`), or choose another place with \
         --key-file or --state-dir; nothing was changed",
        .path.display(), parent(.path).display()
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Neither `XDG_STATE_HOME` nor `HOME` says where state belongs.
    #[error(
        "no place to keep keys: neither XDG_STATE_HOME nor HOME is set; name one with --state-dir"
    )]
    NoStateDirectory,
    /// The operating system refused.
    #[error("cannot {action} {}{}", .path.display(), permission_fix(.source))]
    Os {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read the key.
    #[error(
        "{} has mode {mode:04o}, so other users can read the key: run `chmod 600 {}`, and write a new \
         key if others have been on this host",
        .path.display(), .path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// The secret key of some dialect, as files keep it.
pub(crate) trait Secret: Sized {
    /// Returns the key with these bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    fn from_bytes(bytes: [u8; 32]) -> Result<Self, &'static str>;
    /// Returns the bytes, to be stored.
    fn bytes(&self) -> &[u8; 32];
    /// Returns the address of the party.
    fn public(&self) -> PublicKey;
}

impl Secret for SecretKey {
    fn from_bytes(bytes: [u8; 32]) -> Result<Self, &'static str> {
        Ok(Self::from_seed(bytes))
    }

    fn bytes(&self) -> &[u8; 32] {
        self.seed()
    }

    fn public(&self) -> PublicKey {
        self.public()
    }
}

impl Secret for dmsg::key::SecretKey {
    fn from_bytes(bytes: [u8; 32]) -> Result<Self, &'static str> {
        Self::from_bytes(bytes).map_err(|_| "the number is no secret key of secp256k1")
    }

    fn bytes(&self) -> &[u8; 32] {
        self.bytes()
    }

    fn public(&self) -> PublicKey {
        self.public()
    }
}

/// A key whose file is locked for this process as long as the value lives.
#[derive(Debug)]
pub(crate) struct HeldKey<S = SecretKey> {
    /// The key.
    pub(crate) secret: S,
    /// Holds the lock; the kernel lets it go when the file is closed, at a crash too.
    _lock: File,
}

impl<S> HeldKey<S> {
    /// Makes something else of the key; the lock stays with it.
    pub(crate) fn map<T>(self, make: impl FnOnce(S) -> T) -> HeldKey<T> {
        HeldKey {
            secret: make(self.secret),
            _lock: self._lock,
        }
    }
}

/// Reads the key at `path`, or makes one there first; holds it for this process.
///
/// # Errors
///
/// [`KeyFileError`]; `fix` is what [`KeyFileError::Busy`] tells the user to change.
pub(crate) fn hold<S: Secret>(path: &Path, fix: &'static str) -> Result<HeldKey<S>, KeyFileError> {
    let missing = |error: &KeyFileError| matches!(error, KeyFileError::Os { source, .. } if source.kind() == io::ErrorKind::NotFound);
    let (secret, lock) = match read(path) {
        Err(error) if missing(&error) => {
            match store(path, &generate::<S>()?, Replace::Never) {
                // Another process that started in the same moment made one: that is the key.
                Ok(()) | Err(KeyFileError::Exists { .. }) => {}
                Err(error) => return Err(error),
            }
            read(path)?
        }
        other => other?,
    };
    if let Err(error) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(os("lock", path, error.into()));
        }
        let inode = lock.metadata().map_or(0, |metadata| metadata.ino());
        return Err(KeyFileError::Busy {
            path: path.to_owned(),
            holder: lock_holder(inode),
            fix,
        });
    }
    Ok(HeldKey {
        secret,
        _lock: lock,
    })
}

/// Reads the key at `path`.
///
/// # Errors
///
/// [`KeyFileError`] of reading.
pub(crate) fn load<S: Secret>(path: &Path) -> Result<S, KeyFileError> {
    read(path).map(|(secret, _)| secret)
}

/// Returns a fresh key.
///
/// # Errors
///
/// [`KeyFileError::Os`] when the kernel gives no random bytes.
pub(crate) fn generate<S: Secret>() -> Result<S, KeyFileError> {
    loop {
        let bytes = Zeroizing::new(random()?);
        // Not every number is a key of every dialect; of 2^128 that are drawn, one at most is none.
        if let Ok(secret) = S::from_bytes(*bytes) {
            return Ok(secret);
        }
    }
}

/// Returns who a party is: by the key at `path` if there is one, else by a fresh key.
///
/// # Errors
///
/// [`KeyFileError`] of reading, and [`KeyFileError::Os`] when the kernel gives no random bytes.
pub(crate) fn identity(path: Option<&Path>, dialect: Dialect) -> Result<Identity, KeyFileError> {
    fn of<S: Secret + Into<Identity>>(path: Option<&Path>) -> Result<Identity, KeyFileError> {
        path.map_or_else(generate::<S>, load).map(Into::into)
    }
    match dialect {
        Dialect::Dmsg => of::<dmsg::key::SecretKey>(path),
        _ => of::<SecretKey>(path),
    }
}

/// Whether a key that is already there may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replace {
    /// It may.
    Allowed,
    /// It may not.
    Never,
}

/// Stores `secret` at `path`, whole or not at all, and makes it survive a crash.
///
/// # Errors
///
/// [`KeyFileError::Exists`] when there is one and it must stay; [`KeyFileError::Full`] and
/// [`KeyFileError::Os`] leave what was there untouched.
pub(crate) fn store<S: Secret>(
    path: &Path,
    secret: &S,
    replace: Replace,
) -> Result<(), KeyFileError> {
    let directory = parent(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| os("create the directory", directory, error))?;
    if replace == Replace::Never && path.symlink_metadata().is_ok() {
        return Err(KeyFileError::Exists {
            path: path.to_owned(),
        });
    }
    let temporary = beside(path)?;
    let outcome = write_synced(&temporary, secret)
        .map_err(|error| os("write the key", path, error))
        .and_then(|()| publish(&temporary, path, replace));
    // After a rename it is gone; after anything else it must go.
    drop(fs::remove_file(&temporary));
    outcome?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| os("store the name of the key in", directory, error))
}

/// Returns the directory that keeps keys and other state.
///
/// The flag, then `XDG_STATE_HOME/ringway`, then `HOME/.local/state/ringway`; relative values of
/// `XDG_STATE_HOME` are ignored, as its specification asks.
///
/// # Errors
///
/// [`KeyFileError::NoStateDirectory`].
pub(crate) fn state_directory(flag: Option<&Path>) -> Result<PathBuf, KeyFileError> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    if let Some(directory) = flag {
        return Ok(directory.to_owned());
    }
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("ringway"))
        .ok_or(KeyFileError::NoStateDirectory)
}

/// Returns bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns fresh random bytes.
///
/// # Errors
///
/// [`KeyFileError::Os`] when the kernel gives none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyFileError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        os(
            "read random bytes from",
            Path::new("getrandom(2)"),
            error.into(),
        )
    })?;
    Ok(bytes)
}

fn read<S: Secret>(path: &Path) -> Result<(S, File), KeyFileError> {
    let file = File::open(path).map_err(|error| os("read the key", path, error))?;
    let metadata = file
        .metadata()
        .map_err(|error| os("read the key", path, error))?;
    let content = |what| KeyFileError::Content {
        path: path.to_owned(),
        what,
    };
    if !metadata.is_file() {
        return Err(content("it is no regular file"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    // Room for all of it from the start: a buffer that grows leaves copies that nobody wipes.
    let mut text = Zeroizing::new(String::with_capacity(FILE_BUFFER_BYTES));
    (&file)
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => content("it is not text"),
            _ => os("read the key", path, error),
        })?;
    parse(&text).map(|secret| (secret, file)).map_err(content)
}

fn parse<S: Secret>(text: &str) -> Result<S, &'static str> {
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    let line = lines.next().ok_or("it is empty")?;
    if lines.next().is_some() {
        return Err("it has more than one line besides notes");
    }
    let secret = parse_hex::<S>(line)?;
    let noted = text.lines().find_map(|line| line.strip_prefix(PUBLIC_NOTE));
    if noted.is_some_and(|noted| noted.trim() != secret.public().to_string()) {
        return Err("the public key that it notes is not that of its secret key in this dialect");
    }
    Ok(secret)
}

/// Reads a secret key in hex digits.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn parse_hex<S: Secret>(line: &str) -> Result<S, &'static str> {
    if line.len() != 64 {
        return Err("the key is not 64 characters long");
    }
    let mut seed = Zeroizing::new([0; 32]);
    for (byte, digits) in seed.iter_mut().zip(line.as_bytes().chunks_exact(2)) {
        let value = |at: usize| HEX_DIGITS.iter().position(|digit| *digit == digits[at]);
        let pair = value(0).zip(value(1)).map(|(high, low)| high << 4 | low);
        *byte = pair
            .and_then(|pair| u8::try_from(pair).ok())
            .ok_or("the key has a character that is no lower-case hex digit")?;
    }
    S::from_bytes(*seed)
}

/// How the line begins that notes the public key.
const PUBLIC_NOTE: &str = "# Public key: ";

fn write_synced(path: &Path, secret: &impl Secret) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(
        file,
        "# Secret key of a Ringway party: keep it private, keep a backup."
    )?;
    writeln!(file, "{PUBLIC_NOTE}{}", secret.public())?;
    file.write_all(seed_line(secret).as_slice())?;
    file.sync_all()
}

/// Returns the line that holds the key; unlike what formatting makes, it is wiped.
fn seed_line(secret: &impl Secret) -> Zeroizing<[u8; 65]> {
    let mut line = Zeroizing::new([b'\n'; 65]);
    for (digits, byte) in line.chunks_exact_mut(2).zip(secret.bytes()) {
        digits[0] = HEX_DIGITS[usize::from(byte >> 4)];
        digits[1] = HEX_DIGITS[usize::from(byte & 15)];
    }
    line
}

fn publish(temporary: &Path, path: &Path, replace: Replace) -> Result<(), KeyFileError> {
    let outcome = match replace {
        Replace::Allowed => fs::rename(temporary, path),
        // A link is made only where nothing is, so a key made in this moment is not lost.
        Replace::Never => fs::hard_link(temporary, path),
    };
    outcome.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists {
            path: path.to_owned(),
        },
        _ => os("store the key", path, error),
    })
}

fn beside(path: &Path) -> Result<PathBuf, KeyFileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", hex(&random::<8>()?)));
    Ok(path.with_file_name(name))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn os(action: &'static str, path: &Path, source: io::Error) -> KeyFileError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => KeyFileError::Full { path },
        _ => KeyFileError::Os {
            action,
            path,
            source,
        },
    }
}

fn permission_fix(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": this user may not; change the owner (`chown`), or choose another place with \
             --key-file or --state-dir"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ": choose a writable place with --key-file or --state-dir"
        }
        _ => "",
    }
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

fn lock_holder(inode: u64) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    proc_text::lock_holder(&locks, inode)
}

/// Longest key file in bytes: the key, the notes written here, and room for some of the owner's.
const FILE_BYTES_MAX: u64 = 4_096;

/// Buffer for a key file: the longest one, and the free space without which a reader would grow it.
const FILE_BUFFER_BYTES: usize = 8_192;

/// Digits of a key in its text form.
const HEX_DIGITS: [u8; 16] = *b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn stored_key_is_private_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/relay.key");
        let secret: SecretKey = generate().unwrap();
        store(&path, &secret, Replace::Never).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(load::<SecretKey>(&path).unwrap().seed(), secret.seed());
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "the temporary file is gone");
    }

    #[test]
    fn existing_key_is_replaced_only_when_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.key");
        let (first, second): (SecretKey, SecretKey) = (generate().unwrap(), generate().unwrap());
        store(&path, &first, Replace::Never).unwrap();
        let error = store(&path, &second, Replace::Never).unwrap_err();
        assert!(matches!(error, KeyFileError::Exists { .. }));
        assert_eq!(load::<SecretKey>(&path).unwrap().seed(), first.seed());
        store(&path, &second, Replace::Allowed).unwrap();
        assert_eq!(load::<SecretKey>(&path).unwrap().seed(), second.seed());
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn open_modes_are_refused_with_the_fix() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.key");
        store(&path, &generate::<SecretKey>().unwrap(), Replace::Never).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let text = load::<SecretKey>(&path).unwrap_err().to_string();
        assert!(
            text.contains("mode 0640") && text.contains("chmod 600"),
            "{text}"
        );
    }

    #[test]
    fn second_holder_is_told_who_holds_the_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.key");
        let held = hold::<SecretKey>(&path, "--state-dir").unwrap();
        let text = hold::<SecretKey>(&path, "--state-dir")
            .unwrap_err()
            .to_string();
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        assert!(text.contains("--state-dir"), "{text}");
        drop(held);
        hold::<SecretKey>(&path, "--state-dir").unwrap();
    }

    #[test]
    fn damaged_keys_are_named() {
        for (text, part) in [
            ("", "empty"),
            ("# only a note\n", "empty"),
            ("abc\n", "64 characters"),
            (&"g".repeat(64), "hex digit"),
            (&"AB".repeat(32), "hex digit"),
            (
                &format!("{0}\n{0}\n", "ab".repeat(32)),
                "more than one line",
            ),
        ] {
            assert!(
                parse::<SecretKey>(text).unwrap_err().contains(part),
                "{text:?}"
            );
        }
        assert!(parse::<SecretKey>(&format!("# note\n\n{}\r\n", "ab".repeat(32))).is_ok());
    }

    #[test]
    fn full_disk_is_told_apart() {
        let error = os(
            "write the key",
            Path::new("/x/y"),
            io::ErrorKind::StorageFull.into(),
        );
        assert!(error.to_string().contains("df -h /x"), "{error}");
        let denied = os(
            "write the key",
            Path::new("/x/y"),
            io::ErrorKind::PermissionDenied.into(),
        );
        assert!(denied.to_string().contains("--state-dir"), "{denied}");
    }
}
