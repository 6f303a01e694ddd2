//! A route group that ends at this peer.
//!
//! Here: its handshake, its path, its stream, and who waits for it. Not here: the table, the queues
//! (`state`), looking for another path (`repair`).
//!
//! ```text
//!   opener: setup -> path -> Handshake 1 ->            <- Handshake 2 -> open -> done: Close forward
//!   taker:          rule     Handshake 1 -> Handshake 2 -> first segment that opens: accepted
//! ```
//!
//! Invariant: the opener alone looks for paths and ends a group that is done; the taker answers on the way
//! back of the route on which the newest segment has come.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use ringway_proto::key::{Address, PublicKey, SecretKey};
use ringway_proto::kk::{KkInitiator, RecordKeys, kk_respond};
use ringway_proto::record::NativeAead;
use ringway_proto::route::segment::{self, SegmentSealer};
use ringway_proto::route::{GroupName, RouteId};
use ringway_proto::time::Now;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::oneshot;

use super::error::RouteError;
use super::flow::Flow;
use super::repair::Recipe;
use super::stream::RouteStream;

/// One end of a group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) peer: Address,
    pub(crate) local_port: u16,
    pub(crate) keep_alive: Duration,
    pub(crate) side: Side,
    pub(crate) keys: Option<Keys>,
    pub(crate) flow: Flow,
    pub(crate) path: Option<Path>,
    /// The peers of the forward path, as the opener has asked for them.
    pub(crate) forward: Vec<PublicKey>,
    /// How the opener gets another path.
    pub(crate) recipe: Option<Arc<Recipe>>,
    pub(crate) reroutes: u64,
    pub(crate) error: Option<RouteError>,
    /// Nobody holds the stream any more.
    pub(crate) is_dropped: bool,
    pub(crate) read_waker: Option<Waker>,
    pub(crate) write_waker: Option<Waker>,
}

/// Which end it is, and what is left of its handshake.
#[derive(Debug)]
pub(crate) enum Side {
    Opener {
        handshake: Option<Box<Opening>>,
        is_repairing: bool,
    },
    Taker {
        answer: Answer,
        /// Its place in the listener, until the first segment has come.
        permit: Option<OwnedPermit<RouteStream>>,
        /// Highest number of a segment that opened.
        number_max: Option<u64>,
    },
}

/// A handshake without its answer.
#[derive(Debug)]
pub(crate) struct Opening {
    initiator: KkInitiator,
    pub(crate) message: Vec<u8>,
    pub(crate) retry_at: Now,
    pub(crate) opened: oneshot::Sender<Result<(), RouteError>>,
}

/// What a taker has answered, for when it is asked again.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    question: Vec<u8>,
    pub(crate) message: Vec<u8>,
}

/// Both directions of a group's segments.
pub(crate) struct Keys {
    pub(crate) sealer: SegmentSealer<NativeAead>,
    pub(crate) opener: NativeAead,
}

/// Where packets of a group go to and come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) next: PublicKey,
    pub(crate) next_id: RouteId,
    /// The id in this peer's table on which packets come.
    pub(crate) own_id: RouteId,
}

impl Group {
    /// Returns the opener's end before it has a path.
    pub(crate) fn opener(
        secret: &SecretKey,
        peer: Address,
        local_port: u16,
        random: [u8; 32],
        (keep_alive, now): (Duration, Now),
    ) -> Result<(Self, IsOpen), RouteError> {
        let (initiator, message) =
            KkInitiator::new(secret, &peer.key, random).map_err(|_| RouteError::LocalKey)?;
        let (opened, is_open) = oneshot::channel();
        let handshake = Some(Box::new(Opening {
            initiator,
            message: [&[STAGE_1], &message[..]].concat(),
            retry_at: now,
            opened,
        }));
        let side = Side::Opener {
            handshake,
            is_repairing: false,
        };
        Ok((Self::new(peer, local_port, side, keep_alive, now), is_open))
    }

