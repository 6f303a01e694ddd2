//! Tells the crate which compiler builds it: instruction counts depend on it.
//!
//! Here: the version, as a variable of the build. Not here: what becomes of it (`counts::callgrind`).

use std::env;
use std::io::{self, Write};
use std::process::Command;

fn main() -> io::Result<()> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output()?;
    let version = String::from_utf8_lossy(&output.stdout);
    let mut out = io::stdout().lock();
    writeln!(out, "cargo:rerun-if-changed=build.rs")?;
    writeln!(
        out,
        "cargo:rustc-env=RINGWAY_BENCH_RUSTC={}",
        version.trim()
    )
}
