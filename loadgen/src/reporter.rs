//! How a run goes, for whoever looks: a live view, a line on the terminal, or a line now and then in a log.
//!
//! Here: which of them, and the recording beside it. Not here: the view (`screen`), files
//! (`ringway_loadgen::recording`).

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ringway_loadgen::intervals::Interval;
use ringway_loadgen::plan::Plan;
use ringway_loadgen::recording::Recording;
use ringway_loadgen::report;
use ringway_loadgen::run::{News, Progress};

use crate::complain;
use crate::screen::Screen;

/// Time between two lines where nobody watches: a log of a day has some thousand of them.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// Tells how a run goes.
#[derive(Debug)]
pub(crate) struct Reporter {
    recording: Option<Recording>,
    shown: Shown,
    begun: Instant,
    /// What was shown last, and when.
    last: (Progress, Instant),
}

#[derive(Debug)]
enum Shown {
    /// A live view.
    Screen(Screen),
    /// One line that is written over; whether it stands there.
    Line(bool),
    /// A line every [`LOG_PAUSE`].
    Log,
}

/// Returns whether a live view can be shown.
pub(crate) fn can_be_live() -> bool {
    let is_able = std::env::var_os("TERM").is_some_and(|name| name != "dumb");
    is_able && io::stdout().is_terminal() && io::stderr().is_terminal()
}

impl Reporter {
    /// Returns one with a live view if `is_live` and the terminal can be taken.
    pub(crate) fn new(
        recording: Option<Recording>,
        plan: &Plan,
        is_live: bool,
        interrupt: &Arc<AtomicBool>,
    ) -> Self {
        let screen = is_live
            .then(|| Screen::take(plan, interrupt))
            .and_then(Result::ok);
        let shown = match screen {
            Some(screen) => Shown::Screen(screen),
            None if io::stderr().is_terminal() => Shown::Line(false),
            None => Shown::Log,
        };
        let begun = Instant::now();
        Self {
            recording,
            shown,
            begun,
            last: (Progress::default(), begun),
        }
    }

    /// Takes news in.
    pub(crate) fn tell(&mut self, news: &News<'_>) {
        if let Shown::Screen(screen) = &self.shown {
            screen.hear(news);
        }
        match news {
            News::Interval(interval) => self.record(interval),
            News::Progress(progress) => self.show(*progress),
            // The view has heard these.
            News::Round(_) | News::Window(..) if self.is_live() => {}
            News::Round(round) => self.say(&report::round_line(round)),
            News::Window(number, window) => self.say(&report::window_line(*number, window)),
        }
    }

    /// Leaves the terminal as it was; returns the recording, unless it could not go on.
    pub(crate) fn end(mut self) -> Option<Recording> {
        self.clear();
        if let Shown::Screen(screen) = self.shown {
            for remark in screen.give_back() {
                drop(writeln!(io::stderr().lock(), "{remark}"));
            }
        }
        self.recording
    }

    const fn is_live(&self) -> bool {
        matches!(self.shown, Shown::Screen(_))
    }

    /// Writes an interval; the first one that cannot be written is the last.
    fn record(&mut self, interval: &Interval) {
        let result = self.recording.as_mut().map(|it| it.interval(interval));
        if let Some(Err(error)) = result {
            self.recording = None;
            self.say(&format!(
                "ringway-loadgen: --out: {error}; the run goes on without its files"
            ));
        }
    }

    fn show(&mut self, progress: Progress) {
        let (before, then) = self.last;
        let span = then.elapsed();
        let is_log = match self.shown {
            Shown::Screen(_) => return,
            Shown::Line(_) => false,
            Shown::Log if span < LOG_PAUSE => return,
            Shown::Log => true,
        };
        let line = report::progress_line(self.begun.elapsed(), &before, &progress, span);
        self.last = (progress, Instant::now());
        if is_log {
            complain(&line);
        } else {
            self.shown = Shown::Line(true);
            drop(write!(io::stderr().lock(), "\r\x1b[K{line}"));
        }
    }

    /// Prints a line that stays.
    fn say(&mut self, line: &str) {
        if let Shown::Screen(screen) = &self.shown {
            screen.remark(line.to_owned());
            return;
        }
        self.clear();
        drop(writeln!(io::stderr().lock(), "{line}"));
    }

    fn clear(&mut self) {
        if let Shown::Line(is_there @ true) = &mut self.shown {
            *is_there = false;
            drop(write!(io::stderr().lock(), "\r\x1b[K"));
        }
    }
}
