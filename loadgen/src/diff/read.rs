//! Results on disk.
//!
//! Here: what may be compared (a directory of `--out`, its `latency.hlog`, a document of `--json`), and
//! what is wrong with it. Not here: lines of logs (`hlog`), comparing (`diff`).
//!
//! Bound: documents of at most [`DOCUMENT_BYTES_MAX`]; logs are read line by line.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::series::Series;
use crate::hlog::{Log, LogError};
use crate::recording::{LOG, RUN};

/// A result.
#[derive(Debug, Clone)]
pub struct Input {
    pub(super) path: PathBuf,
    pub(super) tags: BTreeMap<String, Series>,
    pub(super) document: Option<Value>,
}

/// Why a file is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct ReadError {
    /// The file.
    pub file: PathBuf,
    /// A sentence.
    pub why: String,
}

impl From<LogError> for ReadError {
    fn from(error: LogError) -> Self {
        Self {
            file: error.file,
            why: error.why,
        }
    }
}

impl Input {
    /// Reads a directory with a `latency.hlog`, a `run.json` or both, or one of these files.
    ///
    /// # Errors
    /// With the file and the reason.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let mut input = Self {
            path: path.to_owned(),
            tags: BTreeMap::new(),
            document: None,
        };
        if !path.exists() {
            return Err(bad(path, format!("there is no such file: {NAME_ONE}")));
        }
        if path.is_dir() {
            let (times, run) = (path.join(LOG), path.join(RUN));
            if !times.exists() && !run.exists() {
                let why = format!("it has neither {LOG} nor {RUN}: {NAME_ONE}");
                return Err(bad(path, why));
            }
            if times.exists() {
                input.tags = log(&times)?;
            }
            if run.exists() {
                input.document = Some(document(&run)?);
            }
        } else if is_document(path)? {
            input.document = Some(document(path)?);
        } else {
            input.tags = log(path)?;
        }
        Ok(input)
    }
}

/// Looks at the beginning of a file: documents are objects of JSON, and no line of a log begins so.
fn is_document(path: &Path) -> Result<bool, ReadError> {
    let mut head = Vec::new();
    open(path)?
        .take(64)
        .read_to_end(&mut head)
        .map_err(|error| bad(path, format!("it cannot be read: {error}")))?;
    if head.is_empty() {
        return Err(bad(path, format!("it is empty: {NAME_ONE}")));
    }
    Ok(head.trim_ascii_start().starts_with(b"{"))
}

fn log(path: &Path) -> Result<BTreeMap<String, Series>, ReadError> {
    let mut tags: BTreeMap<String, Series> = BTreeMap::new();
    for entry in Log::open(path)? {
        let entry = entry?;
        let tag = match entry.tag.as_str() {
            "" => "response",
            tag => tag,
        };
        if !tags.contains_key(tag) && tags.len() >= TAGS_MAX {
            return Err(bad(path, format!("it has more than {TAGS_MAX} tags")));
        }
        let series = tags.entry(tag.to_owned()).or_default();
        series.push(&entry.histogram);
    }
    if tags.is_empty() {
        let why = format!("it has no interval: its run ended too early, or {NAME_ONE}");
        return Err(bad(path, why));
    }
    Ok(tags)
}

fn document(path: &Path) -> Result<Value, ReadError> {
    let mut text = Vec::new();
    open(path)?
        .take(DOCUMENT_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(|error| bad(path, format!("it cannot be read: {error}")))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > DOCUMENT_BYTES_MAX {
        return Err(bad(
            path,
            format!("it has more than {DOCUMENT_BYTES_MAX} bytes"),
        ));
    }
    if text.is_empty() {
        return Err(bad(path, "it is empty"));
    }
    let value: Value = serde_json::from_slice(&text)
        .map_err(|error| bad(path, format!("it is no JSON, or cut short: {error}")))?;
    match value.get("schema").and_then(Value::as_str) {
        Some(schema) if schema.starts_with(SCHEMA) => Ok(value),
        Some(schema) => {
            let shown: String = schema.chars().take(40).collect();
            let why =
                format!("it is '{shown}' and not the result of a run ('{SCHEMA}...'): {NAME_ONE}");
            Err(bad(path, why))
        }
        None => {
            let why = format!("it has no \"schema\", so it is not the result of a run: {NAME_ONE}");
            Err(bad(path, why))
        }
    }
}

fn open(path: &Path) -> Result<File, ReadError> {
    let complain = |error: std::io::Error| bad(path, format!("it cannot be read: {error}"));
    if !fs::metadata(path).map_err(complain)?.is_file() {
        return Err(bad(path, format!("it is no file: {NAME_ONE}")));
    }
    File::open(path).map_err(complain)
}

fn bad(path: &Path, why: impl Into<String>) -> ReadError {
    ReadError {
        file: path.to_owned(),
        why: why.into(),
    }
}

/// What to do about an input that is none.
const NAME_ONE: &str =
    "name a directory that --out wrote, its latency.hlog, or a file that --json wrote";
/// Beginning of the schema of results of runs.
const SCHEMA: &str = "ringway-loadgen/";
/// Results have some 10 KB.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// This program writes three; other programs one for each kind of request.
const TAGS_MAX: usize = 64;
