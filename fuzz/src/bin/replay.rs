//! Runs fuzz targets over stored inputs, without a fuzzer and on any compiler.
//!
//! ```text
//! replay                      every target over its committed corpus
//! replay TARGET               one target over its committed corpus
//! replay TARGET PATH...       one target over these files or folders
//! ```
//!
//! Ends with 1 at the first input that fails, and names it; with 2 when the command line is wrong.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports to a person"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use ringway_fuzz::{TARGETS, Target, canary, corpus};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(name) = arguments.next() else {
        let run = |target: &Target| report(*target, &[corpus::folder(target.name)]);
        return exit(TARGETS.iter().try_for_each(run));
    };
    let canary = Target {
        name: "canary",
        run: canary::run,
    };
    let mut known = TARGETS.iter().chain([&canary]);
    let Some(target) = known.find(|target| name == target.name) else {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!(
            "replay: no target {}: choose one of {}",
            name.display(),
            names.join(", ")
        );
        return ExitCode::from(2);
    };
    let mut paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if paths.is_empty() {
        paths.push(corpus::folder(target.name));
    }
    exit(report(*target, &paths))
}

fn report(target: Target, paths: &[PathBuf]) -> Result<(), String> {
    let mut count = 0;
    for path in paths {
        count += corpus::replay(target, path)?;
    }
    println!("{}: {count} inputs hold", target.name);
    Ok(())
}

fn exit(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("replay: {problem}");
            ExitCode::FAILURE
        }
    }
}
