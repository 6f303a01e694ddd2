//! Small files that the program keeps for itself: whole or not at all, for its user alone.
//!
//! Here: reading with a bound, replacing. Not here: what they hold.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::key_file;

/// Reads a file of at most `bytes_max` bytes; `None` when there is none.
///
/// # Errors
///
/// The system's, and when it is longer.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(found) if found.len() > bytes_max => Err(io::Error::other(format!(
            "it has more than {bytes_max} bytes"
        ))),
        Ok(_) => fs::read(path).map(Some),
    }
}

/// Writes a file whole beside the old one, which it then replaces: an end at any moment leaves one of the
/// two.
///
/// # Errors
///
/// The system's; the old file stands.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700).create(directory)?;
    }
    // Two processes may write at once: each has a file of its own.
    let mark = key_file::random::<8>().map_err(io::Error::other)?;
    let beside = path.with_extension(format!("{}.new", key_file::hex(&mark)));
    let mut options = fs::OpenOptions::new();
    let written = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What is left of it is of no use; the error that counts is the first.
        drop(fs::remove_file(&beside));
    }
    written
}
