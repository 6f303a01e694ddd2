//! What is kept for the way back.
//!
//! Here: the file, which is written once and before the first change. Not here: the way back (`undo`).
//!
//! It has no marks of how far an apply came: each value and file is as before, as wanted, or somebody else's,
//! and that can be seen.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Root;
use super::files::{self, FileState};
use super::step::words;

/// Everything that an apply changes, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Number of this form.
    format: u32,
    /// What wrote it.
    program: String,
    /// Profile that was applied.
    pub(super) profile: String,
    /// Number of the host, if it has one. Source: machine-id(5).
    pub(super) host: Option<String>,
    /// Number of the start of the host. Source: random(4), `boot_id`.
    pub(super) boot: Option<String>,
    pub(super) values: Vec<ValueRecord>,
    pub(super) files: Vec<FileRecord>,
}

/// A value of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValueRecord {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Byte for byte as it was read.
    pub(super) before: String,
    /// Words that were written.
    pub(super) after: String,
    /// Whether the kernel may give the words in another order.
    pub(super) is_list: bool,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRecord {
    pub(super) path: PathBuf,
    /// None where there was none.
    pub(super) before: Option<FileState>,
    pub(super) after: String,
    pub(super) after_mode: u32,
    /// Directories that were not there, the inner one first.
    pub(super) new_directories: Vec<PathBuf>,
}

impl ValueRecord {
    /// Whether this text of the kernel says what was written.
    pub(super) fn is_after(&self, text: &str) -> bool {
        let sorted = |text: &str| {
            let mut all: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            all.sort();
            all
        };
        match self.is_list {
            true => sorted(text) == sorted(&self.after),
            false => words(text) == words(&self.after),
        }
    }

    /// Reads the value again: a kernel that takes a value may still make another one of it.
    pub(super) fn confirm(&self) -> io::Result<()> {
        let text = files::read_value(&self.path)?;
        match self.is_after(&text) {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "the kernel made \"{}\" of it",
                words(&text)
            ))),
        }
    }
}

impl Record {
    pub(super) fn new(
        profile: &str,
        root: &Root,
        values: Vec<ValueRecord>,
        files: Vec<FileRecord>,
    ) -> Self {
        Self {
            format: FORMAT,
            program: format!("ringway-tune {}", env!("CARGO_PKG_VERSION")),
            profile: profile.to_owned(),
            host: host_of(root),
            boot: boot_of(root),
            values,
            files,
        }
    }

    /// Puts it on disk, where nothing is yet.
    pub(super) fn create(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        // Files that are replaced may be for root's eyes alone.
        files::create_file(path, &FileState::of_text(&text, 0o600))
    }

    /// Reads it, or says what is wrong with it.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        if let Ok(metadata) = fs::metadata(path)
            && !is_trusted(&metadata)
        {
            return Err(
                "belongs to another user, or others may write it, so anybody may have made it: expected a file of root \
                 that nobody else may write; nothing was changed"
                    .to_owned(),
            );
        }
        let text = fs::read_to_string(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                "is not there: nothing was applied with this rollback file, or it has been taken back".to_owned()
            }
            _ => format!("cannot be read: {error}{}", files::fix(&error)),
        })?;
        let record: Self = serde_json::from_str(&text).map_err(|error| {
            format!("is damaged ({error}): expected what `ringway-tune apply --write` writes; nothing was changed")
        })?;
        match record.format {
            FORMAT => Ok(record),
            other => Err(format!(
                "has the form {other}, this program knows {FORMAT}: use the one that wrote it ({})",
                record.program
            )),
        }
    }
}

/// Whether only root, or who runs the program, can have written it: it says which files of the host are
/// overwritten.
fn is_trusted(metadata: &fs::Metadata) -> bool {
    let own = rustix::process::geteuid().as_raw();
    [0, own].contains(&metadata.uid()) && metadata.mode() & 0o022 == 0
}

/// Removes the record when nothing is left to restore.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    files::remove_file(path)
}

pub(super) fn host_of(root: &Root) -> Option<String> {
    root.text("/etc/machine-id").filter(|id| !id.is_empty())
}

pub(super) fn boot_of(root: &Root) -> Option<String> {
    root.text("/proc/sys/kernel/random/boot_id")
}

/// Form of the record; another number is another form.
const FORMAT: u32 = 1;
