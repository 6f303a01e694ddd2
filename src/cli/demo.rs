//! `ringway demo`: a relay, two peers and real traffic between them, measured.
//!
//! Here: the course of the demonstration and its verdict. `relay` runs the relay as a process of its
//! own, so that its CPU time is its alone; `traffic` makes and checks the bytes. Not here: load
//! testing, which is `ringway-loadgen`.

mod relay;
mod traffic;

use std::time::Duration;

use clap::Args as ClapArgs;
use ringway_client::{Client, Config, RelayAddress, SecretKey};
use tokio::time::{Instant, sleep};

use self::relay::RelayProcess;
use self::traffic::{Bulk, PingPong};
use super::progress::Progress;
use super::runtime::{Signals, block_on};
use crate::config::parse_duration;
use crate::failure::Failure;
use crate::key_file;
use crate::output::{bytes_text, say};

/// Run a relay, two peers and a few seconds of real traffic, and print what it took
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Time for each of the two parts, bulk and round trips
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_length)]
    duration: Duration,

    /// Streams of the bulk part, each busy in both directions
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    streams: u16,

    /// Shards of the relay [default: one for each core of this process]
    #[arg(long, value_name = "COUNT")]
    shards: Option<u16>,
}

const EXAMPLES: &str = "\
Everything happens on 127.0.0.1 and in a temporary directory. Every byte is compared with what was
sent. Exits with 1 when a byte differs, something is left in the relay, or it does not end cleanly.";

/// Everything that was measured.
#[derive(Debug)]
struct Report {
    bulk: Bulk,
    bulk_cpu: Duration,
    ping_pong: PingPong,
    ping_pong_cpu: Duration,
    left: u64,
    laws_broken: String,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let progress = Progress::start();
    progress.show("starting a relay".to_owned());
    let mut process = RelayProcess::start(args.shards)?;
    let outcome = block_on(async {
        let mut signals = Signals::take()?;
        tokio::select! {
            outcome = demonstrate(args, &process, &progress) => {
                progress.end();
                print(args, &process, &outcome?)
            }
            () = signals.next() => Err(Failure::Check("interrupted".to_owned())),
        }
    });
    progress.end();
    let ended = process.end();
    outcome?;
    ended?;
    say(format_args!("relay end    clean (exit code 0)"))
}

async fn demonstrate(
    args: &Args,
    process: &RelayProcess,
    progress: &Progress,
) -> Result<Report, Failure> {
    let opener = connect(process.address).await?;
    let acceptor = connect(process.address).await?;
    let services = traffic::serve(&acceptor, args.duration)?;
    progress.show(format!(
        "bulk in both directions over {} streams",
        args.streams
    ));
    let cpu_before = process.cpu_time()?;
    let bulk = traffic::bulk(&opener, acceptor.key(), args.streams, args.duration).await?;
    let bulk_cpu = process.cpu_time()?.saturating_sub(cpu_before);
    progress.show("round trips of 64 bytes".to_owned());
    let cpu_before = process.cpu_time()?;
    let ping_pong = traffic::ping_pong(&opener, acceptor.key(), args.duration).await?;
    let ping_pong_cpu = process.cpu_time()?.saturating_sub(cpu_before);
    drop(services);
    progress.show("closing, counting what is left".to_owned());
    opener.close().await;
    acceptor.close().await;
    let (left, laws_broken) = audit(process).await?;
    Ok(Report {
        bulk,
        bulk_cpu,
        ping_pong,
        ping_pong_cpu,
        left,
        laws_broken,
    })
}

async fn connect(relay: RelayAddress) -> Result<Client, Failure> {
    let secret: SecretKey = key_file::generate()?;
    Client::connect(secret, Config::new([relay]))
        .await
        .map_err(|error| Failure::host("a peer has no session", error))
}

/// Waits until the relay owns nothing; returns what it still owns at the deadline.
async fn audit(process: &RelayProcess) -> Result<(u64, String), Failure> {
    let deadline = Instant::now() + AUDIT_TIMEOUT;
    loop {
        let health = process.health()?;
        let left = health
            .shards
            .iter()
            .flat_map(|shard| shard.audit.values())
            .sum();
        if left == 0 || Instant::now() >= deadline {
            return Ok((left, health.consistency.broken_text()));
        }
        sleep(AUDIT_INTERVAL).await;
    }
}

