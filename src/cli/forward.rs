//! `ringway forward`: brings a service of another party to a TCP port of this host.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args as ClapArgs;
use ringway_client::{Address, Client, Identity};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::args::{KeyArgs, LocalLimits, RelayArgs};
use super::runtime::{Signals, block_on};
use super::tunnel::{Pass, Tunnel, reset};
use crate::config::parse_address;
use crate::failure::Failure;
use crate::output::say;

/// Bring a service of another party to a TCP port of this host
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_address)]
    listen: SocketAddr,

    /// Service to reach, as `ringway expose` prints it
    #[arg(long, value_name = "KEY:PORT")]
    to: Address,

    #[command(flatten)]
    relay: RelayArgs,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    limits: LocalLimits,
}

const EXAMPLES: &str = "\
Examples:
  ringway forward --relay KEY@127.0.0.1:7100 --listen 127.0.0.1:9000 --to KEY:80
  ringway forward --lan --listen 127.0.0.1:9000 --to KEY:80
  curl http://127.0.0.1:9000/

The key of this party is made at the first start and kept. Without --key-file each listening port
has a key of its own.";

/// Runs the command until a signal ends it.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let name = format!("forward-{}.key", args.listen.port());
    let held = args.key.hold_in(args.to.key.dialect(), &name)?;
    let secret = held.secret.clone();
    let outcome = block_on(serve(args, secret));
    drop(held);
    outcome
}

async fn serve(args: &Args, identity: Identity) -> Result<(), Failure> {
    let mut signals = Signals::take()?;
    let failed = |error| Failure::listen(args.listen, "--listen ADDRESS:PORT", error);
    let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let relays = tokio::select! {
        relays = args.relay.find(&args.key) => relays?,
        () = signals.next() => return Ok(()),
    };
    let tunnel = Tunnel::start(identity, &relays, args.limits.connections_max)?;
    let mut connections = JoinSet::new();
    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        () = tunnel.watch() => Ok(()),
        outcome = announce(args.to, address, &tunnel) => outcome,
        () = accept(&tunnel, &listener, args.to, &mut connections) => Ok(()),
    };
    drop(listener);
    tunnel
        .finish(&mut signals, args.limits.drain.drain_timeout)
        .await;
    outcome
}

/// Says where the service is once a session stands; then never ends.
async fn announce(to: Address, address: SocketAddr, tunnel: &Tunnel) -> Result<(), Failure> {
    if tunnel.client.ready().await.is_ok() {
        tunnel
            .progress
            .said(|| say(format_args!("forwarding  {address} to {to}")))?;
    }
    std::future::pending().await
}

async fn accept(
    tunnel: &Tunnel,
    listener: &TcpListener,
    to: Address,
    connections: &mut JoinSet<()>,
) {
    let mut is_failing = false;
    loop {
        let pass = tunnel.pass().await;
        match listener.accept().await {
            Ok((tcp, _)) => {
                is_failing = false;
                let client = tunnel.client.clone();
                let progress = tunnel.progress.clone();
                connections.spawn(async move {
                    if let Some(note) = connect(&client, to, pass, tcp).await {
                        progress.note(&note);
                    }
                });
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tunnel.progress.note(&accept_note(&error));
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
        // Bound: ended connections leave the set before it grows by another one.
        while connections.try_join_next().is_some() {}
    }
}

/// Dials and joins; returns what is worth telling people.
async fn connect(client: &Client, to: Address, pass: Pass, tcp: TcpStream) -> Option<String> {
    match client.dial(to).await {
        Ok(stream) => {
            // How a single connection ended is between its two sides.
            drop(pass.join(tcp, stream).await);
            None
        }
        Err(error) => {
            reset(&tcp);
            Some(format!("ringway: cannot reach {to}: {error}"))
        }
    }
}

fn accept_note(error: &io::Error) -> String {
    format!("ringway: cannot take connections: {error}; raise the open-files limit (`ulimit -n`)")
}

/// Pause after a failed accept: the usual cause, no free descriptor, does not end by asking again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
