//! Flags that several subcommands take.
//!
//! Here: where keys are kept and which relays are used. Not here: what is done with them.

use std::path::{Path, PathBuf};

use clap::Args;
use ringway_client::RelayAddress;

use crate::failure::Failure;
use crate::key_file::{self, HeldKey};
use crate::relay_name::RelayName;

/// Where a party's key is kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Key")]
pub(super) struct KeyArgs {
    /// Key file; made at the first start, with mode 0600
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,

    /// Directory for keys that have no file of their own [default:
    /// ringway under the XDG state directory, else ~/.local/state/ringway]
    #[arg(
        long,
        value_name = "DIRECTORY",
        env = "RINGWAY_STATE_DIR",
        hide_env_values = true
    )]
    pub(super) state_dir: Option<PathBuf>,
}

impl KeyArgs {
    /// Returns the key file: the flag's, or `name` in the state directory.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyFile`] when nothing says where state belongs.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        match &self.key_file {
            Some(path) => Ok(path.clone()),
            None => Ok(key_file::state_directory(self.state_dir.as_deref())?.join(name)),
        }
    }

    /// Reads or makes the key and holds it for this process.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyFile`].
    pub(super) fn hold(&self, name: &str) -> Result<HeldKey, Failure> {
        Ok(key_file::hold(&self.path(name)?, "--key-file FILE")?)
    }
}

/// Which relays are used.
#[derive(Debug, Args)]
#[command(next_help_heading = "Relay")]
pub(super) struct RelayArgs {
    /// Relay to use, as `ringway serve` prints it; may be given several times
    #[arg(
        long = "relay",
        value_name = "KEY@HOST:PORT",
        env = "RINGWAY_RELAY",
        value_delimiter = ',',
        required = true
    )]
    pub(super) relays: Vec<RelayName>,
}

impl RelayArgs {
    /// Returns the relays with their addresses.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when a name has no address.
    pub(super) fn resolve(&self) -> Result<Vec<RelayAddress>, Failure> {
        let address = |name: &RelayName| Ok(RelayAddress::new(name.key, name.resolve()?));
        self.relays.iter().map(address).collect()
    }
}

/// Returns the settings that name a key file or directory, as the configuration's flags.
pub(super) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
