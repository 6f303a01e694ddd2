//! Requests to end: signals, keys that mean the same, the end of standard input.
//!
//! Here: the first one ends the run early, the second the process. Not here: what a run does about it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use crate::{complain, screen};

/// Sets `interrupt` at the first interrupt or request to end; the second ends the process at once. Both are
/// heard from when this returns: one that came before would leave the terminal taken.
pub(crate) fn watch(interrupt: &Arc<AtomicBool>) {
    let interrupt = Arc::clone(interrupt);
    let (sender, is_heard) = mpsc::sync_channel(1);
    let watch = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut int), Ok(mut term)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            ) else {
                return;
            };
            if sender.send(()).is_err() {
                return;
            }
            for _ in 0..2 {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                ask_to_end(&interrupt);
            }
        });
    };
    let thread = std::thread::Builder::new().name("signals".into());
    if thread.spawn(watch).is_err() || is_heard.recv().is_err() {
        complain("no thread for signals: an interrupt will end the run without a result");
    }
}

/// Sets `interrupt` when standard input closes.
pub(crate) fn watch_stdin(interrupt: &Arc<AtomicBool>) {
    let interrupt = Arc::clone(interrupt);
    let watch = move || {
        drop(std::io::copy(
            &mut std::io::stdin().lock(),
            &mut std::io::sink(),
        ));
        interrupt.store(true, Ordering::Release);
    };
    let thread = std::thread::Builder::new().name("stdin".into());
    if thread.spawn(watch).is_err() {
        complain("no thread for standard input: its end will not be seen");
    }
}

/// Ends the run early; the second time, the process.
pub(crate) fn ask_to_end(interrupt: &AtomicBool) {
    if interrupt.swap(true, Ordering::AcqRel) {
        screen::restore();
        std::process::abort();
    }
}
