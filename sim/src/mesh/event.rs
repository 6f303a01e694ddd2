//! What can happen next in a mesh.
//!
//! Here: the kinds of event. Not here: their order (`agenda`), what they do (`world`).

use ringway_shards::core::{JobResult, LookedUp, Lookup, Message};

use super::routes::RouteEvent;
use crate::lease::SimLease;

/// One kind of event.
#[derive(Debug)]
pub(super) enum Event {
    /// A connection reaches a listener.
    Accept { wire: usize },
    /// A destination answers an open.
    Answer { client: usize, stream: u32 },
    /// The registry answers.
    Answered {
        shard: usize,
        lookup: Lookup,
        answer: Answer,
    },
    /// Bytes, FIN arrive at an end.
    Arrive { wire: usize, side: usize },
    /// The kernel has closed a socket.
    CloseDone { wire: usize, side: usize },
    /// The executor has finished a job.
    Computed {
        shard: usize,
        result: Box<JobResult>,
    },
    /// A fault happens.
    Fault { fault: Fault },
    /// A peer connects to some relay, unless it has a session.
    Join { identity: usize },
    /// A peer leaves the older one of its sessions.
    Leave { client: usize },
    /// The checkers look at what takes long.
    Look,
    /// A mailbox has something for a shard.
    Mail {
        source: usize,
        target: usize,
        message: Box<Message<SimLease>>,
    },
    /// A peer opens a stream.
    Open { open: usize },
    /// The kernel knows what became of a connect.
    Outcome { connect: usize },
    /// A peer looks at its session.
    Pump { client: usize },
    /// A peer reads its socket.
    Read { client: usize },
    /// Something of a run with routes.
    Routes(RouteEvent),
    /// RST reaches an end.
    Reset { wire: usize, side: usize },
    /// A relay that has drained ends, and starts anew later.
    Retire { relay: usize, life: u32 },
    /// The kernel reports a send.
    SendDone { wire: usize, side: usize },
    /// A relay starts.
    Start { relay: usize },
    /// A shard takes a turn.
    Turn { shard: usize },
}

/// What the registry will say.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// This, true or not.
    Fixed(LookedUp),
    /// What is true then.
    Truth,
}

/// Faults at a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// A peer's connection breaks.
    Break,
    /// A link falls silent.
    Cut,
    /// What is on a link takes seconds.
    Delay,
    Drain,
    Kill,
    /// A peer goes to another relay.
    Move,
    /// A link is reset.
    Reset,
    Vanish,
    /// The registry names other relays to one.
    Want,
}

impl Event {
    /// Returns a number for its kind and whom it concerns.
    pub(super) fn fingerprint(&self) -> (u64, usize) {
        match self {
            Self::Accept { wire } => (1, *wire),
            Self::Answer { client, .. } => (2, *client),
            Self::Answered { shard, .. } => (3, *shard),
            Self::Arrive { wire, side } => (4, 2 * wire + side),
            Self::CloseDone { wire, side } => (5, 2 * wire + side),
            Self::Computed { shard, .. } => (6, *shard),
            Self::Fault { fault } => (7, *fault as usize),
            Self::Join { identity } => (8, *identity),
            Self::Look => (9, 0),
            Self::Mail { source, target, .. } => (10, 64 * source + target),
            Self::Open { open } => (11, *open),
            Self::Outcome { connect } => (12, *connect),
            Self::Pump { client } => (13, *client),
            Self::Read { client } => (14, *client),
            Self::Reset { wire, side } => (15, 2 * wire + side),
            Self::Retire { relay, .. } => (16, *relay),
            Self::SendDone { wire, side } => (17, 2 * wire + side),
            Self::Start { relay } => (18, *relay),
            Self::Turn { shard } => (19, *shard),
            Self::Leave { client } => (20, *client),
            Self::Routes(event) => event.fingerprint(),
        }
    }
}
