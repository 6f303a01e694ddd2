//! Outbound connections: from the permit to the closed socket.
//!
//! ```text
//!              permit            connected
//!   asked ---------------> pending --------------> dialed: Phase::Dialed of its slot
//!     |                    |  |  |                    |
//!     | no permit          |  |  | time-out, drain    | far side, hang-up, drain
//!     v                    |  |  v                    v
//!   refused      other port|  | given up              closing ---> closed: the permit is dropped
//!                  at most |  |   | the driver's answer  ^
//!          DIAL_TRIES_MAX <+  v   +-- connected ---------+
//!                            failed
//! ```
//!
//! Here: who may dial, what a dial holds, every way in which it ends. Not here: sockets (the driver),
//! which port (`ports`), what is said on the connection when it is to be a link (`link`).
//!
//! Invariant: the permit is taken before anything else and lives until the driver has reported that the
//! socket is gone; whoever asked is answered exactly once.
//! Bound: `dials_max` connects are with the driver, those given up included; each asker is answered
//! within `DIAL_TIMEOUT`.

use ::core::net::SocketAddr;

use ringway_proto::dialect::Dialect;
use ringway_proto::limits::{DIAL_TIMEOUT, DIAL_TRIES_MAX};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use super::event::{Action, Directory, Place, SessionKey, Slot, StreamKey};
use super::session::{Phase, Session};
use super::timers::{Timer, TimerKey};
use super::{Cause, ShardCore};
use crate::lease::Lease;
use crate::ports::{NoSource, PortPermit, PortRefusal};

/// Names a dial until it has been answered; a later dial never has the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialKey(pub(super) StreamKey);

impl DialKey {
    /// Returns the key as one number, for a driver that hands numbers to its kernel.
    #[must_use]
    pub fn token(self) -> u64 {
        u64::from(self.0.generation) << 32 | u64::from(self.0.index)
    }

    /// Returns the key with this number.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves of the number"
    )]
    pub const fn from_token(token: u64) -> Self {
        Self(StreamKey {
            index: token as u32,
            generation: (token >> 32) as u32,
        })
    }
}

/// A connection that the relay made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialed {
    /// Where it lives; what [`ShardCore::hang_up`] takes.
    pub place: Place,
    /// The address it was bound to; an unspecified one where the kernel chose.
    pub source: SocketAddr,
    /// Whom it reaches.
    pub target: SocketAddr,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// As many connects are under way as may be.
    #[error(
        "shard {shard} makes {have} connections at once already, {max} are allowed, 1 wanted: try again \
         when one stands, or raise ports.dials_max"
    )]
    LocalDials {
        /// The shard.
        shard: u16,
        /// Connects with the driver.
        have: u32,
        /// How many may be.
        max: u32,
    },
    /// The relay is ending.
    #[error("the relay is shutting down and dials nobody")]
    LocalDraining,
    /// The kernel gave no socket.
    #[error("no socket to reach {target} from: errno {errno}")]
    LocalKernel {
        /// Whom it was to reach.
        target: SocketAddr,
        /// What the kernel said.
        errno: i32,
    },
    /// No port is free; nothing was asked of the kernel.
    #[error(transparent)]
    LocalPorts(#[from] PortRefusal),
    /// The ports that were tried belong to somebody else on this host.
    #[error(
        "{tries} local ports in a row, the last {source_address}, are taken by other programs of this \
         host or towards {target} already: see 'ss -tan', or keep ports.range apart from theirs"
    )]
    LocalPortsTaken {
        /// The last address tried.
        source_address: SocketAddr,
        /// Whom it was to reach.
        target: SocketAddr,
        /// How many were tried.
        tries: u8,
    },
    /// The table of sockets is full.
    #[error(
        "shard {shard} holds {have} of {max} sockets, 1 wanted: raise limits.sessions_max or add shards"
    )]
    LocalSockets {
        /// The shard.
        shard: u16,
        /// Sockets and connects.
        have: u64,
        /// How many may be.
        max: u32,
    },
    /// No source address is of the target's family.
    #[error("ports.sources has no address of the family of {target}: add one")]
    LocalSource {
        /// Whom it was to reach.
        target: SocketAddr,
    },
    /// The target, or something on the way to it, refused.
    #[error("{target} cannot be reached: errno {errno}")]
    PeerRefused {
        /// Whom it was to reach.
        target: SocketAddr,
        /// What the kernel said.
        errno: i32,
    },
    /// The target did not answer in time.
    #[error("{target} did not answer within {DIAL_TIMEOUT:?}")]
    PeerSilent {
        /// Whom it was to reach.
        target: SocketAddr,
    },
}

