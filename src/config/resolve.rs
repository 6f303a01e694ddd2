//! Flags, environment, file and defaults become one [`Config`], or a list of everything wrong.
//!
//! Here: precedence, unknown keys, checks across keys. Not here: what a single key accepts.
//!
//! Invariant: a problem in one value never hides a problem in another.

use std::fmt;
use std::path::{Path, PathBuf};

use ringway_proto::limits::KEEPALIVE_MISSED_MAX;
use thiserror::Error;
use toml::Value;

use super::keys::{KEYS, key_of};
use super::{Config, file, size_text};
use crate::failure::Failure;
use crate::local_ports;

/// Where settings come from, apart from the defaults.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Values from flags: the flag as the user wrote it, the key it sets, the text.
    pub(crate) flags: Vec<(String, String, String)>,
    /// The file.
    pub(crate) file: Option<PathBuf>,
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where the value stands.
    origin: String,
    /// The key.
    key: String,
    /// What is wrong, and what is accepted.
    text: String,
}

/// Everything wrong with the configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Problems(Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 {
            "problem"
        } else {
            "problems"
        };
        write!(f, "the configuration has {} {noun}", self.0.len())?;
        for Problem { origin, key, text } in &self.0 {
            write!(f, "\n  {key} ({origin}): {text}")?;
        }
        Ok(())
    }
}

