//! `ringway serve`: runs a relay.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use clap::Args as ClapArgs;
use ringway_proto::dmsg;
use ringway_proto::key::SecretKey;
use tokio::sync::oneshot;

use super::args::{DeployArgs, KeyArgs, path_text};
use super::lan::LanServeArgs;
use super::runtime::Signals;
use crate::capacity::{Capacity, Room};
use crate::config::{Config, LogFormat, Settings, resolve};
use crate::control::discoveries::Discoveries;
use crate::control::drain::{self, End};
use crate::control::fleet::Fleet;
use crate::control::pages::{self, Pages};
use crate::control::plane::{self, Plane};
use crate::control::{Relay, Shards, admin};
use crate::failure::Failure;
use crate::key_file::{self, HeldKey};
use crate::lan::announce::Announcement;
use crate::output::say;
use crate::preflight::preflight;
use crate::registry::start::Running;
use crate::services::{Keys, Services, Shared};

/// Run a relay
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Configuration file; every key is described in docs/config.md
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set any configuration key, such as `limits.sessions_max=1000`; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,

    /// Address for peers [default: 127.0.0.1:7100]
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Listen")]
    listen: Option<String>,

    #[command(flatten, next_help_heading = "Listen")]
    lan: LanServeArgs,

    /// Shards, each on a core of its own [default: one for each core of this process]
    #[arg(long, value_name = "COUNT", help_heading = "Listen")]
    shards: Option<String>,

    /// Cores for the shards, such as 0,1
    #[arg(long, value_name = "CORES", help_heading = "Listen")]
    cores: Option<String>,

    /// Relay to keep links with, as it prints itself; may be given several times. It must name this
    /// one as well, or have its key in mesh.allowed
    #[arg(long = "link", value_name = "KEY@HOST:PORT", help_heading = "Mesh")]
    links: Vec<String>,

    #[command(flatten, next_help_heading = "Mesh")]
    deploy: DeployArgs,

    /// Address for `ringway status`, /health and /metrics, or off [default: 127.0.0.1:7180]
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Admin")]
    admin: Option<String>,

    /// What becomes of a host that is not as the relay needs it: off does not look, warn says it, strict
    /// does not start where a check fails [default: warn]
    #[arg(long, value_name = "MODE", help_heading = "Admin")]
    preflight: Option<String>,

    /// Log lines to write: error, warn, info, debug, trace [default: warn]
    #[arg(long, value_name = "LEVEL", help_heading = "Admin")]
    log_level: Option<String>,

    /// How log lines look: text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Admin")]
    log_format: Option<String>,

    /// Longest drain after SIGTERM or SIGINT [default: 30s]
    #[arg(long, value_name = "DURATION", help_heading = "Admin")]
    drain_timeout: Option<String>,

    /// Drain when standard input closes too, so that the relay ends with the program that started it
    #[arg(long, help_heading = "Admin")]
    until_stdin_closes: bool,

    #[command(flatten)]
    key: KeyArgs,
}

const EXAMPLES: &str = "\
Examples:
  ringway serve
  ringway serve --lan
  ringway serve --listen 0.0.0.0:7100 --key-file /var/lib/ringway/relay.key
  ringway serve --config relay.toml --set limits.sessions_max=1000
  ringway serve --link KEY@relay.example:7100 --set mesh.allowed=all
  ringway serve --deploy lab.toml

A flag beats the environment (RINGWAY_LISTEN, RINGWAY_LIMITS_SESSIONS_MAX, ...), which beats the
file, which beats the deployment, which beats the default; `ringway config show` tells what is in
force. A relay outside of the deployment is refused, whoever names it. SIGTERM and SIGINT drain:
peers are told, open bridges may end, at most for the drain's timeout; a second signal ends it at once.";

