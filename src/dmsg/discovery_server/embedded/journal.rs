//! The file of the embedded store: a line of JSON for each change.
//!
//! ```text
//! {"entry":{...},"source":"192.0.2.1","expires_ms":1700000120000}
//! {"removed":"02ab..."}
//! ```
//!
//! A later line about a party replaces an earlier one. Once lines that no longer count make up half of the
//! file, all that stands is written to a new file beside it, which takes its place; an end at any moment
//! leaves one of the two. Only the last line can be cut short, and then nobody was told that it stands.
//!
//! Here: reading, appending, replacing, and that one process has the file. Not here: what stands.
//!
//! Bound: twice what is held and [`SLACK_BYTES`], and what waited to be written.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringway_proto::dmsg::entry::{ENTRY_LEN_MAX, Entry, parse_key};
use ringway_proto::key::PublicKey;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::dmsg::discovery_server::record::{Moment, Record};
use crate::key_file;

/// The file, held for this process.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    len: u64,
}

/// A change of what stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'a> {
    /// This stands now.
    Put(&'a Record),
    /// Nothing of this party stands.
    Remove(PublicKey),
}

/// A line.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed: Option<String>,
}

impl Journal {
    /// Opens the file, or makes one, and returns what its lines say; `bytes_max` is what is held at most.
    ///
    /// # Errors
    ///
    /// The system's; that another process has the file; that it is no such file.
    pub(super) fn open(
        path: PathBuf,
        bytes_max: u64,
    ) -> io::Result<(Self, HashMap<PublicKey, Record>)> {
        if let Some(directory) = path.parent() {
            let mut private = DirBuilder::new();
            private.recursive(true).mode(0o700).create(directory)?;
        }
        let file = hold(&path)?;
        let len = file.metadata()?.len();
        let len_max = bytes_max.saturating_mul(4).saturating_add(SLACK_BYTES);
        if len > len_max {
            let text = format!("it has {len} bytes, more than this discovery takes ({len_max})");
            return Err(io::Error::other(text));
        }
        let records = read(&file)?;
        Ok((Self { path, file, len }, records))
    }

    /// Returns where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether it is time to write all of what stands anew, `held` bytes in memory.
    pub(super) fn is_due(&self, held: u64) -> bool {
        // A record takes more bytes in memory than in a line.
        self.len > held.saturating_mul(2).saturating_add(SLACK_BYTES)
    }

    /// Appends lines.
    ///
    /// # Errors
    ///
    /// The system's; that somebody has removed the file. A part of the lines may be in it, and it has to be
    /// written anew.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "somebody has removed it",
            ));
        }
        self.file.write_all(lines)?;
        self.len += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Replaces the file by one with these records.
    ///
    /// # Errors
    ///
    /// The system's; the old file stands.
    pub(super) fn rewrite(&mut self, records: &[Arc<Record>]) -> io::Result<()> {
        let mark = key_file::random::<8>().map_err(io::Error::other)?;
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", key_file::hex(&mark)));
        let beside = self.path.with_file_name(name);
        let replaced = self.write_beside(&beside, records);
        if replaced.is_err() {
            // What is left of it is of no use; the error that counts is the first.
            drop(fs::remove_file(&beside));
        }
        (self.file, self.len) = replaced?;
        Ok(())
    }

    fn write_beside(&self, beside: &Path, records: &[Arc<Record>]) -> io::Result<(File, u64)> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(beside)?;
        lock(&file)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, &file);
        let mut line = Vec::new();
        let mut len = 0;
        for record in records {
            line.clear();
            Change::Put(record).write_line(&mut line);
            out.write_all(&line)?;
            len += u64::try_from(line.len()).unwrap_or(u64::MAX);
        }
        out.flush()?;
        drop(out);
        file.sync_all()?;
        fs::rename(beside, &self.path)?;
        Ok((file, len))
    }
}

impl Change<'_> {
    /// Appends the change as a line.
    pub(super) fn write_line(&self, out: &mut Vec<u8>) {
        let line = match self {
            Self::Put(record) => Line {
                entry: Some(record.entry().clone()),
                source: record.source(),
                expires_ms: record.expires().map(Moment::ms),
                removed: None,
            },
            Self::Remove(key) => Line {
                removed: Some(key.to_string()),
                ..Line::default()
            },
        };
        // Texts and numbers in memory: there is nothing that could fail.
        if serde_json::to_writer(&mut *out, &line).is_ok() {
            out.push(b'\n');
        }
    }
}

/// Opens the file for this process alone.
fn hold(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        lock(&file)?;
        // The holder of before may have put another file there since it was opened.
        let is_there = fs::metadata(path).is_ok_and(|found| {
            let opened = file.metadata();
            opened.is_ok_and(|opened| (opened.dev(), opened.ino()) == (found.dev(), found.ino()))
        });
        if is_there {
            return Ok(file);
        }
    }
}

fn lock(file: &File) -> io::Result<()> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another process has it: stop that one, or give this one a file of its own",
        )),
        Err(error) => Err(error.into()),
    }
}

