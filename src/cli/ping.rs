//! `ringway ping`: measures the round trip to a relay or through it to a peer.

use std::str::FromStr;
use std::time::Duration;

use clap::Args as ClapArgs;
use ringway_client::{Client, Config, PingError, PublicKey, RelayAddress};
use tokio::time::{MissedTickBehavior, interval};

use super::args::{DeployArgs, Named, RELAY_VARIABLE, admitted, named, no_relay};
use super::lan::LanArgs;
use super::runtime::{Signals, block_on};
use crate::config::{Deployment, parse_duration};
use crate::failure::{Failure, chain};
use crate::key_file;
use crate::output::say;
use crate::relay_name::RelayName;

/// Measure the round trip to a relay, or through it to a peer
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Peer or relay to ask; with an address it is the relay to use as well [default: the one that --lan
    /// finds]
    #[arg(value_name = "KEY[@HOST:PORT]", required_unless_present = "lan")]
    target: Option<Target>,

    /// Relay to use, as `ringway serve` prints it; `RINGWAY_RELAY` names one too [default: those of
    /// the deployment]
    #[arg(
        long,
        value_name = "KEY@HOST:PORT",
        help_heading = "Relay",
        conflicts_with = "lan"
    )]
    relay: Option<RelayName>,

    /// Key file of this party [default: a key for this one run]
    #[arg(long, value_name = "FILE", help_heading = "Key")]
    key_file: Option<std::path::PathBuf>,

    /// Directory that keeps what --lan finds [default: ringway under the XDG state directory, else
    /// ~/.local/state/ringway]
    #[arg(
        long,
        value_name = "DIRECTORY",
        env = "RINGWAY_STATE_DIR",
        hide_env_values = true,
        help_heading = "Relay"
    )]
    state_dir: Option<std::path::PathBuf>,

    /// Pings to send
    #[arg(
        short,
        long,
        value_name = "COUNT",
        default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    count: u32,

    /// Time between two pings
    #[arg(short, long, value_name = "DURATION", default_value = "200ms", value_parser = parse_duration)]
    interval: Duration,

    #[command(flatten, next_help_heading = "Relay")]
    lan: LanArgs,

    #[command(flatten, next_help_heading = "Relay")]
    deploy: DeployArgs,
}

const EXAMPLES: &str = "\
Examples:
  ringway ping KEY@127.0.0.1:7100                         the relay itself
  ringway ping --relay KEY@127.0.0.1:7100 KEY -c 100      a peer, through that relay
  ringway ping --lan                                      the relay of this network
  ringway ping --deploy lab.toml KEY                      a relay of lab.toml, or a peer through it

A relay answers on its session; a peer answers with an echo on its port 7, end to end.
Exits with 1 when a ping stays without an answer.";

/// Whom to ask.
#[derive(Debug, Clone)]
enum Target {
    Key(PublicKey),
    Relay(RelayName),
}

impl Target {
    const fn key(&self) -> PublicKey {
        match self {
            Self::Key(key) => *key,
            Self::Relay(name) => name.key,
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            return text.parse().map(Self::Relay);
        }
        let hint = "expected 64 lower-case hex digits (66 for dmsg), or KEY@HOST:PORT";
        PublicKey::parse_any(text)
            .map(Self::Key)
            .map_err(|error| format!("{error}; {hint}"))
    }
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    block_on(async {
        let mut signals = Signals::take()?;
        let (key, relays) = tokio::select! {
            found = find(args) => found?,
            () = signals.next() => return Ok(()),
        };
        let identity = key_file::identity(args.key_file.as_deref(), key.dialect())?;
        let config = Config {
            answer_ping: false,
            ..Config::new(relays.iter().copied())
        };
        let client = tokio::select! {
            client = Client::connect(identity, config) => client,
            () = signals.next() => return Ok(()),
        };
        let client = client.map_err(|error| Failure::host("no session", error))?;
        let whom = match relays.as_slice() {
            [relay] if relay.key == key => Whom::Relay,
            _ => Whom::Peer(key),
        };
        let over: Vec<String> = relays.iter().map(ToString::to_string).collect();
        say(format_args!("PING {key} over {}", over.join(", ")))?;
        let outcome = ping(args, &client, &whom, &mut signals).await;
        client.close().await;
        outcome
    })
}

/// Returns whom to ask and the relays to use, with their addresses.
async fn find(args: &Args) -> Result<(PublicKey, Vec<RelayAddress>), Failure> {
    let deployment = args.deploy.find()?;
    if args.lan.lan {
        return find_on_lan(args, deployment.as_ref()).await;
    }
    let target = args.target.as_ref().ok_or_else(no_relay)?;
    let variable = std::env::var_os(RELAY_VARIABLE);
    let named = named(args.relay.as_slice(), variable)?;
    let names = relays(target, named, deployment)?;
    let address = |name: &RelayName| Ok(RelayAddress::new(name.key, name.resolve()?));
    let relays: Result<Vec<RelayAddress>, Failure> = names.iter().map(address).collect();
    Ok((target.key(), relays?))
}

