//! The accepting side of a ring: one listener, one multishot accept.
//!
//! Here: when the accept is armed, cancelled and armed again. Not here: the sockets it brings.
//!
//! An accept that finds the file table full ends, and the client it had taken is dropped (measured,
//! kernel 6.18; docs/internals/uring.md F). So users pause before that; if it happens all the same, the
//! accept is armed again when a slot is free.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;
use std::time::Instant;

use rustix::io::Errno;

use super::op::GENERATION_MASK;
use super::op::Kind;
use super::op::Plain;
use super::op::Tag;
use super::setup::Kernel;
use super::socket::Listener;

/// The multishot accept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Operation {
    /// In flight.
    Armed,
    /// In flight, its cancel on the way.
    Cancelled,
    /// Not in flight.
    #[default]
    Idle,
}

/// What keeps a wanted accept from being armed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Hold {
    #[default]
    Nothing,
    /// The table was full.
    Slot,
    /// The host was out of memory or descriptors.
    Until(Instant),
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Accepting {
    listener: Option<Listener>,
    /// Of the listener, also when it is gone: what it accepted may still be on its way.
    is_ipv6: bool,
    /// Where its connections go is the user's choice.
    has_choice: bool,
    is_wanted: bool,
    operation: Operation,
    hold: Hold,
    /// Distinguishes one multishot accept from the next.
    generation: u32,
}

impl Accepting {
    pub(super) fn listen(&mut self, listener: Listener, has_choice: bool) {
        self.has_choice = has_choice;
        self.is_ipv6 = listener.address().is_ipv6();
        self.listener = Some(listener);
        self.is_wanted = true;
    }

    /// The kernel's operation holds the socket until its cancel is through, a turn later.
    pub(super) fn unlisten(&mut self, kernel: &mut Kernel) {
        self.pause(kernel);
        self.listener = None;
    }

    pub(super) fn pause(&mut self, kernel: &mut Kernel) {
        self.is_wanted = false;
        if self.operation == Operation::Armed {
            self.operation = Operation::Cancelled;
            kernel.push(Plain::Cancel {
                tag: Tag::new(Kind::Accept, self.generation, 0),
            });
        }
    }

    pub(super) const fn resume(&mut self) {
        self.is_wanted = self.listener.is_some();
    }

    /// Arms the accept if it should be and is not.
    pub(super) fn arm(&mut self, kernel: &mut Kernel) {
        if self.operation != Operation::Idle || !self.is_wanted {
            return;
        }
        let is_held = match self.hold {
            Hold::Nothing => false,
            Hold::Slot => true,
            Hold::Until(until) => now() < until,
        };
        let Some(listener) = self.listener.as_ref().filter(|_| !is_held) else {
            return;
        };
        self.hold = Hold::Nothing;
        self.generation = self.generation.wrapping_add(1) & GENERATION_MASK;
        self.operation = Operation::Armed;
        let listener = listener.socket().as_raw_fd();
        kernel.push(Plain::Accept {
            listener,
            generation: self.generation,
        });
    }

    /// The accept with this tag is over.
    pub(super) fn ended(&mut self, tag: Tag) {
        if tag.generation == self.generation {
            self.operation = Operation::Idle;
        }
    }

    /// An accept failed; returns whether that is news.
    pub(super) fn failed(&mut self, error: Errno, has_sockets: bool) -> bool {
        match error {
            Errno::CANCELED => return false,
            Errno::NFILE if has_sockets => self.hold = Hold::Slot,
            Errno::NFILE | Errno::MFILE | Errno::NOBUFS | Errno::NOMEM => {
                self.hold = Hold::Until(now() + RETRY);
            }
            _ => {}
        }
        true
    }

    /// A slot is free.
    pub(super) fn slot_freed(&mut self) {
        if self.hold == Hold::Slot {
            self.hold = Hold::Nothing;
        }
    }

    /// Returns how long a turn may wait without missing the time to accept again.
    pub(super) fn wait_max(&self) -> Option<Duration> {
        matches!(self.hold, Hold::Until(_)).then_some(RETRY)
    }

    /// Returns whether the listener's connections have IPv6 addresses.
    pub(super) fn is_ipv6(&self) -> bool {
        self.is_ipv6
    }

    /// Returns whether no accept is in flight, which would hold the listener.
    pub(super) fn is_idle(&self) -> bool {
        self.operation == Operation::Idle
    }

    /// Returns whether the user says where the listener's connections go.
    pub(super) const fn has_choice(&self) -> bool {
        self.has_choice
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(Listener::address)
    }
}

#[expect(clippy::disallowed_methods, reason = "the ring driver reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Pause after an accept failed for want of memory or descriptors of the host.
const RETRY: Duration = Duration::from_millis(50);
