//! Entries in the memory of this process, and in one file from which it starts again.
//!
//! ```text
//!   write, remove --> memory --lines--> writer thread --> file
//!        <-------- what is in the file by now ---+
//! ```
//!
//! A change is in force once it is in memory, and answered once it is in the file too, so that a process that
//! is killed has lost nothing it has confirmed. With a file that cannot be written (a full disk) changes are
//! in force and answered all the same; `complaint` tells, and the writer tries again to write all of it.
//!
//! Here: memory, its bounds, the thread. Not here: the file itself (`journal`).
//!
//! Invariant: the sum of the records' bytes and both counts are those of the records.
//! Bound: [`Bounds`] of entries, [`PENDING_MAX`] bytes of lines that wait for the file, [`SAVE_TIME`] that a
//! request waits for it. The lock is held for a map's operation, or for one pass over the entries for lists.

mod journal;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringway_proto::key::PublicKey;
use tokio::sync::watch;
use tokio::time::timeout;

use super::record::{Moment, Record};
use super::store::{Counts, Outcome, Store, StoreError, Which, Write};
use journal::{Change, Journal};

/// What the memory takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Entries of clients.
    pub(crate) clients_max: u32,
    /// Entries of servers.
    pub(crate) servers_max: u32,
    /// Bytes of all entries.
    pub(crate) bytes_max: u64,
}

/// The store.
#[derive(Debug)]
pub(crate) struct Embedded {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What requests and the writer share.
#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    has_work: Condvar,
    /// How far the file is.
    saved: watch::Sender<Saved>,
}

/// How far the file is.
#[derive(Debug, Clone, Default)]
struct Saved {
    /// Changes that are in it.
    changes: u64,
    /// Why it cannot be written.
    failure: Option<String>,
}

#[derive(Debug)]
struct Memory {
    bounds: Bounds,
    records: HashMap<PublicKey, Arc<Record>>,
    counts: Counts,
    bytes: u64,
    /// Changes so far.
    changes: u64,
    /// Changes as lines for the file.
    pending: Vec<u8>,
    /// Lines were lost: the whole of it has to be written.
    is_behind: bool,
    is_ending: bool,
}

