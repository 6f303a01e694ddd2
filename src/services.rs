//! What a relay offers on its own key: streams that end in the relay.
//!
//! ```text
//!   port 80  HTTP: health, metrics, the API      the keys of `services.http`, all unless configured
//!   port 81  HTTP: profiles, tables, histograms  the keys of `services.debug`
//!   port 36  route setup and route finder        the keys of `services.route_setup`, all unless configured
//!   port 7   echo, for `ringway ping`            whoever has a session
//! ```
//!
//! A relay that speaks the dmsg dialect too has the same ports on its key of that one, with the same pages
//! for the same sets of keys; port 7 answers pings as Skywire's clients do, port 36 sets up Skywire's routes.
//!
//! Each shard has a thread of its own for them, on the same core at the priority of the service executor,
//! with a client of the relay inside for each key: a stream to a key of the relay ends on the shard that it
//! came to. Here: the threads and their end. Not here: what the ports do (`http`), the clients' other side
//! (`shards::core`).
//!
//! Bound: as `http` and the client say; a service that is busy delays others on its shard, never a data
//! thread.

mod debug;
mod door;
pub(crate) mod finder;
mod http;
mod peer;
pub(crate) mod route_setup;

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ringway_client::{Client, Identity, ListenError};
use ringway_proto::dmsg::rpc::SETUP_PORT;
use ringway_proto::route::ROUTE_SETUP_PORT;
use ringway_shards::set::ShardHandle;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::KeySet;
use crate::config::Config;
use crate::control::pages::{self, Pages};
use crate::failure::Failure;

use self::door::Door;
use self::route_setup::numbers::Numbers;
use self::route_setup::paths::Paths;
use self::route_setup::{Bounds, DmsgSetup, NativeSetup, Setups, slots_of};

/// How far the relay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// No new streams; those that there are may end.
    Draining,
    /// Everything ends now.
    Ended,
}

/// The keys of a relay.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// Its own.
    pub(crate) native: Identity,
    /// That of the dmsg dialect, if it speaks it.
    pub(crate) dmsg: Option<Identity>,
}

/// The running services. Dropping them ends them.
#[derive(Debug)]
pub(crate) struct Services {
    stage: watch::Sender<Stage>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Services {
    /// Starts the services of every shard, if there are any.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when there is no thread for them.
    pub(crate) fn start(
        pages: &Pages,
        keys: &Keys,
        shards: &[ShardHandle],
    ) -> Result<Self, Failure> {
        let (stage, _) = watch::channel(Stage::Serving);
        let mut services = Self {
            stage,
            shared: Arc::clone(&pages.services),
            threads: Vec::new(),
        };
        if !pages.relay.config.services.is_any() {
            return Ok(services);
        }
        let count = u16::try_from(shards.len()).unwrap_or(u16::MAX);
        let mut standing = Vec::new();
        for handle in shards {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::host("cannot start the services", error))?;
            let client = |identity: &Identity| {
                let _inside = runtime.enter();
                peer::start(identity, handle, count, &pages.relay.config)
                    .map_err(|error| Failure::host("cannot start the services", error))
            };
            let dmsg = keys.dmsg.as_ref().map(client).transpose()?;
            let client = client(&keys.native)?;
            services.shared.probes.add(handle.shard().0, client.clone());
            let (ready, stands) = mpsc::sync_channel(1);
            let shard = Shard {
                ready,
                number: handle.shard().0,
                shards_count: count,
                client,
                dmsg,
                pages: pages.clone(),
                stage: services.stage.subscribe(),
            };
            let thread = thread::Builder::new()
                .name(format!("ringway-own-{}", handle.shard().0))
                .spawn(move || run(&runtime, shard))
                .map_err(|error| Failure::host("cannot start a thread for services", error))?;
            services.threads.push(thread);
            standing.push(stands);
        }
        // Who reads that the relay listens may use its services at once.
        let until = Instant::now() + START_TIMEOUT;
        for stands in standing {
            let left = until.saturating_duration_since(Instant::now());
            if stands.recv_timeout(left).is_err() {
                tracing::warn!("services of the relay's key are slow to start");
            }
        }
        Ok(services)
    }

    /// Takes no new streams; those that there are go on until they end.
    pub(crate) fn drain(&self) {
        self.shared.probes.clear();
        self.stage.send_replace(Stage::Draining);
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.shared.probes.clear();
        self.stage.send_replace(Stage::Ended);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of services panicked");
            }
        }
    }
}

/// What the thread of one shard has.
struct Shard {
    /// Told once its services can be reached.
    ready: mpsc::SyncSender<()>,
    number: u16,
    shards_count: u16,
    client: Client,
    /// The client with the key of the dmsg dialect.
    dmsg: Option<Client>,
    pages: Pages,
    stage: watch::Receiver<Stage>,
}

/// The thread.
fn run(runtime: &Runtime, shard: Shard) {
    // As the service executor, and for the same reason: `shards/src/service.rs`.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::warn!(%error, "services keep the priority of the data thread");
    }
    runtime.block_on(serve(shard));
}

