//! State machine of one stream.
//!
//! Here: which phase a stream is in and what an event does to it. Not here: windows, bytes, ids.
//!
//! ```text
//!   local SYN                         remote SYN
//!       |                                 |
//!   +---v-----+       RemoteAck       +---v-----+
//!   | Opening |--------.     .--------| Offered |
//!   +-+---+---+        |     |        +---+---+-+
//!     |   |          +-v-----v-+ LocalAck |   |
//!     |   | RemoteFin|  Open   |          |   | RemoteFin
//!     |   |          +--+---+--+          |   |
//!     |   |   LocalFin  |   | RemoteFin   |   |
//!     |   |   +---------v-+ |             |   |
//!     |   |   |LocalClosed| |             |   |
//!     |   |   +---------+-+ |             |   |
//!     |   |   RemoteFin |   |             |   |
//!     |   |             | +-v-----------+ |   |
//!     |   '-------------|->RemoteClosed <-'   |   (acknowledging from here is still possible)
//!     |                 | +-+-----------+     |
//!     |                 |   | LocalFin        |
//!     |               +-v---v--+              |
//!     '---- Rst ------> Closed <--- Rst ------'   (Rst leads here from every state)
//!                     +--------+
//! ```
//!
//! The table is total. `-` is [`Action::Ignore`], `!` is [`Action::Reset`]: the stream broke the
//! rules and is reset; `ok` is [`Action::Proceed`]; `=` keeps the state.
//!
//! ```text
//! | state \ event | LocalAck | LocalFin | RemoteAck | RemoteData | RemoteFin | Rst |
//! |---|---|---|---|---|---|---|
//! | Opening | = ! | = ! | Open ok | Open ok | RemoteClosed ok | Closed ok |
//! | Offered | Open ok | = ! | = - | = ok | RemoteClosed ok | Closed ok |
//! | Open | = - | LocalClosed ok | = - | = ok | RemoteClosed ok | Closed ok |
//! | LocalClosed | = - | = - | = - | = ok | Closed ok | Closed ok |
//! | RemoteClosed | = - | Closed ok | = - | Closed ! | = - | Closed ok |
//! | Closed | = - | = - | = - | = - | = - | = - |
//! ```
//!
//! Local events that the table answers with `!` are refused to the caller and change nothing.
//! A late acknowledgement is ignored because data and FIN acknowledge a stream as well.

use core::fmt;

/// Names a stream within its session.
///
/// The connecting side uses odd numbers, the accepting side even ones; a number is never reused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(u32);

impl StreamId {
    /// Wraps a stream id as it stands in a frame header.
    #[must_use]
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// Returns the number that stands in a frame header.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Phase of a stream; see the diagram in the module's documentation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// We sent the SYN and wait for the first answer.
    Opening,
    /// The remote side sent the SYN and we have not acknowledged it.
    Offered,
    /// Both directions carry data.
    Open,
    /// We finished; the remote side may still send.
    LocalClosed,
    /// The remote side finished; we may still send.
    RemoteClosed,
    /// Nothing more will come or go.
    Closed,
}

/// What happens to a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StateEvent {
    /// We acknowledge the remote SYN.
    LocalAck,
    /// We finish our direction.
    LocalFin,
    /// The remote side acknowledged our SYN.
    RemoteAck,
    /// A Data frame with at least one byte.
    RemoteData,
    /// A frame with FIN.
    RemoteFin,
    /// Either side resets the stream.
    Rst,
}

/// What to do about an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The event is in order.
    Proceed,
    /// The event comes late or twice and means nothing.
    Ignore,
    /// The event breaks the rules: refuse the local caller, or reset the stream of a remote one.
    Reset,
}

