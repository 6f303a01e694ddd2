//! The flags that say what the relay is meant to hold.
//!
//! Here: flags that several commands share, and the target they make. Not here: what a target needs (the
//! library).

use std::thread::available_parallelism;

use ringway_tuning::{Congestion, Target};

/// What the relay is meant to hold, and how it is set up.
#[derive(Debug, clap::Args)]
pub(crate) struct TargetFlags {
    /// Shards of the relay [default: one for each core of this process]
    #[arg(
        long,
        value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=4_096),
        help_heading = "Target"
    )]
    shards: Option<u32>,

    /// Sessions the relay is to hold, on all shards together, such as 20000, 250k or 1M
    #[arg(
        long,
        value_name = "COUNT",
        value_parser = sessions,
        conflicts_with = "sessions_max",
        help_heading = "Target"
    )]
    target_sessions: Option<u32>,

    /// Sessions each shard is to hold
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 16_384,
        help_heading = "Target"
    )]
    sessions_max: u32,

    /// Connections the kernel is to hold before the relay accepts them
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 4_096,
        help_heading = "Target"
    )]
    backlog: u32,

    /// Port the relay listens on
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 7_100,
        help_heading = "Target"
    )]
    listen_port: u16,

    /// Congestion control: "auto", "system" or a name
    #[arg(
        long,
        value_name = "NAME",
        default_value = "auto",
        value_parser = congestion,
        help_heading = "Target"
    )]
    congestion: String,
}

impl TargetFlags {
    /// Returns the target; what is not said is as the relay has it by default.
    pub(crate) fn target(&self) -> Target {
        let cores = available_parallelism().map_or(1, usize::from);
        let shards = self
            .shards
            .unwrap_or_else(|| u32::try_from(cores).unwrap_or(u32::MAX));
        let share = |all: u32| all.div_ceil(shards.max(1));
        Target {
            shards,
            sessions_max: self.target_sessions.map_or(self.sessions_max, share),
            backlog: self.backlog,
            listen_port: self.listen_port,
            congestion: match self.congestion.as_str() {
                "auto" => Congestion::Automatic,
                "system" => Congestion::System,
                name => Congestion::Named(name.to_owned()),
            },
        }
    }
}

/// Reads a number of sessions with or without `k` or `M`.
fn sessions(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => text
            .strip_suffix('M')
            .map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    let count = digits.parse().ok().and_then(|n: u32| n.checked_mul(unit));
    count
        .filter(|count| (1..=SESSIONS_MAX).contains(count))
        .ok_or_else(|| "expected 1 to 100M, such as 20000, 250k or 1M".to_owned())
}

/// Reads the name of a congestion control: it goes into files that the host reads.
fn congestion(text: &str) -> Result<String, String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match !text.is_empty() && text.bytes().all(is_letter) {
        true => Ok(text.to_owned()),
        false => Err("expected auto, system or a name such as cubic".to_owned()),
    }
}

/// Most sessions a target may have: more than one host holds of them is a matter of several.
const SESSIONS_MAX: u32 = 100_000_000;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        flags: TargetFlags,
    }

    fn target(arguments: &[&str]) -> Result<Target, String> {
        let all = ["command"].iter().chain(arguments);
        let parsed = CommandLine::try_parse_from(all);
        Ok(parsed.map_err(|error| error.to_string())?.flags.target())
    }

    #[test]
    fn sessions_are_spread_over_the_shards() {
        for (text, share) in [
            ("1M", 250_000),
            ("250k", 62_500),
            ("9", 3),
            ("100M", 25_000_000),
        ] {
            let target = target(&["--shards", "4", "--target-sessions", text]).unwrap();
            assert_eq!((target.shards, target.sessions_max), (4, share));
        }
        let target = target(&["--sessions-max", "7"]).unwrap();
        assert_eq!(target.sessions_max, 7);
    }

    #[test]
    fn wrong_and_contradictory_targets_are_named() {
        for text in ["0", "1G", "M", "-1", "101M", "99999M", "1.5M", ""] {
            let error = target(&["--target-sessions", text]).unwrap_err();
            let says =
                error.contains("expected 1 to 100M") || error.contains("unexpected argument");
            assert!(says, "{text}: {error}");
        }
        let error = target(&["--congestion", "a\nb"]).unwrap_err();
        assert!(error.contains("such as cubic"), "{error}");
        let both = ["--target-sessions", "1M", "--sessions-max", "5"];
        let error = target(&both).unwrap_err();
        assert!(error.contains("cannot be used with"), "{error}");
    }
}
