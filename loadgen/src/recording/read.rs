//! Reading a recording, one interval at a time.
//!
//! Here: the two files of intervals side by side, and what may be missing at their end. Not here: what
//! is made of them (`recording`, `recording::condensed`).
//!
//! Each interval is three lines of the log and then one of the rows, so a run that was killed leaves at
//! most one interval that is not whole: it is left out. A recording with its `run.json` came to its end,
//! and there nothing may be missing.
//!
//! Bound: one interval in memory; lines of at most [`LINE_BYTES_MAX`].

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry, Tag};
use serde_json::Value;

use super::{LOG, ROWS, RUN, RecordingError, Row, TAGS, at};

/// A result is some KiB; one of a churn with many rounds may be some MiB.
const RUN_BYTES_MAX: u64 = 64 << 20;
/// A line of a histogram with a thousand distinct times is some 4 KiB.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// Times of one interval: sums over a day stay far below 64 bits, and are exact as floats.
const COUNT_MAX: u64 = 1 << 44;

/// An interval as it is read.
pub(super) struct Entry {
    pub(super) row: Row,
    /// In the order of [`TAGS`].
    pub(super) histograms: [Histogram<u64>; 3],
}

/// A recording that is being read.
pub(super) struct Reader {
    rows: Lines,
    log: Lines,
    deserializer: Deserializer,
    is_ended: bool,
    is_cut: bool,
    intervals: u64,
    /// When counting began, since the epoch.
    began: Option<Duration>,
}

impl Reader {
    /// Opens the two files; `is_ended` says that the run came to its end.
    pub(super) fn open(directory: &Path, is_ended: bool) -> Result<Self, RecordingError> {
        let (rows, log) = (directory.join(ROWS), directory.join(LOG));
        if !rows.exists() && !log.exists() {
            return Err(RecordingError::Nothing(directory.to_owned()));
        }
        Ok(Self {
            rows: Lines::open(&rows)?,
            log: Lines::open(&log)?,
            deserializer: Deserializer::new(),
            is_ended,
            is_cut: false,
            intervals: 0,
            began: None,
        })
    }

    /// Returns the next interval; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, RecordingError> {
        let Some(line) = self.rows.next()? else {
            return self.end();
        };
        if !line.is_whole {
            if !self.is_ended {
                return self.end();
            }
            let number = self.rows.number;
            return Err(self
                .rows
                .content(format!("line {number} was cut: take the whole file")));
        }
        let row = serde_json::from_str(&line.text).map_err(|error| {
            self.rows
                .content(format!("line {}: {error}", self.rows.number))
        })?;
        let histograms = [
            self.histogram(TAGS[0])?,
            self.histogram(TAGS[1])?,
            self.histogram(TAGS[2])?,
        ];
        self.intervals += 1;
        Ok(Some(Entry { row, histograms }))
    }

    /// Returns whether the last interval was not whole.
    pub(super) const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Returns when counting began, since the epoch.
    pub(super) const fn began(&self) -> Option<Duration> {
        self.began
    }

    /// The rows have ended: the log may have begun one more interval, if the run was killed.
    fn end(&mut self) -> Result<Option<Entry>, RecordingError> {
        let mut more = 0;
        while self.data_line()?.is_some() {
            more += 1;
        }
        self.is_cut = more > 0;
        let allowed = if self.is_ended { 0 } else { TAGS.len() };
        if more > allowed {
            let have = self.intervals;
            return Err(self.rows.content(format!(
                "it has {have} intervals, {LOG} has more: this file was cut, take the whole one"
            )));
        }
        Ok(None)
    }

    fn histogram(&mut self, tag: &str) -> Result<Histogram<u64>, RecordingError> {
        let Some(line) = self.data_line()? else {
            let have = self.intervals;
            return Err(self.log.content(format!(
                "it has {have} intervals, {ROWS} has more: this file was cut, take the whole one"
            )));
        };
        let number = self.log.number;
        let complain = |why: String| self.log.content(format!("line {number}: {why}"));
        let Some(Ok(LogEntry::Interval(entry))) = IntervalLogIterator::new(line.as_bytes()).next()
        else {
            return Err(complain("no line of an interval log, or cut".into()));
        };
        if entry.tag().as_ref().map(Tag::as_str) != Some(tag) {
            return Err(complain(format!("no histogram with the tag {tag}")));
        }
        let bytes = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            entry.encoded_histogram(),
        )
        .map_err(|error| complain(format!("the histogram is no base64, or cut: {error}")))?;
        let histogram: Histogram<u64> = self
            .deserializer
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| complain(format!("the histogram does not open: {error}")))?;
        if histogram.len() > COUNT_MAX {
            return Err(complain(format!(
                "more than {COUNT_MAX} times in one interval"
            )));
        }
        Ok(histogram)
    }

    /// Returns the next line of the log that is neither a remark nor the legend.
    fn data_line(&mut self) -> Result<Option<String>, RecordingError> {
        while let Some(line) = self.log.next()? {
            let text = line.text.trim_end();
            if text.starts_with('#') {
                if let Some(Ok(LogEntry::StartTime(began))) =
                    IntervalLogIterator::new(line.text.as_bytes()).next()
                {
                    self.began = Some(began);
                }
            } else if !text.is_empty() && !text.starts_with('"') {
                return Ok(Some(line.text));
            }
        }
        Ok(None)
    }
}

