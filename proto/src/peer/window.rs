//! Receive window of one stream, and how it grows.
//!
//! Here: the arithmetic of what the sender may still send and when a grant is due. Not here: the
//! bytes, the frames, the send direction (a plain counter in the mux).
//!
//! A grant goes out once half of the window was read, as yamux does: two grants a window keep the
//! sender busy at one small frame per half window. The window doubles when a full window was read
//! within two round trips, because then the window and not the reader held the sender back. A round
//! trip counts as 10 ms at least: on a fast path the processes' own delays, which no ping measures,
//! are longer than the path, and a window that ignores them holds the sender back for ever.
//!
//! Invariant: `left + unread + consumed == size`, where unread is what the stream's queue holds.
//! Units: bytes. Source: quinn-proto and h2 grow their windows by the same rule.

use core::time::Duration;

use crate::time::Now;

/// Receive side of one stream's flow control.
#[derive(Debug)]
pub(super) struct RecvWindow {
    /// What the sender may still send.
    left: u32,
    /// What the sender may have outstanding in all.
    size: u32,
    /// Read by the application and not granted again yet.
    consumed: u32,
    /// Read since `epoch_start`.
    epoch_consumed: u32,
    epoch_start: Now,
}

/// What growing may use: the limit of the stream and what the session has left for all streams.
#[derive(Debug)]
pub(super) struct Growth<'a> {
    pub(super) rtt: Option<Duration>,
    pub(super) size_max: u32,
    pub(super) session_left: &'a mut u32,
}

impl RecvWindow {
    pub(super) fn new(size: u32, now: Now) -> Self {
        Self {
            left: size,
            size,
            consumed: 0,
            epoch_consumed: 0,
            epoch_start: now,
        }
    }

    /// Takes `n` received bytes off the window; `false` when the sender exceeded it.
    #[must_use]
    pub(super) fn try_receive(&mut self, n: u32) -> bool {
        let Some(left) = self.left.checked_sub(n) else {
            return false;
        };
        self.left = left;
        true
    }

    /// Notes that the application read `n` bytes; returns the grant to send when one is due.
    pub(super) fn consume(&mut self, n: u32, now: Now, growth: Growth<'_>) -> Option<u32> {
        self.consumed += n;
        self.epoch_consumed = self.epoch_consumed.saturating_add(n);
        if self.consumed < self.size / 2 {
            return None;
        }
        let grown = self.grow(now, growth);
        let grant = self.consumed + grown;
        self.consumed = 0;
        self.left += grant;
        Some(grant)
    }

    pub(super) fn left(&self) -> u32 {
        self.left
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    fn grow(&mut self, now: Now, growth: Growth<'_>) -> u32 {
        if self.epoch_consumed < self.size {
            return 0;
        }
        let elapsed = now.saturating_since(self.epoch_start);
        self.epoch_consumed = 0;
        self.epoch_start = now;
        let rtt = growth.rtt.unwrap_or(RTT_MIN).max(RTT_MIN);
        if elapsed > rtt * 2 {
            return 0;
        }
        let room = growth.size_max.saturating_sub(self.size);
        let grown = self.size.min(room).min(*growth.session_left);
        *growth.session_left -= grown;
        self.size += grown;
        grown
    }
}

/// Shortest round trip that growth reckons with.
///
/// Two of them are the time in which a full window must be read: at 100 MB/s the window stops at
/// 2 MB, at 1 GB/s at its limit of 16 MiB. What a slow link makes a relay hold stays small: 13 MB/s
/// are needed to leave the initial window.
const RTT_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn consume(window: &mut RecvWindow, n: u32, now: Now, session_left: &mut u32) -> Option<u32> {
        assert!(window.try_receive(n));
        window.consume(
            n,
            now,
            Growth {
                rtt: Some(MS * 20),
                size_max: 4_000,
                session_left,
            },
        )
    }

    #[test]
    fn grant_comes_after_half_a_window() {
        let mut window = RecvWindow::new(1_000, Now::default());
        let mut left = 0;
        assert_eq!(consume(&mut window, 499, Now::default(), &mut left), None);
        assert_eq!(
            consume(&mut window, 1, Now::default(), &mut left),
            Some(500)
        );
        assert_eq!(window.left(), 1_000);
    }

    #[test]
    fn fast_reader_doubles_the_window_up_to_its_limits() {
        let mut window = RecvWindow::new(1_000, Now::default());
        let mut left = 10_000;
        let mut now = Now::default();
        for _ in 0..40 {
            now = now + MS;
            consume(&mut window, 1_000, now, &mut left);
        }
        assert_eq!(window.size(), 4_000);
        assert_eq!(left, 7_000);
    }

    #[test]
    fn session_budget_bounds_growth() {
        let mut window = RecvWindow::new(1_000, Now::default());
        let mut left = 300;
        consume(&mut window, 1_000, Now::default() + MS, &mut left);
        assert_eq!((window.size(), left), (1_300, 0));
    }

    #[test]
    fn slow_reader_keeps_the_window() {
        let mut window = RecvWindow::new(1_000, Now::default());
        let mut left = 10_000;
        let mut now = Now::default();
        for _ in 0..40 {
            now = now + MS * 25;
            consume(&mut window, 500, now, &mut left);
        }
        assert_eq!(window.size(), 1_000);
    }

    #[test]
    fn delays_of_the_processes_do_not_hold_the_window_on_a_fast_path() {
        let mut window = RecvWindow::new(1_000, Now::default());
        let mut left = 10_000;
        let growth = Growth {
            rtt: Some(Duration::from_micros(80)),
            size_max: 4_000,
            session_left: &mut left,
        };
        assert!(window.try_receive(1_000));
        let grant = window.consume(1_000, Now::default() + MS * 5, growth);
        assert_eq!(grant, Some(2_000));
    }

    #[test]
    fn sender_over_the_window_is_noticed() {
        let mut window = RecvWindow::new(1_000, Now::default());
        assert!(window.try_receive(1_000));
        assert!(!window.try_receive(1));
    }
}