    /// Returns the taker's end for the first message of a handshake, `None` when it is none.
    pub(crate) fn taker(
        secret: &SecretKey,
        peer: Address,
        (name, local_port): (GroupName, u16),
        message: &[u8],
        random: [u8; 32],
        (keep_alive, now): (Duration, Now),
    ) -> Option<Self> {
        let (stage, first) = message.split_first()?;
        if *stage != STAGE_1 {
            return None;
        }
        let (second, keys) = kk_respond(secret, &peer.key, first, random).ok()?;
        let answer = Answer {
            question: message.to_vec(),
            message: [&[STAGE_2], &second[..]].concat(),
        };
        let side = Side::Taker {
            answer,
            permit: None,
            number_max: None,
        };
        let mut group = Self::new(peer, local_port, side, keep_alive, now);
        group.keys = Some(Keys::new(&keys, &name, peer.port, local_port));
        Some(group)
    }

    fn new(peer: Address, local_port: u16, side: Side, keep_alive: Duration, now: Now) -> Self {
        Self {
            peer,
            local_port,
            keep_alive,
            side,
            keys: None,
            flow: Flow::new(keep_alive, now),
            path: None,
            forward: Vec::new(),
            recipe: None,
            reroutes: 0,
            error: None,
            is_dropped: false,
            read_waker: None,
            write_waker: None,
        }
    }

    /// Takes the second message of a handshake; `true` when the group is open now.
    pub(crate) fn arrive_answer(&mut self, name: &GroupName, message: &[u8], now: Now) -> bool {
        let Side::Opener { handshake, .. } = &mut self.side else {
            return false;
        };
        let Some((&STAGE_2, second)) = message.split_first() else {
            return false;
        };
        let Some(opening) = handshake.take() else {
            return false;
        };
        let Opening {
            initiator, opened, ..
        } = *opening;
        let result = match initiator.finish(second) {
            Ok(keys) => {
                self.keys = Some(Keys::new(&keys, name, self.local_port, self.peer.port));
                self.flow = Flow::new(self.keep_alive, now);
                self.flow.probe();
                Ok(())
            }
            Err(_) => Err(RouteError::PeerRefused(
                ringway_proto::reason::Reason::BadHandshake.code(),
            )),
        };
        if let Err(error) = &result {
            self.error = Some(error.clone());
        }
        let is_open = result.is_ok();
        // Who dialled may have given up: then its guard takes the group away.
        drop(opened.send(result));
        is_open
    }

    /// Returns what a taker answers to the same first message again.
    pub(crate) fn answer_again(&self, message: &[u8]) -> Option<Vec<u8>> {
        match &self.side {
            Side::Taker { answer, .. } if answer.question == message => {
                Some(answer.message.clone())
            }
            Side::Taker { .. } | Side::Opener { .. } => None,
        }
    }

    /// Ends the group with an error; a dial that waits for it gets the same.
    pub(crate) fn fail(&mut self, error: RouteError, wakes: &mut Vec<Waker>) {
        if let Side::Opener { handshake, .. } = &mut self.side
            && let Some(opening) = handshake.take()
        {
            drop(opening.opened.send(Err(error.clone())));
        }
        if self.error.is_none() {
            self.error = Some(error);
        }
        self.wake(wakes);
    }

    /// Wakes who reads and who writes.
    pub(crate) fn wake(&mut self, wakes: &mut Vec<Waker>) {
        wakes.extend(self.read_waker.take());
        wakes.extend(self.write_waker.take());
    }

    /// Returns when there is something to look at.
    pub(crate) fn deadline(&self) -> Now {
        let given_up_at = self.flow.heard_at() + self.keep_alive;
        match &self.side {
            Side::Opener {
                handshake: Some(opening),
                ..
            } => opening.retry_at,
            Side::Opener { .. } => self.flow.deadline(),
            Side::Taker { .. } => self.flow.deadline().min(given_up_at),
        }
    }

    pub(crate) const fn is_opener(&self) -> bool {
        matches!(self.side, Side::Opener { .. })
    }
}

impl Keys {
    fn new(keys: &RecordKeys, name: &GroupName, source_port: u16, destination_port: u16) -> Self {
        let keys = segment::group_keys(keys, name, source_port, destination_port);
        Self {
            sealer: SegmentSealer::new(NativeAead::new(&keys.seal)),
            opener: NativeAead::new(&keys.open),
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// Completes when the handshake has ended.
pub(crate) type IsOpen = oneshot::Receiver<Result<(), RouteError>>;

/// The secret of this peer, as the groups use it.
pub(crate) type Identity = Arc<SecretKey>;

/// First byte of a handshake's first message.
const STAGE_1: u8 = 1;

/// First byte of the second one.
const STAGE_2: u8 = 2;
