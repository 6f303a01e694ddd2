//! Windows with and without slow readers.
//!
//! Here: the alternation, and the bytes of each window. Not here: the slow pairs (`worker::slow`), the
//! medians (`findings`).
//!
//! Both kinds of windows belong to one run over the same sessions, so that whatever else the machine does
//! meets both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{News, POLL_TIME, Run, RunError, Special};
use crate::findings::{Findings, SlowReaderFindings, Window};

impl Run<'_> {
    /// Runs all windows.
    pub(super) fn conduct_windows(&mut self) -> Result<Special, RunError> {
        let plan = Arc::clone(&self.plan);
        let slow = plan.slow.pairs;
        let mut special = Special::complete();
        let mut windows = Vec::new();
        for number in 0..plan.slow.windows {
            let is_slow = number % 2 == 1;
            self.set_gate(number + 1);
            let problem = if is_slow {
                // The relay may end a slow pair before it is deaf; the window then counts all the same.
                self.await_count(|shared| &shared.slow_deaf, |deaf| deaf >= slow)
                    .then(|| "slow readers that never came to stop reading".to_owned())
            } else {
                self.await_count(|shared| &shared.slow_open, |open| open == 0)
                    .then(|| "slow sessions that did not close".to_owned())
            };
            special.problems.extend(problem);
            let (bytes, begun) = (self.progress().bytes, Instant::now());
            special.is_complete = self.pass(plan.duration);
            let window = Window {
                is_slow,
                seconds: begun.elapsed().as_secs_f64(),
                bytes: self.progress().bytes - bytes,
                rss_bytes: self.look()?.map(|sample| sample.rss_bytes),
            };
            (self.report)(News::Window(number + 1, &window));
            windows.push(window);
            if !special.is_complete {
                break;
            }
        }
        // The last slow pairs read again and close, so that their ends are known.
        self.set_gate(plan.slow.windows + 1 + plan.slow.windows % 2);
        self.await_count(|shared| &shared.slow_open, |open| open == 0);
        special.findings = Findings {
            slow_reader: Some(SlowReaderFindings::of(windows)),
            ..Findings::default()
        };
        Ok(special)
    }

    /// Waits until a counter is as it should be; true when it never was.
    fn await_count(
        &self,
        counter: impl Fn(&crate::shared::Shared) -> &AtomicU32,
        is_fine: impl Fn(u32) -> bool,
    ) -> bool {
        let begun = Instant::now();
        while !is_fine(counter(&self.shared).load(Ordering::Acquire)) {
            if begun.elapsed() > AWAIT_TIME || self.is_interrupted() {
                return true;
            }
            thread::sleep(POLL_TIME);
        }
        false
    }
}

/// Longest wait for slow pairs to come or to go.
const AWAIT_TIME: Duration = Duration::from_secs(10);
