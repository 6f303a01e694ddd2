//! Flags that several subcommands take.
//!
//! Here: where keys are kept and which relays are used. Not here: what is done with them.

use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use ringway_client::RelayAddress;
use ringway_proto::key::PublicKey;

use crate::failure::Failure;
use crate::key_file::{self, HeldKey};

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
        self.relays.iter().map(RelayName::resolve).collect()
    }
}

/// A relay as people name it: `KEY@HOST:PORT`, the host by address or by name.
#[derive(Debug, Clone)]
pub(super) struct RelayName {
    /// Who it must prove to be.
    pub(super) key: PublicKey,
    host: String,
}

impl RelayName {
    /// Returns the relay with its address; of several addresses the first.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when the name has no address.
    pub(super) fn resolve(&self) -> Result<RelayAddress, Failure> {
        let mut found = self
            .host
            .to_socket_addrs()
            .map_err(|error| Failure::host(format!("cannot resolve {}", self.host), error))?;
        let socket = found
            .next()
            .ok_or_else(|| Failure::Check(format!("{} has no address", self.host)))?;
        Ok(RelayAddress::new(self.key, socket))
    }
}

impl FromStr for RelayName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "expected KEY@HOST:PORT as `ringway serve` prints it";
        let (key, host) = text
            .split_once('@')
            .ok_or_else(|| format!("there is no '@'; {form}"))?;
        let key = key.parse().map_err(|error| format!("{error}; {form}"))?;
        let port = host
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            return Err(format!("{host:?} does not end in a port; {form}"));
        }
        Ok(Self {
            key,
            host: host.to_owned(),
        })
    }
}

/// Returns the settings that name a key file or directory, as the configuration's flags.
pub(super) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_name_says_which_part_is_wrong() {
        let key = "ab".repeat(32);
        let error = |text: &str| text.parse::<RelayName>().unwrap_err();
        assert!(error("nonsense").contains("no '@'"));
        assert!(error("ab@127.0.0.1:1").contains("64 characters"));
        assert!(error(&format!("{key}@localhost")).contains("port"));
        let name: RelayName = format!("{key}@127.0.0.1:7100").parse().unwrap();
        assert_eq!(name.resolve().unwrap().socket.port(), 7100);
        let name: RelayName = format!("{key}@[::1]:7100").parse().unwrap();
        assert!(name.resolve().unwrap().socket.is_ipv6());
    }
}
