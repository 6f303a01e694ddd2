//! A scenario as a TOML file has it.
//!
//! Here: reading, overrides (`--set`), what is wrong with a file. Not here: plans (`scenarios::group`),
//! asserts as values (`assert`).
//!
//! A file opens with the question it answers and what failure looks like, then come asserts, phases, groups.
//! Every key that means nothing to its group is an error, so that a slip of the pen is not a default.
//!
//! The dialect is one key for all groups, or one of a group; without it the relay's key decides.

use std::time::Duration;

use serde::Deserialize;
use toml::Table;

use super::group::{GroupFile, Kind, word};
use super::judge::ScopedAssert;
use crate::plan::DialectName;

/// A scenario.
#[derive(Debug, Clone)]
pub struct ScenarioFile {
    /// Its name: that of the file.
    pub name: String,
    /// The question it answers.
    pub question: String,
    /// What it looks like when the answer is a bad one.
    pub failure: String,
    /// Decides random times.
    pub seed: u64,
    /// Time under load that does not count, before the first phase.
    pub warmup: Duration,
    /// Lag of the schedule that makes its times untrustworthy, in percent of the median response.
    pub lag_percent_max: u32,
    /// What must hold.
    pub asserts: Vec<ScopedAssert>,
    /// One after the other.
    pub phases: Vec<Phase>,
    /// Side by side.
    pub groups: Vec<GroupFile>,
    /// The network namespace it is made for.
    pub netns: Option<Netns>,
    /// How the servers are started that it is given with `--start`.
    pub start: Start,
}

/// A part of the time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it is.
    #[serde(deserialize_with = "time")]
    pub time: Duration,
    /// What is done to the server when it begins.
    pub action: Option<Action>,
}

/// What is done to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is asked to end (SIGTERM), and drains.
    Drain,
}

/// A private network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Netns {
    /// Its range of ephemeral ports, `FIRST-LAST`.
    pub ports: String,
    /// Its `net.ipv4.tcp_tw_reuse`; 0 does on loopback what happens between two hosts.
    pub tw_reuse: Option<u8>,
}

/// How servers are started for a scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Settings of the relays, as `ringway serve --set` takes them.
    #[serde(default)]
    pub set: Vec<String>,
    /// The relays keep links with each other.
    #[serde(default)]
    pub linked: bool,
    /// Numbers of the null servers that end each connection as soon as it stands.
    #[serde(default)]
    pub closing: Vec<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    question: String,
    failure: String,
    #[serde(default = "one")]
    seed: u64,
    #[serde(default = "second", deserialize_with = "time")]
    warmup: Duration,
    #[serde(default = "quarter")]
    lag_max: u32,
    #[serde(default, deserialize_with = "word")]
    dialect: Option<DialectName>,
    #[serde(default)]
    asserts: Vec<String>,
    phase: Vec<Phase>,
    group: Vec<Table>,
    netns: Option<Netns>,
    #[serde(default)]
    start: Start,
}

/// Most phases, and most groups: each group has a thread and a ring at least.
const PARTS_MAX: usize = 64;

impl ScenarioFile {
    /// Reads a file; `sets` are overrides: `GROUP.KEY=VALUE`, `PHASE.time=TIME`, `dialect=NAME`,
    /// `seed=NUMBER`.
    ///
    /// # Errors
    /// Everything that is wrong, a sentence each; the name of the scenario stands in front.
    pub fn read(name: &str, text: &str, sets: &[String]) -> Result<Self, Vec<String>> {
        let mut table: Table =
            toml::from_str(text).map_err(|error| vec![format!("{name}: {error}")])?;
        for set in sets {
            apply(&mut table, set).map_err(|why| vec![format!("--set {set}: {why}")])?;
        }
        let file: File = table
            .try_into()
            .map_err(|error: toml::de::Error| vec![format!("{name}: {}", error.message())])?;
        let mut wrong = Vec::new();
        let mut groups = Vec::new();
        for table in file.group {
            match GroupFile::read(table, file.dialect) {
                Ok(group) => groups.push(group),
                Err(why) => wrong.push(why),
            }
        }
        let mut asserts = Vec::new();
        for text in &file.asserts {
            match text.parse::<ScopedAssert>() {
                Ok(assert) => asserts.push(assert),
                Err(why) => wrong.push(why),
            }
        }
        let scenario = Self {
            name: name.to_owned(),
            question: file.question,
            failure: file.failure,
            seed: file.seed,
            warmup: file.warmup,
            lag_percent_max: file.lag_max,
            asserts,
            phases: file.phase,
            groups,
            netns: file.netns,
            start: file.start,
        };
        if wrong.is_empty() {
            wrong.extend(scenario.wrong());
        }
        if wrong.is_empty() {
            return Ok(scenario);
        }
        Err(wrong
            .into_iter()
            .map(|why| format!("{name}: {why}"))
            .collect())
    }

