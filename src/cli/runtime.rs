//! What the commands that talk to a relay have in common: a runtime, and the signals that end it.

use std::future::Future;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Runs a command's future on a runtime with one thread a core.
///
/// # Errors
///
/// The future's, and [`Failure::Host`] when threads cannot be started.
pub(super) fn block_on(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::host("cannot start threads", error))?;
    let outcome = runtime.block_on(future);
    // Name look-ups run on threads that cannot be interrupted: they must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// SIGINT and SIGTERM.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes the signals over from their default, which is to end the process.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`]. Must be called inside a runtime.
    pub(crate) fn take() -> Result<Self, Failure> {
        let take = |kind| signal(kind).map_err(|e| Failure::host("cannot take over signals", e));
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
        })
    }

    /// Waits for the next of them.
    ///
    /// # Cancel
    ///
    /// Dropping the future loses no signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
