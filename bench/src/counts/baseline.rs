//! The committed counts.
//!
//! Here: their file, read and written. Not here: the comparison (`verdict`).
//!
//! Units: instructions an operation.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::callgrind::Tools;

/// The counts that a change is held against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// What they were taken with.
    pub tools: Tools,
    /// Instructions an operation, by case.
    pub instructions: BTreeMap<String, f64>,
}

impl Baseline {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is no baseline; the text says what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            format!("no baseline in {path}: {error}; --bless writes one")
        })?;
        Self::parse(&text).map_err(|why| {
            let path = path.display();
            format!(
                "{path} is no baseline: {why}; restore it with git, or --bless writes a new one"
            )
        })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let failed = |error: String| format!("cannot write {}: {error}", path.display());
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.to_string()))?;
        fs::write(path, text + "\n").map_err(|error| failed(error.to_string()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let baseline: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let bad = baseline
            .instructions
            .iter()
            .find(|(_, count)| !(count.is_finite() && **count > 0.0));
        match bad {
            Some((name, count)) => Err(format!("{count} instructions for {name}")),
            None => Ok(baseline),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline() -> Baseline {
        Baseline {
            tools: Tools {
                rustc: "rustc 1".to_owned(),
                valgrind: "valgrind-3".to_owned(),
                libc: "glibc 2".to_owned(),
                processor: "x86_64".to_owned(),
            },
            instructions: BTreeMap::from([("a".to_owned(), 10.25), ("b".to_owned(), 3.0)]),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("counts.json");
        baseline().write(&path).unwrap();
        assert_eq!(Baseline::read(&path), Ok(baseline()));
    }

    #[test]
    fn missing_file_says_how_to_make_one() {
        let scratch = tempfile::tempdir().unwrap();
        let error = Baseline::read(&scratch.path().join("none")).unwrap_err();
        assert!(error.contains("--bless"), "{error}");
    }

    #[test]
    fn bad_files_are_refused_with_what_is_bad() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("counts.json");
        let good = serde_json::to_string(&baseline()).unwrap();
        for (from, to, why) in [
            (&good[..], "", "EOF"),
            ("10.25", "\"many\"", "invalid type"),
            ("10.25", "0", "0 instructions for a"),
            ("10.25", "-1.5", "-1.5 instructions for a"),
            ("10.25", "1e999", "out of range"),
            ("\"valgrind\"", "\"walgrind\"", "unknown field"),
            ("\"instructions\"", "\"counts\"", "unknown field"),
        ] {
            fs::write(&path, good.replace(from, to)).unwrap();
            let error = Baseline::read(&path).unwrap_err();
            assert!(error.contains(why), "{to}: {error}");
            assert!(error.contains("counts.json"), "{error}");
        }
    }
}
