//! The accepting side of a ring: its listeners, each with one multishot accept.
//!
//! Here: when an accept is armed, cancelled and armed again. Not here: the sockets it brings.
//!
//! Bound: as many listeners as the user has given; they are paused and resumed together, since what they
//! share is the file table.
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

/// How a connection came in: what has to be known of its listener after the accept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Via {
    /// Number of the listener, in the order in which the ring was given them.
    pub(super) listener: u8,
    /// Its connections have IPv6 addresses.
    pub(super) is_ipv6: bool,
}

impl Via {
    /// Returns the index of a tag that carries it to another ring.
    pub(super) fn encode(self) -> u32 {
        (u32::from(self.listener) << 1) | u32::from(self.is_ipv6)
    }

    pub(super) fn decode(index: u32) -> Self {
        Self {
            listener: u8::try_from(index >> 1).unwrap_or(u8::MAX),
            is_ipv6: index & 1 == 1,
        }
    }
}

/// All listeners of a ring.
#[derive(Debug, Default)]
pub(super) struct Accepts {
    all: Vec<Accepting>,
}

impl Accepts {
    /// Adds a listener. Its number is how many there were before.
    pub(super) fn listen(&mut self, listener: Listener, has_choice: bool) {
        self.all.push(Accepting::new(listener, has_choice));
    }

    /// Closes all listeners. The kernel's operations hold the sockets until their cancels are through, a
    /// turn later.
    pub(super) fn unlisten(&mut self, kernel: &mut Kernel) {
        self.pause(kernel);
        for accepting in &mut self.all {
            accepting.listener = None;
        }
    }

    pub(super) fn pause(&mut self, kernel: &mut Kernel) {
        for (index, accepting) in (0..).zip(&mut self.all) {
            accepting.pause(kernel, index);
        }
    }

    pub(super) fn resume(&mut self) {
        for accepting in &mut self.all {
            accepting.is_wanted = accepting.listener.is_some();
        }
    }

    /// Arms the accepts that should be and are not.
    pub(super) fn arm(&mut self, kernel: &mut Kernel) {
        for (index, accepting) in (0..).zip(&mut self.all) {
            accepting.arm(kernel, index);
        }
    }

    /// Returns the listener that an accept's tag speaks of.
    pub(super) fn of_mut(&mut self, index: u32) -> Option<&mut Accepting> {
        self.all.get_mut(usize::try_from(index).ok()?)
    }

    /// Returns whether the user says where the connections of a listener go.
    pub(super) fn has_choice(&self, via: Via) -> bool {
        let accepting = self.all.get(usize::from(via.listener));
        accepting.is_some_and(|accepting| accepting.has_choice)
    }

    /// A slot is free.
    pub(super) fn slot_freed(&mut self) {
        for accepting in &mut self.all {
            if accepting.hold == Hold::Slot {
                accepting.hold = Hold::Nothing;
            }
        }
    }

    /// Returns how long a turn may wait without missing the time to accept again.
    pub(super) fn wait_max(&self) -> Option<Duration> {
        let is_waiting = |accepting: &Accepting| matches!(accepting.hold, Hold::Until(_));
        self.all.iter().any(is_waiting).then_some(RETRY)
    }

    /// Returns whether no accept is in flight, which would hold its listener.
    pub(super) fn is_idle(&self) -> bool {
        self.all.iter().all(|a| a.operation == Operation::Idle)
    }

    /// Returns the address of a listener.
    pub(super) fn address(&self, listener: u8) -> Option<SocketAddr> {
        let accepting = self.all.get(usize::from(listener))?;
        accepting.listener.as_ref().map(Listener::address)
    }
}

/// One listener and its multishot accept.
#[derive(Debug)]
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
    fn new(listener: Listener, has_choice: bool) -> Self {
        Self {
            is_ipv6: listener.address().is_ipv6(),
            listener: Some(listener),
            has_choice,
            is_wanted: true,
            operation: Operation::Idle,
            hold: Hold::Nothing,
            generation: 0,
        }
    }

    fn pause(&mut self, kernel: &mut Kernel, index: u32) {
        self.is_wanted = false;
        if self.operation == Operation::Armed {
            self.operation = Operation::Cancelled;
            kernel.push(Plain::Cancel {
                tag: Tag::new(Kind::Accept, self.generation, index),
            });
        }
    }

    fn arm(&mut self, kernel: &mut Kernel, index: u32) {
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
            tag: Tag::new(Kind::Accept, self.generation, index),
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

    /// Returns whether the listener's connections have IPv6 addresses.
    pub(super) const fn is_ipv6(&self) -> bool {
        self.is_ipv6
    }
}

#[expect(clippy::disallowed_methods, reason = "the ring driver reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Pause after an accept failed for want of memory or descriptors of the host.
const RETRY: Duration = Duration::from_millis(50);
