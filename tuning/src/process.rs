//! What a process costs, read from `/proc`.
//!
//! Here: processor time and memory of a process by its id. Not here: anything a relay says about itself.
//!
//! Units: nanoseconds, bytes. Source: proc(5); `schedstat` counts in nanoseconds, `stat` in ticks of
//! 10 ms, so the first gives the sum and the second its split into user and system.

use std::fs;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::parse;

/// One look at a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSample {
    /// Processor time of its present threads.
    pub cpu_ns: u64,
    /// User time of the process, in whole ticks.
    pub user_ns: u64,
    /// System time of the process, in whole ticks.
    pub system_ns: u64,
    /// Time in which its present threads could have run and waited for a processor.
    #[serde(default)]
    pub run_delay_ns: u64,
    /// Resident memory.
    pub rss_bytes: u64,
}

impl ProcessSample {
    /// Looks at process `pid`.
    ///
    /// # Errors
    /// When there is no such process, or it may not be looked at.
    pub fn take(pid: u32) -> io::Result<Self> {
        let (mut cpu_ns, mut run_delay_ns) = (0_u64, 0_u64);
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path().join("schedstat");
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(path) else {
                continue;
            };
            let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
            let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
            cpu_ns = cpu_ns.saturating_add(next());
            run_delay_ns = run_delay_ns.saturating_add(next());
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (user_ns, system_ns) = times_of_stat(&stat).ok_or(io::ErrorKind::InvalidData)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self {
            cpu_ns,
            user_ns,
            system_ns,
            run_delay_ns,
            rss_bytes: parse::meminfo(&status, "VmRSS").unwrap_or(0),
        })
    }

    /// Returns the processor time since an earlier look.
    #[must_use]
    pub const fn cpu_since(&self, earlier: &Self) -> Duration {
        Duration::from_nanos(self.cpu_ns.saturating_sub(earlier.cpu_ns))
    }

    /// Returns the time in which its threads waited for a processor since an earlier look.
    #[must_use]
    pub const fn run_delay_since(&self, earlier: &Self) -> Duration {
        Duration::from_nanos(self.run_delay_ns.saturating_sub(earlier.run_delay_ns))
    }

    /// Returns the share of user time since an earlier look, in percent; `None` below 20 ticks, where
    /// the ticks say nothing.
    #[must_use]
    pub const fn user_percent_since(&self, earlier: &Self) -> Option<u64> {
        let user = self.user_ns.saturating_sub(earlier.user_ns);
        let system = self.system_ns.saturating_sub(earlier.system_ns);
        let sum = user + system;
        if sum < 20 * 1_000_000_000 / TICKS_PER_SECOND {
            return None;
        }
        Some(user * 100 / sum)
    }
}

/// Returns user and system time of a `stat` line. The name in parentheses may hold anything.
fn times_of_stat(text: &str) -> Option<(u64, u64)> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let tick = 1_000_000_000 / TICKS_PER_SECOND;
    Some((user * tick, system * tick))
}

/// Clock ticks a second in `/proc/PID/stat`: `USER_HZ` is 100 on every Linux architecture in use.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_can_be_looked_at() {
        let sample = ProcessSample::take(std::process::id()).unwrap();
        assert!(sample.rss_bytes > 0);
        let again = ProcessSample::take(std::process::id()).unwrap();
        assert!(again.cpu_ns >= sample.cpu_ns);
    }

    #[test]
    fn a_missing_process_is_an_error() {
        assert!(ProcessSample::take(u32::MAX).is_err());
    }

    #[test]
    fn stat_is_read_behind_any_name() {
        let line = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(times_of_stat(line), Some((1_500_000_000, 500_000_000)));
        assert_eq!(times_of_stat("7 (a) S 1"), None);
    }

    #[test]
    fn few_ticks_give_no_split() {
        let start = ProcessSample::default();
        let mut end = start;
        end.user_ns = 50_000_000;
        assert_eq!(end.user_percent_since(&start), None);
        end.system_ns = 150_000_000;
        assert_eq!(end.user_percent_since(&start), Some(25));
    }
}