fn print(args: &Args, process: &RelayProcess, report: &Report) -> Result<(), Failure> {
    let Report {
        bulk,
        ping_pong,
        left,
        laws_broken,
        ..
    } = report;
    let shards = process.health().map_or(0, |health| health.shards.len());
    say(format_args!(
        "relay        {} shards, a process of its own, 127.0.0.1",
        shards
    ))?;
    say(format_args!(
        "bulk         {} streams, both ways, {} in {:.2} s: {:.2} GB/s in all",
        args.streams,
        bytes_text(bulk.there_bytes + bulk.back_bytes),
        bulk.time.as_secs_f64(),
        rate(bulk.there_bytes + bulk.back_bytes, bulk.time),
    ))?;
    say(format_args!(
        "  there      {} ({:.2} GB/s)",
        bytes_text(bulk.there_bytes),
        rate(bulk.there_bytes, bulk.time)
    ))?;
    say(format_args!(
        "  back       {} ({:.2} GB/s)",
        bytes_text(bulk.back_bytes),
        rate(bulk.back_bytes, bulk.time)
    ))?;
    let gigabytes = giga(bulk.there_bytes + bulk.back_bytes);
    let cpu = report.bulk_cpu.as_secs_f64();
    say(format_args!(
        "  relay CPU  {:.3} s/GB (data and service threads)",
        cpu / gigabytes
    ))?;
    let times = &ping_pong.times;
    let micros = |quantile: f64| f64_of(times.value_at_quantile(quantile)) / 1_000.0;
    say(format_args!(
        "ping-pong    64 bytes, one at a time, {} round trips",
        times.len()
    ))?;
    say(format_args!(
        "  p50 {:.1} us   p90 {:.1} us   p99 {:.1} us   p99.9 {:.1} us   max {:.1} us",
        micros(0.5),
        micros(0.9),
        micros(0.99),
        micros(0.999),
        f64_of(times.max()) / 1_000.0
    ))?;
    let each = report.ping_pong_cpu.as_secs_f64() * 1e6 / f64_of(times.len().max(1));
    say(format_args!("  relay CPU  {each:.1} us a round trip"))?;
    say(format_args!("bytes        all as sent"))?;
    say(format_args!("leak audit   {left}"))?;
    let laws = if laws_broken.is_empty() {
        "all laws hold"
    } else {
        laws_broken
    };
    say(format_args!("counters     {laws}"))?;
    verdict(report)
}

fn verdict(report: &Report) -> Result<(), Failure> {
    let moved = report.bulk.there_bytes > 0 && report.bulk.back_bytes > 0;
    match (
        moved,
        report.ping_pong.times.is_empty(),
        report.left,
        report.laws_broken.is_empty(),
    ) {
        (true, false, 0, true) => Ok(()),
        (false, ..) => Err(Failure::Check("no bytes went through".to_owned())),
        (_, true, ..) => Err(Failure::Check("no round trip was completed".to_owned())),
        (_, _, 1.., _) => Err(Failure::Check(format!("{} things are left", report.left))),
        (.., false) => Err(Failure::Check(
            "the counters contradict each other".to_owned(),
        )),
    }
}

fn rate(bytes: u64, time: Duration) -> f64 {
    giga(bytes) / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn giga(bytes: u64) -> f64 {
    f64_of(bytes) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "printed with three digits")]
const fn f64_of(number: u64) -> f64 {
    number as f64
}

fn parse_length(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text)?;
    let is_sensible = (LENGTH_MIN..=LENGTH_MAX).contains(&length);
    match is_sensible {
        true => Ok(length),
        false => Err("expected a duration from 100ms to 10m".to_owned()),
    }
}

/// Shortest part: under it the start of the streams is what is measured.
const LENGTH_MIN: Duration = Duration::from_millis(100);

/// Longest part.
const LENGTH_MAX: Duration = Duration::from_secs(600);

/// Time for the relay to let go of everything after the last peer has gone.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two looks.
const AUDIT_INTERVAL: Duration = Duration::from_millis(20);
