//! The relay in the discoveries of the dmsg dialect: registered, asked, read for links.
//!
//! Here: what joins shards and discoveries. Not here: how discoveries are spoken with (`dmsg::discovery`),
//! links and forwarding (the shards).
//!
//! Invariant: nothing here is in the way of a session or a stream: shards hand questions over and go on, and
//! what discoveries are told waits for no shard.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::dmsg::key::SecretKey;
use ringway_proto::key::PublicKey;
use ringway_shards::core::{Directory, ShardId};
use ringway_shards::directory::SessionDirectory;
use ringway_shards::set::{LookedUp, Lookup, RelayAddress, Resolver, ShardHandle, ShardSet};

use crate::capacity::Capacity;
use crate::config::Config;
use crate::dmsg::discovery::numbers::DiscoveryNumbers;
use crate::dmsg::discovery::{
    self, DiscoveryConfig, DiscoveryHandle, Found, Published, ServerPlace,
};
use crate::failure::Failure;

/// What the shards ask, before and after the discoveries' thread runs.
#[derive(Debug, Default)]
pub(crate) struct Discoveries {
    running: OnceLock<Running>,
    /// What was asked and done.
    pub(crate) numbers: Arc<DiscoveryNumbers>,
}

#[derive(Debug)]
struct Running {
    handle: DiscoveryHandle,
    shards: Vec<ShardHandle>,
    directory: SessionDirectory,
    own: PublicKey,
}

impl Discoveries {
    /// Returns those of a relay that is to have some.
    pub(crate) fn wanted(config: &Config) -> Option<Arc<Self>> {
        let is_wanted = config.dmsg.listen.is_some() && !config.dmsg.discoveries.is_empty();
        is_wanted.then(Arc::default)
    }

    /// Registers the relay, whose shards run.
    ///
    /// # Errors
    ///
    /// [`Failure`] of a URL, and [`Failure::Host`] when there is no thread.
    pub(crate) fn start(
        &self,
        config: &Config,
        capacity: &Capacity,
        secret: &SecretKey,
        set: &ShardSet,
    ) -> Result<(), Failure> {
        let directory = set.directory().clone();
        let listen = set.dmsg_address().unwrap_or(config.listen);
        let settings = DiscoveryConfig {
            urls: config.dmsg.discoveries.clone(),
            secret: secret.clone(),
            published: Some(Published {
                address: published_address(config, listen)?,
                address_v6: String::new(),
                word: config.dmsg.auth.clone().unwrap_or_default(),
                is_client: config.services.is_any(),
                available: available(capacity, &directory),
            }),
            reads_servers: config.dmsg.links_all,
        };
        let handle = discovery::start(settings, Arc::clone(&self.numbers))?;
        let running = Running {
            handle,
            shards: set.handles().to_vec(),
            directory,
            own: secret.public(),
        };
        if self.running.set(running).is_err() {
            tracing::error!("the discoveries were started twice");
        }
        Ok(())
    }

    /// Keeps discoveries and shards in step until the task is dropped: how many sessions there are room for,
    /// and which servers to keep links with.
    pub(crate) async fn keep_in_step(self: Arc<Self>) {
        let Some(running) = self.running.get() else {
            return;
        };
        let mut servers = running.handle.servers();
        let (mut count, mut told) = (0, Vec::new());
        let mut tick = tokio::time::interval(TICK);
        loop {
            tick.tick().await;
            if std::mem::replace(&mut count, running.directory.len()) != running.directory.len() {
                running.handle.changed();
            }
            // Also when nothing has changed: a shard that was too busy is told again.
            let known = Arc::clone(&servers.borrow_and_update());
            let wanted = addresses(&known, running.own).await;
            if wanted != told && running.want(&wanted) {
                told = wanted;
            }
        }
    }

    /// Begins the end: the relay's entries are deleted.
    pub(crate) fn leave(&self) {
        if let Some(running) = self.running.get() {
            running.handle.leave();
        }
    }
}

impl Running {
    /// Tells every shard which servers to keep links with; false when one was too busy to hear.
    fn want(&self, servers: &[RelayAddress]) -> bool {
        let mut are_told = true;
        for shard in &self.shards {
            are_told &= shard.want_relays(Dialect::Dmsg, servers.to_vec()).is_ok();
        }
        are_told
    }
}

