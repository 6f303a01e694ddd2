//! The service executor of a shard: processor-heavy work beside the data thread, on the same core.
//!
//! Here: a thread that runs handshake [`Job`]s, and the two bounded queues that join it to the data thread.
//! Not here: the data thread's end of them (`port`), what a job is (`core`).
//!
//! A handshake costs three Diffie-Hellman operations, some 150 us. A reconnect storm is thousands of
//! them: on the data thread each would stand before every frame of every bridge; here the kernel
//! preempts it for the data thread.
//!
//! Bound: jobs in the queue [`JOBS_MAX`]; beyond that the data thread keeps them and stops accepting,
//! so at most one a socket. Results never outnumber jobs.

mod port;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use ringway_proto::dialect::handshake::Identities;

pub(crate) use self::port::ServicePort;
use self::port::random;
use crate::core::Job;
use crate::core::JobResult;
use crate::data::Doorbell;
use crate::placement;
use crate::ring;

/// A running service executor.
#[derive(Debug)]
pub(crate) struct Service {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What joins the executor to the data thread.
#[derive(Debug)]
struct Queues {
    jobs: ArrayQueue<Job>,
    results: ArrayQueue<JobResult>,
    /// The data thread has given memory back; what the executor's heap has free of it may follow.
    is_trim_wanted: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    queues: Arc<Queues>,
    is_ending: AtomicBool,
    doorbell: Doorbell,
}

impl Queues {
    fn new() -> Self {
        Self {
            jobs: ArrayQueue::new(JOBS_MAX),
            results: ArrayQueue::new(JOBS_MAX),
            is_trim_wanted: AtomicBool::new(false),
        }
    }
}

impl Service {
    /// Starts the executor of shard `shard`.
    ///
    /// # Errors
    /// When the host has no thread for it.
    pub(crate) fn start(
        shard: u16,
        core: Option<usize>,
        identities: Arc<Identities>,
        doorbell: Doorbell,
    ) -> io::Result<(Self, ServicePort)> {
        let queues = Arc::new(Queues::new());
        let shared = Arc::new(Shared {
            queues: Arc::clone(&queues),
            is_ending: AtomicBool::new(false),
            doorbell,
        });
        let inner = Arc::clone(&shared);
        let of_thread = Arc::clone(&identities);
        let thread = thread::Builder::new()
            .name(format!("ringway-svc-{shard}"))
            .spawn(move || run(core, &of_thread, &inner))?;
        let port = ServicePort::new(queues, identities, thread.thread().clone());
        let service = Self {
            shared,
            thread: Some(thread),
        };
        Ok((service, port))
    }
}

impl Drop for Service {
    /// Ends the executor after its present job and waits for it.
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else {
            return;
        };
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("a service executor panicked");
        }
    }
}

/// The thread.
fn run(core: Option<usize>, identities: &Identities, shared: &Shared) {
    placement::pin(core);
    // The kernel shares the core between this thread and the data thread by weight: at nice 10 the data
    // thread gets nine tenths when both want all of it, and a 64-byte round trip keeps its p99 (400-521
    // us against 4,500 us at nice 0); still a saturated data plane cannot stop new sessions for ever.
    // Source: docs/internals/uring.md G.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::warn!(%error, "service executor keeps the priority of the data thread");
    }
    let queues = &shared.queues;
    while !shared.is_ending.load(Ordering::Acquire) {
        let Some(job) = queues.jobs.pop() else {
            if queues.is_trim_wanted.swap(false, Ordering::Relaxed) {
                ring::release_heap();
                continue;
            }
            // An unpark since the queue was looked at ends this at once (`std::thread::park`).
            thread::park();
            continue;
        };
        let mut result = job.run(identities, random());
        while let Err(back) = queues.results.push(result) {
            if shared.is_ending.load(Ordering::Acquire) {
                return;
            }
            result = back;
            shared.doorbell.ring();
            thread::park_timeout(RESULTS_FULL_PAUSE);
        }
        shared.doorbell.ring();
        // A data thread that became runnable meanwhile does not preempt this one within its slice of 3 ms,
        // whatever the priorities (EEVDF, `RUN_TO_PARITY`, Linux 6.6 and later). It waits for a job and not
        // for a slice when this one yields between jobs.
        thread::yield_now();
    }
}

/// Jobs that wait for the executor: 100 ms of work.
const JOBS_MAX: usize = 1_024;

/// See [`run`].
const NICE: i32 = 10;

/// Pause while the data thread does not fetch results.
const RESULTS_FULL_PAUSE: Duration = Duration::from_micros(200);

#[cfg(test)]
mod tests {
    use ringway_proto::handshake::RelayIdentity;
    use ringway_proto::key::SecretKey;
    use ringway_proto::time::Now;

    use super::*;
    use crate::ring::{Ring, RingConfig};

    /// Looks for a result before the first nap.
    const LOOKS: u32 = 10_000;
    /// Naps of a millisecond: long enough for any host, while a lost wake-up would last for ever.
    const NAPS: u32 = 60_000;

    /// Waits for a result; false when none comes.
    fn comes(port: &mut ServicePort) -> bool {
        (0..LOOKS + NAPS).any(|look| {
            if look < LOOKS {
                thread::yield_now();
            } else {
                thread::park_timeout(Duration::from_millis(1));
            }
            port.flush();
            port.next(Now::ZERO).is_some()
        })
    }

    fn started() -> (Ring, Service, ServicePort) {
        let config = RingConfig {
            sockets_max: 4,
            ..RingConfig::default()
        };
        let ring = Ring::new(&config).unwrap();
        let doorbell = Doorbell::new(Arc::default(), ring.waker());
        let relay = RelayIdentity::new(&SecretKey::from_seed([1; 32]));
        let identities = Arc::new(Identities::from(relay));
        let (service, port) = Service::start(0, None, identities, doorbell).unwrap();
        (ring, service, port)
    }

    /// The executor falls asleep between jobs at any point of the hand-over, in many rounds.
    #[test]
    fn no_job_is_slept_over() {
        let (_ring, service, mut port) = started();
        for round in 0..20_000_u32 {
            port.submit(Job::unreadable(), Now::ZERO);
            assert!(comes(&mut port), "round {round}");
        }
        assert_eq!(port.outstanding(), 0);
        drop(service);
    }

    #[test]
    fn more_jobs_than_the_queue_holds_wait_here() {
        let (_ring, service, mut port) = started();
        let count = 3 * JOBS_MAX;
        for _ in 0..count {
            port.submit(Job::unreadable(), Now::ZERO);
        }
        for done in 0..count {
            assert!(comes(&mut port), "{done} of {count}");
        }
        assert_eq!((port.outstanding(), port.backlog_len()), (0, 0));
        drop(service);
    }

    #[test]
    fn an_executor_with_jobs_left_ends() {
        let (_ring, service, mut port) = started();
        for _ in 0..JOBS_MAX {
            port.submit(Job::unreadable(), Now::ZERO);
        }
        port.flush();
        drop(service);
        assert!(port.outstanding() > 0);
    }
}