impl State {
    /// Returns the next state and what to do.
    #[must_use]
    pub const fn on(self, event: StateEvent) -> (Self, Action) {
        use StateEvent as E;
        match (self, event) {
            (Self::Closed, _) => (Self::Closed, Action::Ignore),
            (_, E::Rst) => (Self::Closed, Action::Proceed),

            (Self::Opening, E::RemoteAck | E::RemoteData) => (Self::Open, Action::Proceed),
            (Self::Opening, E::LocalAck | E::LocalFin) => (self, Action::Reset),

            (Self::Offered, E::LocalAck) => (Self::Open, Action::Proceed),
            (Self::Offered, E::LocalFin) => (self, Action::Reset),

            (Self::Open, E::LocalFin) => (Self::LocalClosed, Action::Proceed),
            (Self::LocalClosed, E::RemoteFin) => (Self::Closed, Action::Proceed),
            (Self::RemoteClosed, E::LocalFin) => (Self::Closed, Action::Proceed),
            (Self::RemoteClosed, E::RemoteData) => (Self::Closed, Action::Reset),

            (Self::Opening | Self::Offered | Self::Open, E::RemoteFin) => {
                (Self::RemoteClosed, Action::Proceed)
            }
            (Self::Offered | Self::Open | Self::LocalClosed, E::RemoteData) => {
                (self, Action::Proceed)
            }
            (
                Self::Offered | Self::Open | Self::LocalClosed | Self::RemoteClosed,
                E::LocalAck | E::LocalFin | E::RemoteAck | E::RemoteFin,
            ) => (self, Action::Ignore),
        }
    }

    /// Whether the application may write and finish.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::Open | Self::RemoteClosed)
    }

    /// Whether the remote side has finished.
    #[must_use]
    pub const fn is_remote_closed(self) -> bool {
        matches!(self, Self::RemoteClosed | Self::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::Action::{Ignore, Proceed, Reset};
    use super::State::{Closed, LocalClosed, Offered, Open, Opening, RemoteClosed};
    use super::StateEvent::{LocalAck, LocalFin, RemoteAck, RemoteData, RemoteFin, Rst};

    #[test]
    fn machine_is_the_table_of_its_documentation() {
        let events = [LocalAck, LocalFin, RemoteAck, RemoteData, RemoteFin, Rst];
        let table = [
            (
                Opening,
                [
                    (Opening, Reset),
                    (Opening, Reset),
                    (Open, Proceed),
                    (Open, Proceed),
                    (RemoteClosed, Proceed),
                    (Closed, Proceed),
                ],
            ),
            (
                Offered,
                [
                    (Open, Proceed),
                    (Offered, Reset),
                    (Offered, Ignore),
                    (Offered, Proceed),
                    (RemoteClosed, Proceed),
                    (Closed, Proceed),
                ],
            ),
            (
                Open,
                [
                    (Open, Ignore),
                    (LocalClosed, Proceed),
                    (Open, Ignore),
                    (Open, Proceed),
                    (RemoteClosed, Proceed),
                    (Closed, Proceed),
                ],
            ),
            (
                LocalClosed,
                [
                    (LocalClosed, Ignore),
                    (LocalClosed, Ignore),
                    (LocalClosed, Ignore),
                    (LocalClosed, Proceed),
                    (Closed, Proceed),
                    (Closed, Proceed),
                ],
            ),
            (
                RemoteClosed,
                [
                    (RemoteClosed, Ignore),
                    (Closed, Proceed),
                    (RemoteClosed, Ignore),
                    (Closed, Reset),
                    (RemoteClosed, Ignore),
                    (Closed, Proceed),
                ],
            ),
            (Closed, [(Closed, Ignore); 6]),
        ];
        for (state, row) in table {
            for (event, expected) in events.into_iter().zip(row) {
                assert_eq!(state.on(event), expected, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn simultaneous_finish_closes_in_either_order() {
        for order in [[LocalFin, RemoteFin], [RemoteFin, LocalFin]] {
            let end = order
                .into_iter()
                .fold(Open, |state, event| state.on(event).0);
            assert_eq!(end, Closed);
        }
    }
}
