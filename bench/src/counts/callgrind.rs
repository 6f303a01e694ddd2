//! One case under callgrind.
//!
//! Here: how valgrind is started, what it writes, the tools that a count depends on. Not here: what a
//! case does (`cases`), which runs in a second process of this same program.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde::{Deserialize, Serialize};

use super::cases::COUNTED;

/// What a count depends on besides the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// The compiler that has built the cases.
    pub rustc: String,
    /// The version of valgrind.
    pub valgrind: String,
    /// The C library, whose `memcpy` the copies are.
    pub libc: String,
    /// The processor that valgrind shows the cases: ciphers and `memcpy` choose their code by it.
    pub processor: String,
}

/// What the process with the case says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Performed {
    /// Operations that were counted.
    pub operations: u64,
    /// The processor, as the case saw it.
    pub processor: String,
}

/// A case, counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Count {
    /// Instructions an operation.
    pub instructions: f64,
    /// The processor, as the case saw it.
    pub processor: String,
}

/// The valgrind of this host.
#[derive(Debug)]
pub struct Callgrind {
    version: String,
}

impl Callgrind {
    /// Looks for valgrind.
    ///
    /// # Errors
    /// When there is none; the text says how to get it.
    pub fn find() -> Result<Self, String> {
        let output = Command::new(VALGRIND).arg("--version").output();
        match output {
            Ok(output) if output.status.success() => Ok(Self {
                version: first_line(&output.stdout),
            }),
            Ok(output) => Err(format!("{VALGRIND} --version: {}", complaint(&output))),
            Err(error) => Err(format!(
                "cannot run {VALGRIND}: {error}; install it: apt-get install valgrind"
            )),
        }
    }

    /// Returns the tools; `processor` is what a case has seen.
    #[must_use]
    pub fn tools(&self, processor: String) -> Tools {
        let libc = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
        Tools {
            rustc: env!("RINGWAY_BENCH_RUSTC").to_owned(),
            valgrind: self.version.clone(),
            libc: libc.map_or_else(|_| "unknown".to_owned(), |out| first_line(&out.stdout)),
            processor,
        }
    }

    /// Counts the case `name`, which `program` performs with the arguments `--perform name`.
    ///
    /// # Errors
    /// When the case fails or callgrind counts nothing.
    pub fn count(&self, program: &Path, name: &str) -> Result<Count, String> {
        let failed = |why: String| format!("{name} under {}: {why}", self.version);
        let scratch = tempfile::tempdir()
            .map_err(|error| failed(format!("no directory for the counts: {error}")))?;
        let file = scratch.path().join("callgrind.out");
        let mut out_file = std::ffi::OsString::from("--callgrind-out-file=");
        out_file.push(&file);
        let output = Command::new(VALGRIND)
            .arg("--tool=callgrind")
            .arg(out_file)
            .arg(format!("--toggle-collect=*{COUNTED}*"))
            .args(["--vgdb=no", "--quiet"])
            .arg(program)
            .args(["--perform", name])
            // Neither options of the user's nor the size of the environment may change a count.
            .env_clear()
            .envs(
                KEPT.iter()
                    .filter_map(|key| Some((key, std::env::var_os(key)?))),
            )
            .envs(ALLOCATOR)
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(complaint(&output)));
        }
        let performed: Performed = serde_json::from_slice(&output.stdout)
            .map_err(|error| failed(format!("the case did not say what it did: {error}")))?;
        let text = std::fs::read_to_string(&file)
            .map_err(|error| failed(format!("no counts: {error}")))?;
        let total = parse_total(&text).map_err(failed)?;
        if performed.operations == 0 {
            return Err(failed("the case did nothing".to_owned()));
        }
        Ok(Count {
            instructions: each(total, performed.operations),
            processor: performed.processor,
        })
    }
}

/// Returns the instructions that a callgrind file counts.
///
/// # Errors
/// When the file is none, was cut off, counts something else, or counts nothing.
pub fn parse_total(text: &str) -> Result<u64, String> {
    let field = |key: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| Some(line.strip_prefix(key)?.trim()))
    };
    let events = field("events:").ok_or("not a callgrind file: it names no events")?;
    if events != "Ir" {
        return Err(format!("counts of '{events}', instructions are 'Ir'"));
    }
    let total = field("totals:").ok_or("the callgrind file has no totals: it was cut off")?;
    let total: u64 = total
        .parse()
        .map_err(|error| format!("totals '{total}': {error}"))?;
    if total == 0 {
        return Err(format!(
            "nothing was counted: does the program still have a function '{COUNTED}'?"
        ));
    }
    Ok(total)
}

/// Returns `total / count`, with two digits behind the point, as the baseline has them.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts are far below 2^53, where a float is exact"
)]
fn each(total: u64, count: u64) -> f64 {
    (total as f64 / count as f64 * 100.0).round() / 100.0
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Says how a program ended that should not have, with the end of what it said.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    let last = lines.len().saturating_sub(LINES_SHOWN);
    let said = lines.get(last..).unwrap_or_default().join("; ");
    format!("{}: {said}", output.status)
}

const VALGRIND: &str = "valgrind";

/// What valgrind itself may need of the environment.
const KEPT: [&str; 2] = ["PATH", "VALGRIND_LIB"];

/// The allocator gives memory back to the kernel by the clock, and what that takes would be counted where it
/// happens. -1: it keeps it.
const ALLOCATOR: [(&str, &str); 1] = [("MIMALLOC_PURGE_DELAY", "-1")];

/// Lines of a failed program that an error repeats.
const LINES_SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# callgrind format\nversion: 1\ncreator: callgrind-3.19.0\npid: 7\n\
        cmd:  counts --perform frame-64\npart: 1\n\ndesc: I1 cache: \n\n\
        desc: Trigger: Program termination\n\npositions: line\nevents: Ir\nsummary: 4711\n\n\n\
        ob=(1) counts\nfl=(1) a.rs\nfn=(1) counted_work\n16 4000\n17 711\n\ntotals: 4711\n";

    #[test]
    fn total_of_a_callgrind_file_is_read() {
        assert_eq!(parse_total(FILE), Ok(4_711));
    }

    #[test]
    fn file_that_counts_nothing_names_the_function_that_should_have_been_counted() {
        let error = parse_total(&FILE.replace("totals: 4711", "totals: 0")).unwrap_err();
        assert!(error.contains(COUNTED), "{error}");
    }

    #[test]
    fn damaged_files_are_refused() {
        for (from, to, why) in [
            ("events: Ir", "", "names no events"),
            ("events: Ir", "events: Ir Dr Dw", "'Ir Dr Dw'"),
            ("\ntotals: 4711\n", "", "cut off"),
            ("totals: 4711", "totals: 47x", "'47x'"),
            ("totals: 4711", "totals: -1", "'-1'"),
        ] {
            let error = parse_total(&FILE.replace(from, to)).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(parse_total("").is_err());
    }

    #[test]
    fn an_operation_has_its_share_with_two_digits() {
        assert_eq!(each(1_000, 3).to_string(), "333.33");
        assert_eq!(each(10, 4).to_string(), "2.5");
    }
}
