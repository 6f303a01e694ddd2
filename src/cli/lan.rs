//! Flags for relays of the own network.
//!
//! Here: `--lan` of a relay and of those that use one, and what a deployment says to it. Not here: the
//! network, the announcement and the search (`lan`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use ringway_client::{PublicKey, RelayAddress};

use super::tunnel::start_logs;
use crate::config::{Deployment, Resolved};
use crate::failure::Failure;
use crate::lan::announce::Announcement;
use crate::lan::find::Search;
use crate::lan::interface::Network;
use crate::lan::port::PortFile;

/// Where a relay of the own network listens.
#[derive(Debug, Args)]
pub(super) struct LanServeArgs {
    /// Listen on the private network and be found there by `--lan`; takes a free port and keeps it
    #[arg(long, conflicts_with = "listen")]
    pub(super) lan: bool,

    /// Interface of that network [default: the one with the default route, else the first by name]
    #[arg(long, value_name = "NAME", requires = "lan")]
    lan_interface: Option<String>,
}

/// The place of a relay on its network.
#[derive(Debug)]
pub(super) struct LanPlace {
    network: Network,
    port: PortFile,
}

impl LanServeArgs {
    /// Decides where the relay listens, and puts it into the settings; `None` without `--lan`.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the address is set elsewhere, the deployment does not have the relay, or there is no
    /// such network.
    pub(super) fn place(
        &self,
        resolved: &mut Resolved,
        key: PublicKey,
        key_file: &Path,
    ) -> Result<Option<LanPlace>, Failure> {
        if !self.lan {
            return Ok(None);
        }
        if let Some(place) = resolved.place_of("listen") {
            return Err(Failure::Usage(format!(
                "--lan chooses the address, and {place} sets listen: leave one of the two out"
            )));
        }
        within(resolved.deployment.as_ref(), Some(key), "this relay")?;
        let network = Network::of_host(self.lan_interface.as_deref())?;
        let port = PortFile::beside(key_file);
        resolved.config.listen = port.listen(network.address);
        Ok(Some(LanPlace { network, port }))
    }
}

impl LanPlace {
    /// Announces the relay that listens there, and keeps its port.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`].
    pub(super) fn announce(
        &self,
        key: PublicKey,
        listen: SocketAddr,
    ) -> Result<Announcement, Failure> {
        self.port.keep(listen.port());
        Announcement::start(&self.network, key, listen.port())
    }
}

/// How a relay of the own network is found.
#[derive(Debug, Args)]
pub(super) struct LanArgs {
    /// Find the relay on the private network and remember it: the one used before comes first
    #[arg(long)]
    pub(super) lan: bool,

    /// Interface of that network [default: the one with the default route, else the first by name]
    #[arg(long, value_name = "NAME", requires = "lan")]
    lan_interface: Option<String>,

    /// Key that the relay must have [default: those used before, else whoever answers first]
    #[arg(long, value_name = "KEY", requires = "lan")]
    lan_key: Option<PublicKey>,
}

impl LanArgs {
    /// Finds the relays.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the deployment does not have the key, and as the search does.
    pub(super) async fn find(
        &self,
        deployment: Option<&Deployment>,
        state: PathBuf,
    ) -> Result<Vec<RelayAddress>, Failure> {
        start_logs();
        within(deployment, self.lan_key, "the relay of --lan-key KEY")?;
        let search = Search {
            interface: self.lan_interface.clone(),
            key: self.lan_key,
            state,
        };
        search.run().await
    }
}

/// Refuses a relay of the own network that the deployment, if there is one, does not have.
fn within(
    deployment: Option<&Deployment>,
    key: Option<PublicKey>,
    who: &str,
) -> Result<(), Failure> {
    let Some(deployment) = deployment else {
        return Ok(());
    };
    if key.is_some_and(|key| deployment.relays.iter().any(|relay| relay.key == key)) {
        return Ok(());
    }
    let Deployment { name, source, .. } = deployment;
    Err(Failure::Usage(format!(
        "--lan would go outside of the deployment {name} ({source}), which has no key of {who}: add the key \
         to its relays, or start without the deployment"
    )))
}
