//! The kernel's side of a ring: set up, submit, reap.
//!
//! Here: creation with the flags the data plane wants, the registered ring descriptor, the two
//! queues. Not here: what an entry means (`op`), memory the kernel writes to (`buffers`).
//!
//! Invariant: `Kernel` is created and used by one thread (`SINGLE_ISSUER`); it is neither `Send` nor
//! `Sync`, so the compiler keeps it there.
//! Source: `io_uring_setup(2)`, `io_uring_enter(2)`; docs/internals/uring.md B for the choice of flags.

#![expect(
    unsafe_code,
    reason = "the queues are memory shared with the kernel; docs/internals/unsafe.md"
)]

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::time::Duration;

use io_uring::CompletionQueue;
use io_uring::IoUring;
use io_uring::SubmissionQueue;
use io_uring::Submitter;
use io_uring::squeue::Entry;
use io_uring::squeue::Flags;
use io_uring::types::CancelBuilder;
use io_uring::types::SubmitArgs;
use io_uring::types::Timespec;
use rustix::io::Errno;

use super::RingError;
use super::op::Plain;

/// One completion, copied out of the queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cqe {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// How many completions are copied out at a time.
pub(super) const REAP_MAX: usize = 64;

/// How long a submission waits for completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until a completion arrives.
    Forever,
    /// Until a completion arrives or the time has passed.
    For(Duration),
    /// Not at all.
    No,
}

/// The ring of the kernel and the entries that wait for room in it.
pub(super) struct Kernel {
    /// Remembers the registered ring descriptor, so that each enter skips a table look-up. It borrows
    /// from `ring` for as long as the value lives, hence `'static`.
    submitter: Submitter<'static>,
    /// From `Box::into_raw`; freed in `drop`.
    ring: NonNull<IoUring>,
    /// Entries that found the submission queue full. Empty except after a refused submission.
    backlog: VecDeque<Entry>,
    /// Neither `Send` nor `Sync`.
    _thread: PhantomData<*const ()>,
}

impl Kernel {
    /// Creates a ring with `entries` submission and `8 * entries` completion entries.
    pub(super) fn new(entries: u32) -> Result<Self, RingError> {
        let ring = IoUring::builder()
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(entries.saturating_mul(CQ_FACTOR))
            .build(entries)
            .map_err(RingError::from_setup)?;
        if !ring.params().is_feature_nodrop() || !ring.params().is_feature_ext_arg() {
            return Err(RingError::Unsupported {
                feature: "IORING_FEAT_NODROP and IORING_FEAT_EXT_ARG",
                since: "5.11",
            });
        }
        let ring = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: `ring` points to the allocation leaked above; only `drop` frees it, after
        // `submitter`, its only long-lived borrower, was last used.
        let shared: &'static IoUring = unsafe { ring.as_ref() };
        let mut kernel = Self {
            submitter: shared.submitter(),
            ring,
            backlog: VecDeque::new(),
            _thread: PhantomData,
        };
        // Saves a look-up an enter; the ring works without it.
        if let Err(error) = kernel.submitter.register_ring_fd() {
            tracing::debug!(%error, "ring descriptor not registered");
        }
        Ok(kernel)
    }

    /// Queues an entry without pointers.
    pub(super) fn push(&mut self, request: Plain) {
        let entry = request.entry();
        // SAFETY: a `Plain` request refers to no memory of this process.
        unsafe { self.push_entry(entry) };
    }

    /// Queues entries of which each starts when the one before has ended, however it ended.
    ///
    /// A link does not reach over the end of a submission, so all go into the same one.
    pub(super) fn push_linked(&mut self, requests: &[Plain]) {
        if self.backlog.is_empty() && self.room() < requests.len() {
            self.submit_quietly();
        }
        for (place, request) in requests.iter().enumerate() {
            let mut entry = request.entry();
            if place + 1 < requests.len() {
                entry = entry.flags(request.flags() | Flags::IO_HARDLINK);
            }
            // SAFETY: a `Plain` request refers to no memory of this process.
            unsafe { self.push_entry(entry) };
        }
    }

    /// Queues an entry that refers to memory.
    ///
    /// # Safety
    /// Everything the entry points to stays valid and in place until its completion was reaped.
    pub(super) unsafe fn push_entry(&mut self, entry: Entry) {
        if self.backlog.is_empty() && self.room() == 0 {
            self.submit_quietly();
        }
        if !self.backlog.is_empty() || self.room() == 0 {
            self.backlog.push_back(entry);
            return;
        }
        let mut queue = self.submission();
        // SAFETY: the caller vouches for what the entry points to.
        if unsafe { queue.push(&entry) }.is_err() {
            drop(queue);
            self.backlog.push_back(entry);
        }
    }

