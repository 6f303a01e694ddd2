//! Relays of the own network, found without configuration.
//!
//! Here: one module for each step. `interface` chooses the network, `announce` tells it of a relay, `port`
//! keeps the relay's port, `answer` reads what others announce, `find` decides which of them a client uses,
//! `memory` keeps these. Not here: flags (`cli::lan`), sessions (`ringway-client`).
//!
//! Invariant: an announcement is a hint where to look. Who a relay is, only its handshake proves.

pub(crate) mod announce;
mod answer;
pub(crate) mod find;
pub(crate) mod interface;
mod memory;
pub(crate) mod port;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use mdns_sd::{IfKind, ServiceDaemon};

use interface::Network;

use crate::failure::Failure;
use crate::key_file;

/// What relays are announced as.
const SERVICE: &str = "_ringway._tcp.local.";

/// The TXT value that holds the relay's key, in hex.
const TXT_KEY: &str = "key";

/// The TXT value that says what the announcement means.
const TXT_VERSION: &str = "v";

/// What [`TXT_VERSION`] is here; announcements with another one are skipped.
const VERSION: &str = "1";

/// Starts to speak mDNS on one network and on no other.
fn daemon(network: &Network) -> Result<ServiceDaemon, Failure> {
    let failure = |error| Failure::host("cannot speak mDNS", error);
    let daemon = ServiceDaemon::new().map_err(failure)?;
    daemon.disable_interface(IfKind::All).map_err(failure)?;
    daemon.enable_interface(kinds(network)).map_err(failure)?;
    Ok(daemon)
}

/// Returns the interface by its private addresses: an address family without one is not spoken.
fn kinds(network: &Network) -> Vec<IfKind> {
    network.addresses().map(IfKind::Addr).collect()
}

/// Reads a small file; `None` when there is none.
fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(found) if found.len() > bytes_max => Err(io::Error::other(format!(
            "it has more than {bytes_max} bytes"
        ))),
        Ok(_) => fs::read(path).map(Some),
    }
}

/// Writes a small file whole beside the old one, which it then replaces.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