async fn serve(shard: Shard) {
    let mut services = JoinSet::new();
    if let Err(error) = start_all(&shard, &mut services) {
        tracing::error!(%error, shard = shard.number, "not all services of the relay's key");
    }
    let Shard {
        client,
        dmsg,
        mut stage,
        ready,
        ..
    } = shard;
    let clients: Vec<Client> = [Some(client), dmsg].into_iter().flatten().collect();
    tokio::select! {
        _ = join_all(clients.iter().map(Client::ready)) => {}
        () = at_least(&mut stage, Stage::Draining) => {}
    }
    if ready.try_send(()).is_err() {
        tracing::debug!("nobody waits for the services any more");
    }
    // From here on only their listeners and streams keep the clients.
    let drained = at_least(&mut stage, Stage::Draining);
    drained.await;
    drop(clients);
    tokio::select! {
        () = at_least(&mut stage, Stage::Ended) => {}
        () = async { while services.join_next().await.is_some() {} } => {}
    }
}

/// Starts what the settings ask for.
fn start_all(shard: &Shard, services: &mut JoinSet<()>) -> Result<(), ListenError> {
    let Shard {
        number,
        shards_count,
        client,
        dmsg,
        pages,
        stage,
        ..
    } = shard;
    let choice = &pages.relay.config.services;
    for client in [Some(client), dmsg.as_ref()].into_iter().flatten() {
        if !choice.http.is_empty() {
            let door = Door::open(client, HTTP_PORT, among(&choice.http))?;
            let router = pages::router(pages.clone());
            services.spawn(http::serve(door, router, stage.clone()));
        }
        if !choice.debug.is_empty() {
            let door = Door::open(client, DEBUG_PORT, among(&choice.debug))?;
            let router = debug::router(pages.clone());
            services.spawn(http::serve(door, router, stage.clone()));
        }
    }
    if choice.has_route_setup {
        let share = |all| slots_of(*number, *shards_count, all);
        let bounds = Bounds {
            slots: share(choice.setups_max).max(1),
            waiting_max: share(choice.setups_waiting_max),
            timeout: choice.setup_timeout,
        };
        let setups = Setups::new(bounds, Arc::clone(&pages.services.setups));
        let door = Door::open(client, ROUTE_SETUP_PORT, among(&choice.route_setup))?;
        let paths = pages.services.paths.clone();
        let native = NativeSetup::new(client.clone(), &setups, paths);
        services.spawn(native.serve(door, stage.clone()));
        if let Some(client) = dmsg {
            let door = Door::open(client, SETUP_PORT, among(&choice.route_setup))?;
            let dmsg = DmsgSetup::new(client.clone(), &setups);
            services.spawn(dmsg.serve(door, stage.clone()));
        }
        // What all shards share is looked after by one of them.
        if *number == 0 {
            services.spawn(expire(Arc::clone(&pages.services), stage.clone()));
        }
    }
    Ok(())
}

fn among(keys: &KeySet) -> door::Allowed {
    let keys = keys.clone();
    Arc::new(move |key| keys.has(key))
}

/// Gives back the memory of transports that nobody announces any more.
async fn expire(shared: Arc<Shared>, mut stage: watch::Receiver<Stage>) {
    while timeout(EXPIRE_INTERVAL, at_least(&mut stage, Stage::Draining))
        .await
        .is_err()
    {
        shared.paths.expire();
    }
}

/// What the services of all shards share, and pages show.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The way to the data threads.
    pub(crate) probes: Probes,
    /// What route setup counts.
    pub(crate) setups: Arc<Numbers>,
    /// Who finds paths.
    pub(crate) paths: Paths,
}

impl Shared {
    /// Returns what there is before anything has begun.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            probes: Probes::default(),
            setups: Arc::default(),
            paths: Paths::new(config.services.route_finder),
        }
    }
}

/// Waits until the relay is as far as that.
async fn at_least(stage: &mut watch::Receiver<Stage>, wanted: Stage) {
    // An error means that the sender is gone, which is the end of all.
    drop(stage.wait_for(|stage| *stage >= wanted).await);
}

/// How long a frame takes from the services of each shard to its data thread and back.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    clients: Mutex<Vec<(u16, Client)>>,
}

impl Probes {
    fn add(&self, shard: u16, client: Client) {
        self.lock().push((shard, client));
    }

    fn clear(&self) {
        let clients = std::mem::take(&mut *self.lock());
        drop(clients);
    }

    /// Sends a frame to the data thread of each shard that has services; none comes back from one that does
    /// not answer in time.
    pub(crate) async fn round_trips(&self) -> Vec<(u16, Option<Duration>)> {
        let clients = self.lock().clone();
        let probe = async |(shard, client): (u16, Client)| {
            let answer = timeout(PROBE_TIMEOUT, client.ping_relay()).await;
            (shard, answer.ok().and_then(Result::ok))
        };
        join_all(clients.into_iter().map(probe)).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u16, Client)>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longest wait for the services at the start; usual are 10 ms.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Port of the relay's key that serves its state.
pub(crate) const HTTP_PORT: u16 = 80;

/// Port of the relay's key on which it can be looked into.
const DEBUG_PORT: u16 = 81;

/// Longest round trip of a data thread that is taken for alive; usual are 100 us.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Time between two looks at what has expired: a set stands for ten minutes at most.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);

/// See `shards/src/service.rs`.
const NICE: i32 = 10;
