//! Who carries out a run: threads of this process, or processes with threads of their own.
//!
//! Here: starting them, waking them, the sum of what they measured. Not here: what a thread does
//! (`worker`), when phases change (`run`).
//!
//! The conductor does not see the difference. It moves the phase in `Shared` and reads counters there;
//! for a process of the crew, a thread here carries both over its pipes (`member`, `service`). Histograms
//! travel whole and are added, so that percentiles are those of all processes together, never a mean of
//! theirs.
//!
//! A run needs processes where one is not enough: an own table of files and an own address space each, and
//! no lock of the kernel that all threads of a process share.
//!
//! Invariant: every thread is joined, and every process has ended, when `Crew::stop` returns.

use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use ringway_shards::ring::Waker;

use self::member::Orders;
use crate::intervals::Contribution;
use crate::plan::Plan;
use crate::shared::Shared;
use crate::tally::Tally;
use crate::worker::{Worker, WorkerError};

pub use self::service::{ServiceError, serve};

mod member;
mod service;
mod wire;

/// What a thread returns: its numbers, or those of the process that it speaks for.
type Hand = JoinHandle<Result<Tally, CrewError>>;

/// Why somebody of the crew could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CrewError {
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error("no thread: {0}")]
    Thread(std::io::Error),
    #[error("a thread ended too early")]
    Early,
    #[error("a thread panicked")]
    Panic,
    #[error("process {number} of {processes}: {why}")]
    Member {
        number: u32,
        processes: u32,
        why: String,
    },
}

/// Threads, or processes.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    hands: Vec<Hand>,
    wakes: Vec<Wake>,
}

/// What makes somebody look at [`Shared`].
#[derive(Debug, Clone)]
enum Wake {
    Thread(Waker),
    Process(Arc<Orders>),
}

impl Crew {
    /// Starts everybody that the plan wants; on an error, those that run are there to be stopped.
    ///
    /// # Errors
    /// [`CrewError`] of the first that cannot start.
    pub(crate) fn start(
        &mut self,
        plan: &Arc<Plan>,
        shared: &Arc<Shared>,
        parts: &mpsc::Sender<Contribution>,
    ) -> Result<(), CrewError> {
        if plan.placement.processes > 1 {
            return self.start_processes(plan, shared, parts);
        }
        self.start_threads(plan, shared, parts, 0..plan.placement.threads)
    }

    /// Starts the threads with these numbers.
    fn start_threads(
        &mut self,
        plan: &Arc<Plan>,
        shared: &Arc<Shared>,
        parts: &mpsc::Sender<Contribution>,
        numbers: Range<u32>,
    ) -> Result<(), CrewError> {
        for index in numbers {
            let (plan, shared) = (Arc::clone(plan), Arc::clone(shared));
            let (sender, receiver) = mpsc::sync_channel(1);
            let parts = parts.clone();
            let body = move || {
                let worker = Worker::new(&plan, &shared, index, parts)?;
                // The conductor may have given up meanwhile; the worker then sees the phase.
                drop(sender.send(worker.waker()));
                Ok(worker.run()?)
            };
            self.spawn(format!("loadgen-{index}"), body)?;
            match receiver.recv() {
                Ok(waker) => self.wakes.push(Wake::Thread(waker)),
                Err(_) => return Err(self.error()),
            }
        }
        Ok(())
    }

    /// Starts all processes, then waits until each has started its threads.
    fn start_processes(
        &mut self,
        plan: &Arc<Plan>,
        shared: &Arc<Shared>,
        parts: &mpsc::Sender<Contribution>,
    ) -> Result<(), CrewError> {
        let mut started = Vec::new();
        for number in 0..plan.placement.processes {
            let (sender, receiver) = mpsc::sync_channel(1);
            let (member, orders) = member::start(plan, shared, number)?;
            self.wakes.push(Wake::Process(orders));
            let parts = parts.clone();
            self.spawn(format!("process-{number}"), move || {
                member.attend(&parts, &sender)
            })?;
            started.push(receiver);
        }
        for receiver in started {
            if receiver.recv().is_err() {
                return Err(self.error());
            }
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        name: String,
        body: impl FnOnce() -> Result<Tally, CrewError> + Send + 'static,
    ) -> Result<(), CrewError> {
        let hand = thread::Builder::new().name(name).spawn(body);
        self.hands.push(hand.map_err(CrewError::Thread)?);
        Ok(())
    }

    /// Returns whether somebody has ended, which before the end of a run nobody should.
    pub(crate) fn has_ended(&self) -> bool {
        self.hands.iter().any(JoinHandle::is_finished)
    }

    /// Returns why the one that ended by itself did so; waits for one if need be.
    pub(crate) fn error(&mut self) -> CrewError {
        let ended = self.hands.iter().position(JoinHandle::is_finished);
        let ended = match ended {
            Some(place) => Some(self.hands.swap_remove(place)),
            None => self.hands.pop(),
        };
        match ended.map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            Some(Ok(Ok(_))) | None => CrewError::Early,
            Some(Err(_)) => CrewError::Panic,
        }
    }

    /// Makes everybody look at the phase, the gate and the tick.
    pub(crate) fn wake_all(&self) {
        for wake in &self.wakes {
            wake.wake();
        }
    }

    /// Waits for everybody's end, which the phase asks for; returns the sum of their numbers, or the first
    /// error.
    pub(crate) fn stop(&mut self) -> Result<Tally, CrewError> {
        let mut sum = Tally::default();
        let mut error = None;
        for hand in self.hands.drain(..) {
            match hand.join() {
                Ok(Ok(tally)) => sum.merge(&tally),
                Ok(Err(first)) => error = error.or(Some(first)),
                Err(_) => sum.failures.count("a thread of the generator panicked"),
            }
        }
        error.map_or(Ok(sum), Err)
    }
}

impl Wake {
    fn wake(&self) {
        match self {
            Self::Thread(waker) => waker.wake(),
            Self::Process(orders) => orders.send(),
        }
    }
}
