//! Flags that several subcommands take.
//!
//! Here: where keys are kept, which relays are used, within a deployment where there is one, and what bounds
//! connections. Not here: what is done with them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ringway_client::{Identity, RelayAddress};
use ringway_proto::dialect::Dialect;
use ringway_proto::dmsg;

use super::lan::LanArgs;
use super::tunnel::{CONNECTIONS_MAX, CONNECTIONS_RANGE};
use crate::config::{DEPLOY_VARIABLE, Deployment, parse_duration};
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

    /// Returns the directory of everything that is kept.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyFile`] when nothing says where state belongs.
    pub(super) fn state(&self) -> Result<PathBuf, Failure> {
        Ok(key_file::state_directory(self.state_dir.as_deref())?)
    }

    /// Reads or makes the key and holds it for this process.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyFile`].
    pub(super) fn hold(&self, name: &str) -> Result<HeldKey, Failure> {
        Ok(key_file::hold(&self.path(name)?, FIX)?)
    }

    /// Reads or makes a key of a dialect and holds it for this process; in the state directory it has a
    /// name for each dialect.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyFile`].
    pub(super) fn hold_in(
        &self,
        dialect: Dialect,
        name: &str,
    ) -> Result<HeldKey<Identity>, Failure> {
        if dialect != Dialect::Dmsg {
            return self.hold(name).map(|held| held.map(Into::into));
        }
        let path = self.path(&format!("dmsg-{name}"))?;
        let held = key_file::hold::<dmsg::key::SecretKey>(&path, FIX)?;
        Ok(held.map(Into::into))
    }
}

/// How long a drain may take.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// Time that open connections get to end after SIGTERM or SIGINT; a second signal ends it
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = parse_duration,
        help_heading = "Limits"
    )]
    pub(super) drain_timeout: Duration,
}

/// What bounds the connections to a local port.
#[derive(Debug, Args)]
pub(super) struct LocalLimits {
    /// Connections at once; more wait in the kernel
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = CONNECTIONS_MAX,
        value_parser = clap::value_parser!(u32).range(CONNECTIONS_RANGE),
        help_heading = "Limits"
    )]
    pub(super) connections_max: u32,

    #[command(flatten)]
    pub(super) drain: DrainArgs,
}

/// Which relays are used.
#[derive(Debug, Args)]
#[command(next_help_heading = "Relay")]
pub(super) struct RelayArgs {
    /// Relay to use, as `ringway serve` prints it; may be given several times, or in `RINGWAY_RELAY`
    /// [default: those of the deployment]
    #[arg(
        long = "relay",
        value_name = "KEY@HOST:PORT",
        value_delimiter = ',',
        conflicts_with = "lan"
    )]
    relays: Vec<RelayName>,

    #[command(flatten)]
    lan: LanArgs,

    #[command(flatten)]
    deploy: DeployArgs,
}

/// Which deployment is in force.
#[derive(Debug, Args)]
pub(super) struct DeployArgs {
    /// Deployment file: the relays there are, and no other is contacted; `RINGWAY_DEPLOY` names one
    /// too, or holds the same as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) deploy: Option<PathBuf>,
}

impl RelayArgs {
    /// Returns the relays with their addresses: those of the own network, or those that are named.
    ///
    /// # Errors
    ///
    /// As [`Self::names`] and [`LanArgs::find`] do, and [`Failure::Host`] when a name has no address.
    pub(super) async fn find(&self, key: &KeyArgs) -> Result<Vec<RelayAddress>, Failure> {
        if self.lan.lan {
            let deployment = self.deploy.find()?;
            return self.lan.find(deployment.as_ref(), key.state()?).await;
        }
        let address = |name: &RelayName| Ok(RelayAddress::new(name.key, name.resolve()?));
        self.names()?.iter().map(address).collect()
    }

    /// Returns what the relays speak: those of a network, and all others unless the first of them does not.
    ///
    /// # Errors
    ///
    /// As [`Self::names`].
    pub(super) fn dialect(&self) -> Result<Dialect, Failure> {
        if self.lan.lan {
            return Ok(Dialect::Native);
        }
        let names = self.names()?;
        Ok(names
            .first()
            .map(|name| name.key.dialect())
            .unwrap_or_default())
    }

