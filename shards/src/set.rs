//! All shards of a relay: start, command, end.
//!
//! Here: [`ShardSet`]. Not here: what one shard does (`data`, `service`), where settings come from.
//!
//! Starting goes in steps, and every step of every shard succeeds before the next begins: listeners
//! (shard 0 first, because only then a port of 0 has become a number), data threads with their rings,
//! service executors, go. So a launch that fails leaves nothing behind, and its error is the first
//! cause rather than a thread found dead later.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crossbeam::utils::CachePadded;
use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::handshake::Identities;
use ringway_proto::dialect::place::Locator;
use ringway_proto::dmsg::handshake::Identity;
use ringway_proto::handshake::Offer;
use ringway_proto::handshake::RelayIdentity;
use ringway_proto::key::PublicKey;
use ringway_proto::limits::STREAMS_MAX;
use ringway_proto::limits::WINDOW_INITIAL;

use crate::core::CoreConfig;
use crate::core::Message;
use crate::core::ShardCore;
use crate::core::ShardId;
use crate::data::DataThread;
use crate::data::Doorbell;
use crate::data::Parts;
use crate::data::Placing;
use crate::data::Resolvers;
use crate::data::since;
use crate::directory::SessionDirectory;
use crate::load::Loads;
use crate::mailbox::Mailboxes;
use crate::mailbox::SleepFlag;
use crate::mailbox::mailboxes;
use crate::placement;
use crate::ports::PortsConfig;
use crate::ports::ShardPorts;
use crate::probe;
use crate::ring::ListenError;
use crate::ring::ListenOptions;
use crate::ring::Listener;
use crate::ring::Ring;
use crate::ring::RingConfig;
use crate::ring::RingError;
use crate::ring::RingHandle;
use crate::ring::RingLease;
use crate::ring::Waker;
use crate::ring::check_source;
use crate::ring::steer_by_source;
use crate::service::Service;
use crate::service::ServicePort;

pub use crate::core::AdmissionLimits;
pub use crate::core::AllowedRelays;
pub use crate::core::LookedUp;
pub use crate::core::Lookup;
pub use crate::core::MeshConfig;
pub use crate::core::Prefix;
pub use crate::core::Proxies;
pub use crate::core::QueueLimits;
pub use crate::core::RelayAddress;
pub use crate::core::Timeouts;
pub use crate::data::CommandError;
pub use crate::data::PendingDial;
pub use crate::data::ShardHandle;
pub use crate::directory::Changes;
pub use crate::load::Placement;
pub use crate::resolver::Resolver;
pub use crate::snapshot::DataNumbers;
pub use crate::snapshot::ShardAudit;
pub use crate::snapshot::ShardSnapshot;
pub use crate::snapshot::StalledTurn;

/// Settings of all shards.
#[derive(Debug, Clone)]
pub struct ShardSetConfig {
    /// Shards, one data thread each; normally one a core.
    pub shards_count: u16,
    /// Processor cores to pin to, one a shard; empty takes those the process may use.
    pub cores: Vec<usize>,
    /// How new connections are shared out among the shards. Where the kernel cannot do what is asked for, it
    /// deals them out itself, which the log says.
    pub placement: Placement,
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether to join a process that listens on the address already and shares it, as the old one does
    /// during an upgrade. Otherwise such an address is an error: half of the clients would go to the
    /// wrong process.
    pub joins_address: bool,
    /// Connections that may wait to be accepted, a shard. The kernel clips it to `net.core.somaxconn`.
    pub backlog: u32,
    /// Congestion control of accepted sockets; the host's default if absent.
    pub congestion: Option<String>,
    /// How long a data thread polls after activity before it sleeps. Zero: never. Costs up to this much
    /// processor time an event on a quiet relay, and saves 50 us a round trip.
    pub spin: Duration,
    /// Who gets in, of each shard. `sockets_max` is clipped to one less than the ring's file table, of
    /// which one slot stays free, and one more for each dialect where there are services.
    pub admission: AdmissionLimits,
    /// What may wait, of each shard.
    pub queue: QueueLimits,
    /// When things end by themselves.
    pub timeouts: Timeouts,
    /// The relay's key.
    pub identity: Arc<RelayIdentity>,
    /// What the relay needs to speak the dmsg dialect as well.
    pub dmsg: Option<DmsgConfig>,
    /// What the relay tells each peer in the handshake.
    pub offer: Offer,
    /// Local ports that the shards may dial from, shared out among them.
    pub ports: PortsConfig,
    /// Other relays. Each shard has links of its own with them.
    pub mesh: MeshConfig,
    /// Answers questions about peers that no link has told of; `mesh.has_registry` follows from it.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// Whether services of the relay will be attached to each shard ([`ShardHandle::attach`]): a slot of its
    /// ring's file table is kept for them, in each dialect that the relay speaks.
    pub has_services: bool,
    /// Each shard's ring.
    pub ring: RingConfig,
}

