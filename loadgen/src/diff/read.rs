//! Results on disk.
//!
//! Here: `latency.hlog` and `run.json`, and what is wrong with them. Not here: comparing.
//!
//! Bound: files of at most [`FILE_BYTES_MAX`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

/// A result.
#[derive(Debug, Clone)]
pub struct Input {
    pub(super) path: PathBuf,
    pub(super) tags: BTreeMap<String, Intervals>,
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

/// Histograms of one tag, in the order of the log.
#[derive(Debug, Clone, Default)]
pub(super) struct Intervals(Vec<Histogram<u64>>);

impl Intervals {
    pub(super) fn histograms(&self) -> &[Histogram<u64>] {
        &self.0
    }

    /// Returns all intervals added.
    pub(super) fn sum(&self) -> Histogram<u64> {
        let mut sum = self.0.first().cloned().unwrap_or_else(empty);
        sum.auto(true);
        for next in self.0.iter().skip(1) {
            // `read` let in equal precisions only, and the sum grows by itself.
            if sum.add(next).is_err() {
                break;
            }
        }
        sum
    }
}

impl Input {
    /// Reads an interval log, or a directory with one, a `run.json`, or both.
    ///
    /// # Errors
    /// With the file and the reason.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let mut input = Self {
            path: path.to_owned(),
            tags: BTreeMap::new(),
            document: None,
        };
        if !path.is_dir() {
            input.tags = log(path)?;
            return Ok(input);
        }
        let (times, run) = (path.join("latency.hlog"), path.join("run.json"));
        if !times.exists() && !run.exists() {
            return Err(bad(path, "it has neither latency.hlog nor run.json"));
        }
        if times.exists() {
            input.tags = log(&times)?;
        }
        if run.exists() {
            let value: Value = serde_json::from_slice(&bytes(&run)?)
                .map_err(|error| bad(&run, format!("it is no JSON: {error}")))?;
            let schema = value.get("schema").and_then(Value::as_str);
            if !schema.is_some_and(|schema| schema.starts_with("ringway-loadgen/")) {
                return Err(bad(&run, "its schema is not that of a run"));
            }
            input.document = Some(value);
        }
        Ok(input)
    }
}

fn log(path: &Path) -> Result<BTreeMap<String, Intervals>, ReadError> {
    let bytes = bytes(path)?;
    let mut tags: BTreeMap<String, Intervals> = BTreeMap::new();
    let mut deserializer = Deserializer::new();
    let mut count = 0;
    for entry in IntervalLogIterator::new(&bytes) {
        let entry = entry.map_err(|_| bad(path, "it is no interval log, or cut short"))?;
        let LogEntry::Interval(interval) = entry else {
            continue;
        };
        count += 1;
        let complain = |why: &str| bad(path, format!("interval {count}: {why}"));
        let raw = base64(interval.encoded_histogram())
            .ok_or_else(|| complain("it is no base64, or cut short"))?;
        let histogram: Histogram<u64> = deserializer
            .deserialize(&mut raw.as_slice())
            .map_err(|error| complain(&format!("it is no histogram: {error}")))?;
        if histogram.sigfig() != DIGITS {
            return Err(complain("its histogram has not 3 significant digits"));
        }
        let tag = interval.tag().map_or("response", |tag| tag.as_str());
        tags.entry(tag.to_owned()).or_default().0.push(histogram);
    }
    if tags.is_empty() {
        return Err(bad(path, "it has no interval"));
    }
    Ok(tags)
}

fn bytes(path: &Path) -> Result<Vec<u8>, ReadError> {
    let complain = |error: std::io::Error| bad(path, format!("it cannot be read: {error}"));
    let facts = fs::metadata(path).map_err(complain)?;
    if !facts.is_file() || facts.len() > FILE_BYTES_MAX {
        let why = format!("it is no file of at most {FILE_BYTES_MAX} bytes");
        return Err(bad(path, why));
    }
    let bytes = fs::read(path).map_err(complain)?;
    if bytes.is_empty() {
        return Err(bad(path, "it is empty"));
    }
    Ok(bytes)
}

fn bad(path: &Path, why: impl Into<String>) -> ReadError {
    ReadError {
        file: path.to_owned(),
        why: why.into(),
    }
}

/// Reads base64 with padding; none when it is none.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// A histogram of the usual precision.
fn empty() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("a constant precision is valid")
}

/// Precision of the histograms.
const DIGITS: u8 = 3;
/// An hour of three tags each second is some 20 MB.
pub(super) const FILE_BYTES_MAX: u64 = 256 << 20;