    /// Returns whether a flag says which relays to use.
    pub(super) const fn are_named(&self) -> bool {
        !self.relays.is_empty() || self.lan.lan
    }

    /// Checks that the deployment, if there is one, has this relay.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when it has not.
    pub(super) fn admits(&self, relay: &RelayName) -> Result<(), Failure> {
        let named = Some(("the target", vec![relay.clone()]));
        admitted(named, self.deploy.find()?.as_ref()).map(drop)
    }

    /// Returns the flags with which another command finds these relays.
    pub(super) fn hint(&self, relays: &[RelayAddress]) -> String {
        match (self.lan.lan, relays) {
            (false, [relay, ..]) => format!("--relay {relay}"),
            _ => "--lan".to_owned(),
        }
    }

    /// Returns the relays: the flag's, else the environment's, else the deployment's.
    fn names(&self) -> Result<Vec<RelayName>, Failure> {
        let deployment = self.deploy.find()?;
        let named = named(&self.relays, std::env::var_os(RELAY_VARIABLE))?;
        match (admitted(named, deployment.as_ref())?, deployment) {
            (Some(relays), _) => Ok(relays),
            (None, Some(deployment)) => Ok(deployment.relays),
            (None, None) => Err(no_relay()),
        }
    }
}

impl DeployArgs {
    /// Reads the deployment, if there is one.
    ///
    /// # Errors
    ///
    /// [`Failure`] when it cannot be read or something in it is wrong.
    pub(super) fn find(&self) -> Result<Option<Deployment>, Failure> {
        Deployment::find(self.deploy.as_deref(), std::env::var_os(DEPLOY_VARIABLE))
    }
}

/// Relays that somebody has named, and where: a flag or a variable.
pub(super) type Named = (&'static str, Vec<RelayName>);

/// Returns the relays of the flag, else those of the variable, if there are any.
///
/// # Errors
///
/// [`Failure::Usage`] when the variable names no relays.
pub(super) fn named(
    flag: &[RelayName],
    variable: Option<OsString>,
) -> Result<Option<Named>, Failure> {
    match (flag, variable) {
        ([], Some(list)) => {
            let list = list.to_string_lossy();
            let relays = list.split(',').map(|name| {
                name.parse()
                    .map_err(|error| Failure::Usage(format!("{RELAY_VARIABLE}: {name:?}: {error}")))
            });
            Ok(Some((RELAY_VARIABLE, relays.collect::<Result<_, _>>()?)))
        }
        ([], None) => Ok(None),
        (relays, _) => Ok(Some(("--relay", relays.to_vec()))),
    }
}

/// Returns the named relays when the deployment, if there is one, has them all.
///
/// # Errors
///
/// [`Failure::Usage`] for the first that it has not.
pub(super) fn admitted(
    named: Option<Named>,
    deployment: Option<&Deployment>,
) -> Result<Option<Vec<RelayName>>, Failure> {
    let Some((origin, relays)) = named else {
        return Ok(None);
    };
    for relay in &relays {
        deployment
            .map_or(Ok(()), |deployment| deployment.admits(relay))
            .map_err(|error| Failure::Usage(format!("{origin}: {error}")))?;
    }
    Ok(Some(relays))
}

/// Returns the failure of a command that needs a relay and was given none.
pub(super) fn no_relay() -> Failure {
    let text = "no relay is named: give one with --relay KEY@HOST:PORT or RINGWAY_RELAY, or a \
                deployment with --deploy FILE or RINGWAY_DEPLOY, or find one with --lan";
    Failure::Usage(text.to_owned())
}

/// What a second party on the same host needs.
const FIX: &str = "--key-file FILE";

/// The environment variable that names relays, with commas between them.
pub(super) const RELAY_VARIABLE: &str = "RINGWAY_RELAY";

/// Returns the settings that name a key file or directory, as the configuration's flags.
pub(super) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
