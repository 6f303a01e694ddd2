//! `ringway route serve`: a party that is a hop of routes, and the end of those to one port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args as ClapArgs;
use ringway_client::{PublicKey, RelayAddress, RouteListener, RouteStream, Router, RouterConfig};
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::control::{self, CONTROL_DEFAULT};
use crate::cli::args::{KeyArgs, RelayArgs};
use crate::cli::expose::parse_target;
use crate::cli::progress::Progress;
use crate::cli::runtime::{Signals, block_on};
use crate::cli::tunnel::{CONNECTIONS_MAX, CONNECTIONS_RANGE, Pass, Tunnel};
use crate::config::{parse_address, parse_duration};
use crate::failure::Failure;
use crate::output::say;

/// Be a hop of routes, and deliver those that end here
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Key that may ask this party for rules; may be given several times [default: the relays' keys]
    #[arg(long = "allow-setup", value_name = "KEY", value_delimiter = ',')]
    allow_setup: Vec<PublicKey>,

    /// Party that this one can reach, announced to the relays when it answers pings; may be given several
    /// times. A path leads through two parties only when each has announced the other
    #[arg(long = "neighbour", value_name = "KEY", value_delimiter = ',')]
    neighbours: Vec<PublicKey>,

    /// Port under which route groups end here [default: none do]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    listen_port: Option<u16>,

    /// TCP service that these go to [default: they get an echo]
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_target, requires = "listen_port")]
    to: Option<String>,

    /// Address on which `ringway route ls`, `stats` and `find` are answered; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value_t = CONTROL_DEFAULT,
        value_parser = parse_address
    )]
    control: SocketAddr,

    #[command(flatten)]
    relay: RelayArgs,

    #[command(flatten)]
    key: KeyArgs,

    /// Route groups at once that end here; more wait
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = CONNECTIONS_MAX,
        value_parser = clap::value_parser!(u32).range(CONNECTIONS_RANGE),
        help_heading = "Limits"
    )]
    connections_max: u32,

    /// Time that open groups get to end after SIGTERM or SIGINT; a second signal ends it
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = parse_duration,
        help_heading = "Limits"
    )]
    drain_timeout: Duration,
}

const EXAMPLES: &str = "\
Examples:
  ringway route serve --relay KEY@127.0.0.1:7100 --neighbour KEY --neighbour KEY
  ringway route serve --relay KEY@127.0.0.1:7100 --listen-port 80 --to 127.0.0.1:8080
  ringway route serve --relay KEY@127.0.0.1:7100 --listen-port 7000      an echo, to try it

Without --allow-setup the relays this party uses may make it a hop; all other keys are refused. The
control endpoint is read-only and has no password: keep it on a loopback address.";

/// Runs the command until a signal ends it.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let held = args.key.hold("route.key")?;
    let secret = held.secret.clone();
    let outcome = block_on(serve(args, secret));
    drop(held);
    outcome
}

async fn serve(args: &Args, secret: ringway_client::SecretKey) -> Result<(), Failure> {
    let mut signals = Signals::take()?;
    let failed = |error| Failure::listen(args.control, "--control ADDRESS:PORT", error);
    let control = TcpListener::bind(args.control).await.map_err(failed)?;
    let address = control.local_addr().map_err(failed)?;
    let relays = tokio::select! {
        relays = args.relay.find(&args.key) => relays?,
        () = signals.next() => return Ok(()),
    };
    let tunnel = Tunnel::start(secret, &relays, args.connections_max)?;
    let config = RouterConfig {
        setup_relays: args.allow_setup.clone(),
        announce_to: relays.iter().map(|relay| relay.key).collect(),
        neighbours: args.neighbours.clone(),
        ..RouterConfig::default()
    };
    let cannot = |what: &str| format!("cannot take {what}");
    let router = Router::start(tunnel.client.clone(), config)
        .map_err(|error| Failure::host(cannot("route setups and packets"), error))?;
    let listener = args.listen_port.map(|port| router.listen(port)).transpose();
    let listener = listener.map_err(|error| Failure::host(cannot("route groups"), error))?;
    let first = relays
        .first()
        .map_or_else(|| router.key(), |relay| relay.key);
    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        () = tunnel.watch() => Ok(()),
        outcome = announce(args, &relays, &tunnel, address) => outcome,
        served = control::serve(control, router.clone(), first) => {
            served.map_err(|error| Failure::host("the control endpoint ended", error))
        }
        () = accept(&tunnel, listener.as_ref(), args.to.as_ref()) => Ok(()),
    };
    drop(listener);
    router.stop().await;
    tunnel.finish(&mut signals, args.drain_timeout).await;
    outcome
}

/// Says who this is once a session stands; then never ends.
async fn announce(
    args: &Args,
    relays: &[RelayAddress],
    tunnel: &Tunnel,
    control: SocketAddr,
) -> Result<(), Failure> {
    if tunnel.client.ready().await.is_ok() {
        let key = tunnel.client.key();
        let hint = args.relay.hint(relays);
        tunnel.progress.said(|| {
            say(format_args!("hop         {key}"))?;
            say(format_args!("control     {control}"))?;
            let Some(port) = args.listen_port else {
                return Ok(());
            };
            let what = args.to.as_deref().unwrap_or("an echo");
            say(format_args!("delivering  {what} as {key}:{port}"))?;
            say(format_args!(
                "next        ringway route dial {hint} --via KEY --listen 127.0.0.1:9000 {key}:{port}"
            ))
        })?;
    }
    std::future::pending().await
}

async fn accept(tunnel: &Tunnel, listener: Option<&RouteListener>, to: Option<&String>) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let mut groups = JoinSet::new();
    let to: Option<Arc<str>> = to.map(|to| Arc::from(to.as_str()));
    loop {
        let pass = tunnel.pass().await;
        let Ok(stream) = listener.accept().await else {
            return;
        };
        groups.spawn(deliver(pass, stream, to.clone(), tunnel.progress.clone()));
        // Bound: ended groups leave the set before it grows by another one.
        while groups.try_join_next().is_some() {}
    }
}

/// Joins a group with the service, or echoes.
async fn deliver(pass: Pass, mut stream: RouteStream, to: Option<Arc<str>>, progress: Progress) {
    let Some(to) = to else {
        let (mut reader, mut writer) = split(stream);
        if copy(&mut reader, &mut writer).await.is_ok() {
            // How a single group ends is between its two sides.
            drop(writer.shutdown().await);
        }
        return drop(pass);
    };
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(to.as_ref())).await {
        Ok(Ok(tcp)) => drop(pass.join(tcp, stream).await),
        Ok(Err(error)) => {
            stream.reset();
            progress.note(&format!("ringway: cannot connect to {to}: {error}"));
        }
        Err(_) => {
            stream.reset();
            progress.note(&format!("ringway: cannot connect to {to}: no answer"));
        }
    }
}

/// Longest wait for the service: on the own host or network an answer takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
