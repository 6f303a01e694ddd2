//! How late a thread wakes up that asked for a time.
//!
//! Here: sleeping and looking at the clock. Not here: what makes it late: deep sleep of the processor, a
//! container that has used its share up, other threads on the core.

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::nanoseconds;

/// Sleeps again and again for a while; returns by how much each sleep was too long, nanoseconds.
pub(super) fn run(time: Duration) -> std::io::Result<Histogram<u32>> {
    let mut late = super::histogram()?;
    let until = Instant::now() + time;
    while late.is_empty() || Instant::now() < until {
        let began = Instant::now();
        thread::sleep(SLEEP);
        late.saturating_record(nanoseconds(began.elapsed().saturating_sub(SLEEP)));
    }
    Ok(late)
}

/// Long enough for a core to go to sleep, short enough for some hundred sleeps a second.
///
/// The kernel may add 50 us to each to bundle timers. Source: prctl(2), `PR_SET_TIMERSLACK`.
const SLEEP: Duration = Duration::from_millis(1);
