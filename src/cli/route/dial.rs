//! `ringway route dial`: brings a service of another party here, over a path of several parties.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args as ClapArgs;
use ringway_client::{Address, PublicKey, RoutePath, RoutePlan, RouteStream, Router, RouterConfig};
use ringway_proto::limits::ROUTE_PATHS_MAX;
use ringway_proto::route::{Find, FindBy};
use tokio::io::{AsyncWriteExt, copy, split, stdin, stdout};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cli::args::{KeyArgs, LocalLimits, RelayArgs};
use crate::cli::runtime::{Signals, block_on};
use crate::cli::tunnel::{Pass, Tunnel, reset};
use crate::config::{parse_address, parse_duration};
use crate::failure::{Failure, chain};
use crate::output::say;

/// Bring a service of another party to a TCP port of this host, over a route
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Service to reach, as `ringway route serve` prints it
    #[arg(value_name = "KEY:PORT")]
    to: Address,

    /// Parties between here and there, in their order [default: as the relay finds]
    #[arg(long, value_name = "KEY,KEY", value_delimiter = ',')]
    via: Vec<PublicKey>,

    /// No party between here and there
    #[arg(long, conflicts_with = "via")]
    direct: bool,

    /// Address to listen on; port 0 takes a free one [default: standard input and output]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_address)]
    listen: Option<SocketAddr>,

    /// Party that this one can reach, announced to the relay; may be given several times
    #[arg(long = "neighbour", value_name = "KEY", value_delimiter = ',')]
    neighbours: Vec<PublicKey>,

    #[command(flatten)]
    relay: RelayArgs,

    #[command(flatten)]
    key: KeyArgs,

    /// Time without a packet after which hops forget a route; a dead path is noticed in half of it
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = parse_duration,
        help_heading = "Limits"
    )]
    keep_alive: Duration,

    #[command(flatten)]
    limits: LocalLimits,
}

const EXAMPLES: &str = "\
Examples:
  ringway route dial --relay KEY@127.0.0.1:7100 --via KEY,KEY --listen 127.0.0.1:9000 KEY:80
  ringway route dial --relay KEY@127.0.0.1:7100 --neighbour KEY --listen 127.0.0.1:9000 KEY:80
  echo hello | ringway route dial --relay KEY@127.0.0.1:7100 --via KEY KEY:7000

The first relay sets the route up, which goes back as it goes forth. When a hop dies, it is asked for
another path; connections go on without losing a byte. Without --via the relay must know a path:
this party and each hop have announced each other.";

/// Runs the command until a signal ends it, or standard input and output are done.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let port = args.listen.map_or(0, |listen| listen.port());
    let held = args.key.hold(&format!("route-dial-{port}.key"))?;
    let secret = held.secret.clone();
    let outcome = block_on(serve(args, secret));
    drop(held);
    outcome
}

async fn serve(args: &Args, secret: ringway_client::SecretKey) -> Result<(), Failure> {
    let mut signals = Signals::take()?;
    let failed = |address| move |error| Failure::listen(address, "--listen ADDRESS:PORT", error);
    let listener = match args.listen {
        Some(address) => {
            let listener = TcpListener::bind(address).await.map_err(failed(address))?;
            let bound = listener.local_addr().map_err(failed(address))?;
            Some((listener, bound))
        }
        None => None,
    };
    let relays = tokio::select! {
        relays = args.relay.find(&args.key) => relays?,
        () = signals.next() => return Ok(()),
    };
    let tunnel = Tunnel::start(secret, &relays, args.limits.connections_max)?;
    let relay = relays
        .first()
        .map_or_else(|| tunnel.client.key(), |relay| relay.key);
    let config = RouterConfig {
        announce_to: match args.neighbours.is_empty() {
            true => Vec::new(),
            false => vec![relay],
        },
        neighbours: args.neighbours.clone(),
        keep_alive: args.keep_alive,
        ..RouterConfig::default()
    };
    let router = Router::start(tunnel.client.clone(), config)
        .map_err(|error| Failure::host("cannot take packets of routes", error))?;
    let dialler = Arc::new(Dialler {
        router: router.clone(),
        relay,
        to: args.to,
        via: (args.direct || !args.via.is_empty()).then(|| args.via.clone()),
    });
    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        () = tunnel.watch() => Ok(()),
        outcome = work(&dialler, &tunnel, listener) => outcome,
    };
    router.stop().await;
    tunnel
        .finish(&mut signals, args.limits.drain.drain_timeout)
        .await;
    outcome
}

