//! Peers that are slow on purpose: the part of a plan that `slow-reader` and `slowloris` have.
//!
//! Here: counts, and the kinds of connections that never finish a handshake. Not here: what they do
//! (`worker::slow`, `worker::loiter`).

use serde::{Deserialize, Serialize};

/// Pairs whose receiving side stops reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    /// Slow pairs of every second window; 0 in other scenarios.
    pub pairs: u32,
    /// Streams of each slow pair.
    pub streams: u32,
    /// Windows: without, with, without, with slow pairs, and so on. The plan's duration is one window.
    pub windows: u32,
}

impl Default for Slow {
    fn default() -> Self {
        Self {
            pairs: 0,
            streams: 3,
            windows: 4,
        }
    }
}

/// What a connection does instead of finishing its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loiter {
    /// Says nothing.
    Silent,
    /// Sends one byte of message 1 a second.
    Trickle,
    /// Sends message 1 and nothing after it.
    Half,
}

impl Loiter {
    /// All kinds; connections take them in turn.
    pub const ALL: [Self; 3] = [Self::Silent, Self::Trickle, Self::Half];

    /// Returns the name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Trickle => "trickle",
            Self::Half => "half",
        }
    }

    /// Returns the kind of connection `index` of a thread, and its place in [`Loiter::ALL`].
    #[must_use]
    pub const fn of(index: usize) -> (Self, usize) {
        let place = index % Self::ALL.len();
        (Self::ALL[place], place)
    }
}
