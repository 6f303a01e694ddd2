//! What a run of the shard core target is made of.
//!
//! Here: the operations, which libFuzzer makes of bytes. Not here: what they do (`world`).
//!
//! Invariant: every value of every field means something; a socket or key is taken modulo how many
//! there are, so that most operations meet. Inputs of before the dmsg dialect mean what they meant.

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::hostile::Wrong;

/// One input.
#[derive(Arbitrary, Debug)]
pub(super) struct Input {
    pub(super) operations: Vec<Step>,
    pub(super) setting: Setting,
}

/// What is the same through a run.
#[derive(Arbitrary, Debug)]
pub(super) struct Setting {
    pub(super) piece: u8,
    pub(super) handshakes_max: u8,
    pub(super) handshakes_source_max: u8,
    /// Local ports of each shard.
    pub(super) slice_ports: u8,
    /// Queues that one stream fills.
    pub(super) is_tight: bool,
    /// Whether whoever connects to the dmsg listener may say where it comes from.
    pub(super) believes_all: bool,
}

/// One thing that happens, of one kind or the other.
#[derive(Debug)]
pub(super) enum Step {
    Common(Operation),
    Dmsg(DmsgOperation),
}

impl<'a> Arbitrary<'a> for Step {
    /// Takes the kind from the first byte, which is the least of the number that an [`Operation`] is made of
    /// and says nothing there.
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        if u.peek_bytes(1) == Some(&[DMSG]) {
            u.bytes(1)?;
            DmsgOperation::arbitrary(u).map(Self::Dmsg)
        } else {
            Operation::arbitrary(u).map(Self::Common)
        }
    }
}

/// First byte of a [`DmsgOperation`]: none that many inputs of before it have there.
const DMSG: u8 = 0xd5;

/// One thing that happens to a relay.
#[derive(Arbitrary, Debug)]
pub(super) enum Operation {
    /// A connection of an honest peer.
    Accept {
        socket: u8,
        key: u8,
    },
    /// A connection of a peer that keeps the handshake and nothing else.
    AcceptHostile {
        socket: u8,
        key: u8,
    },
    /// A connection that says only what `Raw` makes it say.
    AcceptStranger {
        socket: u8,
    },
    /// A hostile peer answers the request that reached it last.
    Answer {
        socket: u8,
        reason_code: u16,
        has_hash: bool,
        is_signed: bool,
    },
    /// The kernel knows what became of a connect of the relay.
    ConnectOutcome {
        which: u8,
        outcome: u8,
    },
    /// Somebody asks the relay for a connection.
    Dial {
        shard: bool,
        is_v6: bool,
    },
    Drain {
        shard: bool,
    },
    Eof {
        socket: u8,
    },
    Error {
        socket: u8,
    },
    FailSend {
        socket: u8,
    },
    Finish {
        socket: u8,
        which: u8,
    },
    /// A header without care for what was before it.
    Frame {
        socket: u8,
        kind: u8,
        flags: u8,
        stream: u8,
        length: u32,
    },
    /// Who asked for a connection gives it up.
    HangUp {
        which: u8,
    },
    /// Closes and cancelled connects of a shard complete late.
    HoldCloses {
        shard: bool,
        is_held: bool,
    },
    /// The service executor of a shard falls behind; it catches up newest first.
    HoldJobs {
        shard: bool,
        is_held: bool,
    },
    /// Messages to a shard arrive late.
    HoldMail {
        shard: bool,
        is_held: bool,
    },
    HoldSends {
        socket: u8,
        is_held: bool,
    },
    Kick {
        key: u8,
    },
    Open {
        socket: u8,
        key: u8,
        port: u8,
    },
    Ping {
        socket: u8,
    },
    Raw {
        socket: u8,
        bytes: Vec<u8>,
    },
    /// A hostile peer asks for a stream.
    Request {
        socket: u8,
        key: u8,
        stream: u8,
        wrong: Wrong,
    },
    /// The receive memory of a shard runs short.
    Relieve {
        shard: bool,
    },
    Reset {
        socket: u8,
        which: u8,
    },
    ShortSends {
        socket: u8,
        bytes: u16,
    },
    Shutdown {
        shard: bool,
    },
    Tick {
        ms: u16,
    },
    /// Time moves to the next deadline of a shard.
    TickToDeadline {
        shard: bool,
    },
    Write {
        socket: u8,
        which: u8,
        bytes: u16,
    },
}

/// One thing that happens to a relay for the dmsg dialect's sake. What connections of both dialects do is in
/// [`Operation`].
#[derive(Arbitrary, Debug)]
pub(super) enum DmsgOperation {
    /// A connection of an honest peer.
    Accept { socket: u8, key: u8 },
    /// A connection of a peer that keeps the handshake and nothing else.
    AcceptHostile { socket: u8, key: u8 },
    /// A connection of an honest peer behind a proxy that says where it comes from.
    AcceptProxied { socket: u8, key: u8, place: u8 },
    /// A connection that says only what `Raw` makes it say.
    AcceptStranger { socket: u8 },
    /// A hostile peer says that it is a server.
    Announce { socket: u8, stream: u8 },
    /// A hostile peer asks where it comes from.
    AskAddress {
        socket: u8,
        stream: u8,
        /// The relay, or somebody else who could not say.
        is_of_relay: bool,
        wants_place: bool,
    },
    /// A hostile peer asks for a stream with bytes of any kind.
    Object {
        socket: u8,
        stream: u8,
        plain: Vec<u8>,
    },
    /// An honest peer opens what would be a key of the other dialect if that were spelled as one of its own.
    OpenAcross { socket: u8, key: u8, port: u8 },
    /// A hostile peer sends its last object again.
    Replay { socket: u8, stream: u8 },
    /// A hostile peer asks for a stream, with one byte of its request changed.
    RequestDamaged {
        socket: u8,
        key: u8,
        stream: u8,
        at: u16,
        xor: u8,
        is_signed: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structured;

    /// The kind of an [`Operation`] is the upper part of the number that its bytes begin with.
    fn input(first: [u8; 4]) -> Option<Input> {
        structured([&[1], &first[..], &[3, 2, 0], &[9, 8, 7]].concat().leak())
    }

    #[test]
    fn operations_of_before_the_dmsg_dialect_mean_what_they_meant() {
        let first = input([0, 0, 0, 0]).unwrap();
        assert!(matches!(
            first.operations[..],
            [Step::Common(Operation::Accept { socket: 3, key: 2 })]
        ));
        assert_eq!((first.setting.piece, first.setting.handshakes_max), (9, 8));
        assert!(!first.setting.believes_all);
        let last = input([0xff; 4]).unwrap();
        assert!(matches!(
            last.operations[0],
            Step::Common(Operation::Write { socket: 3, .. })
        ));
        let other = input([DMSG, 0, 0, 0]).unwrap();
        assert!(matches!(
            other.operations[0],
            Step::Dmsg(DmsgOperation::Accept { .. })
        ));
    }
}
