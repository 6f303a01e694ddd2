//! Waking a ring that sleeps.
//!
//! Here: the two ways in. Another ring posts a message ([`RingHandle`], the cheapest: it travels with
//! that ring's next submission); an ordinary thread writes to an eventfd ([`Waker`]). Not here: when
//! waking is needed (`mailbox`).
//!
//! Source: docs/internals/uring.md D (65-72 us by message, 90-104 us by eventfd, both from asleep).

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::sync::Arc;

use rustix::event::EventfdFlags;
use rustix::io::Errno;

/// Names a ring to other rings. While a handle lives, the kernel keeps the ring's memory.
#[derive(Debug, Clone)]
pub struct RingHandle(Arc<OwnedFd>);

impl RingHandle {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Wakes a ring from any thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Ends the ring's present wait, or its next one if it does not wait now.
    pub fn wake(&self) {
        #[expect(clippy::host_endian_bytes, reason = "eventfd(2) counts in host order")]
        let one = 1_u64.to_ne_bytes();
        match rustix::io::write(self.0.as_fd(), &one) {
            // AGAIN: the counter is full, so the ring has been woken 2^64 - 2 times.
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => tracing::error!(%error, "eventfd of a ring"),
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
