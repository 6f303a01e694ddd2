//! CPU profiles: where the threads of the process spend their time.
//!
//! Here: one profile, from its start to its bytes. Not here: how these are laid out (`encode`).
//!
//! The kernel sends SIGPROF to whichever thread runs each time the process has used another 1/hz s of
//! processor time; the handler walks that thread's stack and counts it. A relay that does nothing gets no
//! signals. A wait in the kernel that a signal ends goes on: `io_uring_enter` through the loop of the shard
//! (`EINTR` is a turn that found nothing), other calls by `SA_RESTART` or the standard library.
//! The walk is libgcc's, with the tables of the binary: no frame pointers are needed. It takes no lock where
//! the C library has `_dl_find_object`, which is from glibc 2.35 on.
//!
//! Memory: 300 MB while a profile is made, 140 MB from the first one on: the crate's table, which it keeps
//! (docs/operations.md).
//! Bound: one profile at a time in the process, [`SECONDS_MAX`] long; 32,768 different stacks and a file
//! for the rest, by the crate. Cancel: dropping the future ends the profile.

use std::time::Duration;

use pprof::{Frames, ProfilerGuard, Report};
use thiserror::Error;

use super::Parameters;
use super::encode::{self, Kind, Line, Profile, Stack};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) seconds: u32,
    pub(super) hz: u32,
}

impl Wanted {
    /// Reads a query.
    pub(super) fn of(parameters: &Parameters) -> Result<Self, CpuError> {
        let read = |name: &'static str, default, min, max| match parameters.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (min..=max).contains(number))
                .ok_or_else(|| CpuError::PeerNumber {
                    name,
                    text: text.chars().take(TEXT_CHARS_MAX).collect(),
                    min,
                    max,
                }),
        };
        Ok(Self {
            seconds: read("seconds", SECONDS, 1, SECONDS_MAX)?,
            hz: read("hz", HZ, 1, HZ_MAX)?,
        })
    }
}

/// Why there is no profile.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum CpuError {
    /// Another one is being made.
    #[error("another CPU profile is being made: ask again when it is done")]
    LocalBusy,
    /// The profiler cannot start or cannot be read.
    #[error("the profiler: {0}")]
    LocalProfiler(pprof::Error),
    /// The thread or the file for it failed.
    #[error("the profile cannot be made: {0}")]
    LocalWrite(String),
    /// A number of the query.
    #[error("{name}={text}: a whole number from {min} to {max} is possible")]
    PeerNumber {
        /// Its name.
        name: &'static str,
        /// What was said, its beginning.
        text: String,
        /// The smallest.
        min: u32,
        /// The greatest.
        max: u32,
    },
}

/// A profile that is being made. Dropped, it ends.
pub(super) struct Running {
    guard: ProfilerGuard<'static>,
    wanted: Wanted,
}

impl Running {
    /// Starts one. Takes tens of milliseconds the first time.
    pub(super) fn start(wanted: Wanted) -> Result<Self, CpuError> {
        let hz = i32::try_from(wanted.hz).unwrap_or(i32::MAX);
        match ProfilerGuard::new(hz) {
            Ok(guard) => Ok(Self { guard, wanted }),
            Err(pprof::Error::Running) => Err(CpuError::LocalBusy),
            Err(error) => Err(CpuError::LocalProfiler(error)),
        }
    }

    /// Ends it, finds the names of all functions and returns the profile. Takes up to seconds.
    pub(super) fn finish(self) -> Result<Vec<u8>, CpuError> {
        let report = self.guard.report().build();
        let report = report.map_err(CpuError::LocalProfiler)?;
        drop(self.guard);
        // What was read of the binary for the names; the next profile reads it again.
        backtrace::clear_symbol_cache();
        encode::gzip(&profile_of(&report, self.wanted.hz))
            .map_err(|error| CpuError::LocalWrite(error.to_string()))
    }
}

/// Makes a profile.
///
/// # Errors
///
/// [`CpuError::LocalBusy`]: ask again later.
///
/// # Cancel
///
/// The profile ends.
pub(super) async fn profile(wanted: Wanted) -> Result<Vec<u8>, CpuError> {
    let running = on_a_thread(move || Running::start(wanted)).await?;
    tokio::time::sleep(Duration::from_secs(u64::from(wanted.seconds))).await;
    on_a_thread(move || running.finish()).await
}

/// Does what takes long where it delays nobody.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CpuError> + Send + 'static,
) -> Result<T, CpuError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| CpuError::LocalWrite(error.to_string()))?
}

fn profile_of(report: &Report, hz: u32) -> Profile {
    let stacks = report.data.iter().map(|(frames, count)| Stack {
        frames: frames.frames.iter().map(|frame| lines_of(frame)).collect(),
        thread: thread_of(frames),
        count: u64::try_from(*count).unwrap_or(0),
        bytes: 0,
    });
    Profile {
        kind: Kind::Cpu,
        stacks: stacks.collect(),
        started: report.timing.start_time,
        duration: report.timing.duration,
        period: Duration::from_secs(1) / hz.max(1),
    }
}

/// The functions of one frame, those that were inlined first.
fn lines_of(frame: &[pprof::Symbol]) -> Vec<Line> {
    let line = |symbol: &pprof::Symbol| Line {
        function: symbol.name(),
        system_name: symbol.sys_name().into_owned(),
        file: symbol.filename().into_owned(),
        line: symbol.lineno(),
    };
    frame.iter().map(line).collect()
}

fn thread_of(frames: &Frames) -> String {
    frames.thread_name_or_id()
}

/// Length of a profile, unless asked for.
const SECONDS: u32 = 10;

/// Longest profile.
const SECONDS_MAX: u32 = 300;

/// Samples a second of processor time, unless asked for: no multiple of what timers run at.
const HZ: u32 = 99;

/// Most samples a second: each stops a thread for tens of microseconds.
const HZ_MAX: u32 = 999;

/// Characters of a wrong parameter that an answer repeats.
const TEXT_CHARS_MAX: usize = 32;
