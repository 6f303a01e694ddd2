//! Profiles: which settings a host gets, as formulas of the target.
//!
//! Here: the profiles that are compiled in, whose base is taken over, how one becomes a [`Tuning`]. Not here:
//! the file's syntax (`file`), formulas (`formula`), what the kernel accepts (`bounds`), contradictions
//! (`contradictions`).
//!
//! Invariant: a profile and a target give the same settings on every host.

mod bounds;
mod contradictions;
mod file;
mod formula;

use std::fs;
use std::path::Path;

use serde::Deserialize;
use thiserror::Error;

use crate::check::Target;
use crate::parse;

use file::Draft;
use formula::Formula;

/// The profiles that are compiled in, by name.
pub const PROFILES: [(&str, &str); 4] = [
    ("connections", include_str!("../profiles/connections.toml")),
    ("container", include_str!("../profiles/container.toml")),
    ("latency", include_str!("../profiles/latency.toml")),
    ("throughput", include_str!("../profiles/throughput.toml")),
];

/// What is wrong with a profile, alone or for a target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the profile {profile} cannot be used:\n  {}", problems.join("\n  "))]
pub struct ProfileError {
    /// Name or file of the profile.
    pub profile: String,
    /// Everything that is wrong, each with what was expected.
    pub problems: Vec<String>,
}

/// For whom the settings of a profile are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Surface {
    /// A container with a network namespace of its own.
    Container,
    /// A host, or a virtual one.
    Host,
}

/// Which part of the host a setting belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Network cards, processors and pages: set by the script.
    Device,
    /// A resource limit, for login sessions and for the unit.
    Limit,
    /// A value below `/proc/sys`.
    Sysctl,
    /// A line of the relay's unit.
    Unit,
}

/// What holds between the value of the host and that of the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The host's value may be greater; numbers of a list are compared one by one.
    AtLeast,
    /// The host's value may be smaller.
    AtMost,
    /// The host has just this value.
    Exactly,
    /// The host's list has these words, among others.
    With,
}

impl Rule {
    /// Returns the words that stand before a value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::AtLeast => "at least",
            Self::AtMost => "at most",
            Self::Exactly => "exactly",
            Self::With => "with",
        }
    }
}

/// When a setting is needed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum When {
    /// The relay listens within the ports for outgoing connections.
    ListenPortInRange,
}

/// A setting with the value that a target needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Which part of the host it belongs to.
    pub kind: Kind,
    /// What the kernel, systemd or the script calls it.
    pub name: String,
    /// What holds between this value and the host's.
    pub rule: Rule,
    /// The value, as it is written to the file.
    pub value: String,
    /// Unit of the value, or what its numbers mean.
    pub unit: String,
    /// What it is needed for.
    pub reason: String,
    /// Where its meaning is documented.
    pub source: String,
    /// First version that has it, of Linux where nothing else is said.
    pub since: String,
    /// Why a file has this as a comment only; none where it is a line that holds.
    pub is_comment_because: Option<String>,
    /// What it means that a kernel has no such file.
    absent: Option<String>,
}

impl Setting {
    /// Returns why a kernel of this version (none: unknown) has no such file.
    pub(crate) fn absence(&self, kernel: Option<(u32, u32)>) -> String {
        if let Some(absent) = &self.absent {
            return absent.clone();
        }
        let version = kernel.map_or_else(crate::check::unknown, |(major, minor)| {
            format!("{major}.{minor}")
        });
        match (kernel, parse::release(&self.since)) {
            (Some(has), Some(first)) if has < first => format!(
                "this kernel is {version}, the setting came with {}",
                self.since
            ),
            _ => format!(
                "this kernel ({version}) does not show it: built without, in a module that is not loaded, or kept \
                 from this network namespace (the setting came with {})",
                self.since
            ),
        }
    }
}

/// What a profile means for a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// Name or file of the profile.
    pub profile: String,
    /// What the profile is for, a few words.
    pub summary: String,
    /// What it costs, a few words.
    pub trade: String,
    /// For whom it is.
    pub surface: Surface,
    /// The target the values are for.
    pub target: Target,
    /// The settings, in the order in which they are written.
    pub settings: Vec<Setting>,
}

/// A profile as it was read, before it is asked about a target.
#[derive(Debug, Clone)]
pub struct Profile {
    name: String,
    summary: String,
    trade: String,
    surface: Surface,
    drafts: Vec<Draft>,
}

