//! The files of a run: written while it goes on, so that a run that is killed leaves what it saw.
//!
//! | file | what |
//! |---|---|
//! | `latency.hlog` | the three histograms of each interval, by tag; `HdrHistogram` log format 1.3 |
//! | `intervals.jsonl` | the numbers of each interval, a JSON object a line |
//! | `run.json` | the result; written last, so a directory without it is of a run that did not end |
//! | `response.hgrm`, `service.hgrm`, `lag.hgrm` | percentiles of the whole run |
//! | `report.html` | all of it for a browser |
//!
//! Here: writing and reading them. Not here: what they show (`report`).
//!
//! Bound: some 10 KiB an interval on disk; memory does not grow with the run.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::{Deserialize, Serialize};

use self::condensed::Condensed;
use self::read::Reader;
use crate::hlog::LogError;
use crate::intervals::Interval;
use crate::latency::{Latencies, Times};
use crate::process::ProcessSample;
use crate::report::{hgrm, page};

pub mod condensed;
mod read;

/// Files of a recording.
pub const LOG: &str = "latency.hlog";
/// See [`LOG`].
pub const ROWS: &str = "intervals.jsonl";
/// See [`LOG`].
pub const RUN: &str = "run.json";
/// See [`LOG`].
pub const PAGE: &str = "report.html";

/// Tags of the log, in the order of [`Latencies`].
pub const TAGS: [&str; 3] = ["response", "service", "lag"];

/// What a log's largest values are divided by: they are shown in milliseconds.
const MAX_DIVISOR: f64 = 1e6;

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// A file cannot be written or read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is a result already.
    #[error("{} holds a result already: name another directory, or remove it", .0.display())]
    Exists(PathBuf),
    /// There is no result.
    #[error(
        "{}: it holds no result ({LOG}, {ROWS}): name a directory that a run was given with --out",
        .0.display()
    )]
    Nothing(PathBuf),
    /// A file is not what it should be.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A recording that is being written.
#[derive(Debug)]
pub struct Recording {
    directory: PathBuf,
    log: BufWriter<File>,
    rows: BufWriter<File>,
    started: Option<SystemTime>,
}

/// The numbers of an interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Seconds from when it began to count.
    pub start_seconds: f64,
    /// How long it is.
    pub length_seconds: f64,
    /// Number of the phase of the scenario that it belongs to, from 0.
    #[serde(default)]
    pub phase: u32,
    /// Messages that arrived.
    pub messages: u64,
    /// Stream bytes that arrived.
    pub bytes: u64,
    /// Handshakes, opens, connects or round trips that ended.
    pub rounds: u64,
    /// Sessions that stood at its end.
    pub sessions: u32,
    /// Streams that were open.
    pub streams: u32,
    /// Things that had gone wrong since the start of the run.
    pub failures: u64,
    /// The relay's process at its end.
    pub relay: Option<ProcessSample>,
    /// The kernel's sockets at its end, by side and state.
    pub sockets: Option<Sockets>,
}

/// The kernel's sockets by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockets {
    /// Local end is the address that is connected to.
    pub relay: std::collections::BTreeMap<String, u64>,
    /// Remote end is.
    pub generator: std::collections::BTreeMap<String, u64>,
}

/// A recording that was read back.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// `run.json`; null when the run did not come to its end.
    pub run: serde_json::Value,
    /// The intervals: numbers and histograms.
    pub intervals: Vec<(Row, Latencies)>,
}

