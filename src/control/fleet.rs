//! The registry of this relay, as its settings say.
//!
//! Here: which backend, with what. Not here: backends, the service that keeps one in step (`registry`).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway_proto::entry::RelayEntry;
use ringway_proto::key::{KeyError, SecretKey};
use ringway_shards::set::{AllowedRelays, Resolver, ShardSet};
use tokio::sync::mpsc;

use crate::config::{Config, RegistryChoice};
use crate::failure::Failure;
use crate::registry::embedded::Embedded;
use crate::registry::redis::Redis;
use crate::registry::service::{Parts, Question, Questions};
use crate::registry::start::{Running, View};

/// What the shards and the registry's service share.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// Start of this relay, nanoseconds since 1970.
    epoch: u64,
    questions: Arc<Questions>,
    asked: mpsc::Receiver<Question>,
}

impl Fleet {
    /// Returns the one of a relay that starts now.
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let epoch = since.map_or(0, |since| since.as_nanos());
        let (questions, asked) = Questions::new();
        Self {
            epoch: u64::try_from(epoch).unwrap_or(u64::MAX),
            questions,
            asked,
        }
    }

    /// Returns what the relay says of itself, listening at what the configuration says.
    ///
    /// # Errors
    ///
    /// [`KeyError::LocalDialect`].
    pub(crate) fn entry(
        &self,
        config: &Config,
        secret: &SecretKey,
    ) -> Result<RelayEntry, KeyError> {
        RelayEntry::sign(secret, self.epoch, config.announce.address(config.listen))
    }

    /// Returns whom shards ask about peers that no link has told of; nobody without a registry that knows.
    pub(crate) fn resolver(&self, config: &Config) -> Option<Arc<dyn Resolver>> {
        match config.registry {
            RegistryChoice::Embedded | RegistryChoice::Off => None,
            RegistryChoice::Redis(_) => Some(Arc::<Questions>::clone(&self.questions) as _),
        }
    }

    /// Starts the registry's service; none where the settings want none, or where no relay may be linked
    /// with.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`].
    pub(crate) fn start(
        self,
        config: &Config,
        secret: &SecretKey,
        shards: &ShardSet,
        key_path: &Path,
    ) -> Result<Option<(Running, View)>, Failure> {
        let address = config.announce.address(shards.address());
        let own = RelayEntry::sign(secret, self.epoch, address)
            .map_err(|error| Failure::Check(format!("the relay's key: {error}")))?;
        let numbers = Arc::default();
        let view = |name| View {
            name,
            numbers: Arc::clone(&numbers),
        };
        match &config.registry {
            RegistryChoice::Off => Ok(None),
            RegistryChoice::Embedded if !config.has_links() => Ok(None),
            RegistryChoice::Embedded => {
                let path = key_path.with_file_name(FILE_NAME);
                let name = format!("embedded ({})", path.display());
                let registry = Embedded::new(path);
                let parts = Parts {
                    tick: EMBEDDED_TICK,
                    ..self.parts(config, registry, own, shards, &numbers)
                };
                Ok(Some((Running::start(parts)?, view(name))))
            }
            RegistryChoice::Redis(url) => {
                warn_of_gaps(config, &own);
                let registry = Redis::new(url, &config.registry_prefix)
                    .map_err(|error| Failure::Check(format!("mesh.registry: {error}")))?;
                let name = registry.name();
                let parts = self.parts(config, registry, own, shards, &numbers);
                Ok(Some((Running::start(parts)?, view(name))))
            }
        }
    }

    fn parts<R>(
        self,
        config: &Config,
        registry: R,
        own: RelayEntry,
        shards: &ShardSet,
        numbers: &Arc<crate::registry::numbers::Numbers>,
    ) -> Parts<R> {
        Parts {
            registry,
            own,
            tick: REDIS_TICK,
            lease: config.lease,
            allowed: config.allowed_relays.clone(),
            configured: config.relays.iter().map(|relay| relay.key).collect(),
            directory: shards.directory().clone(),
            shards: shards.handles().to_vec(),
            questions: self.asked,
            numbers: Arc::clone(numbers),
        }
    }
}

/// Says what a fleet's registry cannot do with these settings.
fn warn_of_gaps(config: &Config, own: &RelayEntry) {
    let allows_nobody =
        matches!(&config.allowed_relays, AllowedRelays::Listed(keys) if keys.is_empty());
    if allows_nobody && config.relays.is_empty() {
        tracing::warn!(
            "mesh.registry is set but no relay may be linked with: set mesh.allowed to \"all\" or to the fleet's keys"
        );
    }
    if own.address.is_none() && !matches!(config.announce, crate::config::Announce::Off) {
        tracing::warn!(
            listen = %config.listen,
            "other relays are not told where this one is, it only dials out: set mesh.announce to its address"
        );
    }
}

/// How often sessions that came and went are told to Redis, and its notices are read: soon enough for a
/// peer that moves, and ten wake-ups a second.
const REDIS_TICK: Duration = Duration::from_millis(100);

/// How often the embedded registry looks whether links stand with new relays.
const EMBEDDED_TICK: Duration = Duration::from_secs(1);

/// Name of the file of the embedded registry, beside the key's.
const FILE_NAME: &str = "fleet.json";
