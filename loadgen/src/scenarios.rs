//! Scenarios: phases, groups and asserts in a file, carried out as a whole.
//!
//! A scenario answers a question. Its groups run side by side, each with threads and rings of its own, over
//! phases that follow each other on one clock; what they measure is kept by phase, and asserts say what must
//! hold.
//!
//! Here: the parts and the files that come with the program. Not here: what one group does (`run`).

pub use self::file::{Action, Netns, Phase, ScenarioFile, Start};
pub use self::group::{GroupFile, Kind, TargetName, Targets};
pub use self::judge::ScopedAssert;
pub use self::play::{PlayError, Told, play};
pub use self::played::{GroupPlayed, PhaseSum, Played};
pub use self::show::{document, table};

mod file;
mod group;
mod judge;
mod play;
mod played;
mod show;

/// The scenarios that come with the program: name and text.
pub const BUILT_IN: [(&str, &str); 20] = [
    ("churn", include_str!("../scenarios/churn.toml")),
    (
        "close-styles",
        include_str!("../scenarios/close-styles.toml"),
    ),
    ("drain", include_str!("../scenarios/drain.toml")),
    ("evict", include_str!("../scenarios/evict.toml")),
    ("half-close", include_str!("../scenarios/half-close.toml")),
    ("half-open", include_str!("../scenarios/half-open.toml")),
    (
        "handshake-flood",
        include_str!("../scenarios/handshake-flood.toml"),
    ),
    ("idle-hold", include_str!("../scenarios/idle-hold.toml")),
    (
        "mesh-forward",
        include_str!("../scenarios/mesh-forward.toml"),
    ),
    (
        "near-full-range",
        include_str!("../scenarios/near-full-range.toml"),
    ),
    (
        "one-destination",
        include_str!("../scenarios/one-destination.toml"),
    ),
    (
        "port-exhaustion",
        include_str!("../scenarios/port-exhaustion.toml"),
    ),
    ("ramp", include_str!("../scenarios/ramp.toml")),
    (
        "session-death",
        include_str!("../scenarios/session-death.toml"),
    ),
    ("setup-flood", include_str!("../scenarios/setup-flood.toml")),
    ("slow-reader", include_str!("../scenarios/slow-reader.toml")),
    ("slowloris", include_str!("../scenarios/slowloris.toml")),
    ("steady", include_str!("../scenarios/steady.toml")),
    ("storm", include_str!("../scenarios/storm.toml")),
    (
        "two-destinations",
        include_str!("../scenarios/two-destinations.toml"),
    ),
];

/// Returns the text of a scenario that comes with the program.
#[must_use]
pub fn built_in(name: &str) -> Option<&'static str> {
    let found = BUILT_IN.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text)
}