/// Joins all sources; `variable` looks up the environment.
///
/// # Errors
///
/// [`Failure::Host`] when the file cannot be read, [`Failure::Configuration`] with every problem of
/// every source.
pub(crate) fn resolve(
    settings: &Settings,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Config, Failure> {
    let mut resolver = Resolver::default();
    if let Some(path) = &settings.file {
        resolver.file(path, &file::read(path)?);
    }
    for key in KEYS {
        let name = key.variable();
        if let Some(text) = variable(&name) {
            resolver.set(&name, key.path, &scalar(&text));
        }
    }
    for (flag, key, text) in &settings.flags {
        resolver.set(flag, key, &scalar(text));
    }
    resolver.finish().map_err(Failure::Configuration)
}

#[derive(Debug, Default)]
struct Resolver {
    config: Config,
    problems: Vec<Problem>,
}

impl Resolver {
    fn file(&mut self, path: &Path, bytes: &[u8]) {
        let name = path.display().to_string();
        match file::leaves(bytes) {
            Ok(leaves) => {
                for (key, value) in leaves {
                    self.set(&name, &key, &value);
                }
            }
            Err(error) => self.problem(&name, "file", format!("no valid TOML: {error}")),
        }
    }

    fn set(&mut self, origin: &str, path: &str, value: &Value) {
        let Some(key) = key_of(path) else {
            self.problem(origin, path, unknown(path));
            return;
        };
        if let Err(error) = (key.apply)(&mut self.config, value) {
            self.problem(origin, path, format!("{error}; accepted: {}", key.accepts));
        }
    }

    fn problem(&mut self, origin: &str, key: &str, text: String) {
        self.problems.push(Problem {
            origin: origin.to_owned(),
            key: key.to_owned(),
            text,
        });
    }

    fn finish(mut self) -> Result<Config, Problems> {
        self.check_pairs();
        self.fit_times();
        match self.problems.is_empty() {
            true => Ok(self.config),
            false => Err(Problems(self.problems)),
        }
    }

    /// Checks what no single key can know.
    fn check_pairs(&mut self) {
        let Config {
            listen,
            admin_listen,
            shards,
            cores,
            port_range,
            session_queue_bytes_max,
            shard_queue_bytes_max,
            ..
        } = &self.config;
        let few = port_range.and_then(|range| {
            let own = [Some(*listen), *admin_listen].into_iter().flatten();
            let ports = local_ports::without(range, own).len();
            let shards = shards.map_or(1, u32::from);
            (ports < shards).then_some((ports, shards))
        });
        let queues_clash = (u64::from(*session_queue_bytes_max) > *shard_queue_bytes_max)
            .then_some((*session_queue_bytes_max, *shard_queue_bytes_max));
        let is_clash = admin_listen.is_some_and(|admin| admin == *listen && listen.port() != 0);
        let count_clash = match (shards, cores) {
            (Some(shards), Some(cores)) if usize::from(*shards) != cores.len() => {
                Some((*shards, cores.len()))
            }
            _ => None,
        };
        if is_clash {
            let text = format!("is {listen} as listen is; accepted: another port, or \"off\"");
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
        let timeouts = &mut self.config.timeouts;
        let most = timeouts.keepalive * KEEPALIVE_MISSED_MAX;
        timeouts.send_stall = timeouts.send_stall.min(most);
    }
}

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
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn resolve_text(
        file: &str,
        env: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Result<Config, String> {
        let mut resolver = Resolver::default();
        resolver.file(Path::new("relay.toml"), file.as_bytes());
        let env: HashMap<&str, &str> = env.iter().copied().collect();
        for key in KEYS {
            if let Some(text) = env.get(key.variable().as_str()) {
                resolver.set(&key.variable(), key.path, &scalar(text));
            }
        }
        for (key, text) in flags {
            resolver.set("--flag", key, &scalar(text));
        }
        resolver.finish().map_err(|problems| problems.to_string())
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let file = "shards = 2\n[tcp]\nbacklog = 10\n[limits]\nstreams_max = 1";
        let env = [
            ("RINGWAY_TCP_BACKLOG", "20"),
            ("RINGWAY_LIMITS_STREAMS_MAX", "2"),
        ];
        let config = resolve_text(file, &env, &[("limits.streams_max", "3")]).unwrap();
        assert_eq!(config.shards, Some(2));
        assert_eq!(config.backlog, 20);
        assert_eq!(config.streams_max, 3);
        assert_eq!(config.listen, super::super::LISTEN_DEFAULT);
    }

    #[test]
    fn all_problems_are_reported_together() {
        let file = "lisen = \"x\"\nshards = 0\n[drain]\ntimeout = 5\n[bogus]\nx = 1";
        let env = [("RINGWAY_TCP_BACKLOG", "70000")];
        let error = resolve_text(file, &env, &[("cores", "0,0")]).unwrap_err();
        assert!(
            error.starts_with("the configuration has 6 problems\n"),
            "{error}"
        );
        for part in [
            "lisen (relay.toml): is no key; did you mean listen?",
            "shards (relay.toml): 0 is too small; accepted: \"auto\" or 1 to 256",
            "drain.timeout (relay.toml): 5 has no unit; write for example \"5s\"; accepted:",
            "bogus.x (relay.toml): is no key; the keys are listen, ",
            "tcp.backlog (RINGWAY_TCP_BACKLOG): 70000 is too large; accepted: 1 to 65535",
            "cores (--flag): core 0 stands there twice",
        ] {
            assert!(error.contains(part), "{part}\nin\n{error}");
        }
    }

    #[test]
    fn one_broken_line_is_one_problem() {
        let error = resolve_text("shards = = 1", &[], &[]).unwrap_err();
        assert!(
            error.contains("1 problem\n  file (relay.toml): no valid TOML: line 1"),
            "{error}"
        );
    }

    #[test]
    fn pairs_of_keys_are_checked() {
        let error = resolve_text(
            "listen = \"127.0.0.1:7180\"\nshards = 2\ncores = [0]\n[limits]\nshard_queue = \"16MiB\"",
            &[],
            &[],
        )
        .unwrap_err();
        assert!(
            error.contains("admin.listen (with listen): is 127.0.0.1:7180"),
            "{error}"
        );
        assert!(
            error.contains("cores (with shards): names 1 for 2 shards"),
            "{error}"
        );
        assert!(
            error.contains(
                "limits.session_queue (with limits.shard_queue): 32MiB for one session is more than the \
                 16MiB for all of them"
            ),
            "{error}"
        );
        // The range holds two ports, and one of them is the relay's own.
        let error =
            resolve_text("shards = 2\n[ports]\nrange = \"7099-7100\"", &[], &[]).unwrap_err();
        assert!(
            error.contains("ports.range (with shards): leaves 1 ports for 2 shards"),
            "{error}"
        );
        assert!(resolve_text("shards = 1\n[ports]\nrange = \"7099-7100\"", &[], &[]).is_ok());
    }

    #[test]
    fn stuck_send_is_looked_at_before_its_peer_is_given_up() {
        let stall = |file| resolve_text(file, &[], &[]).unwrap().timeouts.send_stall;
        let seconds = std::time::Duration::from_secs;
        assert_eq!(stall(""), seconds(30));
        assert_eq!(stall("[limits]\nkeepalive = \"5s\""), seconds(15));
        assert_eq!(stall("[timeouts]\nsend_stall = \"10m\""), seconds(90));
        let both = "[limits]\nkeepalive = \"1m\"\n[timeouts]\nsend_stall = \"2m\"";
        assert_eq!(stall(both), seconds(120));
    }

    #[test]
    fn distance_counts_changes() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("tcp.backlok", "tcp.backlog"), 1);
    }
}
