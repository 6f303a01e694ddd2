//! Runs targets over stored inputs, on any compiler.
//!
//! Here: where the committed inputs are, running a file or a folder, naming the input that failed. Not
//! here: making new inputs (libFuzzer, `fuzz/smoke`), the seeds (`src/bin/seeds.rs`).
//!
//! Bound: a corpus is committed, so its size is a number of the repository: see docs/testing.md.

use std::fs;
use std::io;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use crate::Target;

/// Returns the folder of a target's committed inputs.
#[must_use]
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// Runs a target over one file, or over all files of a folder in the order of their names; returns how
/// many.
///
/// # Errors
///
/// A sentence that names the file: it could not be read, or the target failed on it. What failed stands
/// on standard error, from the panic itself.
pub fn replay(target: Target, path: &Path) -> Result<usize, String> {
    let files = files(path).map_err(|error| format!("{}: {error}", path.display()))?;
    for file in &files {
        let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        if catch_unwind(|| (target.run)(&bytes)).is_err() {
            return Err(format!(
                "{} fails on {}: replay it with `cargo run -p ringway-fuzz --bin replay -- {} {}`",
                target.name,
                file.display(),
                target.name,
                file.display()
            ));
        }
    }
    Ok(files.len())
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}
