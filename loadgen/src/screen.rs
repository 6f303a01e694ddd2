//! The terminal of the live view.
//!
//! Here: taking it, giving it back, drawing, keys. Not here: what is drawn (`ringway_loadgen::live`).
//!
//! A thread of its own draws, so that a slow terminal does not hold up the run.
//! Invariant: whoever ends the program gives the terminal back before: the end of the run, an error, a
//! second interrupt, a panic of any thread.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ringway_loadgen::live::View;
use ringway_loadgen::plan::Plan;
use ringway_loadgen::run::News;

use crate::signals;

/// Whether the terminal is taken.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Longest time to notice news or the end; keys are noticed at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The live view on the terminal.
#[derive(Debug)]
pub(crate) struct Screen {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    view: Mutex<View>,
    has_changed: AtomicBool,
    is_over: AtomicBool,
    interrupt: Arc<AtomicBool>,
}

impl Screen {
    /// Takes the terminal.
    pub(crate) fn take(plan: &Plan, interrupt: &Arc<AtomicBool>) -> io::Result<Self> {
        // Before the hook of `ratatui`, which knows the terminal alone: this one runs after it.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            hook(panic);
        }));
        IS_TAKEN.store(true, Ordering::Release);
        let terminal = ratatui::try_init().inspect_err(|_| restore())?;
        let shared = Arc::new(Shared {
            view: Mutex::new(View::new(plan)),
            has_changed: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
            interrupt: Arc::clone(interrupt),
        });
        let body = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("screen".into())
            .spawn(move || body.show(terminal))
            .inspect_err(|_| restore())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Shows news at the next occasion.
    pub(crate) fn hear(&self, news: &News<'_>) {
        self.shared.change(|view| view.hear(news));
    }

    /// Shows a line that stays.
    pub(crate) fn remark(&self, line: String) {
        self.shared.change(|view| view.remark(line));
    }

    /// Gives the terminal back; returns the lines that were to stay.
    pub(crate) fn give_back(mut self) -> Vec<String> {
        self.end();
        self.shared.view().remarks().map(str::to_owned).collect()
    }

    fn end(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        restore();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view());
        self.has_changed.store(true, Ordering::Release);
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws and takes keys until the run is over, or somebody else has given the terminal back.
    fn show(&self, mut terminal: DefaultTerminal) {
        let is_wanted =
            || !self.is_over.load(Ordering::Acquire) && IS_TAKEN.load(Ordering::Acquire);
        let mut is_ending = false;
        while is_wanted() {
            if !is_ending && self.interrupt.load(Ordering::Acquire) {
                is_ending = true;
                self.change(View::end_early);
            }
            if self.has_changed.swap(false, Ordering::AcqRel) {
                let view = self.view().clone();
                let drawn = terminal.draw(|frame| frame.render_widget(&view, frame.area()));
                if drawn.is_err() {
                    // Nobody looks any more; the run goes on.
                    return;
                }
            }
            match event::poll(PAUSE) {
                Ok(false) => {}
                Ok(true) => self.take_event(),
                // There are no keys, but there is a terminal.
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    fn take_event(&self) {
        match event::read() {
            Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                let has_ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('c') if has_ctrl => {
                        signals::ask_to_end(&self.interrupt);
                    }
                    // A second q is no second thought.
                    KeyCode::Char('q') if !self.interrupt.load(Ordering::Acquire) => {
                        signals::ask_to_end(&self.interrupt);
                    }
                    _ => {}
                }
            }
            Ok(Event::Resize(..)) => self.has_changed.store(true, Ordering::Release),
            _ => {}
        }
    }
}

/// Gives the terminal back if it is taken.
pub(crate) fn restore() {
    if IS_TAKEN.swap(false, Ordering::AcqRel) {
        // There is nothing left to do about a terminal that cannot be restored.
        drop(ratatui::try_restore());
        drop(execute!(io::stdout(), Show));
    }
}
