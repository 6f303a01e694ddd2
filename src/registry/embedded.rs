//! The registry in the relay itself: a file with the relays that links have stood with.
//!
//! Who has which peer such relays tell each other over their links; the file only lets a relay that starts
//! anew dial those it knew before, besides those that its configuration names.
//!
//! Here: the file. Not here: who is dialed (`service`), links.
//!
//! Invariant: the file is written whole beside the old one and takes its place, so that an end at any
//! moment leaves one of the two. Bound: `RELAYS_MAX` relays, `FILE_BYTES_MAX` bytes.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway_proto::entry::RelayEntry;
use ringway_proto::key::PublicKey;
use serde::{Deserialize, Serialize};

use super::{KnownRelay, Lease, Notices, PeerRecord, Registry, RegistryError, Session, Update};
use crate::small_file;

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct Embedded {
    path: PathBuf,
}

/// What it holds, in memory.
#[derive(Debug)]
pub(crate) struct Fleet {
    path: PathBuf,
    relays: BTreeMap<String, Line>,
}

/// One relay in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    /// Where it listens.
    address: SocketAddr,
    /// Seconds since 1970 when a link with it stood last, to the day.
    seen_s: u64,
}

impl Embedded {
    /// Returns the registry that keeps its relays in `path`.
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Registry for Embedded {
    type Session = Fleet;

    async fn connect(&self) -> Result<Fleet, RegistryError> {
        let path = self.path.clone();
        let relays = read(&path).map_err(|source| failure(&path, source))?;
        Ok(Fleet { path, relays })
    }
}

impl Session for Fleet {
    async fn renew(&mut self, _: &RelayEntry, _: Duration) -> Result<Lease, RegistryError> {
        Ok(Lease::Stood)
    }

    async fn leave(&mut self, _: &RelayEntry) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn relays(&mut self) -> Result<Vec<KnownRelay>, RegistryError> {
        let known = self.relays.iter().filter_map(|(key, line)| {
            Some(KnownRelay {
                relay: key.parse().ok()?,
                epoch: None,
                address: Some(line.address),
            })
        });
        Ok(known.collect())
    }

    async fn remember(
        &mut self,
        relays: &[(PublicKey, Option<SocketAddr>)],
    ) -> Result<(), RegistryError> {
        let before = self.relays.clone();
        let seen_s = today_s();
        for (key, address) in relays {
            if let Some(address) = *address {
                self.relays
                    .insert(key.to_string(), Line { address, seen_s });
            }
        }
        self.relays
            .retain(|_, line| line.seen_s.saturating_add(FORGET_AFTER_S) > seen_s);
        while self.relays.len() > RELAYS_MAX
            && let Some(oldest) = self.oldest()
        {
            self.relays.remove(&oldest);
        }
        if self.relays == before {
            return Ok(());
        }
        write(&self.path, &self.relays).map_err(|source| failure(&self.path, source))
    }

    async fn write(&mut self, _: &RelayEntry, _: &[Update]) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn find(
        &mut self,
        peers: &[PublicKey],
    ) -> Result<Vec<Option<PeerRecord>>, RegistryError> {
        Ok(vec![None; peers.len()])
    }

    async fn scan(&mut self, _: &RelayEntry) -> Result<Vec<PeerRecord>, RegistryError> {
        Ok(Vec::new())
    }

    async fn reap(&mut self, _: &[PeerRecord]) -> Result<u64, RegistryError> {
        Ok(0)
    }

    fn take_notices(&mut self) -> Notices {
        Notices::default()
    }
}

impl Fleet {
    fn oldest(&self) -> Option<String> {
        let oldest = self.relays.iter().min_by_key(|(_, line)| line.seen_s);
        oldest.map(|(key, _)| key.clone())
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Line>> {
    let Some(text) = small_file::read(path, FILE_BYTES_MAX)? else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_slice(&text).map_err(|error| {
        io::Error::other(format!(
            "no list of relays ({error}); remove it, and the relay learns them again"
        ))
    })
}

fn write(path: &Path, relays: &BTreeMap<String, Line>) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(relays).map_err(io::Error::other)?;
    small_file::write(path, &text)
}

fn failure(path: &Path, source: io::Error) -> RegistryError {
    RegistryError::File {
        path: path.display().to_string(),
        source,
    }
}

/// Returns the time in seconds since 1970, of this day's beginning: the file is written once a day at most
/// for it.
fn today_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_s = since.map_or(0, |since| since.as_secs());
    now_s - now_s % DAY_S
}

const DAY_S: u64 = 86_400;

/// A relay without a link for so long is forgotten.
const FORGET_AFTER_S: u64 = 30 * DAY_S;

/// Relays kept, as many as a configuration may name.
const RELAYS_MAX: usize = 1_024;

/// Longest file: 1,024 relays of 180 bytes, and room.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::native([number; 32])
    }

    fn address(port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[tokio::test]
    async fn relays_are_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let registry = Embedded::new(directory.path().join("fleet.json"));
        let mut fleet = registry.connect().await.unwrap();
        assert_eq!(fleet.relays().await.unwrap(), []);
        let links = [(key(1), address(7)), (key(2), None)];
        fleet.remember(&links).await.unwrap();
        drop(fleet);
        let mut fleet = registry.connect().await.unwrap();
        let known = KnownRelay {
            relay: key(1),
            epoch: None,
            address: address(7),
        };
        assert_eq!(fleet.relays().await.unwrap(), [known]);
        // It has moved.
        fleet.remember(&[(key(1), address(8))]).await.unwrap();
        let mut fleet = registry.connect().await.unwrap();
        assert_eq!(fleet.relays().await.unwrap()[0].address, address(8));
    }

    #[tokio::test]
    async fn damaged_file_is_named_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fleet.json");
        fs::write(&path, "{").unwrap();
        let error = Embedded::new(path.clone()).connect().await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("fleet.json") && text.contains("remove it"),
            "{text}"
        );
        fs::write(&path, vec![b' '; 2 << 20]).unwrap();
        let error = Embedded::new(path).connect().await.unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
    }

    #[tokio::test]
    async fn relay_not_seen_for_a_month_is_forgotten_and_the_file_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fleet.json");
        let line = |seen_s| Line {
            address: SocketAddr::from(([127, 0, 0, 1], 7)),
            seen_s,
        };
        let old = BTreeMap::from([(key(1).to_string(), line(0))]);
        write(&path, &old).unwrap();
        let mut fleet = Embedded::new(path.clone()).connect().await.unwrap();
        fleet.remember(&[]).await.unwrap();
        assert!(fleet.relays.is_empty() && read(&path).unwrap().is_empty());
        let many = (0..2_000_u16).map(|number| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            (PublicKey::native(bytes), address(number))
        });
        fleet.remember(&many.collect::<Vec<_>>()).await.unwrap();
        assert_eq!(read(&path).unwrap().len(), RELAYS_MAX);
        assert!(fs::metadata(&path).unwrap().len() < FILE_BYTES_MAX);
    }
}