/// Returns `run.json`; null when there is none.
pub(super) fn run(directory: &Path) -> Result<Value, RecordingError> {
    let path = directory.join(RUN);
    if !path.exists() {
        return Ok(Value::Null);
    }
    check(&path, RUN_BYTES_MAX)?;
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let content = |why: String| RecordingError::Content {
        path: path.clone(),
        why,
    };
    let run: Value = serde_json::from_str(&text)
        .map_err(|error| content(format!("no JSON, or cut: {error}")))?;
    if run.is_object() {
        Ok(run)
    } else {
        Err(content("no JSON object: it is not of a run".into()))
    }
}

/// Returns how many whole lines the rows have.
pub(super) fn rows_count(directory: &Path) -> Result<u64, RecordingError> {
    let mut lines = Lines::open(&directory.join(ROWS))?;
    let mut count = 0;
    while lines.next()?.is_some_and(|line| line.is_whole) {
        count += 1;
    }
    Ok(count)
}

/// Refuses what is no file, or too large a one.
fn check(path: &Path, bytes_max: u64) -> Result<(), RecordingError> {
    let facts = fs::metadata(path).map_err(at(path))?;
    if facts.is_file() && facts.len() <= bytes_max {
        return Ok(());
    }
    Err(RecordingError::Content {
        path: path.to_owned(),
        why: format!("no file of at most {bytes_max} bytes"),
    })
}

struct Line {
    text: String,
    /// It has its end.
    is_whole: bool,
}

/// A text file, line by line.
struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    /// Of the last line, from 1.
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, RecordingError> {
        check(path, u64::MAX)?;
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::new(File::open(path).map_err(at(path))?),
            number: 0,
        })
    }

    fn next(&mut self) -> Result<Option<Line>, RecordingError> {
        let mut text = String::new();
        let read = self
            .file
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_line(&mut text)
            .map_err(at(&self.path))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let is_whole = text.ends_with('\n');
        if !is_whole && u64::try_from(read).is_ok_and(|read| read >= LINE_BYTES_MAX) {
            let number = self.number;
            return Err(self.content(format!(
                "line {number} is longer than {LINE_BYTES_MAX} bytes"
            )));
        }
        Ok(Some(Line { text, is_whole }))
    }

    fn content(&self, why: String) -> RecordingError {
        RecordingError::Content {
            path: self.path.clone(),
            why,
        }
    }
}