impl Profile {
    /// Returns a profile that is compiled in, or reads the file of an operator's own: a name with a slash, or
    /// one that ends in `.toml`.
    ///
    /// # Errors
    ///
    /// With everything that is wrong in the file, or the names that there are.
    pub fn load(name: &str) -> Result<Self, ProfileError> {
        if let Some((name, text)) = PROFILES.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        let refuse = |problem: String| ProfileError {
            profile: name.to_owned(),
            problems: vec![problem],
        };
        if !name.contains('/') && !name.ends_with(".toml") {
            return Err(refuse(format!(
                "there is none of this name: expected {}, or a file (a path with a slash, or a name that ends in .toml)",
                names()
            )));
        }
        if name.contains(char::is_control) {
            return Err(refuse(
                "the name of the file has control characters, and goes into files".to_owned(),
            ));
        }
        let text = fs::read_to_string(Path::new(name))
            .map_err(|error| refuse(format!("the file cannot be read: {error}")))?;
        Self::parse(name, &text)
    }

    /// Returns what the target needs.
    ///
    /// # Errors
    ///
    /// With every value that the kernel would refuse and every two that contradict each other.
    pub fn tune(&self, target: &Target) -> Result<Tuning, ProfileError> {
        let is_needed = |draft: &&Draft| match draft.when {
            None => true,
            Some(When::ListenPortInRange) => self.is_listen_port_in_range(target),
        };
        let drafts: Vec<&Draft> = self.drafts.iter().filter(is_needed).collect();
        let settings: Vec<Setting> = drafts.iter().map(|draft| draft.setting(target)).collect();
        let mut problems = Vec::new();
        for (draft, setting) in drafts.iter().zip(&settings) {
            let place = draft.place.as_str();
            problems.extend(
                bounds::problem(setting).map(|text| format!("{place}: {}: {text}", setting.name)),
            );
        }
        problems.extend(contradictions::problems(&settings, target, self.surface));
        match problems.is_empty() {
            false => Err(self.error(problems)),
            true => Ok(Tuning {
                profile: self.name.clone(),
                summary: self.summary.clone(),
                trade: self.trade.clone(),
                surface: self.surface,
                target: target.clone(),
                settings,
            }),
        }
    }

    /// Reads a profile and the ones it begins with.
    fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let error = |problems| ProfileError {
            profile: name.to_owned(),
            problems,
        };
        let read = file::read(name, text).map_err(error)?;
        let base = match read.base.as_deref() {
            None => None,
            Some(base) => Some(base_of(name, base)?),
        };
        let surface = match (read.surface, &base) {
            (Some(surface), _) => surface,
            (None, Some(base)) => base.surface,
            (None, None) => {
                let text =
                    "surface: missing; expected \"host\" or \"container\", or a base that has it";
                return Err(error(vec![format!("{name}: {text}")]));
            }
        };
        let mut drafts = base.map_or_else(Vec::new, |base| base.drafts);
        for draft in read.drafts {
            let is_same = |other: &&mut Draft| other.is_same(&draft);
            match drafts.iter_mut().find(is_same) {
                Some(other) => *other = draft,
                None => drafts.push(draft),
            }
        }
        let problems: Vec<String> = match surface {
            Surface::Host => Vec::new(),
            Surface::Container => drafts
                .iter()
                .filter_map(Draft::problem_in_container)
                .collect(),
        };
        match problems.is_empty() {
            false => Err(error(problems)),
            true => Ok(Self {
                name: name.to_owned(),
                summary: read.summary,
                trade: read.trade,
                surface,
                drafts,
            }),
        }
    }

    /// Whether the port to listen on is one that an outgoing connection may take under this profile.
    fn is_listen_port_in_range(&self, target: &Target) -> bool {
        let range = self
            .drafts
            .iter()
            .find(|draft| draft.name == "net.ipv4.ip_local_port_range")
            .and_then(|draft| parse::port_range(&draft.formula.text(target)));
        range.is_some_and(|(first, last)| (first..=last).contains(&target.listen_port))
    }

    fn error(&self, problems: Vec<String>) -> ProfileError {
        ProfileError {
            profile: self.name.clone(),
            problems,
        }
    }
}

/// Returns the profile that `name` begins with: one of those compiled in, so there is no circle.
fn base_of(name: &str, base: &str) -> Result<Profile, ProfileError> {
    match PROFILES
        .iter()
        .find(|(known, _)| *known == base && *known != name)
    {
        Some((known, text)) => Profile::parse(known, text),
        None => Err(ProfileError {
            profile: name.to_owned(),
            problems: vec![format!("base: \"{base}\" is none of {}", names())],
        }),
    }
}

/// Returns the names of the profiles that are compiled in.
fn names() -> String {
    PROFILES.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
mod tests;
