//! Relays of the own network, found without configuration.
//!
//! Here: one module for each step. `interface` chooses the network, `announce` tells it of a relay, `port`
//! keeps the relay's port, `answer` reads what others announce, `find` decides which of them a client uses,
//! `memory` keeps these. Not here: flags (`cli::lan`), sessions (`ringway-client`).
//!
//! Invariant: an announcement is a hint where to look. Who a relay is, only its handshake proves.

pub(crate) mod announce;
mod answer;
pub(crate) mod find;
pub(crate) mod interface;
mod memory;
pub(crate) mod port;

use mdns_sd::{IfKind, ServiceDaemon};

use interface::Network;

use crate::failure::Failure;

/// What relays are announced as.
const SERVICE: &str = "_ringway._tcp.local.";

/// The TXT value that holds the relay's key, in hex.
const TXT_KEY: &str = "key";

/// The TXT value that says what the announcement means.
const TXT_VERSION: &str = "v";

/// What [`TXT_VERSION`] is here; announcements with another one are skipped.
const VERSION: &str = "1";

/// Starts to speak mDNS on one network and on no other.
fn daemon(network: &Network) -> Result<ServiceDaemon, Failure> {
    let failure = |error| Failure::host("cannot speak mDNS", error);
    let daemon = ServiceDaemon::new().map_err(failure)?;
    daemon.disable_interface(IfKind::All).map_err(failure)?;
    daemon.enable_interface(kinds(network)).map_err(failure)?;
    Ok(daemon)
}

/// Returns the interface by its private addresses: an address family without one is not spoken.
fn kinds(network: &Network) -> Vec<IfKind> {
    network.addresses().map(IfKind::Addr).collect()
}
