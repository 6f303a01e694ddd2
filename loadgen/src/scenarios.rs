//! Scenarios: phases, groups and asserts in a file, carried out as a whole.
//!
//! A scenario answers a question. Its groups run side by side, each with threads and rings of its own, over
//! phases that follow each other on one clock; what they measure is kept by phase, and asserts say what must
//! hold.
//!
//! Here: the parts and the files that come with the program. Not here: what one group does (`run`).

pub use self::file::{Action, Netns, Phase, ScenarioFile};
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
pub const BUILT_IN: [(&str, &str); 1] = [("steady", include_str!("../scenarios/steady.toml"))];

/// Returns the text of a scenario that comes with the program.
#[must_use]
pub fn built_in(name: &str) -> Option<&'static str> {
    let found = BUILT_IN.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text)
}