impl Embedded {
    /// Opens the file, or makes one, and reads what still stands at `now`.
    ///
    /// # Errors
    ///
    /// The system's, when the file is another process's, or no file of entries.
    pub(crate) fn open(path: PathBuf, bounds: Bounds, now: Moment) -> io::Result<Self> {
        let (journal, records) = Journal::open(path, bounds.bytes_max)?;
        let mut memory = Memory::new(bounds);
        // What has expired or was replaced is left out of the file from the beginning.
        memory.is_behind = true;
        for record in records.into_values().filter(|found| found.is_standing(now)) {
            memory.insert(Arc::new(record));
        }
        let shared = Arc::new(Shared {
            memory: Mutex::new(memory),
            has_work: Condvar::new(),
            saved: watch::Sender::new(Saved::default()),
        });
        let of_writer = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("discovery-file".to_owned())
            .spawn(move || of_writer.keep(journal))?;
        Ok(Self {
            shared,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Waits until what has been changed so far is in the file, or it is known that it cannot be.
    async fn saved(&self, changes: u64) {
        let mut saved = self.shared.saved.subscribe();
        let is_there = |saved: &Saved| saved.changes >= changes || saved.failure.is_some();
        // Whichever way it ends, the change is in force.
        drop(timeout(SAVE_TIME, saved.wait_for(is_there)).await);
    }

    /// Changes the memory, wakes the writer, and waits for it when there was something to write.
    async fn change<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> T {
        let (before, after, outcome) = {
            let mut memory = self.shared.lock();
            let before = memory.changes;
            let outcome = change(&mut memory);
            (before, memory.changes, outcome)
        };
        if after > before {
            self.shared.has_work.notify_one();
            self.saved(after).await;
        }
        outcome
    }
}

impl Store for Embedded {
    async fn read(&self, key: PublicKey, now: Moment) -> Result<Option<Arc<Record>>, StoreError> {
        let found = self.shared.lock().records.get(&key).cloned();
        Ok(found.filter(|record| record.is_standing(now)))
    }

    async fn write(&self, write: Write<'_>) -> Result<Outcome, StoreError> {
        Ok(self.change(|memory| memory.write(&write)).await)
    }

    async fn remove(&self, record: &Record) -> Result<Outcome, StoreError> {
        let remove = |memory: &mut Memory| {
            if !memory.is_there(record.key(), Some(record)) {
                return Outcome::Changed;
            }
            memory.remove(&record.key());
            Outcome::Done
        };
        Ok(self.change(remove).await)
    }

    async fn servers(&self, now: Moment) -> Result<Vec<Arc<Record>>, StoreError> {
        let memory = self.shared.lock();
        let records = memory.records.values();
        let servers = records.filter(|record| record.entry().server.is_some());
        Ok(servers
            .filter(|record| record.is_standing(now))
            .cloned()
            .collect())
    }

    async fn keys(&self, which: Which, now: Moment) -> Result<Vec<PublicKey>, StoreError> {
        let memory = self.shared.lock();
        let records = memory.records.values();
        let listed = records.filter(|record| match which {
            Which::Clients => record.entry().client.is_some(),
            Which::Visors => record.entry().is_visor(),
        });
        let standing = listed.filter(|record| record.is_standing(now));
        Ok(standing.map(|record| record.key()).collect())
    }

    async fn clean(&self, now: Moment) -> Result<Counts, StoreError> {
        let mut memory = self.shared.lock();
        let has_ended =
            |(key, record): (&PublicKey, &Arc<Record>)| (!record.is_standing(now)).then_some(*key);
        let ended: Vec<PublicKey> = memory.records.iter().filter_map(has_ended).collect();
        for key in &ended {
            memory.remove(key);
        }
        let counts = memory.counts;
        drop(memory);
        if !ended.is_empty() {
            self.shared.has_work.notify_one();
        }
        Ok(counts)
    }

    fn generation(&self) -> u64 {
        self.shared.lock().changes
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn complaint(&self) -> Option<String> {
        self.shared.saved.borrow().failure.clone()
    }

    async fn close(&self) {
        self.shared.lock().is_ending = true;
        self.shared.has_work.notify_one();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(writer) = writer else { return };
        let ended = tokio::task::spawn_blocking(move || writer.join());
        match timeout(CLOSE_TIME, ended).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) => tracing::error!("the thread of the discovery's file has panicked"),
            Err(_) => tracing::error!("the discovery's file is not written to its end"),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the file in step until the store is closed. What waits then is written first.
    fn keep(&self, mut journal: Journal) {
        let mut retry_at: Option<Instant> = None;
        while let Some(batch) = self.next(&journal, retry_at) {
            let (changes, outcome) = match batch {
                Batch::Lines { lines, changes } => (changes, journal.append(&lines)),
                Batch::All { records, changes } => (changes, journal.rewrite(&records)),
            };
            match outcome {
                Ok(()) => {
                    if retry_at.take().is_some() {
                        tracing::warn!("the discovery's file is written again");
                    }
                    let failure = None;
                    self.saved.send_replace(Saved { changes, failure });
                }
                Err(error) => {
                    let failure = format!("{}: {error}", journal.path().display());
                    if retry_at.is_none() {
                        tracing::error!(
                            %failure,
                            "the discovery's file cannot be written; entries stand in memory alone meanwhile"
                        );
                    }
                    retry_at = Some(Instant::now() + RETRY_TIME);
                    let mut memory = self.lock();
                    memory.is_behind = true;
                    let is_last = memory.is_ending;
                    drop(memory);
                    self.saved
                        .send_modify(|saved| saved.failure = Some(failure));
                    if is_last {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for something to write; none when the store is closed and all is written.
    fn next(&self, journal: &Journal, retry_at: Option<Instant>) -> Option<Batch> {
        let mut memory = self.lock();
        loop {
            let wait = retry_at.map(|at| at.saturating_duration_since(Instant::now()));
            let is_resting = wait.is_some_and(|wait| !wait.is_zero()) && !memory.is_ending;
            let has_work = memory.is_behind || !memory.pending.is_empty();
            if has_work && !is_resting {
                return Some(memory.batch(journal));
            }
            if memory.is_ending {
                return None;
            }
            memory = match wait {
                None => self
                    .has_work
                    .wait(memory)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    let waited = self.has_work.wait_timeout(memory, wait.max(PAUSE));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// What is to be written next.
enum Batch {
    /// Lines behind the others.
    Lines { lines: Vec<u8>, changes: u64 },
    /// The whole file anew.
    All {
        records: Vec<Arc<Record>>,
        changes: u64,
    },
}

impl Memory {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            records: HashMap::new(),
            counts: Counts::default(),
            bytes: 0,
            changes: 0,
            pending: Vec::new(),
            is_behind: false,
            is_ending: false,
        }
    }

    fn write(&mut self, write: &Write<'_>) -> Outcome {
        let Write { record, before, .. } = write;
        if !self.is_there(record.key(), *before) && !self.has_ended(record.key(), write) {
            return Outcome::Changed;
        }
        if !self.has_room(write) {
            return Outcome::Full;
        }
        self.insert(Arc::clone(record));
        Outcome::Done
    }

    /// Returns whether what stands of a party is this.
    fn is_there(&self, key: PublicKey, wanted: Option<&Record>) -> bool {
        match (self.records.get(&key), wanted) {
            (None, None) => true,
            (Some(found), Some(wanted)) => found.json() == wanted.json(),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    /// Returns whether the caller has judged that nothing stands, and what is here has only not been taken
    /// out.
    fn has_ended(&self, key: PublicKey, write: &Write<'_>) -> bool {
        let found = self.records.get(&key);
        write.before.is_none() && found.is_some_and(|found| !found.is_standing(write.now))
    }

    /// Returns whether there is room for an entry. One that takes no more than what it replaces always has
    /// it.
    fn has_room(&self, write: &Write<'_>) -> bool {
        let Write {
            record, is_vouched, ..
        } = write;
        let replaced = self.records.get(&record.key());
        let before = replaced.map(|found| (parts(found), found.memory_bytes()));
        let ((was_server, was_client), freed) = before.unwrap_or_default();
        let (is_server, is_client) = parts(record);
        let Bounds {
            clients_max,
            servers_max,
            bytes_max,
        } = self.bounds;
        let fits = |count: u64, max: u32, is_more: bool| !is_more || count < u64::from(max);
        let has_place = fits(self.counts.servers, servers_max, is_server && !was_server)
            && fits(self.counts.clients, clients_max, is_client && !was_client);
        let added = record.memory_bytes().saturating_sub(freed);
        let has_bytes = added == 0 || self.bytes + added <= bytes_max;
        // Servers that the operator knows are few, and everybody needs them.
        (has_place && has_bytes) || *is_vouched
    }

    fn insert(&mut self, record: Arc<Record>) {
        self.log(&Change::Put(&record));
        self.count(&record, true);
        if let Some(replaced) = self.records.insert(record.key(), record) {
            self.count(&replaced, false);
        }
    }

    fn remove(&mut self, key: &PublicKey) {
        if let Some(removed) = self.records.remove(key) {
            self.log(&Change::Remove(*key));
            self.count(&removed, false);
        }
    }

    fn count(&mut self, record: &Record, is_added: bool) {
        let (is_server, is_client) = parts(record);
        let bytes = record.memory_bytes();
        let change = |sum: &mut u64, by: u64| match is_added {
            true => *sum += by,
            false => *sum -= by,
        };
        change(&mut self.counts.servers, is_server.into());
        change(&mut self.counts.clients, is_client.into());
        change(&mut self.bytes, bytes);
    }

    /// Notes a change for the file.
    fn log(&mut self, change: &Change<'_>) {
        self.changes += 1;
        if self.is_behind {
            return;
        }
        change.write_line(&mut self.pending);
        if self.pending.len() > PENDING_MAX {
            self.is_behind = true;
            self.pending = Vec::new();
        }
    }

    /// Takes what is to be written.
    fn batch(&mut self, journal: &Journal) -> Batch {
        let changes = self.changes;
        let lines = std::mem::take(&mut self.pending);
        if self.is_behind || journal.is_due(self.bytes) {
            self.is_behind = false;
            let records = self.records.values().cloned().collect();
            return Batch::All { records, changes };
        }
        Batch::Lines { lines, changes }
    }
}

/// Returns whether a record is a server's, and whether it is a client's.
fn parts(record: &Record) -> (bool, bool) {
    let entry = record.entry();
    (entry.server.is_some(), entry.client.is_some())
}

/// Longest wait of a request for the file: disks answer within milliseconds.
const SAVE_TIME: Duration = Duration::from_secs(2);

/// Longest wait for the file when the discovery ends.
const CLOSE_TIME: Duration = Duration::from_secs(10);

/// Between two attempts to write a file that could not be written.
const RETRY_TIME: Duration = Duration::from_secs(1);

/// Shortest wait of the writer, so that a clock that jumps does not make it spin.
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes of lines that wait for a slow disk; beyond that the whole file is written once instead.
const PENDING_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests;