/// Runs the command until a signal ends it.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut resolved = resolve(&args.settings(), |name| std::env::var_os(name))?;
    start_logs(&resolved.config)?;
    if let Err(error) = ringway_shards::ring::huge_pages_only_where_asked() {
        tracing::debug!(%error, "huge pages stay as the host has them");
    }
    let key_path = match &resolved.config.key_file {
        Some(path) => path.clone(),
        None => key_file::state_directory(args.key.state_dir.as_deref())?.join("relay.key"),
    };
    let held: HeldKey = key_file::hold(&key_path, BESIDE)?;
    let dmsg_key = hold_dmsg(&resolved.config, &key_path)?;
    let key = held.secret.public();
    resolved.leave_out(key);
    let place = args.lan.place(&mut resolved, key, &key_path)?;
    let of_registry = resolved.config_of_registry();
    let config = resolved.config;
    let shards = plane::shards_count(&config);
    // Before the first socket: a host that is refused has seen nothing of the relay.
    let capacity = preflight(
        &config,
        shards,
        Capacity::of(&config, shards, Room::of_host()),
    )?;
    let admin_listener = config.admin_listen.map(admin::bind).transpose()?;
    let fleet = Fleet::new();
    let dmsg = dmsg_key.as_ref().map(|held| &held.secret);
    let discoveries = Discoveries::wanted(&config);
    let keys = (&held.secret, dmsg);
    let plane = start_plane(&config, &capacity, keys, (&fleet, discoveries.as_ref()))?;
    let registry = fleet.start(&of_registry, &held.secret, plane.shards(), &key_path)?;
    let (registry, view) = registry.unzip();
    let announced = place.map(|place| place.announce(key, plane.address()));
    let relay = Arc::new(Relay {
        key,
        listen: plane.address(),
        dmsg: dmsg.map(|secret| secret.public()).zip(plane.dmsg_address()),
        placement: plane.placement(),
        config,
        capacity,
        started: SystemTime::now(),
        started_at: Instant::now(),
        discoveries,
        registry: view,
        is_draining: AtomicBool::new(false),
    });
    let pages = Pages {
        relay: Arc::clone(&relay),
        shards: Arc::<Plane>::clone(&plane),
        services: Arc::new(Shared::new(&relay.config)),
    };
    let keys = Keys {
        native: held.secret.into(),
        dmsg: dmsg.cloned().map(Into::into),
    };
    let services = Services::start(&pages, &keys, plane.shards().handles())?;
    let runtime = control_runtime()?;
    let stdin_closed = args.until_stdin_closes.then(watch_stdin);
    let outcome = runtime.block_on(operate(
        pages,
        &plane,
        Told {
            registry,
            lan: announced.transpose()?,
            services,
        },
        admin_listener,
        stdin_closed,
    ));
    // The runtime's threads that wait for snapshots hold the shards too.
    drop(runtime);
    Arc::into_inner(plane).into_iter().for_each(Plane::end);
    outcome
}

/// Holds the key of the dmsg dialect if the relay is to speak it, made at the first start as the other one
/// is.
fn hold_dmsg(
    config: &Config,
    key_path: &Path,
) -> Result<Option<HeldKey<dmsg::key::SecretKey>>, Failure> {
    if config.dmsg.listen.is_none() {
        return Ok(None);
    }
    let path = match &config.dmsg.key_file {
        Some(path) => path.clone(),
        None => key_path.with_file_name("dmsg.key"),
    };
    Ok(Some(key_file::hold(&path, "--set dmsg.key_file=FILE")?))
}

/// Starts the shards, and what they ask.
fn start_plane(
    config: &Config,
    capacity: &Capacity,
    (secret, dmsg): (&SecretKey, Option<&dmsg::key::SecretKey>),
    (fleet, discoveries): (&Fleet, Option<&Arc<Discoveries>>),
) -> Result<Arc<Plane>, Failure> {
    let plane = Plane::launch(config, capacity, secret, dmsg, fleet, discoveries)?;
    if let Some((discoveries, secret)) = discoveries.zip(dmsg) {
        discoveries.start(config, capacity, secret, plane.shards())?;
    }
    Ok(Arc::new(plane))
}

/// Returns the runtime of the control plane, on the thread that asks.
fn control_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::host("cannot start the control thread", error))
}

/// Runs the control plane from the four lines to the end of the drain.
async fn operate(
    pages: Pages,
    plane: &Arc<Plane>,
    mut told: Told,
    admin_listener: Option<std::net::TcpListener>,
    stdin_closed: Option<oneshot::Receiver<()>>,
) -> Result<(), Failure> {
    let mut signals = Signals::take()?;
    let Pages { relay, shards, .. } = pages.clone();
    let admin_address = match &admin_listener {
        Some(listener) => Some(listener.local_addr().map_err(|error| {
            Failure::host("cannot read the address of the admin endpoint", error)
        })?),
        None => None,
    };
    if let Some(listener) = admin_listener {
        let serving = admin::serve(listener, pages);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the admin endpoint ended");
            }
        });
    }
    if let Some(discoveries) = relay.discoveries.clone() {
        tokio::spawn(discoveries.keep_in_step());
    }
    greet(&relay, plane, admin_address, told.lan.is_some())?;
    let closed = async {
        match stdin_closed {
            // An error is the reader's end as well.
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals.next() => {}
        () = closed => {}
    }
    tracing::info!(timeout = ?relay.config.drain_timeout, "draining");
    relay.is_draining.store(true, Ordering::Relaxed);
    // Before its sessions end, nobody is sent here any more.
    if let Some(discoveries) = &relay.discoveries {
        discoveries.leave();
    }
    told.withdraw();
    plane.drain();
    let view = async || pages::view(Arc::clone(&shards)).await;
    match drain::wait(view, relay.config.drain_timeout, signals.next()).await {
        End::AtOnce | End::Clean => Ok(()),
        End::Cut(left) => Err(Failure::DrainDeadline {
            timeout: relay.config.drain_timeout,
            left,
        }),
    }
}

