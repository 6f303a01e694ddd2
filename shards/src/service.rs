//! The service executor of a shard: processor-heavy work beside the data thread, on the same core.
//!
//! Here: a glommio executor on its own thread that runs handshake [`Job`]s; the two bounded queues that
//! join it to the data thread. Not here: what a job is (`core`). No other module knows glommio.
//!
//! A handshake costs three Diffie-Hellman operations, some 150 us. A reconnect storm is thousands of
//! them: on the data thread each would stand before every frame of every bridge; here the kernel
//! preempts it for the data thread.
//!
//! Bound: jobs in the queue [`JOBS_MAX`]; beyond that the data thread keeps them and stops accepting,
//! so at most one a socket. Results never outnumber jobs.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use atomic_waker::AtomicWaker;
use crossbeam::queue::ArrayQueue;
use glommio::LocalExecutor;
use glommio::LocalExecutorBuilder;
use glommio::Placement;
use ringway_proto::handshake::RelayIdentity;
use rustix::process::Resource;

use crate::core::Job;
use crate::core::JobResult;
use crate::data::Doorbell;
use crate::placement;

/// Why a service executor did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// glommio refuses to start with less.
    #[error(
        "memlock limit is {have} bytes, the service executor needs {want}: raise it (LimitMEMLOCK= or \
         'ulimit -l'); 'ringway-tune check' shows what this process has"
    )]
    Memlock {
        /// The soft limit.
        have: u64,
        /// What is needed.
        want: u64,
    },
    /// The executor's rings or its thread could not be made.
    #[error("starting the service executor failed: {text}")]
    Start {
        /// What glommio or the kernel said.
        text: String,
    },
}

/// A running service executor.
#[derive(Debug)]
pub(crate) struct Service {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The data thread's end of the two queues.
#[derive(Debug)]
pub(crate) struct ServicePort {
    shared: Arc<Shared>,
    /// Jobs that found the queue full.
    backlog: VecDeque<Job>,
    /// Jobs submitted whose result was not taken yet.
    outstanding: u32,
    is_dirty: bool,
}

#[derive(Debug)]
struct Shared {
    jobs: ArrayQueue<Job>,
    results: ArrayQueue<JobResult>,
    worker: AtomicWaker,
    is_ending: AtomicBool,
    doorbell: Doorbell,
}

impl Service {
    /// Starts the executor of shard `shard` and waits until it runs.
    pub(crate) fn start(
        shard: u16,
        core: Option<usize>,
        identity: Arc<RelayIdentity>,
        doorbell: Doorbell,
    ) -> Result<(Self, ServicePort), ServiceError> {
        check_memlock()?;
        let shared = Arc::new(Shared {
            jobs: ArrayQueue::new(JOBS_MAX),
            results: ArrayQueue::new(JOBS_MAX),
            worker: AtomicWaker::new(),
            is_ending: AtomicBool::new(false),
            doorbell,
        });
        let (ready, is_ready) = mpsc::sync_channel(1);
        let inner = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(format!("ringway-svc-{shard}"))
            .spawn(move || run(core, &identity, &inner, &ready))
            .map_err(|error| ServiceError::Start {
                text: error.to_string(),
            })?;
        let service = Self {
            shared: Arc::clone(&shared),
            thread: Some(thread),
        };
        match is_ready.recv() {
            Ok(Ok(())) => Ok((
                service,
                ServicePort {
                    shared,
                    backlog: VecDeque::new(),
                    outstanding: 0,
                    is_dirty: false,
                },
            )),
            Ok(Err(text)) => Err(ServiceError::Start { text }),
            Err(_) => Err(ServiceError::Start {
                text: "its thread ended".to_owned(),
            }),
        }
    }
}

impl Drop for Service {
    /// Ends the executor after its present job and waits for it.
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Release);
        self.shared.worker.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a service executor panicked");
        }
    }
}

impl ServicePort {
    /// Hands a job over; [`ServicePort::flush`] makes sure it is seen.
    pub(crate) fn submit(&mut self, job: Job) {
        self.is_dirty = true;
        self.outstanding += 1;
        if self.backlog.is_empty() {
            if let Err(job) = self.shared.jobs.push(job) {
                self.backlog.push_back(job);
            }
        } else {
            self.backlog.push_back(job);
        }
    }