impl Resolver for Discoveries {
    fn look_up(&self, shard: ShardId, lookup: Lookup) -> bool {
        let Some(running) = self.running.get() else {
            return false;
        };
        let Some(shard) = running.shards.get(usize::from(shard.0)).cloned() else {
            return false;
        };
        let (directory, own) = (running.directory.clone(), running.own);
        running.handle.ask(lookup.key, move |found| {
            let answer = match found {
                Found::At(servers) => server_to_ask(&servers, own, &directory),
                Found::Nowhere => LookedUp::Nowhere,
                Found::Unavailable => LookedUp::Unavailable,
            };
            shard.answer(lookup, answer);
        })
    }

    fn doubt(&self, key: PublicKey) {
        if let Some(running) = self.running.get() {
            running.handle.doubt(key);
        }
    }
}

/// Returns which of a client's servers is asked: the first that a link stands with.
fn server_to_ask(servers: &[PublicKey], own: PublicKey, directory: &SessionDirectory) -> LookedUp {
    let mut others = servers.iter().filter(|server| **server != own);
    let linked = others
        .clone()
        .find(|server| directory.announcer(server).is_some());
    // One without a link is named all the same: the shard counts that there was none.
    match linked.or_else(|| others.next()) {
        Some(server) => LookedUp::At(*server),
        None => LookedUp::Nowhere,
    }
}

/// Returns what counts the sessions that the relay still takes. It may run a little behind.
fn available(
    capacity: &Capacity,
    directory: &SessionDirectory,
) -> Arc<dyn Fn() -> u32 + Send + Sync> {
    let most = capacity
        .sessions_max
        .saturating_mul(u32::from(capacity.shards));
    let directory = directory.clone();
    Arc::new(move || most.saturating_sub(u32::try_from(directory.len()).unwrap_or(u32::MAX)))
}

/// Returns where clients are told to connect.
fn published_address(config: &Config, listen: SocketAddr) -> Result<String, Failure> {
    match &config.dmsg.public_address {
        Some(address) => Ok(address.clone()),
        None if listen.ip().is_unspecified() => Err(Failure::Check(
            "dmsg.listen is every address of the host, which clients cannot be told: set dmsg.public_address \
             to the one that they reach"
                .to_owned(),
        )),
        None => Ok(listen.to_string()),
    }
}

/// Returns the addresses of servers; those whose names have none are left out until they have.
async fn addresses(servers: &[ServerPlace], own: PublicKey) -> Vec<RelayAddress> {
    let mut found = Vec::with_capacity(servers.len());
    for server in servers.iter().filter(|server| server.key != own) {
        match tokio::net::lookup_host(&server.address).await {
            Ok(mut addresses) => found.extend(addresses.next().map(|address| RelayAddress {
                key: server.key,
                address,
            })),
            Err(error) => tracing::debug!(%error, address = server.address, "a server's name"),
        }
    }
    found.sort_by_key(|relay| relay.key);
    found.truncate(SERVERS_MAX);
    found
}

/// How often both sides are compared.
const TICK: Duration = Duration::from_secs(1);

/// Servers that links are kept with, the most that the configuration may name.
const SERVERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use ringway_shards::core::{Place, SessionKey, Slot};

    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey::dmsg([byte; 33])
    }

    #[test]
    fn server_with_a_link_is_asked_first_and_this_one_never() {
        let directory = SessionDirectory::default();
        let servers = [key(1), key(2), key(3)];
        let ask = |servers: &[PublicKey]| server_to_ask(servers, key(1), &directory);
        assert_eq!(ask(&servers), LookedUp::At(key(2)));
        assert_eq!(ask(&servers[..1]), LookedUp::Nowhere);
        let link = Place {
            shard: ShardId(0),
            session: SessionKey {
                slot: Slot(1),
                generation: 0,
            },
        };
        assert!(directory.claim_announcer(key(3), link));
        assert_eq!(ask(&servers), LookedUp::At(key(3)));
    }

    #[test]
    fn address_of_every_interface_is_none_to_publish() {
        let mut config = Config::default();
        let listen = "0.0.0.0:8081".parse().unwrap();
        let error = published_address(&config, listen).unwrap_err();
        assert!(error.to_string().contains("dmsg.public_address"), "{error}");
        config.dmsg.public_address = Some("relay.example:8081".to_owned());
        let published = published_address(&config, listen).unwrap();
        assert_eq!(published, "relay.example:8081");
        config.dmsg.public_address = None;
        let listen = "192.0.2.1:8081".parse().unwrap();
        assert_eq!(
            published_address(&config, listen).unwrap(),
            "192.0.2.1:8081"
        );
    }
}
