//! `ringway dmsg-discovery`: runs a discovery for clients and servers of Skywire's dmsg.
//!
//! Here: flags, start and end. Not here: the discovery itself (`dmsg::discovery_server`).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use clap::Args as ClapArgs;
use ringway_proto::dmsg::entry::parse_key;
use ringway_proto::key::PublicKey;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::runtime::{Signals, block_on};
use super::tunnel::LOG_VARIABLE;
use crate::config::{parse_duration, parse_size};
use crate::dmsg::discovery_server::api::lists::Lists;
use crate::dmsg::discovery_server::api::{self, Api};
use crate::dmsg::discovery_server::doors::Doors;
use crate::dmsg::discovery_server::embedded::{Bounds, Embedded};
use crate::dmsg::discovery_server::numbers::Numbers;
use crate::dmsg::discovery_server::pages::About;
use crate::dmsg::discovery_server::rates::Rates;
use crate::dmsg::discovery_server::record::Moment;
use crate::dmsg::discovery_server::redis::Redis;
use crate::dmsg::discovery_server::rules::Rules;
use crate::dmsg::discovery_server::store::Store;
use crate::dmsg::discovery_server::{CLEAN_INTERVAL, Limits};
use crate::failure::Failure;
use crate::key_file;
use crate::output::say;

/// Run a discovery for Skywire's dmsg
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Address for HTTP
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9090",
        help_heading = "Listen"
    )]
    listen: SocketAddr,

    /// Proxy in front of this discovery whose X-Forwarded-For is believed; may be given several times
    #[arg(long = "proxy", value_name = "ADDRESS", help_heading = "Listen")]
    proxies: Vec<IpAddr>,

    /// Where entries are kept: embedded, embedded:FILE, or a URL of Redis or Valkey. `embedded` is
    /// discovery.jsonl in the state directory [default: embedded]
    #[arg(
        long,
        value_name = "STORE",
        env = "RINGWAY_DISCOVERY_STORE",
        hide_env_values = true,
        help_heading = "Store"
    )]
    store: Option<String>,

    /// Directory for state [default: ringway under the XDG state directory, else
    /// ~/.local/state/ringway]
    #[arg(
        long,
        value_name = "DIRECTORY",
        env = "RINGWAY_STATE_DIR",
        hide_env_values = true,
        help_heading = "Store"
    )]
    state_dir: Option<PathBuf>,

    /// How long a client's entry stands that is not refreshed, or 0s for ever; a server's stands 2 minutes
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "60m",
        value_parser = parse_duration,
        help_heading = "Store"
    )]
    entry_timeout: Duration,

    /// Key of a server that is official; may be given several times. The word in
    /// `RINGWAY_DISCOVERY_AUTH` makes one official too; with neither of them all are
    #[arg(long = "official", value_name = "KEY", value_parser = parse_name, help_heading = "Trust")]
    official: Vec<PublicKey>,

    /// Key of a monitor that may delete any entry; may be given several times
    #[arg(long = "whitelist", value_name = "KEY", value_parser = parse_name, help_heading = "Trust")]
    whitelist: Vec<PublicKey>,

    /// Take servers that listen on loopback: for tests on one host
    #[arg(long, help_heading = "Trust")]
    allow_loopback: bool,

    #[command(flatten)]
    limits: LimitArgs,
}

/// What bounds the discovery.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Entries of clients
    #[arg(long, value_name = "COUNT", default_value_t = 200_000)]
    clients_max: u32,

    /// Entries of servers; those that are official by key or word do not count
    #[arg(long, value_name = "COUNT", default_value_t = 1_024)]
    servers_max: u32,

    /// Memory for entries, without Redis
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    memory_max: u64,

    /// Connections at once; beyond that, silent ones are ended
    #[arg(long, value_name = "COUNT", default_value_t = 4_096,
          value_parser = clap::value_parser!(u32).range(1..))]
    connections_max: u32,

    /// Connections at once of one address
    #[arg(long, value_name = "COUNT", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..))]
    connections_source_max: u32,

    /// Writes a second of one address, ten times as many at once; 0 for no limit
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    writes_per_s_max: u32,
}

