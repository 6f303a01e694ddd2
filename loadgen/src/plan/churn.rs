//! How connections are killed: the part of a plan that only `churn` has.
//!
//! Here: the phases in which a connection may be killed, how it ends, cycles and rounds. Not here: the
//! killing (`worker::churn`), the rounds (`run::rounds`).
//!
//! Units: cycles; one cycle is a connection from connect to close.

use serde::{Deserialize, Serialize};

/// Cycles of connections that are made to be killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Churn {
    /// Cycles of the whole run; as many as fit in its duration if absent.
    pub cycles: Option<u64>,
    /// Rounds; between two of them everything is closed and the relay's books are compared.
    pub rounds: u32,
    /// Phases in which connections are killed, in turn.
    pub phases: Vec<KillPhase>,
    /// How they are killed.
    pub end: End,
}

impl Default for Churn {
    fn default() -> Self {
        Self {
            cycles: None,
            rounds: 1,
            phases: KillPhase::ALL.to_vec(),
            end: End::Rst,
        }
    }
}

/// Where in its life a connection is killed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum KillPhase {
    /// Connected; no byte was sent.
    #[default]
    Connected,
    /// Message 1 of the handshake is sent, message 3 is not.
    Handshake,
    /// Right behind message 3, with an open that did not wait for the verdict.
    Pipelined,
    /// The session stands and says nothing.
    Idle,
    /// Part of a Data frame is sent, on a bridged stream.
    MidFrame,
    /// Part of an open request is sent.
    MidOpen,
    /// A stream is bridged to another session; bytes went there and back.
    Bridged,
    /// Bridged, and one direction has ended: in turn the dialer's and the acceptor's.
    HalfClosed,
}

impl KillPhase {
    /// All phases, from the first byte to the last.
    pub const ALL: [Self; 8] = [
        Self::Connected,
        Self::Handshake,
        Self::Pipelined,
        Self::Idle,
        Self::MidFrame,
        Self::MidOpen,
        Self::Bridged,
        Self::HalfClosed,
    ];

    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Handshake => "handshake",
            Self::Pipelined => "pipelined",
            Self::Idle => "idle",
            Self::MidFrame => "mid-frame",
            Self::MidOpen => "mid-open",
            Self::Bridged => "bridged",
            Self::HalfClosed => "half-closed",
        }
    }

    /// Returns the place of the phase in [`KillPhase::ALL`].
    #[must_use]
    pub fn place(self) -> usize {
        let place = Self::ALL.iter().position(|other| *other == self);
        place.unwrap_or(0)
    }

    /// Returns whether the connection has a bridged stream by then.
    #[must_use]
    pub const fn is_bridged(self) -> bool {
        matches!(self, Self::MidFrame | Self::Bridged | Self::HalfClosed)
    }
}

/// How a connection is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum End {
    /// Reset, as when the process behind it is gone.
    Rst,
    /// FIN, as when an ordinary program closes its socket.
    Fin,
    /// Not by us: the server ends it first, and our end is the passive one (`connects` alone).
    Peer,
}

impl End {
    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rst => "rst",
            Self::Fin => "fin",
            Self::Peer => "peer",
        }
    }
}

/// Sessions of each thread that stand over the whole run and accept every open.
///
/// Four let resets of streams arrive on several sessions of a thread at once, and on both shards of a
/// small relay; each costs the relay one session. They are also how a run notices that the relay is gone.
pub const STANDING: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_its_own_name_and_place() {
        for (place, phase) in KillPhase::ALL.into_iter().enumerate() {
            assert_eq!(phase.place(), place);
            let same = KillPhase::ALL
                .iter()
                .filter(|other| other.name() == phase.name());
            assert_eq!(same.count(), 1);
        }
    }
}