impl Recording {
    /// Begins a recording in `directory`, which is made if need be.
    ///
    /// # Errors
    /// [`RecordingError`] when it cannot be written, or holds a result.
    pub fn create(directory: &Path, title: &str) -> Result<Self, RecordingError> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        for name in [RUN, LOG, ROWS] {
            if directory.join(name).exists() {
                return Err(RecordingError::Exists(directory.to_owned()));
            }
        }
        let create = |name: &str| {
            let path = directory.join(name);
            File::create_new(&path)
                .map(BufWriter::new)
                .map_err(at(&path))
        };
        let mut log = create(LOG)?;
        let rows = create(ROWS)?;
        let path = directory.join(LOG);
        writeln!(log, "#[{title}]\n#[Histogram log format version 1.3]").map_err(at(&path))?;
        Ok(Self {
            directory: directory.to_owned(),
            log,
            rows,
            started: None,
        })
    }

    /// Writes an interval.
    ///
    /// # Errors
    /// [`RecordingError`] when it cannot.
    pub fn interval(&mut self, interval: &Interval) -> Result<(), RecordingError> {
        let path = self.directory.join(LOG);
        let lines = self.lines(interval);
        lines
            .and_then(|lines| self.log.write_all(&lines))
            .and_then(|()| self.log.flush())
            .map_err(at(&path))?;
        let path = self.directory.join(ROWS);
        let row = serde_json::to_string(&Row::of(interval)).unwrap_or_default();
        writeln!(self.rows, "{row}")
            .and_then(|()| self.rows.flush())
            .map_err(at(&path))
    }

    /// Returns the lines of an interval; before the first one, when the time that counts began.
    fn lines(&mut self, interval: &Interval) -> io::Result<Vec<u8>> {
        let mut lines = Vec::new();
        if self.started.is_none() {
            let ago = interval.start + interval.length;
            let now = SystemTime::now();
            let started = now.checked_sub(ago).unwrap_or(now);
            self.started = Some(started);
            IntervalLogWriterBuilder::new()
                .with_start_time(started)
                .with_base_time(started)
                .with_max_value_divisor(MAX_DIVISOR)
                .begin_log_with(&mut lines, &mut V2DeflateSerializer::new())?;
            lines.extend_from_slice(
                b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
                  \"Interval_Compressed_Histogram\"\n",
            );
        }
        let Latencies {
            response,
            service,
            lag,
        } = &interval.latencies;
        for (name, times) in TAGS.iter().zip([response, service, lag]) {
            let mut text = Vec::new();
            let mut serializer = V2DeflateSerializer::new();
            let mut writer = IntervalLogWriterBuilder::new()
                .with_max_value_divisor(MAX_DIVISOR)
                .begin_log_with(&mut text, &mut serializer)?;
            writer
                .write_histogram(
                    times.histogram(),
                    interval.start,
                    interval.length,
                    Tag::new(name),
                )
                .map_err(|error| io::Error::other(error.to_string()))?;
            // Without the head that every writer begins with.
            let line = text
                .split(|byte| *byte == b'\n')
                .find(|line| !line.starts_with(b"#"));
            lines.extend_from_slice(line.unwrap_or_default());
            lines.push(b'\n');
        }
        Ok(lines)
    }

    /// Writes the result of the whole run, and the page that shows it.
    ///
    /// # Errors
    /// [`RecordingError`] when it cannot.
    pub fn finish(self, document: &str, latencies: &Latencies) -> Result<(), RecordingError> {
        let Self { directory, .. } = self;
        let times = [&latencies.response, &latencies.service, &latencies.lag];
        for (name, times) in TAGS.iter().zip(times) {
            if times.count() > 0 {
                write(&directory.join(format!("{name}.hgrm")), &hgrm::text(times))?;
            }
        }
        write(&directory.join(RUN), &format!("{document}\n"))?;
        // From the files, so that it is the one that can be made again at any time.
        let condensed = Condensed::read(&directory)?;
        write(&directory.join(PAGE), &page::page(&condensed))
    }
}

impl Row {
    fn of(interval: &Interval) -> Self {
        let strings = |states: &std::collections::BTreeMap<&'static str, u64>| {
            states
                .iter()
                .map(|(state, count)| ((*state).to_owned(), *count))
                .collect()
        };
        Self {
            start_seconds: interval.start.as_secs_f64(),
            length_seconds: interval.length.as_secs_f64(),
            phase: interval.seen.phase,
            messages: interval.messages,
            bytes: interval.bytes,
            rounds: interval.rounds,
            sessions: interval.seen.sessions,
            streams: interval.seen.streams,
            failures: interval.seen.failures,
            relay: interval.seen.relay,
            sockets: interval.seen.sockets.as_ref().map(|ledger| Sockets {
                relay: strings(&ledger.relay),
                generator: strings(&ledger.generator),
            }),
        }
    }
}

impl Recorded {
    /// Reads a recording.
    ///
    /// # Errors
    /// [`RecordingError`] when a file is missing, too large or no such file; a missing `run.json` is
    /// none: the run did not come to its end, and an interval that it had not written whole is left out.
    pub fn read(directory: &Path) -> Result<Self, RecordingError> {
        let run = read::run(directory)?;
        let mut reader = Reader::open(directory, !run.is_null())?;
        let mut intervals = Vec::new();
        while let Some(entry) = reader.next()? {
            let [response, service, lag] = entry.histograms.each_ref().map(Times::of);
            let latencies = Latencies {
                response,
                service,
                lag,
            };
            intervals.push((entry.row, latencies));
        }
        Ok(Self { run, intervals })
    }

    /// Returns the histograms of the whole run.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        let mut sum = Latencies::default();
        for (_, latencies) in &self.intervals {
            sum.merge(latencies);
        }
        sum
    }
}

/// Writes a file as a whole or not at all.
///
/// # Errors
/// [`RecordingError::File`] when it cannot.
pub fn write(path: &Path, text: &str) -> Result<(), RecordingError> {
    let part = path.with_extension("part");
    let written = File::create(&part)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&part, path));
    written.map_err(|source| {
        drop(fs::remove_file(&part));
        at(path)(source)
    })
}

impl From<LogError> for RecordingError {
    fn from(error: LogError) -> Self {
        Self::Content {
            path: error.file,
            why: error.why,
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RecordingError {
    let path = path.to_owned();
    move |source| RecordingError::File { path, source }
}

#[cfg(test)]
mod tests;