const EXAMPLES: &str = "\
Examples:
  ringway dmsg-discovery                                       on 127.0.0.1:9090, in a file
  ringway dmsg-discovery --listen 0.0.0.0:9090 --store embedded:/var/lib/ringway/discovery.jsonl
  ringway dmsg-discovery --store redis://127.0.0.1:6379/0      beside others, or in place of Go's
  ringway dmsg-discovery --allow-loopback                      for a test on one host
  curl http://127.0.0.1:9090/dmsg-discovery/all_servers

RINGWAY_DISCOVERY_STORE and RINGWAY_DISCOVERY_AUTH keep a URL with a password, and the word for
official servers, out of the list of processes. RINGWAY_LOG=debug writes more than warnings. SIGTERM
and SIGINT answer what has been asked and end it.";

/// Where entries are kept.
#[derive(Debug, Clone)]
enum Place {
    /// In a file; in the state directory when none is named.
    Embedded(Option<PathBuf>),
    /// In Redis.
    Redis(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("redis:") || text.starts_with("redis+unix:") {
            // What is wrong with it is told at once, without the password that it may have.
            return Redis::new(text, 0, 0).map(|_| Self::Redis(text.to_owned()));
        }
        match text.split_once(':') {
            None if text == "embedded" => Ok(Self::Embedded(None)),
            Some(("embedded", path)) if !path.is_empty() => Ok(Self::Embedded(Some(path.into()))),
            _ => Err(
                "expected embedded, embedded:FILE, redis://HOST:PORT/DATABASE or \
                      redis+unix:///SOCKET"
                    .to_owned(),
            ),
        }
    }
}

fn parse_name(text: &str) -> Result<PublicKey, String> {
    parse_key(text).map_err(|error| format!("{error}; expected a key of dmsg, 66 hex digits"))
}

/// Runs the command until a signal ends it.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    start_logs()?;
    block_on(async {
        let mut signals = Signals::take()?;
        let place = args.place()?;
        let listener = TcpListener::bind(args.listen).await;
        let listener = listener
            .map_err(|error| Failure::listen(args.listen, "--listen ADDRESS:PORT", error))?;
        match place {
            Place::Redis(url) => {
                let LimitArgs {
                    servers_max,
                    clients_max,
                    ..
                } = args.limits;
                let redis = Redis::new(&url, servers_max, clients_max).map_err(Failure::Usage)?;
                let name = redis.name();
                redis.clean(Moment::now()).await.map_err(|error| {
                    let what = format!(
                        "{name} does not answer: start it, or name another with --store redis://HOST:PORT"
                    );
                    Failure::host(what, error)
                })?;
                args.serve(listener, redis, name, &mut signals).await
            }
            Place::Embedded(path) => {
                let path = args.path(path)?;
                let name = format!("file {}", path.display());
                let shown = path.display().to_string();
                let store = Embedded::open(path, args.bounds(), Moment::now());
                let store = store.map_err(|error| {
                    let what = format!("cannot use {shown} (--store embedded:FILE)");
                    Failure::host(what, error)
                })?;
                args.serve(listener, store, name, &mut signals).await
            }
        }
    })
}

impl Args {
    fn place(&self) -> Result<Place, Failure> {
        // Not by the parser of the command line, which would show a wrong value with the password in it.
        let place = self.store.as_deref().map(str::parse).transpose();
        let place = place.map_err(|error: String| Failure::Usage(format!("--store: {error}")))?;
        Ok(place.unwrap_or(Place::Embedded(None)))
    }

    /// Returns the file of the embedded store.
    fn path(&self, named: Option<PathBuf>) -> Result<PathBuf, Failure> {
        match named {
            Some(path) => Ok(path),
            None => Ok(key_file::state_directory(self.state_dir.as_deref())?.join(FILE_NAME)),
        }
    }

    const fn bounds(&self) -> Bounds {
        let LimitArgs {
            clients_max,
            servers_max,
            memory_max,
            ..
        } = self.limits;
        Bounds {
            clients_max,
            servers_max,
            bytes_max: memory_max,
        }
    }

