#![no_main]
//! Configuration files: `ringway check-config` answers, whatever is in the file.
//!
//! Through the command line, since that is what an operator's mistake goes through.

use std::ffi::OsString;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("ringway-fuzz-{}.toml", std::process::id()));
    if std::fs::write(&path, bytes).is_err() {
        return;
    }
    let arguments: [OsString; 3] = ["ringway".into(), "check-config".into(), path.into()];
    // Accepted or refused: both are answers.
    drop(ringway::run(arguments));
});
