//! The clients with which a shard's services are a peer of their own relay, one for each of its keys.
//!
//! Here: their settings. Not here: the socket pair's other end (`ringway_shards::set::ShardHandle::attach`).

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ringway_client::{Client, ConnectError, Identity, Inside, RelayAddress};
use ringway_proto::limits::{EPHEMERAL_PORT_MIN, WINDOW_INITIAL};
use ringway_proto::ports::PortSet;
use ringway_shards::set::ShardHandle;

use crate::config::Config;

/// Starts a client of a shard, one of `shards_count`, on the runtime that the caller is in.
///
/// # Errors
///
/// As [`Client::start`] has them.
pub(super) fn start(
    identity: &Identity,
    shard: &ShardHandle,
    shards_count: u16,
    config: &Config,
) -> Result<Client, ConnectError> {
    let ephemeral = PortSet::range(EPHEMERAL_PORT_MIN, u16::MAX);
    let ports = ephemeral.slice(shard.shard().0, shards_count);
    let handle = shard.clone();
    let dialect = identity.dialect();
    let inside = Inside::new(ports, move || {
        let (ours, theirs) = UnixStream::pair()?;
        handle.attach(dialect, theirs).map_err(io::Error::other)?;
        Ok(ours)
    });
    // Nobody connects to the address: the way to the relay is inside.
    let relay = RelayAddress::new(identity.public(), config.listen);
    let config = ringway_client::Config {
        inside: Some(inside),
        // A stream never holds more than it begins with: what a service has to say is short or waits.
        window_max: WINDOW_INITIAL,
        streams_max: config.streams_max,
        backlog_max: BACKLOG_MAX,
        keepalive_interval: config.timeouts.keepalive,
        // Nobody else comes back with it.
        backoff_min: BACKOFF_MIN,
        backoff_max: BACKOFF_MAX,
        ..ringway_client::Config::new([relay])
    };
    Client::start(identity.clone(), config)
}

/// Streams that wait for one service of one shard.
const BACKLOG_MAX: u32 = 256;

/// First pause before the session is made again.
const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
