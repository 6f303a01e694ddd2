//! Files of a host, below a root that tests choose.
//!
//! Here: reading a text, a number, the names in a directory. Not here: which files there are, what they mean.
//!
//! Invariant: what is missing, unreadable or not understood is `None`, never a guess.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::parse;

/// The files below a root, by paths such as `proc/sys/fs/nr_open`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a>(pub(super) &'a Path);

impl Files<'_> {
    pub(super) fn path(self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    pub(super) fn text(self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// Returns the only word of a file.
    pub(super) fn word(self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let word = text.trim();
        (!word.is_empty()).then(|| word.to_owned())
    }

    pub(super) fn number<T: FromStr>(self, path: &str) -> Option<T> {
        parse::number(&self.text(path)?)
    }

    pub(super) fn three(self, path: &str) -> Option<[u64; 3]> {
        parse::three(&self.text(path)?)
    }

    /// Returns the names in a directory, sorted.
    pub(super) fn names(self, path: &str) -> Option<Vec<String>> {
        let entries = fs::read_dir(self.path(path)).ok()?.flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Some(names)
    }

    /// Returns the names in a directory that begin so; empty where there is no directory.
    pub(super) fn names_of(self, path: &str, start: &str) -> Vec<String> {
        let mut names = self.names(path).unwrap_or_default();
        names.retain(|name| name.starts_with(start));
        names
    }

    /// Returns the cores of the host as paths.
    pub(super) fn cores(self) -> Vec<String> {
        let is_core = |name: &String| {
            name.strip_prefix("cpu").is_some_and(|number| {
                !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
            })
        };
        let names = self.names_of(CORES, "cpu").into_iter();
        names
            .filter(is_core)
            .map(|name| format!("{CORES}/{name}"))
            .collect()
    }
}

/// Returns what is left when each value stands there once, sorted.
pub(super) fn each_once<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort();
    values.dedup();
    values
}

const CORES: &str = "sys/devices/system/cpu";