impl DialError {
    /// Returns the reason with the wire's number.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::LocalDials { .. }
            | Self::LocalKernel { .. }
            | Self::LocalSockets { .. }
            | Self::LocalSource { .. } => Reason::RelayCapacity,
            Self::LocalDraining => Reason::Draining,
            Self::LocalPorts(refusal) => refusal.reason(),
            Self::LocalPortsTaken { .. } => Reason::LocalPortsExhausted,
            Self::PeerRefused { .. } => Reason::RefusedByDestination,
            Self::PeerSilent { .. } => Reason::DialTimeout,
        }
    }
}

/// Why a connect failed, as the driver's kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFault {
    /// The kernel gave no socket: this errno.
    Local(i32),
    /// The target or the way to it: this errno.
    Peer(i32),
    /// The port is taken by somebody else on the host (`EADDRINUSE`), or its pair with the target is
    /// (`EADDRNOTAVAIL`).
    PortTaken,
}

/// A connect that is with the driver.
#[derive(Debug)]
pub(super) struct Dial {
    target: SocketAddr,
    source: SocketAddr,
    permit: PortPermit,
    tries: u8,
    /// The time-out, until whoever asked has had the answer.
    timer: Option<TimerKey>,
    /// Whoever asked has had the answer; the driver's is waited for.
    is_given_up: bool,
    /// The wanted relay that it is to be a link with; nobody else waits for it then.
    link: Option<u32>,
}

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// Connects to `target`; `Action::Dialed` with the key brings the outcome.
    ///
    /// # Errors
    /// See [`DialError`]: what stops a dial here stops it before anything was asked of the kernel.
    pub fn dial(&mut self, target: SocketAddr, now: Now) -> Result<DialKey, DialError> {
        self.now = now;
        self.dial_for(target, None)
    }

    /// Connects to a relay to make a link; `begin_link` or `link_failed` follows.
    pub(super) fn dial_link(
        &mut self,
        target: SocketAddr,
        relay: u32,
    ) -> Result<DialKey, DialError> {
        self.dial_for(target, Some(relay))
    }

    fn dial_for(&mut self, target: SocketAddr, link: Option<u32>) -> Result<DialKey, DialError> {
        let now = self.now;
        self.common.stats.dials_received += 1;
        let started = self.start_dial(target, link);
        match &started {
            Ok(key) => {
                self.common.stats.dials_pending += 1;
                if let Some(dial) = self.dials.get_mut(key.0) {
                    self.wheel
                        .set(&mut dial.timer, now + DIAL_TIMEOUT, Timer::Dial(*key));
                }
                self.regulate_accept();
            }
            Err(error) => self.common.stats.dials_refused.count(error.reason()),
        }
        self.note_ports();
        started
    }

    fn start_dial(&mut self, target: SocketAddr, link: Option<u32>) -> Result<DialKey, DialError> {
        let shard = self.config.shard.0;
        if self.is_draining {
            return Err(DialError::LocalDraining);
        }
        let (have, max) = (self.dials.len(), self.config.ports.dials_max);
        if have >= max {
            return Err(DialError::LocalDials { shard, have, max });
        }
        let (have, max) = (self.sockets_promised(), self.config.admission.sockets_max);
        if have >= u64::from(max) {
            return Err(DialError::LocalSockets { shard, have, max });
        }
        let (source, permit) = self.take_local_port(target)?;
        let dial = Dial {
            target,
            source,
            permit,
            tries: 1,
            timer: None,
            is_given_up: false,
            link,
        };
        let Ok(key) = self.dials.insert(dial) else {
            return Err(DialError::LocalDials {
                shard,
                have: max,
                max,
            });
        };
        let dial = DialKey(key);
        self.common.actions.push_back(Action::Connect {
            dial,
            source,
            target,
        });
        Ok(dial)
    }

    fn take_local_port(
        &mut self,
        target: SocketAddr,
    ) -> Result<(SocketAddr, PortPermit), DialError> {
        self.local_ports
            .try_take(target, self.now)
            .map_err(|error| match error {
                NoSource::Exhausted(refusal) => DialError::LocalPorts(refusal),
                NoSource::Family => DialError::LocalSource { target },
            })
    }

    /// An outbound connection stands, in `slot`.
    ///
    /// # Panics
    /// When no such connect is with the driver, or the slot holds a socket.
    pub fn connected(&mut self, dial: DialKey, slot: Slot, now: Now) {
        self.now = now;
        let removed = self.dials.remove(dial.0);
        assert!(removed.is_some(), "connected what nobody dialled");
        let Some(mut removed) = removed else { return };
        self.wheel.cancel(&mut removed.timer);
        self.claim(slot);
        self.common.stats.sockets_dialed += 1;
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        session.permit = Some(removed.permit);
        if removed.is_given_up {
            return self.close(slot);
        }
        session.phase = Phase::Dialed;
        let place = Place {
            shard: self.config.shard,
            session: session.key(slot),
        };
        let stats = &mut self.common.stats;
        stats.dials_pending -= 1;
        stats.dials_connected += 1;
        stats.dialed_current += 1;
        if let Some(relay) = removed.link {
            self.begin_link(slot, relay);
            return self.regulate_accept();
        }
        let outcome = Ok(Dialed {
            place,
            source: removed.source,
            target: removed.target,
        });
        self.common
            .actions
            .push_back(Action::Dialed { dial, outcome });
        self.regulate_accept();
    }

    /// An outbound connection could not be made; the driver holds no socket for it any more.
    ///
    /// # Panics
    /// When no such connect is with the driver.
    pub fn connect_failed(&mut self, dial: DialKey, fault: ConnectFault, now: Now) {
        self.now = now;
        let removed = self.dials.get(dial.0);
        assert!(removed.is_some(), "a connect failed that nobody dialled");
        let Some(Dial {
            target,
            source,
            tries,
            is_given_up,
            ..
        }) = removed
        else {
            return;
        };
        let (target, source_address, tries) = (*target, *source, *tries);
        let may_retry = !*is_given_up && tries < DIAL_TRIES_MAX;
        let error = match fault {
            ConnectFault::Local(errno) => DialError::LocalKernel { target, errno },
            ConnectFault::Peer(errno) => DialError::PeerRefused { target, errno },
            ConnectFault::PortTaken => {
                if may_retry {
                    match self.try_another_port(dial) {
                        Ok(()) => return self.note_ports(),
                        Err(error) => error,
                    }
                } else {
                    DialError::LocalPortsTaken {
                        source_address,
                        target,
                        tries,
                    }
                }
            }
        };
        self.end_dial(dial, fault, error);
    }

    /// Puts the port of a dial aside and connects again from another one.
    fn try_another_port(&mut self, key: DialKey) -> Result<(), DialError> {
        let Some(target) = self.dials.get(key.0).map(|dial| dial.target) else {
            return Ok(());
        };
        let (source, permit) = self.take_local_port(target)?;
        let Some(dial) = self.dials.get_mut(key.0) else {
            return Ok(());
        };
        dial.source = source;
        dial.tries += 1;
        let taken = std::mem::replace(&mut dial.permit, permit);
        self.local_ports.put_aside(taken, self.now);
        self.common.stats.dial_ports_taken += 1;
        self.common.actions.push_back(Action::Connect {
            dial: key,
            source,
            target,
        });
        Ok(())
    }

    /// Ends a dial that the driver holds nothing of, and answers whoever asked if that is due.
    fn end_dial(&mut self, key: DialKey, fault: ConnectFault, error: DialError) {
        let Some(mut dial) = self.dials.remove(key.0) else {
            return;
        };
        self.wheel.cancel(&mut dial.timer);
        if fault == ConnectFault::PortTaken {
            self.common.stats.dial_ports_taken += 1;
            self.local_ports.put_aside(dial.permit, self.now);
        } else {
            drop(dial.permit);
        }
        if !dial.is_given_up {
            self.answer_failure(key, dial.link, error);
        }
        self.note_ports();
        self.regulate_accept();
    }

    fn answer_failure(&mut self, dial: DialKey, link: Option<u32>, error: DialError) {
        self.common.stats.dials_pending -= 1;
        self.common.stats.dials_failed.count(error.reason());
        if let Some(relay) = link {
            return self.link_failed(relay, error.reason(), None);
        }
        self.common.actions.push_back(Action::Dialed {
            dial,
            outcome: Err(error),
        });
    }

    /// Answers whoever asked, and takes the connect back from the driver.
    fn give_up(&mut self, key: DialKey, why: impl FnOnce(SocketAddr) -> DialError) {
        let Some(dial) = self.dials.get_mut(key.0) else {
            return;
        };
        if std::mem::replace(&mut dial.is_given_up, true) {
            return;
        }
        self.wheel.cancel(&mut dial.timer);
        let (error, link) = (why(dial.target), dial.link);
        self.answer_failure(key, link, error);
        self.common
            .actions
            .push_back(Action::CancelConnect { dial: key });
    }

    /// The timer of a dial fired.
    pub(super) fn dial_timeout(&mut self, key: DialKey) {
        if let Some(dial) = self.dials.get_mut(key.0) {
            dial.timer = None;
        }
        self.give_up(key, |target| DialError::PeerSilent { target });
    }

    /// Gives up every dial: the relay is ending.
    pub(super) fn give_up_dials(&mut self) {
        for key in self.dials.keys() {
            self.give_up(DialKey(key), |_| DialError::LocalDraining);
        }
    }

    /// Closes a connection that the relay made; returns whether there was one.
    pub fn hang_up(&mut self, session: SessionKey, now: Now) -> bool {
        self.now = now;
        let entry = self.sessions.get(session.slot.0 as usize);
        let is_there = entry.is_some_and(|entry| {
            entry.generation == session.generation && matches!(entry.phase, Phase::Dialed)
        });
        if is_there {
            self.common.stats.dialed_hung_up += 1;
            self.common.stats.dialed_current -= 1;
            self.close(session.slot);
        }
        is_there
    }

    /// A dialed connection ends.
    pub(super) fn end_dialed(&mut self, slot: Slot, cause: Cause) {
        self.count_dialed_end(cause);
        self.close(slot);
    }

    pub(super) fn count_dialed_end(&mut self, cause: Cause) {
        let stats = &mut self.common.stats;
        stats.dialed_current -= 1;
        match cause {
            Cause::Left => stats.dialed_left += 1,
            Cause::Lost => stats.dialed_lost += 1,
            Cause::Reason(reason) => stats.dialed_closed.count(reason),
        }
    }

    /// Takes an ephemeral port of the relay's native key, for a stream that the relay opens itself.
    ///
    /// # Errors
    /// [`PortRefusal`], with reason 401, when the shard's slice has none.
    pub fn take_virtual_port(&mut self, now: Now) -> Result<PortPermit, PortRefusal> {
        self.now = now;
        let taken = self.virtual_ports.of_mut(Dialect::Native).try_take(now);
        self.note_ports();
        taken
    }

    /// Takes in the ports whose permits were dropped, on whichever thread; their rest begins now.
    pub fn collect_ports(&mut self, now: Now) {
        self.now = now;
        // Asked in each turn; most relays dial nobody.
        if self.local_ports.is_due(now) || self.virtual_ports.is_due(now) {
            self.local_ports.collect(now);
            self.virtual_ports.collect(now);
            self.note_ports();
        }
    }

    pub(super) fn note_ports(&mut self) {
        self.common.stats.local_ports = self.local_ports.usage();
        self.common.stats.virtual_ports = self.virtual_ports.usage();
    }

    /// Returns the lowest and the highest local port of the shard's slice.
    #[must_use]
    pub const fn local_port_bounds(&self) -> (u16, u16) {
        self.local_ports.bounds()
    }

    /// Returns the sockets of others, and those that connects under way may become.
    pub(super) fn sockets_promised(&self) -> u64 {
        let stats = &self.common.stats;
        stats.sockets_current - stats.attached_current() + u64::from(self.dials.len())
    }

    /// Notes that a socket has moved into `slot`.
    ///
    /// # Panics
    /// When the slot holds a socket: the driver reported one twice or lost a close.
    pub(super) fn claim(&mut self, slot: Slot) {
        let index = slot.0 as usize;
        if self.sessions.len() <= index {
            let floor = self.sessions_floor;
            self.sessions
                .resize_with(index + 1, || Session::free(floor));
        }
        assert!(
            matches!(self.sessions[index].phase, Phase::Free),
            "slot accepted while in use"
        );
        self.common.stats.sockets_opened += 1;
        self.common.stats.sockets_current += 1;
    }
}
