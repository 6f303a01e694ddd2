//! `ringway check-config`: says what is wrong with a configuration and how many sessions this host allows
//! it, and starts nothing.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::args::DeployArgs;
use crate::capacity::{Capacity, Room};
use crate::config::{KEYS, Settings, resolve};
use crate::control::plane;
use crate::failure::Failure;
use crate::output::say;

/// Check a configuration file, the environment included, and start nothing
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Configuration file
    #[arg(value_name = "FILE", required_unless_present = "keys")]
    file: Option<PathBuf>,

    /// List every key with its default and what it accepts
    #[arg(long)]
    keys: bool,

    #[command(flatten)]
    deploy: DeployArgs,
}

const EXAMPLES: &str = "\
Examples:
  ringway check-config relay.toml
  ringway check-config --keys

Exits with 2 when something is wrong, and names every problem; with 1 when this host does not allow
what the file asks for. `ringway config show` tells what is in force and where it comes from.";

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if args.keys {
        for key in KEYS {
            let default = if key.default.is_empty() {
                "(none)"
            } else {
                key.default
            };
            say(format_args!(
                "{} = {default}\n    {}",
                key.path, key.accepts
            ))?;
        }
    }
    if let Some(file) = &args.file {
        let settings = Settings {
            file: Some(file.clone()),
            deploy: args.deploy.deploy.clone(),
            ..Settings::default()
        };
        let config = resolve(&settings, |name| std::env::var_os(name))?.config;
        let capacity = Capacity::of(&config, plane::shards_count(&config), Room::of_host())?;
        say(format_args!("{}: ok", file.display()))?;
        say(format_args!("capacity   {capacity}"))?;
    }
    Ok(())
}
