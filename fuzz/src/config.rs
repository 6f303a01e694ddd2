//! Configuration files: `ringway check-config` answers, whatever is in the file.
//!
//! Here: through the command line, since that is what an operator's mistake goes through. A file is
//! accepted, or refused with the exit code and a text that says why; the same file twice gets the same
//! answer. Not here: what each key accepts (`src/config`).
//!
//! Bound: one temporary file for each process.

use std::ffi::OsString;
use std::fs;

use ringway::Failure;

/// Takes the bytes of a configuration file.
///
/// # Panics
///
/// When a refusal has no text, another kind than a wrong configuration, or is not repeated.
pub fn run(bytes: &[u8]) {
    let path = std::env::temp_dir().join(format!("ringway-fuzz-{}.toml", std::process::id()));
    if fs::write(&path, bytes).is_err() {
        return;
    }
    let ask = || {
        let arguments: [OsString; 3] =
            ["ringway".into(), "check-config".into(), path.clone().into()];
        ringway::run(arguments)
    };
    let first = ask();
    if let Err(failure) = &first {
        let text = failure.to_string();
        assert!(!text.trim().is_empty(), "a refusal without a text");
        // A file may be right and ask for more than the host has.
        assert!(
            match failure {
                Failure::Check(_) | Failure::Configuration(_) => true,
                Failure::Host { .. } => !text.contains(&path.display().to_string()),
                _ => false,
            },
            "a wrong file is not reported as one: {text}"
        );
        assert!((1..=2).contains(&failure.exit_code()));
        // Bound: a problem is a line; there is at most one for each line of the file and each key.
        assert!(
            text.len() <= 16_384 + 64 * bytes.len(),
            "{} bytes of complaint about {} bytes",
            text.len(),
            bytes.len()
        );
    }
    let second = ask();
    assert_eq!(
        first.map_err(|failure| failure.to_string()),
        second.map_err(|failure| failure.to_string())
    );
    drop(fs::remove_file(&path));
}
