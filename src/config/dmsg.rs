//! Settings of the dmsg dialect.
//!
//! Here: what a relay needs to serve clients of Skywire's dmsg beside its own. Not here: the table of keys
//! (`keys`), what is done with them.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What of the dmsg dialect a relay offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DmsgChoice {
    /// Where its clients connect; `None` is off.
    pub(crate) listen: Option<SocketAddr>,
    /// The key file; `None` is `dmsg.key` in the state directory.
    pub(crate) key_file: Option<PathBuf>,
}