/// Who has been told where the relay is, its own services included.
struct Told {
    registry: Option<Running>,
    lan: Option<Announcement>,
    services: Services,
}

impl Told {
    /// Tells them that it goes.
    fn withdraw(&mut self) {
        if let Some(registry) = &mut self.registry {
            registry.leave();
        }
        if let Some(lan) = &self.lan {
            lan.withdraw();
        }
        self.services.drain();
    }
}

/// Prints where the relay is, its key, what to run next, and what it can hold: four lines, and one more for
/// the dmsg dialect.
fn greet(
    relay: &Relay,
    plane: &Plane,
    admin: Option<SocketAddr>,
    is_on_lan: bool,
) -> Result<(), Failure> {
    let Relay {
        key,
        listen,
        dmsg,
        capacity,
        ..
    } = relay;
    let shards = match plane.shards_count() {
        1 => "1 shard".to_owned(),
        count => format!("{count} shards"),
    };
    let admin = admin.map_or_else(|| "off".to_owned(), |admin| format!("http://{admin}"));
    let dmsg = dmsg.map(|(key, address)| format!("{key}@{}", reachable(address)));
    let reachable = reachable(*listen);
    say(format_args!(
        "listening  {listen} ({shards}), admin {admin}"
    ))?;
    say(format_args!("relay      {key}@{reachable}"))?;
    let how = match is_on_lan {
        true => "--lan".to_owned(),
        false => format!("--relay {key}@{reachable}"),
    };
    say(format_args!(
        "next       ringway expose {how} --port 80 --to 127.0.0.1:8080"
    ))?;
    say(format_args!("capacity   {capacity}"))?;
    match dmsg {
        Some(dmsg) => say(format_args!("dmsg       {dmsg}")),
        None => Ok(()),
    }
}

/// Returns the address that a peer on this host can use; one for every address is none to dial.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

impl Args {
    /// Returns the flags as settings: what each key accepts is decided in one place.
    fn settings(&self) -> Settings {
        let flag = |name: &str, key: &str, value: &Option<String>| {
            let value = value.clone()?;
            Some((name.to_owned(), key.to_owned(), value))
        };
        let links = (!self.links.is_empty()).then(|| self.links.join(","));
        let key_file = self.key.key_file.as_deref().map(path_text);
        let general = self
            .settings
            .iter()
            .map(|(key, value)| ("--set".to_owned(), key.clone(), value.clone()));
        let special = [
            flag("--listen", "listen", &self.listen),
            flag("--shards", "shards", &self.shards),
            flag("--cores", "cores", &self.cores),
            flag("--admin", "admin.listen", &self.admin),
            flag("--link", "mesh.relays", &links),
            flag("--preflight", "preflight", &self.preflight),
            flag("--log-level", "log.level", &self.log_level),
            flag("--log-format", "log.format", &self.log_format),
            flag("--drain-timeout", "drain.timeout", &self.drain_timeout),
            flag("--key-file", "key_file", &key_file),
        ];
        Settings {
            flags: general.chain(special.into_iter().flatten()).collect(),
            file: self.config.clone(),
            deploy: self.deploy.deploy.clone(),
        }
    }
}

pub(super) fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("expected KEY=VALUE, such as limits.sessions_max=1000")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn start_logs(config: &Config) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::builder()
        .parse(&config.log_level)
        .map_err(|error| Failure::host("cannot start the log", error))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = match config.log_format {
        LogFormat::Json => logs.json().try_init(),
        LogFormat::Text => logs.try_init(),
    };
    started.map_err(|error| Failure::host("cannot start the log", error))
}

/// Resolves when standard input has ended, which it is read for on a thread of its own: nothing else
/// can wait for it.
fn watch_stdin() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        // Any end of it counts, an error too.
        drop(io::copy(&mut io::stdin(), &mut io::sink()));
        if sender.send(()).is_err() {
            tracing::trace!("a signal was faster than the end of standard input");
        }
    });
    receiver
}

/// What a second relay on the same host needs.
const BESIDE: &str = "--state-dir DIRECTORY --listen ADDRESS:PORT --admin ADDRESS:PORT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_address_can_be_dialled() {
        for (listen, expected) in [
            ("0.0.0.0:7100", "127.0.0.1:7100"),
            ("[::]:7100", "[::1]:7100"),
            ("192.0.2.1:7100", "192.0.2.1:7100"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn setting_is_split_at_the_first_sign() {
        assert_eq!(parse_setting("a.b = c=d"), Ok(("a.b".into(), "c=d".into())));
        assert!(parse_setting("a.b").is_err());
    }
}