    /// Makes every time so many times as long.
    pub fn scale(&mut self, factor: f64) {
        self.warmup = self.warmup.mul_f64(factor);
        for phase in &mut self.phases {
            phase.time = phase.time.mul_f64(factor);
        }
    }

    /// Returns whether a relay is loaded.
    #[must_use]
    pub fn needs_relay(&self) -> bool {
        self.groups.iter().any(|group| !group.target.is_tcp)
    }

    /// Returns whether a relay is loaded in the dmsg dialect.
    #[must_use]
    pub fn needs_dmsg(&self) -> bool {
        let mut groups = self.groups.iter();
        groups.any(|group| group.dialect == Some(DialectName::Dmsg))
    }

    /// Returns whether any TCP server is loaded.
    #[must_use]
    pub fn needs_tcp(&self) -> bool {
        self.groups.iter().any(|group| group.target.is_tcp)
    }

    /// Returns the phases of a group: number of the first, and one behind the last.
    #[must_use]
    pub fn span(&self, group: &GroupFile) -> (usize, usize) {
        let place = |name: &String| self.phases.iter().position(|phase| phase.name == *name);
        match group.phases.as_deref() {
            None => (0, self.phases.len()),
            Some(names) => {
                let first = names.first().and_then(place).unwrap_or(0);
                (first, first + names.len())
            }
        }
    }

    /// Returns what is wrong with the parts taken together.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.phases.is_empty() || self.groups.is_empty() {
            wrong.push("it has no [[phase]], or no [[group]]".to_owned());
        }
        if self.phases.len() > PARTS_MAX || self.groups.len() > PARTS_MAX {
            wrong.push(format!("more than {PARTS_MAX} phases or groups"));
        }
        for text in [&self.question, &self.failure] {
            if text.trim().is_empty() {
                wrong.push("'question' and 'failure' say what the scenario is for".to_owned());
            }
        }
        let mut names: Vec<&str> = self
            .phases
            .iter()
            .map(|phase| phase.name.as_str())
            .collect();
        names.extend(self.groups.iter().map(|group| group.name.as_str()));
        for (place, name) in names.iter().enumerate() {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if name.is_empty() || !name.chars().all(is_word) {
                wrong.push(format!("'{name}' is no name: letters, digits and '-'"));
            }
            if names[..place].contains(name) {
                wrong.push(format!("the name '{name}' is there twice"));
            }
        }
        for phase in &self.phases {
            if phase.time.is_zero() {
                wrong.push(format!("phase '{}' takes no time", phase.name));
            }
        }
        for group in &self.groups {
            let (first, last) = self.span(group);
            let own = self.phases.get(first..last).unwrap_or_default();
            let own: Vec<&String> = own.iter().map(|phase| &phase.name).collect();
            if let Some(named) = &group.phases
                && (named.is_empty() || own != named.iter().collect::<Vec<_>>())
            {
                wrong.push(format!(
                    "group '{}': its phases are not phases of the scenario that follow each other",
                    group.name
                ));
            }
        }
        wrong.extend(self.asserts.iter().filter_map(|assert| assert.wrong(self)));
        wrong
    }
}

/// Puts an override into the tables.
fn apply(table: &mut Table, set: &str) -> Result<(), String> {
    let (path, value) = set
        .split_once('=')
        .ok_or("write KEY=VALUE or GROUP.KEY=VALUE")?;
    let value = value.trim();
    // Words need no quotes.
    let value = toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let Some((part, key)) = path.trim().split_once('.') else {
        if !matches!(path.trim(), "dialect" | "lag_max" | "seed" | "warmup") {
            return Err(
                "only dialect, lag_max, seed and warmup stand alone: write GROUP.KEY=VALUE".into(),
            );
        }
        table.insert(path.trim().to_owned(), value);
        return Ok(());
    };
    for list in ["group", "phase"] {
        let entries = table.get_mut(list).and_then(toml::Value::as_array_mut);
        let mut entries = entries
            .into_iter()
            .flatten()
            .filter_map(toml::Value::as_table_mut);
        let is_it =
            |entry: &&mut Table| entry.get("name").and_then(toml::Value::as_str) == Some(part);
        if let Some(entry) = entries.find(is_it) {
            entry.insert(key.to_owned(), value);
            return Ok(());
        }
    }
    Err(format!("no group or phase is called '{part}'"))
}

const fn one() -> u64 {
    1
}

const fn quarter() -> u32 {
    25
}

const fn second() -> Duration {
    Duration::from_secs(1)
}

/// Reads `5s`.
pub(super) fn time<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text)
        .map_err(|error| serde::de::Error::custom(format!("'{text}' is no time: {error}")))
}

/// Returns the kinds of groups, for a text.
pub(super) fn kinds() -> String {
    Kind::ALL.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
mod tests;