/// Does the same on the own network; whom to ask is the relay itself unless somebody is named.
async fn find_on_lan(
    args: &Args,
    deployment: Option<&Deployment>,
) -> Result<(PublicKey, Vec<RelayAddress>), Failure> {
    if let Some(Target::Relay(name)) = &args.target {
        return Err(Failure::Usage(format!(
            "--lan finds the relay, and the target {name} names one: give its key alone, or leave --lan out"
        )));
    }
    let state = key_file::state_directory(args.state_dir.as_deref())?;
    let found = args.lan.find(deployment, state).await?;
    let first = found.first().ok_or_else(no_relay)?;
    let key = args.target.as_ref().map_or(first.key, Target::key);
    let own = found.iter().find(|relay| relay.key == key).copied();
    Ok((key, own.map_or(found, |own| vec![own])))
}

/// Returns the relays to use: named ones, else the target itself, else those of the deployment; when
/// the target is one of these, that one.
fn relays(
    target: &Target,
    named: Option<Named>,
    deployment: Option<Deployment>,
) -> Result<Vec<RelayName>, Failure> {
    let named = match (named, target) {
        (None, Target::Relay(relay)) => Some(("the target", vec![relay.clone()])),
        (named, _) => named,
    };
    match (admitted(named, deployment.as_ref())?, deployment, target) {
        (Some(relays), ..) => Ok(relays),
        (None, Some(deployment), Target::Key(key)) => {
            let mut relays = deployment.relays.iter();
            let own = relays.find(|relay| relay.key == *key);
            Ok(own.map_or_else(|| deployment.relays.clone(), |own| vec![own.clone()]))
        }
        (None, ..) => Err(no_relay()),
    }
}

enum Whom {
    Peer(PublicKey),
    Relay,
}

async fn ping(
    args: &Args,
    client: &Client,
    whom: &Whom,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let mut times = Vec::new();
    let mut sent = 0;
    // tokio refuses an interval of zero; a nanosecond is as fast as the answers come.
    let mut ticks = interval(args.interval.max(Duration::from_nanos(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failure = None;
    while sent < args.count {
        tokio::select! {
            _ = ticks.tick() => {}
            () = signals.next() => break,
        }
        sent += 1;
        let answer = tokio::select! {
            answer = ask(client, whom) => answer,
            () = signals.next() => break,
        };
        match answer {
            Ok(time) => {
                times.push(time);
                say(format_args!("seq={sent} time={} ms", millis(time)))?;
            }
            Err(error) => {
                let text = chain(&error);
                say(format_args!("seq={sent} {text}"))?;
                failure = Some(text);
            }
        }
    }
    summary(sent, times)?;
    failure.map_or(Ok(()), |text| Err(Failure::Check(text)))
}

async fn ask(client: &Client, whom: &Whom) -> Result<Duration, PingError> {
    match whom {
        Whom::Peer(key) => client.ping(*key).await,
        Whom::Relay => client.ping_relay().await,
    }
}

fn summary(sent: u32, mut times: Vec<Duration>) -> Result<(), Failure> {
    times.sort_unstable();
    let answered = times.len();
    let lost = usize::try_from(sent)
        .unwrap_or(usize::MAX)
        .saturating_sub(answered);
    say(format_args!(
        "--- {sent} sent, {answered} answered, {lost} lost"
    ))?;
    let (Some(min), Some(max)) = (times.first(), times.last()) else {
        return Ok(());
    };
    let (median, p99) = (percentile(&times, 50), percentile(&times, 99));
    say(format_args!(
        "round trip min/median/p99/max = {}/{}/{}/{} ms",
        millis(*min),
        millis(median),
        millis(p99),
        millis(*max)
    ))
}

/// Returns the smallest time that at least `percent` of all do not exceed; `sorted` is not empty.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn millis(time: Duration) -> String {
    let micros = time.as_micros();
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_the_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(1));
    }

    #[test]
    fn times_are_printed_in_milliseconds() {
        assert_eq!(millis(Duration::from_micros(1_234)), "1.234");
        assert_eq!(millis(Duration::from_nanos(999)), "0.000");
    }

    #[test]
    fn target_is_a_key_or_a_relay() {
        let key = "ab".repeat(32);
        assert!(matches!(key.parse(), Ok(Target::Key(_))));
        assert!(matches!(
            format!("{key}@127.0.0.1:1").parse(),
            Ok(Target::Relay(_))
        ));
        let error = "nonsense".parse::<Target>().unwrap_err();
        assert!(error.contains("64 lower-case hex digits"), "{error}");
    }
}
