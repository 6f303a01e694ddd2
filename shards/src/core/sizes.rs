//! The sizes of what a core keeps, for the sums of `memory`.
//!
//! Here: `size_of` of private types, read at compile time. Not here: how many there are of each.
//!
//! Units: bytes, without what an allocator adds.

use super::dial::Dial;
use super::egress::Egress;
use super::event::{Message, Registration};
use super::session::{Handshake, Live, Session};
use super::stream::{Opening, Piece, Stream};
use super::table::{IdTable, SlotTable};
use super::timers::Wheel;

/// Bytes of each thing that a core keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CoreSizes {
    /// A place in the session table.
    pub(crate) session: usize,
    /// An established session.
    pub(crate) live: usize,
    /// A connect under way.
    pub(crate) dial: usize,
    /// A handshake in progress, the state of the key exchange excepted.
    pub(crate) handshake: usize,
    /// A stream leg in its table.
    pub(crate) stream: usize,
    /// An open without an answer.
    pub(crate) opening: usize,
    /// A queued range of a stream.
    pub(crate) piece: usize,
    /// A place for a stream id.
    pub(crate) id_place: usize,
    /// What a session that sends needs.
    pub(crate) egress: usize,
    /// A timer.
    pub(crate) timer: usize,
    /// A message in a mailbox.
    pub(crate) message: usize,
    /// The value of a directory entry.
    pub(crate) registration: usize,
}

impl CoreSizes {
    /// Returns the sizes for leases of type `L`.
    pub(crate) const fn of<L>() -> Self {
        Self {
            session: size_of::<Session<L>>(),
            live: size_of::<Live>(),
            dial: SlotTable::<Dial>::ENTRY_BYTES,
            handshake: size_of::<Handshake<L>>(),
            stream: SlotTable::<Stream<L>>::ENTRY_BYTES,
            opening: size_of::<Opening>(),
            piece: size_of::<Piece<L>>(),
            id_place: IdTable::PLACE_BYTES,
            egress: size_of::<Egress<L>>(),
            timer: Wheel::ENTRY_BYTES,
            message: size_of::<Message<L>>(),
            registration: size_of::<Registration>(),
        }
    }
}
