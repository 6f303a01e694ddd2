//! Progress for people at a terminal; nothing in a pipe.
//!
//! Here: one line that changes in place, and notes that stay. Not here: what is worth a note.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::complain;

/// A line on standard error while that is a terminal.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Starts the line, with nothing on it yet.
    pub(super) fn start() -> Self {
        let target = match stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(REFRESH_HZ),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        // The template is a constant of ours; a wrong one would only cost its looks.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self { bar }
    }

    /// Whether nobody sees the line.
    pub(super) fn is_hidden(&self) -> bool {
        self.bar.is_hidden()
    }

    /// Changes the line.
    pub(super) fn show(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Prints a line that stays, above the one that changes; in a pipe too.
    pub(super) fn note(&self, text: &str) {
        self.bar.suspend(|| complain(format_args!("{text}")));
    }

    /// Prints answers to standard output without tearing the line.
    pub(super) fn said<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Removes the line.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Redraws a second: often enough to look alive, too few to matter on a slow terminal.
const REFRESH_HZ: u8 = 5;

/// Pace of the spinner.
const TICK: Duration = Duration::from_millis(200);