    /// Serves from the first line to the end.
    async fn serve<S: Store>(
        &self,
        listener: TcpListener,
        store: S,
        name: String,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        let address = listener
            .local_addr()
            .map_err(|error| Failure::host("cannot read the address of the discovery", error))?;
        let api = Arc::new(self.api(store, name));
        let doors = Doors::new(self.limits(), Arc::clone(&api.numbers));
        let (stop, stopped) = watch::channel(false);
        let router = api::router(Arc::clone(&api));
        let serving = tokio::spawn(doors.serve(listener, router, stopped));
        let cleaning = tokio::spawn(clean(Arc::clone(&api)));
        say(format_args!("listening  http://{address}"))?;
        say(format_args!("store      {}", api.about.store))?;
        signals.next().await;
        tracing::info!("ending");
        cleaning.abort();
        // It cannot fail: whoever listens for it is waited for.
        stop.send_replace(true);
        tokio::select! {
            ended = serving => if ended.is_err() {
                tracing::error!("the task of the connections has panicked");
            },
            () = signals.next() => {}
        }
        api.store.close().await;
        Ok(())
    }

    fn api<S>(&self, store: S, name: String) -> Api<S> {
        let is_limited = !self.entry_timeout.is_zero();
        Api {
            store,
            rules: Rules {
                official: self.official.iter().copied().collect(),
                passphrase: std::env::var(AUTH_VARIABLE).unwrap_or_default(),
                takes_loopback: self.allow_loopback,
                client_time: is_limited.then_some(self.entry_timeout),
            },
            whitelist: self.whitelist.iter().copied().collect(),
            proxies: self
                .proxies
                .iter()
                .map(IpAddr::to_canonical)
                .collect::<BTreeSet<_>>(),
            rates: Mutex::new(Rates::new(self.limits.writes_per_s_max)),
            has_seen_proxy: AtomicBool::new(false),
            lists: Lists::default(),
            numbers: Arc::new(Numbers::default()),
            about: About {
                started: SystemTime::now(),
                started_at: Instant::now(),
                store: name,
            },
        }
    }

    const fn limits(&self) -> Limits {
        Limits {
            connections_max: self.limits.connections_max,
            connections_source_max: self.limits.connections_source_max,
        }
    }
}

/// Writes warnings to standard error, or what the variable asks for.
fn start_logs() -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::WARN.into())
        .with_env_var(LOG_VARIABLE)
        .from_env();
    let filter = filter.map_err(|error| Failure::Usage(format!("{LOG_VARIABLE}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| Failure::host("cannot start the log", error))
}

/// Takes out now and then what has expired.
async fn clean<S: Store>(api: Arc<Api<S>>) {
    let mut ticks = interval(CLEAN_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match api.store.clean(Moment::now()).await {
            Ok(counts) => {
                let size = |count| usize::try_from(count).unwrap_or(usize::MAX);
                api.numbers.servers.set(size(counts.servers));
                api.numbers.clients.set(size(counts.clients));
            }
            Err(error) => {
                tracing::debug!(%error, "what has expired is not taken out");
                api.numbers.store_errors.count();
            }
        }
        let mut rates = api
            .rates
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        rates.forget_idle(tokio::time::Instant::now());
    }
}

/// The file of the embedded store, in the state directory.
const FILE_NAME: &str = "discovery.jsonl";

/// The environment variable with the word for official servers.
const AUTH_VARIABLE: &str = "RINGWAY_DISCOVERY_AUTH";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_a_file_or_redis() {
        let place = |text: &str| text.parse::<Place>();
        assert!(matches!(place("embedded"), Ok(Place::Embedded(None))));
        let named = place("embedded:/a/b:c").unwrap();
        assert!(
            matches!(named, Place::Embedded(Some(path)) if path == std::path::Path::new("/a/b:c"))
        );
        assert!(matches!(place("redis://a:1/2"), Ok(Place::Redis(_))));
        for wrong in ["", "embedded:", "file", "rediss://a:1", "redis", "redis://"] {
            assert!(place(wrong).is_err(), "{wrong:?}");
        }
    }
}
