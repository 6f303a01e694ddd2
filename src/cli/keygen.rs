//! `ringway keygen`: makes a key file, or shows the address of one.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;

use crate::failure::Failure;
use crate::key_file::{self, Replace};
use crate::output::say;

/// Make a key file, or show the public key of one
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Key file [default: relay.key in the state directory]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Replace a key that is already there; the party cannot be reached under its old key any more
    #[arg(long, conflicts_with = "show")]
    force: bool,

    /// Show the public key of the file and change nothing
    #[arg(long)]
    show: bool,

    /// Directory of the default key file [default:
    /// ringway under the XDG state directory, else ~/.local/state/ringway]
    #[arg(
        long,
        value_name = "DIRECTORY",
        env = "RINGWAY_STATE_DIR",
        hide_env_values = true
    )]
    state_dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  ringway keygen relay.key          make relay.key with mode 0600 and print its public key
  ringway keygen --show relay.key   print the public key of relay.key";

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => key_file::state_directory(args.state_dir.as_deref())?.join("relay.key"),
    };
    let secret = if args.show {
        key_file::load(&path)?
    } else {
        make(&path, args.force)?
    };
    say(format_args!("{}", secret.public()))
}

fn make(path: &Path, is_forced: bool) -> Result<ringway_proto::key::SecretKey, Failure> {
    let replace = if is_forced {
        Replace::Allowed
    } else {
        Replace::Never
    };
    let secret = key_file::generate()?;
    key_file::store(path, &secret, replace)?;
    Ok(secret)
}