/// Reads the lines. A last one without its end was never confirmed, and is left out.
fn read(file: &File) -> io::Result<HashMap<PublicKey, Record>> {
    let mut records = HashMap::new();
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut text = Vec::new();
    for number in 1_u64.. {
        text.clear();
        let read = (&mut reader)
            .take(LINE_LEN_MAX)
            .read_until(b'\n', &mut text)?;
        if read == 0 || (text.last() != Some(&b'\n') && at_end(&mut reader)?) {
            break;
        }
        let Some((key, record)) = parse(&text) else {
            let text = format!(
                "line {number} is no entry: this is no file of a discovery, or it is damaged. Move it away; \
                 servers write their entries again within a minute, clients within five"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        match record {
            Some(record) => records.insert(key, record),
            None => records.remove(&key),
        };
    }
    Ok(records)
}

fn at_end(reader: &mut impl BufRead) -> io::Result<bool> {
    Ok(reader.fill_buf()?.is_empty())
}

/// Returns what a line says of whom.
fn parse(text: &[u8]) -> Option<(PublicKey, Option<Record>)> {
    let line: Line = serde_json::from_slice(text).ok()?;
    match (line.entry, line.removed) {
        (Some(entry), None) => {
            // Within the bounds of this version, too.
            let entry = Entry::decode(&entry.encode()).ok()?;
            let expires = line.expires_ms.map(Moment::from_ms);
            Some((entry.key, Some(Record::new(entry, line.source, expires))))
        }
        (None, Some(key)) => Some((parse_key(&key).ok()?, None)),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// Bytes of lines that do not count which are always left in the file.
const SLACK_BYTES: u64 = 1 << 20;

/// Longest line: an entry and what stands around it.
const LINE_LEN_MAX: u64 = 1_024 + ENTRY_LEN_MAX as u64;

const BUFFER_BYTES: usize = 65_536;

#[cfg(test)]
mod tests {
    use ringway_proto::dmsg::key::SecretKey;

    use super::*;

    fn record(number: u8, sequence: u64) -> Record {
        let secret = SecretKey::from_bytes([number; 32]).expect("a number below the order");
        let mut entry = Entry::of_client(secret.public(), sequence, 5, Vec::new());
        entry.sign(&secret);
        let source = Some(IpAddr::from([192, 0, 2, number]));
        Record::new(entry, source, Some(Moment::from_ms(77)))
    }

    fn lines(changes: &[Change<'_>]) -> Vec<u8> {
        let mut lines = Vec::new();
        for change in changes {
            change.write_line(&mut lines);
        }
        lines
    }

    fn reopen(path: &Path) -> HashMap<PublicKey, Record> {
        Journal::open(path.to_owned(), 1 << 20).unwrap().1
    }

    #[test]
    fn last_line_about_a_party_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/entries");
        let (mut journal, none) = Journal::open(path.clone(), 1 << 20).unwrap();
        assert!(none.is_empty());
        let (first, later, other) = (record(1, 1), record(1, 2), record(2, 1));
        let changes = [
            Change::Put(&first),
            Change::Put(&other),
            Change::Put(&later),
        ];
        journal.append(&lines(&changes)).unwrap();
        journal
            .append(&lines(&[Change::Remove(other.key())]))
            .unwrap();
        drop(journal);
        let expected = HashMap::from([(later.key(), later)]);
        assert_eq!(reopen(&path), expected);
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600, "passphrases are not in it, addresses are");
    }

    #[test]
    fn line_that_is_cut_short_is_left_out_wherever_it_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("entries");
        let (first, second) = (record(1, 1), record(2, 1));
        let whole = lines(&[Change::Put(&first)]);
        let cut = lines(&[Change::Put(&second)]);
        for end in 0..cut.len() {
            fs::write(&path, [&whole, &cut[..end]].concat()).unwrap();
            assert_eq!(reopen(&path).len(), 1, "{end}");
        }
        fs::write(&path, [whole, cut].concat()).unwrap();
        assert_eq!(reopen(&path).len(), 2);
    }

    #[test]
    fn file_that_is_none_of_a_discovery_is_named_with_its_line_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("entries");
        let good = lines(&[Change::Put(&record(1, 1))]);
        for bad in [
            "\n",
            "{}\n",
            "{\"entry\":7}\n",
            "{\"removed\":\"x\"}\n",
            "{\"x\":1}\n",
        ] {
            let text = [good.as_slice(), bad.as_bytes()].concat();
            fs::write(&path, &text).unwrap();
            let error = Journal::open(path.clone(), 1 << 20)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("line 2") && error.contains("Move it away"),
                "{error}"
            );
            assert_eq!(fs::read(&path).unwrap(), text);
        }
        fs::write(&path, vec![b'x'; 100_000]).unwrap();
        let error = Journal::open(path.clone(), 1 << 20)
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 1"), "{error}");
        fs::write(&path, vec![b'x'; 2 << 20]).unwrap();
        let error = Journal::open(path, 0).unwrap_err().to_string();
        assert!(error.contains("2097152 bytes"), "{error}");
    }

    #[test]
    fn one_process_has_the_file_also_after_it_was_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("entries");
        let (mut journal, _) = Journal::open(path.clone(), 1 << 20).unwrap();
        for _ in 0..2 {
            let error = Journal::open(path.clone(), 1 << 20).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
            journal.rewrite(&[Arc::new(record(1, 1))]).unwrap();
        }
        drop(journal);
        assert_eq!(reopen(&path).len(), 1);
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn file_is_due_when_half_of_it_counts_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("entries");
        let (mut journal, _) = Journal::open(path, 1 << 20).unwrap();
        let line = lines(&[Change::Put(&record(1, 1))]);
        let held = record(1, 1).memory_bytes();
        let mut appends = 0;
        while !journal.is_due(held) {
            journal.append(&line).unwrap();
            appends += line.len();
        }
        assert!((1 << 20..2 << 20).contains(&appends), "{appends}");
        journal.rewrite(&[Arc::new(record(1, 1))]).unwrap();
        assert!(!journal.is_due(held));
        let len = fs::metadata(journal.path()).unwrap().len();
        assert_eq!(len, journal.len);
        assert_eq!(usize::try_from(len).unwrap(), line.len());
    }
}
