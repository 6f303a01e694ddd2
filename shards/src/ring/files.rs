//! The file table: what each slot of it holds, from the first completion to the last.
//!
//! Here: the life of a slot. Not here: requests (`op`), sockets' options (`socket`).
//!
//! ```text
//!         occupy                 close                    is_quiet
//!   free ---------> open --------------------> closing ---------------> free
//!                    ^                            |                       |
//!                    +--------- successor --------+-----------------------+
//! ```
//!
//! The kernel frees a slot while it closes the socket, and may fill it again before it has reported
//! the close, or the end of the old socket's operations. Such a successor waits until the old socket
//! is quiet, so that whoever drives the ring sees for each slot: opened, anything, closed, opened.
//!
//! Invariant: `opened = open + closed`; a slot has at most one receive and one send in flight.

use super::op::Kind;
use super::op::Tag;

/// Where a slot is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Close submitted. Not quiet before its completion and those of all operations.
    Closing,
    /// No socket.
    Free,
    /// A socket.
    Open,
}

/// The receive operation of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receive {
    /// In flight.
    Armed,
    /// Ended by the peer or by an error.
    Ended,
    /// Never started.
    Idle,
    /// Ended because there was no block; starts again when there is one.
    Starved,
}

/// Who took the slot while its previous socket was still closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Successor {
    /// An accepted socket.
    Accepted,
    /// An outbound socket: number of its connect operation.
    Installed(u32),
}

/// Whether the user knows of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not before its peer's address is known, which the kernel was asked for.
    Asked,
    /// Not yet.
    Hidden,
    /// It was reported accepted or connected.
    Known,
}

/// One slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotState {
    pub(super) phase: Phase,
    pub(super) receive: Receive,
    pub(super) standing: Standing,
    /// The close completed.
    pub(super) is_closed: bool,
    /// The cancels of a close were sent a second time.
    pub(super) is_chased: bool,
    pub(super) successor: Option<Successor>,
    /// The send in flight: number of its operation.
    pub(super) send: Option<u32>,
    /// The connect that the socket is for, until it is announced: number of its operation.
    pub(super) connect: Option<u32>,
    /// That operation is in flight.
    pub(super) is_connecting: bool,
    /// Incremented when a socket moves in.
    pub(super) generation: u32,
}

impl SlotState {
    const FREE: Self = Self {
        phase: Phase::Free,
        receive: Receive::Idle,
        standing: Standing::Hidden,
        is_closed: false,
        is_chased: false,
        successor: None,
        send: None,
        connect: None,
        is_connecting: false,
        generation: 0,
    };

    /// Returns whether the old socket is closed and nothing of it is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_closed
            && self.standing != Standing::Asked
            && self.receive != Receive::Armed
            && self.send.is_none()
            && !self.is_connecting
    }

    /// Returns the tags of the operations in flight. A socket that connects neither receives nor sends.
    pub(super) fn tags(&self, slot: u32) -> [Option<Tag>; 2] {
        let receive = (self.receive == Receive::Armed)
            .then(|| Tag::new(Kind::Receive, self.generation, slot));
        let send = self
            .send
            .map(|index| Tag::new(Kind::Send, self.generation, index));
        let connect = self
            .connect
            .filter(|_| self.is_connecting)
            .map(|index| Tag::new(Kind::Connect, self.generation, index));
        [receive.or(connect), send]
    }
}

/// What is left to say of a socket that has moved out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Vacated {
    /// Who waits for the slot.
    pub(super) successor: Option<Successor>,
    /// The user knew the socket.
    pub(super) is_announced: bool,
    /// The connect that failed.
    pub(super) connect: Option<u32>,
}

/// All slots of a ring.
#[derive(Debug)]
pub(super) struct Slots {
    table: Vec<SlotState>,
    opened: u64,
    closed: u64,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        let count = usize::try_from(count).unwrap_or(0);
        Self {
            table: vec![SlotState::FREE; count],
            opened: 0,
            closed: 0,
        }
    }

    /// Moves a socket into a free slot.
    pub(super) fn occupy(&mut self, slot: u32) {
        self.opened += 1;
        let Some(state) = self.of_mut(slot) else {
            return;
        };
        let generation = state.generation.wrapping_add(1);
        *state = SlotState {
            phase: Phase::Open,
            generation,
            ..SlotState::FREE
        };
    }

    /// Moves the quiet socket out.
    pub(super) fn vacate(&mut self, slot: u32) -> Vacated {
        self.closed += 1;
        let Some(state) = self.of_mut(slot) else {
            return Vacated::default();
        };
        let result = Vacated {
            successor: state.successor,
            is_announced: state.standing == Standing::Known,
            connect: state.connect,
        };
        *state = SlotState {
            generation: state.generation,
            ..SlotState::FREE
        };
        result
    }

    pub(super) fn of(&self, slot: u32) -> Option<&SlotState> {
        self.table.get(usize::try_from(slot).ok()?)
    }

    pub(super) fn of_mut(&mut self, slot: u32) -> Option<&mut SlotState> {
        self.table.get_mut(usize::try_from(slot).ok()?)
    }

    /// Returns the slots that are open.
    pub(super) fn open_slots(&self) -> impl Iterator<Item = u32> + '_ {
        let slots = 0..u32::try_from(self.table.len()).unwrap_or(u32::MAX);
        slots
            .zip(&self.table)
            .filter(|(_, state)| state.phase == Phase::Open)
            .map(|(slot, _)| slot)
    }

    /// Returns whether a receive is in flight anywhere.
    pub(super) fn is_receiving(&self) -> bool {
        self.table
            .iter()
            .any(|state| state.receive == Receive::Armed)
    }

    pub(super) const fn opened(&self) -> u64 {
        self.opened
    }

    pub(super) const fn closed(&self) -> u64 {
        self.closed
    }

    pub(super) fn capacity(&self) -> u32 {
        u32::try_from(self.table.len()).unwrap_or(u32::MAX)
    }
}
