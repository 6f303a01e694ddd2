//! `ringway status`: how a running relay is.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args as ClapArgs;

use crate::config::{ADMIN_DEFAULT, parse_address};
use crate::control::admin;
use crate::control::health::dmsg::{DiscoveriesState, DmsgState};
use crate::control::health::{Health, Shard};
use crate::failure::Failure;
use crate::output::{Table, bytes_text, say};

/// Show how a running relay is
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Admin endpoint of the relay
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value_t = ADMIN_DEFAULT,
        value_parser = parse_address,
        env = "RINGWAY_ADMIN_LISTEN"
    )]
    admin: SocketAddr,

    /// Print the whole state as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  ringway status
  ringway status --admin 127.0.0.1:7180 --json

Exits with 1 when no relay answers or its counters contradict each other.";

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let health = admin::fetch(args.admin)?;
    if args.json {
        let text = serde_json::to_string_pretty(&health)
            .map_err(|error| Failure::host("cannot write JSON", error))?;
        say(format_args!("{text}"))?;
    } else {
        print(&health)?;
    }
    match health.consistency.ok {
        true => Ok(()),
        false => Err(Failure::Check(format!(
            "counters contradict each other: {}; please report it",
            health.consistency.broken_text()
        ))),
    }
}

fn print(health: &Health) -> Result<(), Failure> {
    let Health {
        key,
        listen,
        version,
        pid,
        uptime_s,
        ..
    } = health;
    let state = match (health.draining, health.ready) {
        (true, _) => "draining",
        (false, true) => "ready",
        (false, false) => "not ready",
    };
    let uptime = humantime::format_duration(Duration::from_secs(*uptime_s));
    say(format_args!("relay   {key}@{listen}"))?;
    say(format_args!(
        "state   {state} for {uptime}, version {version}, process {pid}"
    ))?;
    let laws = health.consistency.laws.len();
    let hold = health
        .consistency
        .laws
        .iter()
        .filter(|law| law.holds)
        .count();
    say(format_args!("checks  {hold} of {laws} counter laws hold"))?;
    let limits = &health.limits;
    say(format_args!(
        "limits  {} sessions a shard, {} streams a session",
        limits.shard_sessions_max, limits.session_streams_max
    ))?;
    let links: u64 = health.shards.iter().map(|shard| shard.of("links")).sum();
    if links > 0 || health.registry.is_some() {
        say(format_args!("mesh    {links} links with other relays"))?;
    }
    if let Some(registry) = &health.registry {
        let state = if registry.up { "answers" } else { "DOWN" };
        say(format_args!(
            "        registry {} {state}: {} relays, {} peers of this one, {} to be written",
            registry.name, registry.relays, registry.peers, registry.pending
        ))?;
    }
    if let Some(dmsg) = &health.dmsg {
        say(format_args!(
            "dmsg    {}{}",
            dmsg.public_key,
            found_by(dmsg)
        ))?;
    }
    let mut table = Table::default();
    table.row(
        [
            "shard",
            "sessions",
            "streams",
            "handshakes",
            "opened",
            "refused",
            "forwarded",
        ]
        .map(str::to_owned),
    );
    for shard in &health.shards {
        table.row(row(shard.shard.to_string(), shard));
    }
    say(format_args!("\n{table}"))
}

/// Says whether clients of the dmsg dialect find the relay.
fn found_by(dmsg: &DmsgState) -> String {
    match &dmsg.discoveries {
        None => ", in no discovery (dmsg.discovery)".to_owned(),
        Some(DiscoveriesState {
            configured,
            registered,
            servers,
        }) => {
            format!(
                ", in {registered} of {configured} discoveries, which name {servers} other servers"
            )
        }
    }
}

impl Shard {
    /// Returns a number of the audit.
    fn of(&self, name: &str) -> u64 {
        self.audit.get(name).copied().unwrap_or(0)
    }
}

fn row(name: String, shard: &Shard) -> [String; 7] {
    let refused: u64 = shard.opens_refused.values().sum();
    [
        name,
        shard.sessions.to_string(),
        shard.streams.to_string(),
        shard.handshakes.to_string(),
        shard.opens_accepted.to_string(),
        refused.to_string(),
        bytes_text(shard.forwarded_bytes),
    ]
}
