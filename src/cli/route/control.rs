//! `ringway route ls` and `ringway route stats`, and the endpoint of `ringway route serve` that they ask.
//!
//! Here: HTTP on an address of this host, read-only. Not here: what is said (`view`).

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router as Pages};
use clap::Args as ClapArgs;
use ringway_client::{PublicKey, Router};
use ringway_proto::route::{Find, FindBy};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::view::{Counters, Found, Held, counters};
use crate::config::parse_address;
use crate::control::admin;
use crate::failure::{Failure, chain};
use crate::output::{Table, say};

/// Where the endpoint is.
#[derive(Debug, ClapArgs)]
pub(super) struct ControlArgs {
    /// Control endpoint of the running `ringway route serve`
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value_t = CONTROL_DEFAULT,
        value_parser = parse_address
    )]
    pub(super) control: SocketAddr,
}

/// Show the rules and route groups that a running `ringway route serve` holds
#[derive(Debug, ClapArgs)]
#[command(after_help = LS_EXAMPLES)]
pub(super) struct Ls {
    #[command(flatten)]
    control: ControlArgs,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Show the counters of a running `ringway route serve`
#[derive(Debug, ClapArgs)]
#[command(after_help = STATS_EXAMPLES)]
pub(super) struct Stats {
    #[command(flatten)]
    control: ControlArgs,

    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

const LS_EXAMPLES: &str = "\
Examples:
  ringway route ls
  ringway route ls --control 127.0.0.1:7191 --json

A rule says what is done with packets of one id: they go on (intermediary), have arrived
(destination), or come back to a group of this party (own). Keys are cut in the table, JSON has
them whole.";

const STATS_EXAMPLES: &str = "\
Examples:
  ringway route stats
  ringway route stats --control 127.0.0.1:7191 --json

What stands behind a dot is a reason: setups_failed.503 counts setups for which a hop could not be
reached.";

/// Where `ringway route serve` answers unless told otherwise.
pub(super) const CONTROL_DEFAULT: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7190));

/// A question for paths.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) destination: PublicKey,
    pub(super) paths: u8,
    pub(super) by_hops: bool,
}

/// Serves the endpoint until the future is dropped.
///
/// # Errors
///
/// The I/O error that ended it.
pub(super) async fn serve(
    listener: tokio::net::TcpListener,
    router: Router,
    relay: PublicKey,
) -> io::Result<()> {
    let pages = Pages::new()
        .route(
            "/routes",
            get(|State((router, _)): Shared| async move { Json(Held::of(&router)) }),
        )
        .route(
            "/stats",
            get(|State((router, _)): Shared| async move { Json(counters(&router.stats())) }),
        )
        .route("/find", get(find))
        .with_state((router, relay));
    axum::serve(listener, pages).await
}

type Shared = State<(Router, PublicKey)>;

async fn find(State((router, relay)): Shared, Query(asked): Query<Question>) -> Json<Found> {
    let by = if asked.by_hops {
        FindBy::Hops
    } else {
        FindBy::Latency
    };
    let find = Find {
        destination: asked.destination,
        paths_max: asked.paths,
        hops_max: 0,
        by,
        avoid: Vec::new(),
    };
    Json(match router.find(relay, find).await {
        Ok(paths) => Found { paths, error: None },
        Err(error) => Found {
            paths: Vec::new(),
            error: Some(chain(&error)),
        },
    })
}

/// Asks a page of the endpoint.
///
/// # Errors
///
/// [`Failure::Host`].
pub(super) fn ask<T: DeserializeOwned>(address: SocketAddr, page: &str) -> Result<T, Failure> {
    let body = admin::request(address, page).map_err(|error| {
        let fix = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                ": no `ringway route serve` has its control endpoint there; name another with --control"
            }
            _ => "",
        };
        Failure::host(format!("cannot ask {address}{fix}"), error)
    })?;
    serde_json::from_str(&body).map_err(|error| {
        let what = format!("{address} answers, but not as `ringway route serve` does");
        Failure::host(what, error)
    })
}

/// Prints a value as JSON.
///
/// # Errors
///
/// [`Failure::Host`] when standard output cannot be written.
pub(super) fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::host("cannot write JSON", error))?;
    say(format_args!("{text}"))
}

/// Runs `ls`.
pub(super) fn ls(args: &Ls) -> Result<(), Failure> {
    let held: Held = ask(args.control.control, "/routes")?;
    if args.json {
        return say_json(&held);
    }
    let count =
        |what: &str, count: usize| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    say(format_args!(
        "{}  {}, {}",
        held.key,
        count("rule", held.rules.len()),
        count("group", held.groups.len())
    ))?;
    if !held.rules.is_empty() {
        let mut table = Table::default();
        table.row(["id", "kind", "from", "to", "id there", "group"].map(str::to_owned));
        for rule in held.rules {
            table.row([
                rule.id.to_string(),
                rule.kind,
                short(rule.previous),
                short(rule.next),
                rule.next_id.map_or_else(dash, |id| id.to_string()),
                rule.group.map_or_else(dash, |name| cut(&name)),
            ]);
        }
        say(format_args!("\n{table}"))?;
    }
    if !held.groups.is_empty() {
        let mut table = Table::default();
        table.row(["group", "with", "port", "hops", "reroutes", "rtt us"].map(str::to_owned));
        for group in held.groups {
            let hops = match (group.has_path, group.is_opener) {
                (false, _) => "no path".to_owned(),
                (true, false) => dash(),
                (true, true) => group.forward.len().to_string(),
            };
            table.row([
                cut(&group.name),
                format!("{}:{}", short(Some(group.peer)), group.peer_port),
                group.local_port.to_string(),
                hops,
                group.reroutes.to_string(),
                group.rtt_us.map_or_else(dash, |rtt| rtt.to_string()),
            ]);
        }
        say(format_args!("\n{table}"))?;
    }
    Ok(())
}

/// Runs `stats`.
pub(super) fn stats(args: &Stats) -> Result<(), Failure> {
    let counters: Counters = ask(args.control.control, "/stats")?;
    if args.json {
        return say_json(&counters);
    }
    let mut table = Table::default();
    for (name, count) in counters {
        table.row([name, count.to_string()]);
    }
    say(format_args!("{table}"))
}

fn short(key: Option<PublicKey>) -> String {
    key.map_or_else(dash, |key| cut(&key.to_string()))
}

fn cut(text: &str) -> String {
    text.chars().take(SHORT).collect()
}

fn dash() -> String {
    "-".to_owned()
}

/// Digits of a key in a table: enough to tell parties apart.
const SHORT: usize = 12;
