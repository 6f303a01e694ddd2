//! When sessions die and come back: the part of a plan that only `storm` has.
//!
//! Here: the times. Not here: the storm (`worker::storm`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When sessions die, and how fast they want to be back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storm {
    /// Time over which they are due again, at random; 0 is all at once.
    pub spread: Duration,
    /// Time from one storm to the next; one in all if absent.
    pub every: Option<Duration>,
}
