//! Flags, environment, file, deployment and defaults become one [`Config`], or a list of everything wrong.
//!
//! Here: precedence, unknown keys, checks across keys, the fence of a deployment. Not here: what a single
//! key accepts.
//!
//! Invariant: a problem in one value never hides a problem in another.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ringway_proto::limits::KEEPALIVE_MISSED_MAX;
use toml::Value;

use super::deployment::{self, Deployment};
use super::effective::{Effective, Resolved};
use super::file::{self, Document, Kind};
use super::keys::{KEYS, Key, key_of};
use super::origin::{Origin, Place};
use super::problems::{Problem, Problems};
use super::{Config, size_text};
use crate::failure::Failure;
use crate::local_ports;

/// Where settings come from, apart from the defaults.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Values from flags: the flag as the user wrote it, the key it sets, the text.
    pub(crate) flags: Vec<(String, String, String)>,
    /// The file.
    pub(crate) file: Option<PathBuf>,
    /// The file of the deployment; the environment may name one as well.
    pub(crate) deploy: Option<PathBuf>,
}

/// Joins all sources; `variable` looks up the environment.
///
/// # Errors
///
/// [`Failure::Host`] when a file cannot be read, [`Failure::Configuration`] with every problem of
/// every source; those of a deployment come first, for it decides what the others may say.
pub(crate) fn resolve(
    settings: &Settings,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Resolved, Failure> {
    let deployment = variable(deployment::VARIABLE);
    let deployment = Deployment::find(settings.deploy.as_deref(), deployment)?;
    let mut resolver = Resolver::new(deployment);
    if let Some(path) = &settings.file {
        resolver.file(path, &file::read(path, FILE)?);
    }
    for key in KEYS {
        let name = key.variable();
        if let Some(text) = variable(&name) {
            resolver.variable(name, key.path, &text);
        }
    }
    for (flag, key, text) in &settings.flags {
        resolver.set(Origin::Flag(flag.clone()), key, scalar(text));
    }
    resolver.finish().map_err(Failure::Configuration)
}

#[derive(Debug)]
struct Resolver {
    resolved: Resolved,
    problems: Vec<Problem>,
}

impl Resolver {
    fn new(deployment: Option<Deployment>) -> Self {
        let value = |key: &'static Key| Effective {
            value: key.default_value(),
            key,
            origin: Origin::Default,
            note: (key.path == "key_file").then_some("relay.key in the state directory"),
        };
        let said = deployment.as_ref().map(Deployment::values);
        let mut resolver = Self {
            resolved: Resolved {
                config: Config::default(),
                values: KEYS.iter().map(value).collect(),
                deployment,
            },
            problems: Vec::new(),
        };
        for (path, value, origin) in said.into_iter().flatten() {
            resolver.set(origin, path, value);
        }
        resolver
    }

    fn file(&mut self, path: &Path, bytes: &[u8]) {
        let path = path.display();
        match Document::of_toml(bytes) {
            Ok(document) => {
                for (key, value) in &document.leaves {
                    let place = Place::new(&path, document.line(key));
                    self.set(Origin::File(place), key, value.clone());
                }
            }
            Err(error) => {
                let place = Place::new(&path, None).to_string();
                self.problem(&place, "file", format!("no valid TOML: {error}"));
            }
        }
    }

    fn variable(&mut self, name: String, path: &str, value: &OsString) {
        match value.to_str() {
            Some(text) => self.set(Origin::Environment(name), path, scalar(text)),
            None => self.problem(&name, path, "is no UTF-8".to_owned()),
        }
    }

    fn set(&mut self, origin: Origin, path: &str, value: Value) {
        let Some(key) = key_of(path) else {
            self.problem(&origin.place(), path, unknown(path));
            return;
        };
        if let Err(error) = (key.apply)(&mut self.resolved.config, &value) {
            let text = format!("{error}; accepted: {}", key.accepts);
            self.problem(&origin.place(), path, text);
            return;
        }
        if let Err(error) = self.fence(path) {
            self.problem(&origin.place(), path, error);
            return;
        }
        let mut values = self.resolved.values.iter_mut();
        if let Some(one) = values.find(|one| one.key.path == path) {
            one.value = Some(value);
            one.origin = origin;
            one.note = None;
        }
    }

    /// Refuses what a value has just named outside of the deployment.
    fn fence(&self, path: &str) -> Result<(), String> {
        let Resolved {
            config, deployment, ..
        } = &self.resolved;
        match (deployment, path) {
            (Some(deployment), "mesh.relays") => {
                let mut relays = config.relays.iter();
                relays.try_for_each(|relay| deployment.admits(relay))
            }
            (Some(deployment), "mesh.allowed") => deployment.admits_keys(&config.allowed_relays),
            (Some(deployment), "mesh.registry") => deployment.admits_registry(&config.registry),
            _ => Ok(()),
        }
    }

    fn problem(&mut self, origin: &str, key: &str, text: String) {
        self.problems.push(Problem {
            origin: origin.to_owned(),
            key: key.to_owned(),
            text,
        });
    }

    fn finish(mut self) -> Result<Resolved, Problems> {
        self.check_pairs();
        self.fit_times();
        match self.problems.is_empty() {
            true => Ok(self.resolved),
            false => Err(Problems::of_configuration(self.problems)),
        }
    }

    /// Checks what no single key can know.
    fn check_pairs(&mut self) {
        let Config {
            listen,
            admin_listen,
            dmsg,
            shards,
            cores,
            port_range,
            session_queue_bytes_max,
            shard_queue_bytes_max,
            ..
        } = &self.resolved.config;
        let few = port_range.and_then(|range| {
            let own = [Some(*listen), *admin_listen, dmsg.listen];
            let own = own.into_iter().flatten();
            let ports = local_ports::without(range, own).len();
            let shards = shards.map_or(1, u32::from);
            (ports < shards).then_some((ports, shards))
        });
        let queues_clash = (u64::from(*session_queue_bytes_max) > *shard_queue_bytes_max)
            .then_some((*session_queue_bytes_max, *shard_queue_bytes_max));
        let is_clash = admin_listen.is_some_and(|admin| admin == *listen && listen.port() != 0);
        let is_dmsg_clash = dmsg.listen.is_some_and(|dmsg| {
            dmsg.port() != 0 && [Some(*listen), *admin_listen].contains(&Some(dmsg))
        });
        let count_clash = match (shards, cores) {
            (Some(shards), Some(cores)) if usize::from(*shards) != cores.len() => {
                Some((*shards, cores.len()))
            }
            _ => None,
        };
        let clash_text = is_clash
            .then(|| format!("is {listen} as listen is; accepted: another port, or \"off\""));
        if is_dmsg_clash {
            let text =
                "is an address that listen or admin.listen has; accepted: another port, or \"off\"";
            self.problem("with listen", "dmsg.listen", text.to_owned());
        }
        if let Some(text) = clash_text {
            self.problem("with listen", "admin.listen", text);
        }
        if let Some((ports, shards)) = few {
            let text = format!(
                "leaves {ports} ports for {shards} shards without the relay's own; accepted: one for each shard"
            );
            self.problem("with shards", "ports.range", text);
        }
        if let Some((shards, cores)) = count_clash {
            let text =
                format!("names {cores} for {shards} shards; accepted: one core for each shard");
            self.problem("with shards", "cores", text);
        }
        if let Some((session, shard)) = queues_clash {
            let (session, shard) = (size_text(session.into()), size_text(shard));
            let text = format!(
                "{session} for one session is more than the {shard} for all of them; accepted: at most \
                 limits.shard_queue"
            );
            self.problem("with limits.shard_queue", "limits.session_queue", text);
        }
    }

    /// Shortens a time that others leave no room for: the relay's pings are stuck behind a stuck send, so it
    /// has to be looked at before they count as missed.
    fn fit_times(&mut self) {
        let timeouts = &mut self.resolved.config.timeouts;
        let most = timeouts.keepalive * KEEPALIVE_MISSED_MAX;
        if timeouts.send_stall > most {
            timeouts.send_stall = most;
            let text = humantime::format_duration(most).to_string();
            let note = "held to three times limits.keepalive";
            self.resolved
                .replace("timeouts.send_stall", Value::String(text), note);
        }
    }
}

/// The configuration file, for the texts of its errors.
const FILE: Kind = Kind {
    name: "configuration",
    fix: "--config, or leave the flag out to start without one",
};

/// Returns the value that a flag's or variable's text stands for: a number where it is one.
fn scalar(text: &str) -> Value {
    text.parse()
        .map_or_else(|_| Value::String(text.to_owned()), Value::Integer)
}

fn unknown(path: &str) -> String {
    let nearest = KEYS
        .iter()
        .map(|key| (distance(path, key.path), key.path))
        .min()
        .filter(|(steps, _)| *steps <= 3);
    match nearest {
        Some((_, near)) => format!("is no key; did you mean {near}?"),
        None => {
            let known: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
            format!("is no key; the keys are {}", known.join(", "))
        }
    }
}

/// Returns how many letters must change, go or come to turn one text into the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        for (column, other) in right.iter().enumerate() {
            let above = row[column + 1];
            let here = (diagonal + usize::from(letter != *other))
                .min(above + 1)
                .min(before + 1);
            diagonal = above;
            row[column] = before;
            before = here;
        }
        row[right.len()] = before;
    }
    row[right.len()]
}

#[cfg(test)]
mod tests;
