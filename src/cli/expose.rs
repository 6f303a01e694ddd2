//! `ringway expose`: makes a TCP service reachable by public key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args as ClapArgs;
use ringway_client::{Identity, Listener, RelayAddress, Stream};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::args::{DrainArgs, KeyArgs, RelayArgs};
use super::runtime::{Signals, block_on};
use super::tunnel::{CONNECTIONS_MAX, CONNECTIONS_RANGE, Pass, Tunnel};
use crate::failure::Failure;
use crate::output::say;

/// Make a TCP service of this host or network reachable by public key
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Port under which peers reach the service
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// TCP service that the connections go to
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_target)]
    to: String,

    #[command(flatten)]
    relay: RelayArgs,

    #[command(flatten)]
    key: KeyArgs,

    /// Connections at once; more wait
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = CONNECTIONS_MAX,
        value_parser = clap::value_parser!(u32).range(CONNECTIONS_RANGE),
        help_heading = "Limits"
    )]
    connections_max: u32,

    #[command(flatten)]
    drain: DrainArgs,
}

const EXAMPLES: &str = "\
Examples:
  ringway expose --relay KEY@127.0.0.1:7100 --port 80 --to 127.0.0.1:8080
  ringway expose --lan --port 80 --to 127.0.0.1:8080
  RINGWAY_RELAY=KEY@127.0.0.1:7100 ringway expose --port 22 --to 127.0.0.1:22

The key of this party is made at the first start and kept, so its address stays the same. Without
--key-file each port has a key of its own.";

/// Runs the command until a signal ends it.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let name = format!("expose-{}.key", args.port);
    let held = args.key.hold_in(args.relay.dialect()?, &name)?;
    let secret = held.secret.clone();
    let outcome = block_on(serve(args, secret));
    drop(held);
    outcome
}

async fn serve(args: &Args, identity: Identity) -> Result<(), Failure> {
    let mut signals = Signals::take()?;
    let relays = tokio::select! {
        relays = args.relay.find(&args.key) => relays?,
        () = signals.next() => return Ok(()),
    };
    let tunnel = Tunnel::start(identity, &relays, args.connections_max)?;
    let listener = tunnel.client.listen(args.port).map_err(|error| {
        Failure::host(format!("cannot take streams on port {}", args.port), error)
    })?;
    let target = Arc::new(Target {
        address: args.to.clone(),
        is_down: AtomicBool::new(false),
    });
    let mut connections = JoinSet::new();
    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        () = tunnel.watch() => Ok(()),
        outcome = announce(args, &relays, &tunnel) => outcome,
        () = accept(&tunnel, &listener, &target, &mut connections) => Ok(()),
    };
    drop(listener);
    tunnel.finish(&mut signals, args.drain.drain_timeout).await;
    outcome
}

/// Says where the service is once it is there; then never ends.
async fn announce(args: &Args, relays: &[RelayAddress], tunnel: &Tunnel) -> Result<(), Failure> {
    let Args {
        port, to, relay, ..
    } = args;
    if tunnel.client.ready().await.is_ok() {
        let key = tunnel.client.key();
        let hint = relay.hint(relays);
        tunnel.progress.said(|| {
            say(format_args!("exposing  {to} as {key}:{port}"))?;
            say(format_args!(
                "next      ringway forward {hint} --listen 127.0.0.1:9000 --to {key}:{port}"
            ))
        })?;
    }
    std::future::pending().await
}

async fn accept(
    tunnel: &Tunnel,
    listener: &Listener,
    target: &Arc<Target>,
    connections: &mut JoinSet<()>,
) {
    loop {
        let pass = tunnel.pass().await;
        let Ok(stream) = listener.accept().await else {
            return;
        };
        let progress = tunnel.progress.clone();
        let target = Arc::clone(target);
        connections.spawn(async move {
            if let Some(note) = target.connect(pass, stream).await {
                progress.note(&note);
            }
        });
        // Bound: ended connections leave the set before it grows by another one.
        while connections.try_join_next().is_some() {}
    }
}

/// The TCP service.
#[derive(Debug)]
struct Target {
    address: String,
    is_down: AtomicBool,
}

impl Target {
    /// Connects and joins; returns what is worth telling people, once for each time it goes down.
    async fn connect(&self, pass: Pass, mut stream: Stream) -> Option<String> {
        let why = match timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await {
            Ok(Ok(tcp)) => {
                self.is_down.store(false, Ordering::Relaxed);
                // How a single connection ended is between its two sides.
                drop(pass.join(tcp, stream).await);
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!(
                "no answer within {}",
                humantime::format_duration(CONNECT_TIMEOUT)
            ),
        };
        stream.reset();
        let is_news = !self.is_down.swap(true, Ordering::Relaxed);
        is_news.then(|| {
            format!(
                "ringway: cannot connect to {}: {why}; is the service running?",
                self.address
            )
        })
    }
}

pub(super) fn parse_target(text: &str) -> Result<String, String> {
    let is_whole = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
    match is_whole {
        true => Ok(text.to_owned()),
        false => Err("expected a host and a port, such as 127.0.0.1:8080".to_owned()),
    }
}

/// Longest wait for the service: on the own host or network an answer takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_needs_host_and_port() {
        for wrong in [
            "8080",
            ":8080",
            "localhost",
            "localhost:",
            "localhost:0",
            "a:99999",
        ] {
            assert!(parse_target(wrong).is_err(), "{wrong}");
        }
        assert!(parse_target("localhost:8080").is_ok());
        assert!(parse_target("[::1]:8080").is_ok());
    }
}
