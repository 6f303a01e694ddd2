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
//! A socket that is handed over moves out as if it were closed, and into a slot of the other ring; it is
//! closed here only after it stands there, so that it is never closed in between.
//!
//! The kernel frees a slot while it closes the socket, and may fill it again before it has reported
//! the close, or the end of the old socket's operations. Such a successor waits until the old socket
//! is quiet, so that whoever drives the ring sees for each slot: opened, anything, closed, opened.
//!
//! Invariant: `opened = closed + in use`; a slot has at most one receive and one send in flight. The
//! three numbers are kept apart from each other, so that a fault in one of them shows: `in use` follows
//! the phases, `opened` and `closed` count the calls.
//! Bound: [`SlotState`] a slot that was ever used; slots never used cost nothing here.

use super::accept::Via;
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
    Accepted(Via),
    /// A socket that another ring has accepted and handed over.
    HandedIn(Via),
    /// An outbound socket: number of its connect operation.
    Installed(u32),
}

/// Whether the user knows of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not before its peer's address is known, which the kernel was asked for.
    Asked,
    /// It was reported arrived, and is on its way to another ring.
    Handing,
    /// Not yet, or no more.
    Hidden,
    /// It was reported accepted or connected.
    Known,
    /// It was reported arrived; whether it stays is open.
    Undecided,
}

/// What kind of socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Accepted or connected.
    Network,
    /// One of a pair in this process; it sends only with a copy (`unix(7)` sockets refuse `MSG_ZEROCOPY`).
    Pair,
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
    pub(super) origin: Origin,
    /// How an accepted connection came in.
    pub(super) via: Via,
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
        origin: Origin::Network,
        via: Via {
            listener: 0,
            is_ipv6: false,
        },
        generation: 0,
    };

    /// Returns whether the old socket is closed and nothing of it is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_closed
            && !matches!(self.standing, Standing::Asked | Standing::Handing)
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
    /// As long as the highest slot ever used asks for, `capacity` at most.
    table: Vec<SlotState>,
    capacity: u32,
    opened: u64,
    closed: u64,
    /// Slots whose phase is not [`Phase::Free`].
    used: u32,
    /// Generation of a slot that is new to `table`: as high as that of any trimmed one.
    floor: u32,
}

impl Slots {
    /// Memory of one slot that was ever used.
    pub(super) const SLOT_BYTES: usize = size_of::<SlotState>();

    pub(super) const fn new(capacity: u32) -> Self {
        Self {
            table: Vec::new(),
            capacity,
            opened: 0,
            closed: 0,
            used: 0,
            floor: 0,
        }
    }

    /// Makes sure that the slot the kernel chose has a state; false when the table has no such slot.
    ///
    /// The state grows with use: a table as large as the host allows may have a million slots, of which
    /// a quiet relay uses ten.
    pub(super) fn reach(&mut self, slot: u32) -> bool {
        if slot >= self.capacity {
            return false;
        }
        let Ok(index) = usize::try_from(slot) else {
            return false;
        };
        if self.table.len() <= index {
            let generation = self.floor;
            let free = SlotState {
                generation,
                ..SlotState::FREE
            };
            self.table.resize(index + 1, free);
        }
        true
    }

    /// Gives back the memory of free slots behind the last one in use.
    pub(super) fn trim(&mut self) {
        while let Some(last) = self.table.pop_if(|state| state.phase == Phase::Free) {
            self.floor = self.floor.max(last.generation);
        }
        self.table.shrink_to_fit();
    }

    /// Moves a socket into a free slot.
    pub(super) fn occupy(&mut self, slot: u32) {
        self.opened += 1;
        let Some(state) = self.of_mut(slot) else {
            return;
        };
        let was_free = state.phase == Phase::Free;
        let generation = state.generation.wrapping_add(1);
        *state = SlotState {
            phase: Phase::Open,
            generation,
            ..SlotState::FREE
        };
        self.used += u32::from(was_free);
    }

    /// Moves the quiet socket out.
    pub(super) fn vacate(&mut self, slot: u32) -> Vacated {
        self.closed += 1;
        let Some(state) = self.of_mut(slot) else {
            return Vacated::default();
        };
        let result = Vacated {
            successor: state.successor,
            is_announced: matches!(state.standing, Standing::Known | Standing::Undecided),
            connect: state.connect,
        };
        let was_free = state.phase == Phase::Free;
        *state = SlotState {
            generation: state.generation,
            ..SlotState::FREE
        };
        self.used -= u32::from(!was_free);
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

    /// Returns the slots that hold a socket, those being closed included.
    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    pub(super) const fn capacity(&self) -> u32 {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `opened = closed + used`, and the slots in use by another count.
    fn books(slots: &Slots) -> (bool, usize) {
        let is_balanced = slots.opened() == slots.closed() + u64::from(slots.used());
        let held = slots
            .table
            .iter()
            .filter(|state| state.phase != Phase::Free)
            .count();
        (is_balanced, held)
    }

    #[test]
    fn books_balance_over_the_life_of_slots() {
        let mut slots = Slots::new(8);
        for slot in [0, 5, 2] {
            assert!(slots.reach(slot));
            slots.occupy(slot);
        }
        assert_eq!(books(&slots), (true, 3));
        slots.of_mut(5).unwrap().phase = Phase::Closing;
        assert_eq!(books(&slots), (true, 3), "a closing socket holds its slot");
        slots.vacate(5);
        assert_eq!((books(&slots), slots.used()), ((true, 2), 2));
    }

    #[test]
    fn slot_filled_twice_or_emptied_twice_breaks_the_law() {
        let mut slots = Slots::new(2);
        assert!(slots.reach(1));
        slots.occupy(1);
        slots.occupy(1);
        assert_eq!(books(&slots), (false, 1), "the first socket is lost");
        let mut slots = Slots::new(2);
        assert!(slots.reach(0));
        slots.occupy(0);
        slots.vacate(0);
        slots.vacate(0);
        assert_eq!((slots.opened(), slots.closed(), slots.used()), (1, 2, 0));
    }

    #[test]
    fn slot_that_was_trimmed_goes_on_with_its_generations() {
        let mut slots = Slots::new(64);
        for _ in 0..5 {
            assert!(slots.reach(40));
            slots.occupy(40);
            slots.vacate(40);
        }
        assert!(slots.reach(2));
        slots.occupy(2);
        slots.trim();
        assert_eq!(slots.table.capacity(), 3);
        assert!(slots.reach(40));
        slots.occupy(40);
        assert_eq!(slots.of(40).unwrap().generation, 6);
        assert_eq!(books(&slots), (true, 2));
    }

    #[test]
    fn table_grows_with_use_up_to_its_capacity() {
        let mut slots = Slots::new(1_000_000);
        assert_eq!(slots.table.capacity(), 0);
        assert!(slots.reach(9));
        assert_eq!((slots.table.len(), slots.capacity()), (10, 1_000_000));
        assert!(!slots.reach(1_000_000), "the kernel has no such slot");
        assert!(slots.of(1_000).is_none());
    }
}