    /// Submits what is queued and waits as told. Interruptions and timeouts are not errors.
    pub(super) fn enter(&mut self, wait: Wait) -> Result<(), RingError> {
        self.move_backlog();
        let result = match wait {
            _ if !self.completion().is_empty() || !self.backlog.is_empty() => {
                self.submitter.submit()
            }
            Wait::No => {
                if !self.is_ready() && !self.has_requests() {
                    return Ok(());
                }
                self.submitter.submit()
            }
            Wait::Forever => self.submitter.submit_and_wait(1),
            Wait::For(duration) => {
                let timespec = Timespec::from(duration);
                let arguments = SubmitArgs::new().timespec(&timespec);
                self.submitter.submit_with_args(1, &arguments)
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match Errno::from_io_error(&error) {
                // INTR: a signal. TIME: the wait is over. BUSY: completions overflowed, reap first.
                // AGAIN: no memory for a request; it stays queued and goes with the next enter.
                Some(Errno::INTR | Errno::TIME | Errno::BUSY | Errno::AGAIN) => Ok(()),
                _ => Err(RingError::local("io_uring_enter", error)),
            },
        }
    }

    /// Copies completions out; returns how many.
    pub(super) fn reap(&mut self, cqes: &mut [Cqe]) -> usize {
        let mut count = 0;
        let queue = self.completion();
        for (cqe, entry) in cqes.iter_mut().zip(queue) {
            *cqe = Cqe {
                user_data: entry.user_data(),
                result: entry.result(),
                flags: entry.flags(),
            };
            count += 1;
        }
        count
    }

    /// Returns whether there are completions to reap, or work the kernel has deferred to the next enter.
    /// Reads shared memory only.
    pub(super) fn is_ready(&mut self) -> bool {
        let queue = self.submission();
        let is_deferred = queue.taskrun() || queue.cq_overflow();
        drop(queue);
        is_deferred || !self.completion().is_empty()
    }

    /// Returns whether entries wait to be submitted.
    pub(super) fn has_requests(&mut self) -> bool {
        !self.backlog.is_empty() || !self.submission().is_empty()
    }

    /// Returns the calls that set up and register things.
    pub(super) const fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    /// Returns a duplicate of the ring's descriptor.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        let fd = self.ring().as_raw_fd();
        // SAFETY: the descriptor belongs to the ring, which lives until this function has returned.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        fd.try_clone_to_owned()
    }

    /// Returns how many completions the kernel had to keep aside because the queue was full. Not lost.
    pub(super) fn overflows_count(&mut self) -> u32 {
        self.completion().overflow()
    }

    /// Cancels everything and waits for it, `timeout` at most.
    pub(super) fn cancel_all(&self, timeout: Duration) {
        let timeout = Some(Timespec::from(timeout));
        match self
            .submitter
            .register_sync_cancel(timeout, CancelBuilder::any())
        {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "cancelling the ring's operations"),
        }
    }

    fn ring(&self) -> &IoUring {
        // SAFETY: `ring` was made by `new` and is freed by `drop` only.
        unsafe { self.ring.as_ref() }
    }

    fn submission(&mut self) -> SubmissionQueue<'_> {
        // SAFETY: the result borrows `self` mutably, so no second submission queue exists.
        unsafe { self.ring().submission_shared() }
    }

    fn completion(&mut self) -> CompletionQueue<'_> {
        // SAFETY: the result borrows `self` mutably, so no second completion queue exists.
        unsafe { self.ring().completion_shared() }
    }

    fn room(&mut self) -> usize {
        let queue = self.submission();
        queue.capacity() - queue.len()
    }

    /// Submits without waiting, to make room. What is refused stays queued.
    fn submit_quietly(&self) {
        if let Err(error) = self.submitter.submit() {
            tracing::debug!(%error, "submission queue stays full");
        }
    }

    /// Moves waiting entries into the queue. A link torn apart here lets its second half start early,
    /// which for a close means closing with a receive still armed; `Ring::chase` looks after that case.
    fn move_backlog(&mut self) {
        while self.room() > 0 {
            let Some(entry) = self.backlog.pop_front() else {
                return;
            };
            let mut queue = self.submission();
            // SAFETY: whoever queued the entry vouched for what it points to until its completion.
            if unsafe { queue.push(&entry) }.is_err() {
                drop(queue);
                self.backlog.push_front(entry);
                return;
            }
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: `ring` came from `Box::leak` in `new`, is freed here only, and `submitter`, which
        // borrows from it, has no destructor and is not used again.
        drop(unsafe { Box::from_raw(self.ring.as_ptr()) });
    }
}

/// Completion entries for each submission entry. A turn submits at most one queue of requests but may
/// find a completion of every multishot receive; past it the kernel allocates for each overflow.
/// Source: docs/internals/uring.md, recommendation 1.
const CQ_FACTOR: u32 = 8;