    /// Moves what waits, and wakes the executor if it has something new.
    pub(crate) fn flush(&mut self) {
        while let Some(job) = self.backlog.pop_front() {
            if let Err(job) = self.shared.jobs.push(job) {
                self.backlog.push_front(job);
                break;
            }
            self.is_dirty = true;
        }
        if std::mem::take(&mut self.is_dirty) {
            self.shared.worker.wake();
        }
    }

    /// Returns the next result.
    pub(crate) fn next(&mut self) -> Option<JobResult> {
        let result = self.shared.results.pop()?;
        self.outstanding = self.outstanding.saturating_sub(1);
        Some(result)
    }

    /// Returns whether the executor has something to compute: it needs the core that polling takes.
    pub(crate) const fn is_computing(&self) -> bool {
        self.outstanding > 0
    }

    /// Returns whether a result is there.
    pub(crate) fn has_result(&self) -> bool {
        !self.shared.results.is_empty()
    }

    /// Returns the jobs whose result was not taken yet, those that found the queue full included.
    pub(crate) const fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Returns the jobs that found the queue full.
    pub(crate) fn backlog_len(&self) -> usize {
        self.backlog.len()
    }
}

/// The thread: an executor, and in it the loop that runs jobs.
fn run(
    core: Option<usize>,
    identity: &RelayIdentity,
    shared: &Shared,
    ready: &mpsc::SyncSender<Result<(), String>>,
) {
    placement::pin(core);
    // The kernel shares the core between this thread and the data thread by weight: at nice 10 the data
    // thread gets nine tenths when both want all of it, and a 64-byte round trip keeps its p99 (400-521
    // us against 4,500 us at nice 0); still a saturated data plane cannot stop new sessions for ever.
    // Source: docs/internals/uring.md G.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::warn!(%error, "service executor keeps the priority of the data thread");
    }
    let executor = match executor() {
        Ok(executor) => executor,
        Err(text) => {
            drop(ready.send(Err(text)));
            return;
        }
    };
    if ready.send(Ok(())).is_ok() {
        executor.run(jobs(identity, shared));
    }
}

/// Makes an executor whose thread is placed by us already.
fn executor() -> Result<LocalExecutor, String> {
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .make()
        .map_err(|error| error.to_string())
}

/// Runs jobs until the service ends.
async fn jobs(identity: &RelayIdentity, shared: &Shared) {
    while !shared.is_ending.load(Ordering::Acquire) {
        let Some(job) = shared.jobs.pop() else {
            poll_fn(|context| {
                shared.worker.register(context.waker());
                let is_due = !shared.jobs.is_empty() || shared.is_ending.load(Ordering::Acquire);
                if is_due {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            continue;
        };
        let mut result = job.run(identity, random());
        while let Err(back) = shared.results.push(result) {
            if shared.is_ending.load(Ordering::Acquire) {
                return;
            }
            result = back;
            shared.doorbell.ring();
            glommio::timer::sleep(RESULTS_FULL_PAUSE).await;
        }
        shared.doorbell.ring();
        glommio::executor().yield_task_queue_now().await;
    }
}

/// Returns an ephemeral secret.
fn random() -> [u8; 32] {
    let mut random = [0; 32];
    let filled = getrandom::fill(&mut random);
    assert!(
        filled.is_ok(),
        "no handshake is safe without randomness: {filled:?}"
    );
    random
}

fn check_memlock() -> Result<(), ServiceError> {
    let have = rustix::process::getrlimit(Resource::Memlock)
        .current
        .unwrap_or(u64::MAX);
    if have < MEMLOCK_BYTES {
        return Err(ServiceError::Memlock {
            have,
            want: MEMLOCK_BYTES,
        });
    }
    Ok(())
}

impl From<io::Error> for ServiceError {
    fn from(error: io::Error) -> Self {
        Self::Start {
            text: error.to_string(),
        }
    }
}

/// Jobs that wait for the executor: 100 ms of work.
const JOBS_MAX: usize = 1_024;

/// Memory the executor registers for file I/O, of which it does none yet. glommio's default, 10 MiB in
/// each of three rings, would be 30 MiB of pinned memory a shard.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Entries of each of the executor's rings.
const RING_DEPTH: usize = 64;

/// What glommio 0.9 asks of `RLIMIT_MEMLOCK`.
const MEMLOCK_BYTES: u64 = 512 << 10;

/// See [`run`].
const NICE: i32 = 10;

/// Pause while the data thread does not fetch results.
const RESULTS_FULL_PAUSE: Duration = Duration::from_micros(200);