async fn work(
    dialler: &Arc<Dialler>,
    tunnel: &Tunnel,
    listener: Option<(TcpListener, SocketAddr)>,
) -> Result<(), Failure> {
    if tunnel.client.ready().await.is_err() {
        return Ok(());
    }
    let Some((listener, address)) = listener else {
        return pipe(dialler).await;
    };
    tunnel
        .progress
        .said(|| say(format_args!("forwarding  {address} to {}", dialler.to)))?;
    let mut connections = JoinSet::new();
    loop {
        let pass = tunnel.pass().await;
        match listener.accept().await {
            Ok((tcp, _)) => {
                let dialler = Arc::clone(dialler);
                let progress = tunnel.progress.clone();
                connections.spawn(async move {
                    if let Some(note) = dialler.connect(pass, tcp).await {
                        progress.note(&note);
                    }
                });
            }
            Err(error) => {
                let note = format!("ringway: cannot take connections: {error}");
                tunnel.progress.note(&note);
                sleep(ACCEPT_PAUSE).await;
            }
        }
        // Bound: ended connections leave the set before it grows by another one.
        while connections.try_join_next().is_some() {}
    }
}

/// Joins standard input and output with the service.
async fn pipe(dialler: &Dialler) -> Result<(), Failure> {
    let stream = dialler.dial().await.map_err(Failure::Check)?;
    let (mut reader, mut writer) = split(stream);
    let there = async {
        copy(&mut stdin(), &mut writer).await?;
        writer.shutdown().await
    };
    let back = async {
        let mut out = stdout();
        copy(&mut reader, &mut out).await?;
        out.flush().await
    };
    let (there, back) = tokio::join!(there, back);
    there
        .and(back)
        .map_err(|error| Failure::host("the route broke", error))
}

/// Opens route groups to one service.
#[derive(Debug)]
struct Dialler {
    router: Router,
    relay: PublicKey,
    to: Address,
    via: Option<Vec<PublicKey>>,
}

impl Dialler {
    /// Dials and joins; returns what is worth telling people.
    async fn connect(&self, pass: Pass, tcp: TcpStream) -> Option<String> {
        match self.dial().await {
            Ok(stream) => {
                // How a single connection ended is between its two sides.
                drop(pass.join(tcp, stream).await);
                None
            }
            Err(why) => {
                reset(&tcp);
                Some(format!("ringway: cannot reach {}: {why}", self.to))
            }
        }
    }

    async fn dial(&self) -> Result<RouteStream, String> {
        let begun = Instant::now();
        let mut paths = self.paths().await?;
        // This party has announced its own neighbours just now.
        while paths.is_empty() && begun.elapsed() < FIND_TIMEOUT {
            sleep(FIND_PAUSE).await;
            paths = self.paths().await?;
        }
        let mut paths = paths.into_iter();
        let Some(path) = paths.next() else {
            let why = "the relay knows no path: each party on it has to name the ones beside it with \
                       --neighbour; or name a path with --via";
            return Err(why.to_owned());
        };
        let plan = RoutePlan {
            relay: self.relay,
            path,
            port: self.to.port,
            alternatives: paths.collect(),
        };
        self.router.dial(plan).await.map_err(|error| chain(&error))
    }

    async fn paths(&self) -> Result<Vec<RoutePath>, String> {
        let key = self.router.key();
        if let Some(via) = &self.via {
            let between = via.iter().copied();
            let all = [key].into_iter().chain(between).chain([self.to.key]);
            return Ok(vec![RoutePath::both_ways(all.collect())]);
        }
        let find = Find {
            destination: self.to.key,
            paths_max: u8::try_from(ROUTE_PATHS_MAX).unwrap_or(u8::MAX),
            hops_max: 0,
            by: FindBy::Latency,
            avoid: Vec::new(),
        };
        let found = self.router.find(self.relay, find).await;
        let found = found.map_err(|error| chain(&error))?;
        let paths = found
            .into_iter()
            .map(|path| RoutePath::both_ways(path.hops));
        Ok(paths.collect())
    }
}

/// Longest wait for a path to become known.
const FIND_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between two questions for it.
const FIND_PAUSE: Duration = Duration::from_millis(250);

/// Pause after a failed accept: the usual cause, no free descriptor, does not end by asking again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
