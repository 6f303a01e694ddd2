//! `ringway config show`: what a relay started like this would have in force, and where each value comes
//! from.
//!
//! Here: the three ways to print it. Not here: which layer wins (`crate::config`).

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;

use super::args::{DeployArgs, KeyArgs};
use super::serve::parse_setting;
use ringway_proto::key::SecretKey;

use crate::config::{Effective, Resolved, Settings, resolve};
use crate::failure::Failure;
use crate::key_file;
use crate::output::say;

/// Show the configuration that is in force
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(ShowArgs),
}

/// Show every key with its value and where it comes from: a flag, the environment, the file, the
/// deployment or the default
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
struct ShowArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set any configuration key, as `ringway serve` takes it; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,

    #[command(flatten)]
    deploy: DeployArgs,

    /// Print JSON
    #[arg(long, conflicts_with = "toml")]
    json: bool,

    /// Print a configuration file that does the same
    #[arg(long)]
    toml: bool,

    #[command(flatten)]
    key: KeyArgs,
}

const EXAMPLES: &str = "\
Examples:
  ringway config show
  ringway config show --config relay.toml --deploy lab.toml
  ringway config show --config relay.toml --toml > whole.toml

Takes the environment as `ringway serve` does. Passwords in URLs are not printed. Exits with 2 when
something is wrong, and names every problem.";

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Command::Show(args) = &args.command;
    let flags = args.settings.iter();
    let mut flags: Vec<_> = flags
        .map(|(key, value)| ("--set".to_owned(), key.clone(), value.clone()))
        .collect();
    if let Some(path) = &args.key.key_file {
        let path = super::args::path_text(path);
        flags.push(("--key-file".to_owned(), "key_file".to_owned(), path));
    }
    let settings = Settings {
        flags,
        file: args.config.clone(),
        deploy: args.deploy.deploy.clone(),
    };
    let mut resolved = resolve(&settings, |name| std::env::var_os(name))?;
    leave_out_own(args, &mut resolved);
    match (args.json, args.toml) {
        (true, _) => say(format_args!("{}", json(&resolved))),
        (_, true) => say(format_args!("{}", toml(&resolved))),
        _ => say(format_args!("{}", table(&resolved))),
    }
}

/// Takes the relay out of its own list as `serve` does, when it has a key that can be read: showing
/// makes none.
fn leave_out_own(args: &ShowArgs, resolved: &mut Resolved) {
    let path = match &resolved.config.key_file {
        Some(path) => Some(path.clone()),
        None => key_file::state_directory(args.key.state_dir.as_deref())
            .ok()
            .map(|directory| directory.join("relay.key")),
    };
    if let Some(secret) = path.and_then(|path| key_file::load::<SecretKey>(&path).ok()) {
        resolved.leave_out(secret.public());
    }
}

/// Returns the lines for people.
fn table(resolved: &Resolved) -> String {
    let text = |one: &Effective| one.text().unwrap_or_else(|| "(none)".to_owned());
    let rows: Vec<(&str, String, String)> = resolved
        .values
        .iter()
        .map(|one| (one.key.path, text(one), one.from()))
        .collect();
    let paths = rows.iter().map(|(path, ..)| path.len()).max().unwrap_or(0);
    let values = rows.iter().map(|(_, value, _)| value.len());
    // A long list pushes only its own origin aside.
    let values = values.filter(|len| *len <= VALUE_MAX).max().unwrap_or(0);
    let mut lines: Vec<String> = resolved
        .deployment
        .iter()
        .map(|deployment| {
            let count = deployment.relays.len();
            let noun = if count == 1 { "relay" } else { "relays" };
            let (name, source) = (&deployment.name, &deployment.source);
            format!("deployment {name} ({source}): {count} {noun}, and nothing else is contacted")
        })
        .collect();
    lines.extend(
        rows.iter()
            .map(|(path, value, from)| format!("{path:<paths$}  {value:<values$}  {from}")),
    );
    lines.join("\n")
}

/// Returns a configuration file; keys with dots, so that it can stand in any order.
fn toml(resolved: &Resolved) -> String {
    let mut lines = Vec::new();
    if let Some(deployment) = &resolved.deployment {
        let (name, source) = (&deployment.name, &deployment.source);
        lines.push(format!(
            "# In the deployment {name} ({source}), whose fence no configuration file replaces."
        ));
    }
    lines.extend(resolved.values.iter().map(|one| {
        let (path, from) = (one.key.path, one.from());
        match one.text() {
            Some(text) if one.is_secret() => {
                format!("# {path} = {text}  # {from}; the password is not shown")
            }
            Some(text) => format!("{path} = {text}  # {from}"),
            None => format!("# {path} has no value"),
        }
    }));
    lines.join("\n")
}

/// Returns the same for machines.
fn json(resolved: &Resolved) -> serde_json::Value {
    let deployment = resolved.deployment.as_ref().map(|deployment| {
        let relays: Vec<String> = deployment.relays.iter().map(ToString::to_string).collect();
        json!({"name": deployment.name, "source": deployment.source, "relays": relays})
    });
    let values: Vec<_> = resolved.values.iter().map(Effective::json).collect();
    json!({"deployment": deployment, "keys": values})
}

/// Longest value that others are aligned with.
const VALUE_MAX: usize = 40;

#[cfg(test)]
mod tests;
