//! Reading a recording, one interval at a time.
//!
//! Here: the two files of intervals side by side, and what may be missing at their end. Not here: the
//! lines of a log (`hlog`), what is made of all (`recording`, `recording::condensed`).
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
use serde_json::Value;

use super::{LOG, ROWS, RUN, RecordingError, Row, TAGS, at};
use crate::hlog::Log;

/// A result is some KiB; one of a churn with many rounds may be some MiB.
const RUN_BYTES_MAX: u64 = 64 << 20;
/// A line of a histogram with a thousand distinct times is some 4 KiB.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// Times of one interval: sums over a day stay far below 64 bits, and are exact as floats.
const COUNT_MAX: u64 = 1 << 44;

/// Seconds between the starts of an interval in the two files: the log has milliseconds.
const START_DISTANCE: f64 = 0.002;

/// An interval as it is read.
pub(super) struct Entry {
    pub(super) row: Row,
    /// In the order of [`TAGS`].
    pub(super) histograms: [Histogram<u64>; 3],
}

/// A recording that is being read.
pub(super) struct Reader {
    rows: Lines,
    log: Log,
    log_path: PathBuf,
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
            log: Log::open(&log)?,
            began: began(&log)?,
            log_path: log,
            is_ended,
            is_cut: false,
            intervals: 0,
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
        let row: Row = serde_json::from_str(&line.text).map_err(|error| {
            self.rows
                .content(format!("line {}: {error}", self.rows.number))
        })?;
        let histograms = [
            self.histogram(TAGS[0], &row)?,
            self.histogram(TAGS[1], &row)?,
            self.histogram(TAGS[2], &row)?,
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
        // A line that was cut is the last one that is read.
        let more = self.log.by_ref().count();
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

    /// Reads the next line of the log, which belongs to `row`.
    fn histogram(&mut self, tag: &str, row: &Row) -> Result<Histogram<u64>, RecordingError> {
        let Some(entry) = self.log.next().transpose()? else {
            let have = self.intervals;
            return Err(self.of_log(format!(
                "it has {have} intervals, {ROWS} has more: this file was cut, take the whole one"
            )));
        };
        let number = self.intervals + 1;
        if entry.tag != tag {
            return Err(self.of_log(format!(
                "interval {number}: no histogram with the tag {tag}"
            )));
        }
        let start = entry.start.as_secs_f64();
        if (start - row.start_seconds).abs() > START_DISTANCE {
            return Err(self.of_log(format!(
                "interval {number} begins after {start} s, in {ROWS} after {} s: the two files are not \
                 of one run",
                row.start_seconds
            )));
        }
        if entry.histogram.len() > COUNT_MAX {
            return Err(self.of_log(format!("interval {number}: more than {COUNT_MAX} times")));
        }
        Ok(entry.histogram)
    }

    fn of_log(&self, why: String) -> RecordingError {
        RecordingError::Content {
            path: self.log_path.clone(),
            why,
        }
    }
}

/// Returns when counting began, since the epoch, if the head of the log says so.
fn began(log: &Path) -> Result<Option<Duration>, RecordingError> {
    let mut lines = Lines::open(log)?;
    while let Some(line) = lines.next()? {
        if !line.text.starts_with('#') {
            break;
        }
        let text = line.text.strip_prefix("#[StartTime: ");
        let seconds = text.and_then(|text| text.split(' ').next()?.parse().ok());
        if let Some(began) = seconds.and_then(|it| Duration::try_from_secs_f64(it).ok()) {
            return Ok(Some(began));
        }
    }
    Ok(None)
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
