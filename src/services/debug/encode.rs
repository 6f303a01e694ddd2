//! The profile format of pprof: a protobuf message, compressed.
//!
//! Here: the writer. Not here: where stacks come from. A reader of its own is in the tests.
//!
//! Source: `proto/profile.proto` of github.com/google/pprof; protobuf.dev/programming-guides/encoding.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

/// What the values of a profile are: of processor time, or of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Samples, and the nanoseconds that they stand for.
    Cpu,
    /// Objects, and the bytes that they take.
    Heap,
}

/// A profile.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) kind: Kind,
    pub(super) stacks: Vec<Stack>,
    pub(super) started: SystemTime,
    pub(super) duration: Duration,
    /// Processor time that a sample stands for; of memory nothing.
    pub(super) period: Duration,
}

/// A stack, and how often it was seen.
#[derive(Debug)]
pub(super) struct Stack {
    /// The innermost frame first; of a frame the functions, the innermost inlined one first.
    pub(super) frames: Vec<Vec<Line>>,
    pub(super) thread: String,
    pub(super) count: u64,
    /// Bytes of a heap profile.
    pub(super) bytes: u64,
}

/// A line of a function.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Its name as people write it.
    pub(super) function: String,
    /// As the linker has it.
    pub(super) system_name: String,
    pub(super) file: String,
    pub(super) line: u32,
}

/// Returns the profile as `go tool pprof` and others read it.
///
/// # Errors
///
/// None but what compressing into memory may report.
pub(super) fn gzip(profile: &Profile) -> io::Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(&message(profile))?;
    out.finish()
}

/// Returns the message.
fn message(profile: &Profile) -> Vec<u8> {
    let period_ns = nanos(profile.period);
    let mut tables = Tables::default();
    tables.string("");
    let mut out = Message::default();
    let (counts, values) = match profile.kind {
        Kind::Cpu => (("samples", "count"), ("cpu", "nanoseconds")),
        Kind::Heap => (("inuse_objects", "count"), ("inuse_space", "bytes")),
    };
    let value_type = tables.value_type(values.0, values.1);
    out.message(1, &tables.value_type(counts.0, counts.1));
    out.message(1, &value_type);
    for stack in &profile.stacks {
        let mut sample = Message::default();
        let frames = stack.frames.iter().filter(|frame| !frame.is_empty());
        let locations: Vec<u64> = frames.map(|frame| tables.location(frame)).collect();
        sample.packed(1, &locations);
        let value = match profile.kind {
            Kind::Cpu => stack.count.saturating_mul(period_ns),
            Kind::Heap => stack.bytes,
        };
        sample.packed(2, &[stack.count, value]);
        let mut label = Message::default();
        label.number(1, tables.string("thread"));
        label.number(2, tables.string(&stack.thread));
        sample.message(3, &label);
        out.message(2, &sample);
    }
    out.0.extend_from_slice(&tables.locations_out.0);
    out.0.extend_from_slice(&tables.functions_out.0);
    for string in &tables.strings_out {
        out.bytes(6, string.as_bytes());
    }
    let started = profile.started.duration_since(UNIX_EPOCH);
    out.number(9, started.map_or(0, nanos));
    out.number(10, nanos(profile.duration));
    out.message(11, &value_type);
    out.number(12, period_ns);
    out.0
}

/// What samples refer to: strings by their place, functions and locations by numbers from 1 on.
#[derive(Debug, Default)]
struct Tables {
    strings: BTreeMap<String, u64>,
    strings_out: Vec<String>,
    functions: BTreeMap<(u64, u64), u64>,
    functions_out: Message,
    locations: BTreeMap<Vec<(u64, u32)>, u64>,
    locations_out: Message,
}

impl Tables {
    fn string(&mut self, text: &str) -> u64 {
        if let Some(place) = self.strings.get(text) {
            return *place;
        }
        let place = count(self.strings_out.len());
        self.strings.insert(text.to_owned(), place);
        self.strings_out.push(text.to_owned());
        place
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> Message {
        let mut out = Message::default();
        out.number(1, self.string(kind));
        out.number(2, self.string(unit));
        out
    }

    fn function(&mut self, line: &Line) -> u64 {
        let (name, file) = (self.string(&line.function), self.string(&line.file));
        if let Some(id) = self.functions.get(&(name, file)) {
            return *id;
        }
        let id = count(self.functions.len()) + 1;
        self.functions.insert((name, file), id);
        let mut out = Message::default();
        out.number(1, id);
        out.number(2, name);
        out.number(3, self.string(&line.system_name));
        out.number(4, file);
        self.functions_out.message(5, &out);
        id
    }

    fn location(&mut self, frame: &[Line]) -> u64 {
        let lines = frame.iter().map(|line| (self.function(line), line.line));
        let lines: Vec<(u64, u32)> = lines.collect();
        if let Some(id) = self.locations.get(&lines) {
            return *id;
        }
        let id = count(self.locations.len()) + 1;
        let mut out = Message::default();
        out.number(1, id);
        for (function, line) in &lines {
            let mut inner = Message::default();
            inner.number(1, *function);
            inner.number(2, u64::from(*line));
            out.message(4, &inner);
        }
        self.locations.insert(lines, id);
        self.locations_out.message(4, &out);
        id
    }
}

/// A protobuf message being written.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, field: u8, value: u64) {
        self.0.push(field << 3);
        self.varint(value);
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.0.push(field << 3 | 2);
        self.varint(count(bytes.len()));
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u8, message: &Self) {
        self.bytes(field, &message.0);
    }

    fn packed(&mut self, field: u8, values: &[u64]) {
        let mut inner = Self::default();
        for value in values {
            inner.varint(*value);
        }
        self.bytes(field, &inner.0);
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let low = u8::try_from(value & 0x7f).unwrap_or(0);
            value >>= 7;
            if value == 0 {
                self.0.push(low);
                return;
            }
            self.0.push(low | 0x80);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
