//! What can happen next.
//!
//! Here: the kinds of event. Not here: their order (`agenda`), what they do (`world`).

use ringway_shards::core::{JobResult, Message};

use crate::dials::DialStep;
use crate::lease::SimLease;
use crate::network::Way;
use crate::slow::Pace;

/// One kind of event.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection reaches the relay's listener.
    Accept { conn: usize },
    /// Something a stream's application has planned.
    Act {
        client: usize,
        stream: u32,
        act: Act,
    },
    /// A client plans its next move.
    Adversary { client: usize },
    /// Bytes, FIN arrive.
    Arrive { conn: usize, way: Way },
    /// The relay's kernel has closed a socket.
    CloseDone { conn: usize },
    /// A peer reads faster or slower from now on.
    Slow { client: usize, pace: Pace },
    /// A client joins.
    Join { kind: Join },
    /// The executor has finished a job.
    Computed {
        shard: usize,
        result: Box<JobResult>,
    },
    /// A dial of a shard goes on.
    Dial { dial: usize, step: DialStep },
    /// A fault is injected.
    Fault { fault: Fault },
    /// The checkers look at what takes long.
    Look,
    /// A mailbox has something for a shard.
    Mail {
        source: usize,
        target: usize,
        message: Box<Message<SimLease>>,
    },
    /// A client opens a stream.
    Open { open: usize },
    /// A client looks at its session: time-outs, output.
    Pump { client: usize },
    /// A client reads its socket.
    Read { client: usize },
    /// RST reaches the peer.
    ResetPeer { conn: usize },
    /// RST reaches the relay.
    ResetRelay { conn: usize },
    /// The relay's kernel reports a send.
    SendDone { conn: usize },
    /// A shard takes a turn.
    Turn { shard: usize },
}

/// Who joins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Join {
    Honest { identity: usize },
    Adversary,
    Idler,
    Stranger,
}

/// What an application does later.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Answers an open.
    Answer,
    /// Gives an open up.
    Cancel,
    /// Finishes its direction.
    Finish,
    /// Reads a bit.
    Read,
    /// Writes a bit.
    Talk,
}

/// Faults at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Cut,
    Drain,
    Kick,
    Leave,
    Shutdown,
    Vanish,
}
