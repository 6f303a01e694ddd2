//! The data thread's end of the service executor.
//!
//! Here: handing jobs over, taking results, and the share of the core that jobs are sure of. Not here: the
//! executor (`service`).
//!
//! The executor has a low priority, which is right beside a busy data thread and wrong on a host whose
//! cores are all taken: among fifty runnable threads of nice 0 a thread of nice 10 waits seconds for its
//! turn, longer than a peer waits for its handshake, and nobody without privileges may raise a priority
//! again. So when the executor has finished nothing for [`STALL_TIME`], the data thread computes one
//! job itself. That is at most one in [`STALL_TIME`]: a hundredth of the core.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Thread;
use std::time::Duration;

use ringway_proto::dialect::handshake::Identities;
use ringway_proto::time::Now;

use super::Queues;
use crate::core::{Job, JobResult};

/// The two queues, as the data thread sees them.
#[derive(Debug)]
pub(crate) struct ServicePort {
    queues: Arc<Queues>,
    executor: Thread,
    identities: Arc<Identities>,
    /// Jobs that found the queue full.
    backlog: VecDeque<Job>,
    /// Jobs submitted whose result was not taken yet.
    outstanding: u32,
    is_dirty: bool,
    /// When a job was last seen to be done, or began to wait alone.
    advanced_at: Now,
}

impl ServicePort {
    pub(super) const fn new(
        queues: Arc<Queues>,
        identities: Arc<Identities>,
        executor: Thread,
    ) -> Self {
        Self {
            queues,
            executor,
            identities,
            backlog: VecDeque::new(),
            outstanding: 0,
            is_dirty: false,
            advanced_at: Now::ZERO,
        }
    }

    /// Hands a job over; [`ServicePort::flush`] makes sure it is seen.
    pub(crate) fn submit(&mut self, job: Job, now: Now) {
        if self.outstanding == 0 {
            self.advanced_at = now;
        }
        self.is_dirty = true;
        self.outstanding += 1;
        if self.backlog.is_empty() {
            if let Err(job) = self.queues.jobs.push(job) {
                self.backlog.push_back(job);
            }
        } else {
            self.backlog.push_back(job);
        }
    }

    /// Moves what waits, and wakes the executor if it has something new.
    pub(crate) fn flush(&mut self) {
        while let Some(job) = self.backlog.pop_front() {
            if let Err(job) = self.queues.jobs.push(job) {
                self.backlog.push_front(job);
                break;
            }
            self.is_dirty = true;
        }
        if std::mem::take(&mut self.is_dirty) {
            self.executor.unpark();
        }
    }

    /// Has the executor give its free heap back: sessions that it made and others dropped.
    pub(crate) fn trim(&mut self) {
        self.backlog.shrink_to_fit();
        self.queues.is_trim_wanted.store(true, Ordering::Relaxed);
        self.executor.unpark();
    }

    /// Returns the next result.
    pub(crate) fn next(&mut self, now: Now) -> Option<JobResult> {
        let result = self.queues.results.pop()?;
        self.outstanding = self.outstanding.saturating_sub(1);
        self.advanced_at = now;
        Some(result)
    }

    /// Computes the job that has waited longest, if the executor has finished nothing for [`STALL_TIME`].
    /// One that the executor has begun stays its own.
    pub(crate) fn compute_stalled(&mut self, now: Now) -> Option<JobResult> {
        if self.stalls_at().is_none_or(|at| now < at) {
            return None;
        }
        self.advanced_at = now;
        let job = self.queues.jobs.pop()?;
        self.outstanding = self.outstanding.saturating_sub(1);
        Some(job.run(&self.identities, random()))
    }

    /// Returns when [`ServicePort::compute_stalled`] is due, unless results come before.
    pub(crate) fn stalls_at(&self) -> Option<Now> {
        (self.outstanding > 0).then(|| self.advanced_at + STALL_TIME)
    }

    /// Returns whether the executor has something to compute: it needs the core that polling takes.
    pub(crate) const fn is_computing(&self) -> bool {
        self.outstanding > 0
    }

    /// Returns whether a result is there.
    pub(crate) fn has_result(&self) -> bool {
        !self.queues.results.is_empty()
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

/// Returns an ephemeral secret.
pub(super) fn random() -> [u8; 32] {
    let mut random = [0; 32];
    let filled = getrandom::fill(&mut random);
    assert!(
        filled.is_ok(),
        "no handshake is safe without randomness: {filled:?}"
    );
    random
}

/// Time without a result after which the data thread computes a job. Fifty a second see to it that a few
/// peers at a time get in.
const STALL_TIME: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use ringway_proto::handshake::RelayIdentity;
    use ringway_proto::key::SecretKey;

    use super::*;

    /// A port whose executor never gets a processor.
    fn stalled() -> ServicePort {
        let relay = RelayIdentity::new(&SecretKey::from_seed([1; 32]));
        let identities = Arc::new(Identities::from(relay));
        ServicePort::new(Arc::new(Queues::new()), identities, std::thread::current())
    }

    fn at(millis: u64) -> Now {
        Now::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_job_that_nobody_computes_is_computed_here() {
        let mut port = stalled();
        assert_eq!(port.stalls_at(), None);
        port.submit(Job::unreadable(), at(100));
        port.flush();
        assert_eq!(port.stalls_at(), Some(at(120)));
        assert!(port.compute_stalled(at(119)).is_none());
        assert!(port.compute_stalled(at(120)).is_some());
        assert_eq!((port.outstanding(), port.stalls_at()), (0, None));
    }

    #[test]
    fn jobs_take_no_more_than_their_share() {
        let mut port = stalled();
        for _ in 0..10 {
            port.submit(Job::unreadable(), at(0));
        }
        port.flush();
        let done = |port: &mut ServicePort, millis| port.compute_stalled(at(millis)).is_some();
        let done = (0..100).filter(|millis| done(&mut port, *millis)).count();
        assert_eq!((done, port.outstanding()), (4, 6));
    }

    #[test]
    fn an_executor_that_gets_on_is_left_alone() {
        let mut port = stalled();
        for _ in 0..3 {
            port.submit(Job::unreadable(), at(0));
        }
        // What the executor would do.
        let job = port.queues.jobs.pop().unwrap();
        let result = job.run(&port.identities, random());
        port.queues.results.push(result).unwrap();
        assert!(port.next(at(19)).is_some());
        assert!(port.compute_stalled(at(38)).is_none());
        assert!(port.compute_stalled(at(39)).is_some());
    }

    #[test]
    fn a_job_in_the_executors_hands_stays_there() {
        let mut port = stalled();
        port.submit(Job::unreadable(), at(0));
        let job = port.queues.jobs.pop().unwrap();
        assert!(port.compute_stalled(at(20)).is_none());
        assert_eq!(port.outstanding(), 1);
        // It is looked for again, not at every turn.
        assert_eq!(port.stalls_at(), Some(at(40)));
        port.queues
            .results
            .push(job.run(&port.identities, random()))
            .unwrap();
        assert!(port.next(at(21)).is_some());
        assert_eq!(port.stalls_at(), None);
    }
}