impl ShardSetConfig {
    /// Returns one shard with every default, on a free port of the loopback: to be changed field by field.
    #[must_use]
    pub fn new(identity: Arc<RelayIdentity>) -> Self {
        let ring = RingConfig::default();
        let timeouts = Timeouts::default();
        Self {
            shards_count: 1,
            cores: Vec::new(),
            placement: Placement::default(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            joins_address: false,
            backlog: BACKLOG_DEFAULT,
            congestion: None,
            spin: SPIN_DEFAULT,
            admission: AdmissionLimits::for_sockets(ring.sockets_max - 1),
            queue: QueueLimits::default(),
            timeouts,
            identity,
            dmsg: None,
            offer: Offer {
                capabilities: 0,
                streams_max: STREAMS_MAX,
                stream_window: WINDOW_INITIAL,
                keepalive_s: u16::try_from(timeouts.keepalive.as_secs()).unwrap_or(u16::MAX),
            },
            ports: PortsConfig::default(),
            mesh: MeshConfig::default(),
            resolver: None,
            has_services: false,
            ring,
        }
    }

    /// Lets each shard hold this many sockets.
    #[must_use]
    pub fn with_sockets(mut self, sockets_max: u32) -> Self {
        self.admission = AdmissionLimits::for_sockets(sockets_max);
        // One slot of the table stays free.
        self.ring.sockets_max = sockets_max + 1;
        self
    }
}

/// The dmsg dialect of a relay.
#[derive(Debug, Clone)]
pub struct DmsgConfig {
    /// Address that its clients connect to; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The relay's key in that dialect.
    pub identity: Arc<Identity>,
    /// Who may say in a header of the PROXY protocol where a client comes from.
    pub proxies: Proxies,
    /// Answers questions about clients of other servers; without one those that links stand with are asked in
    /// turn.
    pub discovery: Option<Arc<dyn Resolver>>,
    /// Knows where addresses are on earth, for clients that ask.
    pub locator: Option<Arc<dyn Locator>>,
}

impl DmsgConfig {
    /// Returns a listener that asks nobody about clients of other servers, nor where addresses are, and
    /// believes no proxy.
    #[must_use]
    pub const fn new(listen: SocketAddr, identity: Arc<Identity>) -> Self {
        Self {
            listen,
            identity,
            proxies: Proxies::NONE,
            discovery: None,
            locator: None,
        }
    }
}

/// Connections that may wait to be accepted, unless configured: a reconnect storm of this many clients a
/// shard loses none to a full queue. Costs the kernel 300 bytes each while they wait.
pub const BACKLOG_DEFAULT: u32 = 4_096;

/// Polling time unless configured: catches the answer of a peer on the same host or rack, a round trip
/// of 21 us instead of 75 us, at 20 us of processor time an event.
/// Source: docs/internals/uring.md, finding 2.
pub const SPIN_DEFAULT: Duration = Duration::from_micros(20);

/// Why the shards did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// No listening socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The kernel has no randomness.
    #[error("the kernel gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The range has fewer ports than there are shards.
    #[error(
        "the range of local ports leaves {have} for {shards} shards once the relay's own port is taken \
         out, each needs one: widen ports.range or start fewer shards"
    )]
    Ports {
        /// Ports left.
        have: u32,
        /// Shards.
        shards: u16,
    },
    /// A ring could not be made.
    #[error("shard {shard} has no ring")]
    Ring {
        /// The shard.
        shard: u16,
        /// Why, and what to do about it.
        source: RingError,
    },
    /// A service executor could not be made.
    #[error(
        "shard {shard} has no thread for its service executor: raise 'ulimit -u' (TasksMax= in the unit)"
    )]
    Service {
        /// The shard.
        shard: u16,
        /// Why, and what to do about it.
        source: io::Error,
    },
    /// The settings make no sense.
    #[error("{0}")]
    Settings(&'static str),
    /// A source address is none of this host.
    #[error(
        "{address} of ports.sources cannot be dialed from: see 'ip addr' for this host's addresses"
    )]
    Source {
        /// The address.
        address: IpAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread could not be made.
    #[error("shard {shard} has no thread: raise the limit of tasks (TasksMax= or 'ulimit -u')")]
    Thread {
        /// The shard.
        shard: u16,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The running shards of a relay. Dropping it shuts them down.
#[derive(Debug)]
pub struct ShardSet {
    shards: Vec<Shard>,
    handles: Vec<ShardHandle>,
    address: SocketAddr,
    dmsg_address: Option<SocketAddr>,
    placement: Placement,
    directory: SessionDirectory,
}

#[derive(Debug)]
struct Shard {
    data: Data,
    /// Ends after the data thread: fields are dropped in order.
    _service: Service,
}

impl ShardSet {
    /// Starts all shards and returns when every one of them runs.
    ///
    /// # Errors
    /// See [`LaunchError`]; nothing is left running.
    pub fn launch(config: &ShardSetConfig) -> Result<Self, LaunchError> {
        check(config)?;
        let count = usize::from(config.shards_count);
        let listeners = listen(config, config.listen)?;
        let address = listeners.first().map_or(config.listen, Listener::address);
        let dmsg = config.dmsg.as_ref().map(|dmsg| listen(config, dmsg.listen));
        let dmsg = dmsg.transpose()?.unwrap_or_default();
        let dmsg_address = dmsg.first().map(Listener::address);
        let placement = placement_in_force(config, [&listeners, &dmsg]);
        let ports = ports(config, [Some(address), dmsg_address])?;
        let cores = placement::cores(&config.cores, count);
        let directory = match config.resolver {
            Some(_) => SessionDirectory::for_registry(),
            None => SessionDirectory::default(),
        };
        let loads = Loads::new(config.shards_count, admission(config).sockets_max);
        let epoch = now();
        let mut starting = Vec::with_capacity(count);
        let ends = mailboxes(count);
        let mut dmsg = dmsg.into_iter();
        for ((shard, listener), (mailboxes, core)) in
            (0..).zip(listeners).zip(ends.into_iter().zip(&cores))
        {
            let native = (listener, Dialect::Native);
            let dmsg = dmsg.next().map(|listener| (listener, Dialect::Dmsg));
            let seed = Seed {
                shard: ShardId(shard),
                config: config.clone(),
                ports: ports.of_shard(shard, config.shards_count),
                hash_seed: getrandom::u64().map_err(LaunchError::Random)?,
                listeners: [Some(native), dmsg].into_iter().flatten().collect(),
                mailboxes,
                core: *core,
                directory: directory.clone(),
                placing: Placing::new(loads.clone(), shard, placement),
                epoch,
            };
            starting.push(Starting::spawn(seed)?);
        }
        let mut ready = Vec::with_capacity(count);
        for starting in starting {
            ready.push(starting.ready()?);
        }
        let rings: Vec<_> = ready.iter().map(|ready| ready.ring.clone()).collect();
        let identities = Arc::new(identities(config));
        let mut services = Vec::with_capacity(count);
        for (ready, core) in ready.iter().zip(&cores) {
            let shard = ready.handle.shard().0;
            let identities = Arc::clone(&identities);
            let started = Service::start(shard, *core, identities, ready.doorbell.clone());
            services.push(started.map_err(|source| LaunchError::Service { shard, source })?);
        }
        let mut set = Self {
            shards: Vec::new(),
            handles: Vec::new(),
            address,
            dmsg_address,
            placement,
            directory,
        };
        for (ready, (service, port)) in ready.into_iter().zip(services) {
            set.handles.push(ready.handle.clone());
            let data = ready.go(rings.clone(), port);
            set.shards.push(Shard {
                data,
                _service: service,
            });
        }
        Ok(set)
    }

    /// Returns the address, with the port the kernel chose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of the dmsg dialect, with the port the kernel chose.
    #[must_use]
    pub const fn dmsg_address(&self) -> Option<SocketAddr> {
        self.dmsg_address
    }

    /// Returns how connections are shared out, which may be less than what was asked for.
    #[must_use]
    pub const fn placement(&self) -> Placement {
        self.placement
    }

    /// Returns a handle for each shard.
    #[must_use]
    pub fn handles(&self) -> &[ShardHandle] {
        &self.handles
    }

    /// Returns the directory of sessions.
    #[must_use]
    pub const fn directory(&self) -> &SessionDirectory {
        &self.directory
    }

    /// Returns a snapshot of each shard that answers within `timeout`.
    #[must_use]
    pub fn snapshots(&self, timeout: Duration) -> Vec<ShardSnapshot> {
        let deadline = now() + timeout;
        let asked: Vec<_> = self
            .handles
            .iter()
            .filter_map(|handle| handle.snapshot().ok())
            .collect();
        asked
            .into_iter()
            .filter_map(|answer| {
                answer
                    .recv_timeout(deadline.saturating_duration_since(now()))
                    .ok()
            })
            .collect()
    }

    /// Takes nothing new from now on; each session ends with its last stream.
    pub fn drain(&self) {
        for handle in &self.handles {
            handle.drain();
        }
    }

    /// Ends the session of `key`; returns whether a shard held it. Waits up to `timeout`.
    #[must_use]
    pub fn kick(&self, key: PublicKey, timeout: Duration) -> bool {
        let deadline = now() + timeout;
        let asked: Vec<_> = self
            .handles
            .iter()
            .filter_map(|handle| handle.kick(key).ok())
            .collect();
        asked.into_iter().any(|answer| {
            answer
                .recv_timeout(deadline.saturating_duration_since(now()))
                .unwrap_or(false)
        })
    }

    /// Closes everything, ends all threads, and returns each shard's last snapshot.
    #[must_use]
    pub fn shutdown(mut self) -> Vec<ShardSnapshot> {
        self.end()
    }

    fn end(&mut self) -> Vec<ShardSnapshot> {
        for handle in &self.handles {
            handle.shutdown();
        }
        self.shards
            .iter_mut()
            .filter_map(|shard| shard.data.join())
            .collect()
    }
}

impl Drop for ShardSet {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// What a data thread needs to begin.
struct Seed {
    shard: ShardId,
    config: ShardSetConfig,
    ports: ShardPorts,
    hash_seed: u64,
    listeners: Vec<(Listener, Dialect)>,
    mailboxes: Mailboxes<Message<RingLease>>,
    core: Option<usize>,
    directory: SessionDirectory,
    placing: Placing,
    epoch: Instant,
}

/// The last pieces, which exist only when every shard has its ring.
struct Go {
    rings: Vec<RingHandle>,
    service: ServicePort,
    handle: ShardHandle,
}

/// A data thread. Dropped before it was told to go, it ends.
#[derive(Debug)]
struct Data {
    go: Option<mpsc::SyncSender<Go>>,
    thread: Option<thread::JoinHandle<Option<ShardSnapshot>>>,
}

/// A data thread that makes its ring.
struct Starting {
    shard: ShardId,
    sleep: Arc<CachePadded<SleepFlag>>,
    made: mpsc::Receiver<Result<(RingHandle, Waker), RingError>>,
    data: Data,
}

/// A data thread that has its ring and waits for the others.
struct Ready {
    ring: RingHandle,
    handle: ShardHandle,
    doorbell: Doorbell,
    data: Data,
}

impl Starting {
    fn spawn(seed: Seed) -> Result<Self, LaunchError> {
        let (ready, made) = mpsc::sync_channel(1);
        let (go, start) = mpsc::sync_channel(1);
        let (shard, sleep) = (seed.shard, seed.mailboxes.sleep_flag());
        let thread = thread::Builder::new()
            .name(format!("ringway-data-{}", shard.0))
            .spawn(move || seed.run(&ready, &start))
            .map_err(|source| LaunchError::Thread {
                shard: shard.0,
                source,
            })?;
        let data = Data {
            go: Some(go),
            thread: Some(thread),
        };
        Ok(Self {
            shard,
            sleep,
            made,
            data,
        })
    }

    fn ready(self) -> Result<Ready, LaunchError> {
        let shard = self.shard.0;
        let made = self.made.recv().map_err(|_| LaunchError::Thread {
            shard,
            source: io::Error::other("it ended before its ring was made"),
        })?;
        let (ring, waker) = made.map_err(|source| LaunchError::Ring { shard, source })?;
        let doorbell = Doorbell::new(self.sleep, waker);
        let handle = ShardHandle::new(self.shard, doorbell.clone());
        Ok(Ready {
            ring,
            handle,
            doorbell,
            data: self.data,
        })
    }
}

impl Ready {
    fn go(mut self, rings: Vec<RingHandle>, service: ServicePort) -> Data {
        if let Some(go) = self.data.go.take()
            && go
                .send(Go {
                    rings,
                    service,
                    handle: self.handle,
                })
                .is_err()
        {
            tracing::error!("a data thread ended before it began");
        }
        self.data
    }
}

impl Data {
    fn join(&mut self) -> Option<ShardSnapshot> {
        self.go = None;
        match self.thread.take()?.join() {
            Ok(snapshot) => snapshot,
            Err(_) => {
                tracing::error!("a data thread panicked");
                None
            }
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        drop(self.join());
    }
}

impl Seed {
    /// The data thread, from start to end.
    fn run(
        self,
        ready: &mpsc::SyncSender<Result<(RingHandle, Waker), RingError>>,
        start: &mpsc::Receiver<Go>,
    ) -> Option<ShardSnapshot> {
        placement::pin(self.core);
        let mut ring = match Ring::new(&self.config.ring) {
            Ok(ring) => ring,
            Err(error) => {
                drop(ready.send(Err(error)));
                return None;
            }
        };
        drop(ready.send(Ok((ring.handle(), ring.waker()))));
        // Closed when another shard could not start.
        let go = start.recv().ok()?;
        let mut dialects = Vec::with_capacity(self.listeners.len());
        for (listener, dialect) in self.listeners {
            ring.listen_with_choice(listener);
            dialects.push(dialect);
        }
        let dmsg = self.config.dmsg.as_ref();
        let core = CoreConfig {
            shard: self.shard,
            shards_count: self.config.shards_count,
            own_key: self.config.identity.public(),
            dmsg_key: dmsg.map(|dmsg| dmsg.identity.public()),
            proxies: dmsg.map_or(Proxies::NONE, |dmsg| dmsg.proxies.clone()),
            offer: self.config.offer,
            admission: admission(&self.config),
            queue: self.config.queue,
            timeouts: self.config.timeouts,
            ports: self.ports,
            mesh: MeshConfig {
                has_registry: self.config.resolver.is_some(),
                has_discovery: dmsg.is_some_and(|dmsg| dmsg.discovery.is_some()),
                ..self.config.mesh
            },
            hash_seed: self.hash_seed,
        };
        let core = ShardCore::new(core, self.directory, since(self.epoch));
        let parts = Parts {
            shard: self.shard,
            ring,
            core,
            mailboxes: self.mailboxes,
            rings: go.rings,
            service: go.service,
            placing: self.placing,
            dialects,
            inbox: go.handle.inbox(),
            epoch: self.epoch,
            spin: self.config.spin,
            congestion: self.config.congestion,
            resolvers: Resolvers {
                registry: self.config.resolver,
                discovery: self.config.dmsg.and_then(|dmsg| dmsg.discovery),
            },
        };
        Some(DataThread::new(parts).run())
    }
}

fn check(config: &ShardSetConfig) -> Result<(), LaunchError> {
    if config.shards_count == 0 {
        return Err(LaunchError::Settings("at least one shard is needed"));
    }
    if config.ring.sockets_max < 2 {
        return Err(LaunchError::Settings(
            "at least two sockets a shard are needed: one stays free",
        ));
    }
    if !config.ring.blocks.is_power_of_two() {
        return Err(LaunchError::Settings(
            "the number of receive blocks must be a power of two",
        ));
    }
    Ok(())
}

/// Returns the local ports without those that the relay listens on, after checking that every shard
/// gets some and that each source address is one of this host.
fn ports(
    config: &ShardSetConfig,
    listen: [Option<SocketAddr>; 2],
) -> Result<PortsConfig, LaunchError> {
    let mut ports = config.ports.clone();
    for address in listen.into_iter().flatten() {
        ports.range.remove(address.port());
    }
    let (have, shards) = (ports.range.len(), config.shards_count);
    if have < u32::from(shards) {
        return Err(LaunchError::Ports { have, shards });
    }
    for address in ports.sources.iter().copied() {
        check_source(address).map_err(|source| LaunchError::Source { address, source })?;
    }
    Ok(ports)
}

/// Returns who gets in: one slot of the file table stays free, and the services have another for each
/// dialect.
fn admission(config: &ShardSetConfig) -> AdmissionLimits {
    let mut admission = config.admission;
    let kept = if config.has_services {
        2 + u32::from(config.dmsg.is_some())
    } else {
        1
    };
    admission.sockets_max = admission
        .sockets_max
        .min(config.ring.sockets_max.saturating_sub(kept))
        .max(1);
    admission
}

/// Returns the relay's keys, and what its executors know of addresses.
fn identities(config: &ShardSetConfig) -> Identities {
    let dmsg = config.dmsg.as_ref();
    let identity = dmsg.map(|dmsg| Arc::clone(&dmsg.identity));
    let locator = dmsg.and_then(|dmsg| dmsg.locator.clone());
    Identities::new((*config.identity).clone(), identity).with_locator(locator)
}

/// Arranges how connections are shared out; returns how they really are. Beside a process that it joins,
/// that one's listeners come first in the group, and `hash` leaves everything to them until they close.
fn placement_in_force(config: &ShardSetConfig, groups: [&[Listener]; 2]) -> Placement {
    if config.shards_count == 1 {
        return config.placement;
    }
    let lacks = match config.placement {
        Placement::Balanced => {
            let lacks = "the kernel hands no connection from ring to ring".to_owned();
            (!probe::can_hand_over()).then_some(lacks)
        }
        Placement::Hash => groups
            .into_iter()
            .find_map(|listeners| steer_by_source(listeners).err())
            .map(|error| format!("the kernel takes no program for its listeners: {error}")),
        Placement::Reuseport => None,
    };
    let Some(lacks) = lacks else {
        return config.placement;
    };
    tracing::warn!("{lacks}; connections stay where it deals them out, as with \"reuseport\"");
    Placement::Reuseport
}

/// Opens one listener a shard, all on the same address.
fn listen(config: &ShardSetConfig, address: SocketAddr) -> Result<Vec<Listener>, ListenError> {
    if !config.joins_address {
        Listener::check_unused(address)?;
    }
    let mut options = ListenOptions {
        address,
        backlog: config.backlog,
        congestion: config.congestion.clone(),
        closes_with_fin: false,
    };
    let mut listeners = Vec::with_capacity(usize::from(config.shards_count));
    for _ in 0..config.shards_count {
        let listener = Listener::bind(&options)?;
        options.address = listener.address();
        listeners.push(listener);
    }
    Ok(listeners)
}

#[expect(clippy::disallowed_methods, reason = "the clock of the drivers")]
fn now() -> Instant {
    Instant::now()
}
