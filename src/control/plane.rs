//! The data plane as the control plane uses it.
//!
//! Here: settings in the data plane's words, the start with its error texts, snapshots, the end. Not
//! here: anything of a socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::handshake::{Offer, RelayIdentity};
use ringway_proto::key::SecretKey;
use ringway_proto::limits;
use ringway_shards::ring::{ListenError, RingConfig};
use ringway_shards::set::{
    AdmissionLimits, LaunchError, QueueLimits, ShardSet, ShardSetConfig, ShardSnapshot,
};

use super::{ShardView, Shards};
use crate::config::Config;
use crate::failure::Failure;
use crate::local_ports;
use crate::preflight;

/// The running shards.
#[derive(Debug)]
pub(crate) struct Plane {
    shards: ShardSet,
}

impl Plane {
    /// Starts the shards and returns when every one of them runs.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] with the first cause; nothing is left running.
    pub(crate) fn launch(config: &Config, secret: &SecretKey) -> Result<Self, Failure> {
        let shards = ShardSet::launch(&set_config(config, secret)).map_err(failure)?;
        Ok(Self { shards })
    }

    /// Returns where peers connect, with the port the kernel chose.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.shards.address()
    }

    /// Takes nothing new from now on; sessions are told, and end with their last stream.
    pub(crate) fn drain(&self) {
        self.shards.drain();
    }

    /// Ends every shard at once, and says so in the log when one did not let go of everything.
    pub(crate) fn end(self) {
        for ShardSnapshot { shard, audit, .. } in self.shards.shutdown() {
            if !audit.is_zero() {
                tracing::error!(shard = shard.0, ?audit, "a shard ended with something left");
            }
        }
    }
}

impl Shards for Plane {
    fn view(&self) -> Vec<ShardView> {
        let view = |snapshot: ShardSnapshot| ShardView {
            shard: snapshot.shard.0,
            stats: snapshot.stats,
            audit: snapshot.audit,
        };
        self.shards
            .snapshots(SNAPSHOT_TIMEOUT)
            .into_iter()
            .map(view)
            .collect()
    }

    fn shards_count(&self) -> usize {
        self.shards.handles().len()
    }
}

/// Returns how many shards the settings ask for.
pub(crate) fn shards_count(config: &Config) -> u16 {
    match (config.shards, &config.cores) {
        (Some(count), _) => count,
        (None, Some(cores)) => u16::try_from(cores.len()).unwrap_or(u16::MAX),
        (None, None) => {
            let cores = available_parallelism().map_or(1, usize::from);
            u16::try_from(cores)
                .unwrap_or(u16::MAX)
                .min(SHARDS_AUTOMATIC_MAX)
        }
    }
}

fn set_config(config: &Config, secret: &SecretKey) -> ShardSetConfig {
    let keepalive_s = u16::try_from(config.timeouts.keepalive.as_secs()).unwrap_or(u16::MAX);
    let sockets_max = sockets_max(config.sessions_max, preflight::open_files());
    ShardSetConfig {
        shards_count: shards_count(config),
        cores: config
            .cores
            .iter()
            .flatten()
            .map(|core| usize::from(*core))
            .collect(),
        listen: config.listen,
        joins_address: false,
        backlog: config.backlog,
        congestion: preflight::congestion(config),
        spin: config.spin,
        admission: AdmissionLimits {
            sessions_max: config.sessions_max,
            handshakes_max: config.handshakes_max,
            handshakes_source_max: config.handshakes_source_max,
            accepts_per_s_max: config.accepts_per_s_max,
            ..AdmissionLimits::for_sockets(sockets_max)
        },
        queue: QueueLimits::default(),
        timeouts: config.timeouts,
        identity: Arc::new(RelayIdentity::new(secret)),
        dialect: Dialect::Native,
        offer: Offer {
            capabilities: 0,
            streams_max: config.streams_max,
            stream_window: limits::WINDOW_INITIAL,
            keepalive_s,
        },
        ports: local_ports::ports_config(config),
        // One slot of the table stays free: at a full one the kernel drops a client it has accepted.
        ring: RingConfig {
            sockets_max: sockets_max + 1,
            ..RingConfig::default()
        },
    }
}

/// Returns the sockets of a shard: its sessions, and some more to tell peers that it is full, as far as
/// the open-files limit allows.
fn sockets_max(sessions_max: u32, open_files: u64) -> u32 {
    let allowed = u32::try_from(open_files.saturating_sub(1)).unwrap_or(u32::MAX);
    let wanted = sessions_max.saturating_add(limits::SOCKETS_RESERVED);
    // With less than its sessions need, the start fails and says so.
    wanted.min(allowed.max(sessions_max))
}

/// Returns the failure of a launch, in the words of the command line.
fn failure(error: LaunchError) -> Failure {
    const FLAG: &str = "--listen ADDRESS:PORT";
    match error {
        LaunchError::Listen(ListenError::AddressInUse { address }) => {
            Failure::listen(address, FLAG, io::ErrorKind::AddrInUse.into())
        }
        LaunchError::Listen(ListenError::AddressUnknown { address }) => {
            Failure::listen(address, FLAG, io::ErrorKind::AddrNotAvailable.into())
        }
        LaunchError::Listen(ListenError::Permission { address }) => {
            Failure::listen(address, FLAG, io::ErrorKind::PermissionDenied.into())
        }
        LaunchError::Listen(_) => Failure::host("cannot listen", error),
        _ => Failure::host("cannot start the shards", error),
    }
}

/// Longest wait for a shard's snapshot; a turn takes microseconds.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);

/// Most shards that are started without being asked for, the most the configuration accepts.
const SHARDS_AUTOMATIC_MAX: u16 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_beyond_the_sessions_depend_on_the_limit_of_open_files() {
        assert_eq!(sockets_max(1_000, 20_000), 1_512);
        assert_eq!(sockets_max(19_900, 20_000), 19_999);
        assert_eq!(sockets_max(19_999, 20_000), 19_999);
        assert_eq!(sockets_max(30_000, 20_000), 30_000);
        assert_eq!(sockets_max(1_000_000, u64::MAX), 1_000_512);
    }

    #[test]
    fn shards_follow_count_then_cores_then_host() {
        let config = |shards, cores| Config {
            shards,
            cores,
            ..Config::default()
        };
        assert_eq!(shards_count(&config(Some(3), None)), 3);
        assert_eq!(shards_count(&config(None, Some(vec![0, 5]))), 2);
        assert!(shards_count(&config(None, None)) >= 1);
    }
}
