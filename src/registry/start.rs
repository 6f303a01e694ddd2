//! The thread that a registry's service runs on.
//!
//! Here: its start and end. Not here: what it does (`service`).
//!
//! Invariant: the lease is given up before the relay's sessions end, so that nobody is sent here meanwhile.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::Registry;
use super::numbers::Numbers;
use super::service::{self, Parts};
use crate::failure::Failure;

/// A registry that is kept in step. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a relay knows of its registry.
#[derive(Debug)]
pub(crate) struct View {
    /// Which one, for people; no secret.
    pub(crate) name: String,
    /// Its numbers.
    pub(crate) numbers: Arc<Numbers>,
}

impl Running {
    /// Starts the service.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when there is no thread or runtime.
    pub(crate) fn start<R: Registry + Clone + Sync>(parts: Parts<R>) -> Result<Self, Failure> {
        let failure = |error| Failure::host("cannot start the registry's thread", error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failure)?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || runtime.block_on(service::run(parts, stopped)))
            .map_err(failure)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Tells the service to give the lease up and to end; does not wait.
    pub(crate) fn leave(&mut self) {
        if let Some(stop) = self.stop.take()
            && stop.send(()).is_err()
        {
            tracing::trace!("the registry's service has ended before");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.leave();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the registry's thread has panicked");
        }
    }
}
