//! Settings of the dmsg dialect.
//!
//! Here: what a relay needs to serve clients of Skywire's dmsg beside its own. Not here: the table of keys
//! (`keys`), what is done with them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use ringway_shards::set::{AllowedRelays, Proxies};

use crate::dmsg::discovery::url::DiscoveryUrl;
use crate::relay_name::RelayName;

/// What of the dmsg dialect a relay offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DmsgChoice {
    /// Where its clients connect; `None` is off.
    pub(crate) listen: Option<SocketAddr>,
    /// The key file; `None` is `dmsg.key` in the state directory.
    pub(crate) key_file: Option<PathBuf>,
    /// Where clients are told to connect; `None` is where it listens.
    pub(crate) public_address: Option<String>,
    /// Discoveries that it registers with.
    pub(crate) discoveries: Vec<DiscoveryUrl>,
    /// The word that makes it official there, if it knows one.
    pub(crate) auth: Option<String>,
    /// Servers to keep links with.
    pub(crate) peers: Vec<RelayName>,
    /// Whether it keeps links with all servers that its discoveries name.
    pub(crate) links_all: bool,
    /// Servers that may say of themselves that they are such, besides those that this one knows.
    pub(crate) allowed: AllowedRelays,
    /// Whether it says so to the servers that it makes links with.
    pub(crate) announces_itself: bool,
    /// Database that says where addresses are.
    pub(crate) geo_database: Option<PathBuf>,
    /// Who may say in a header of the PROXY protocol where a client comes from.
    pub(crate) proxies: Proxies,
}

impl Default for DmsgChoice {
    fn default() -> Self {
        Self {
            listen: None,
            key_file: None,
            public_address: None,
            discoveries: Vec::new(),
            auth: None,
            peers: Vec::new(),
            links_all: true,
            allowed: AllowedRelays::Listed(BTreeSet::new()),
            announces_itself: true,
            geo_database: None,
            proxies: Proxies::NONE,
        }
    }
}
