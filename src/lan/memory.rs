//! The relays of the own network that were used before.
//!
//! Here: the file, the latest first. Not here: which of them is used.
//!
//! Who is in the file is trusted without a question, so a file that is damaged is an error and not an empty
//! one: an empty one trusts whoever answers.
//! Bound: `RELAYS_MAX` relays, `FILE_BYTES_MAX` bytes.

use std::path::{Path, PathBuf};

use ringway_client::RelayAddress;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::small_file;

/// The file, in memory.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    relays: Vec<RelayAddress>,
}

/// One relay in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    address: String,
}

impl Memory {
    /// Reads the file of a state directory.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when it cannot be read or understood, with what to do.
    pub(super) fn read(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("lan.json");
        let what = |error: &str| {
            Failure::Check(format!(
                "{} is no list of relays ({error}): restore it, or remove it, and the next relay that \
                 answers is trusted and remembered; --lan-key KEY names the one you mean",
                path.display()
            ))
        };
        let bytes =
            small_file::read(&path, FILE_BYTES_MAX).map_err(|error| what(&error.to_string()))?;
        let lines: Vec<Line> = match bytes {
            Some(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| what(&error.to_string()))?
            }
            None => Vec::new(),
        };
        let relay = |line: &Line| format!("{}@{}", line.key, line.address).parse();
        let relays: Result<Vec<RelayAddress>, _> = lines.iter().map(relay).collect();
        let relays = relays.map_err(|error| what(&error.to_string()))?;
        Ok(Self { path, relays })
    }

    /// Returns the relays, those used last first.
    pub(super) fn relays(&self) -> &[RelayAddress] {
        &self.relays
    }

    /// Puts relays to the front, each at its new address.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when the file cannot be written.
    pub(super) fn remember(&mut self, used: &[RelayAddress]) -> Result<(), Failure> {
        let mut relays = used.to_vec();
        let before = self.relays.iter().copied();
        relays.extend(before.filter(|one| used.iter().all(|other| other.key != one.key)));
        relays.truncate(RELAYS_MAX);
        if relays == self.relays {
            return Ok(());
        }
        self.relays = relays;
        self.write()
    }

    fn write(&self) -> Result<(), Failure> {
        let line = |relay: &RelayAddress| Line {
            key: relay.key.to_string(),
            address: relay.socket.to_string(),
        };
        let lines: Vec<Line> = self.relays.iter().map(line).collect();
        let failure = |error| {
            let path = self.path.display();
            Failure::host(
                format!(
                    "cannot remember the relay in {path}; choose another place with --state-dir"
                ),
                error,
            )
        };
        let text = serde_json::to_vec_pretty(&lines).map_err(|error| failure(error.into()))?;
        small_file::write(&self.path, &text).map_err(failure)
    }
}

/// Relays kept: more than one network has.
const RELAYS_MAX: usize = 16;

/// Longest file: 16 relays of 200 bytes, and room.
const FILE_BYTES_MAX: u64 = 16_384;

#[cfg(test)]
mod tests {
    use std::fs;

    use ringway_client::PublicKey;

    use super::*;

    fn relay(number: u8, port: u16) -> RelayAddress {
        let key = PublicKey::native([number; 32]);
        RelayAddress::new(key, ([10, 77, 0, 1], port).into())
    }

    #[test]
    fn relay_used_last_is_first_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let mut memory = Memory::read(&state).unwrap();
        assert!(memory.relays().is_empty());
        memory.remember(&[relay(1, 7)]).unwrap();
        memory.remember(&[relay(2, 8)]).unwrap();
        let kept = Memory::read(&state).unwrap();
        assert_eq!(kept.relays(), [relay(2, 8), relay(1, 7)]);
        // The first one has moved, and is used again.
        memory.remember(&[relay(1, 9)]).unwrap();
        let kept = Memory::read(&state).unwrap();
        assert_eq!(kept.relays(), [relay(1, 9), relay(2, 8)]);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn file_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let mut memory = Memory::read(directory.path()).unwrap();
        for number in 0..40 {
            memory.remember(&[relay(number, 7)]).unwrap();
        }
        let kept = Memory::read(directory.path()).unwrap();
        assert_eq!(kept.relays().len(), RELAYS_MAX);
        assert_eq!(kept.relays()[0], relay(39, 7));
        let length = fs::metadata(directory.path().join("lan.json"))
            .unwrap()
            .len();
        assert!(length < FILE_BYTES_MAX, "{length}");
    }

    #[test]
    fn damaged_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lan.json");
        let key = "ab".repeat(32);
        for text in [
            "{",
            "{}",
            r#"[{"key": "ab", "address": "10.0.0.1:7"}]"#,
            &format!(r#"[{{"key": "{key}", "address": "relay.example:7"}}]"#),
            &format!(r#"[{{"key": "{key}"}}]"#),
            &" ".repeat(20_000),
        ] {
            fs::write(&path, text).unwrap();
            let error = Memory::read(directory.path()).unwrap_err().to_string();
            for part in ["lan.json", "remove it", "--lan-key"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }
}
