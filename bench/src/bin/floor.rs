//! `floor`: what the machine itself allows, for figures of the load generator.
//!
//! Here: loops that do nothing but what cannot be left out. Not here: load; that is `ringway-loadgen`.
//!
//! A generator's figure says little on a shared machine; its ratio to one of these loops, taken in turns
//! with it on the same core, says how much of the figure is the generator's own.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use ringway_bench::floor::{self, Clock, Connects};
use ringway_bench::lane;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Measure what the machine itself allows.
#[derive(Debug, Parser)]
#[command(name = "floor")]
struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a connection and reset it, again and again, with four blocking system calls each: the floor of
    /// 'ringway-loadgen connects'
    Connects {
        /// The server, such as 'ringway-loadgen null-server'
        #[arg(long, value_name = "ADDRESS:PORT")]
        tcp: SocketAddr,
        /// Make so many a second, and tell how late the thread notices that the next one is due
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        rate: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Make handshakes in memory: what they cost without sockets, threads and queues
    Handshake {
        /// How many
        #[arg(long, value_name = "COUNT", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        count: u32,
        /// Core to run on
        #[arg(long, value_name = "CORE")]
        cpu: Option<usize>,
    },
    /// Carry records of a fixed length from one port to another by splice(2), their headers by user space,
    /// until it is killed: the floor of a relay that does not copy payload
    Lane {
        /// Where to listen
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7300")]
        listen: SocketAddr,
        /// Where the connections go
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7301")]
        target: SocketAddr,
        /// Bytes of a record, its header of 12 included
        #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(13..))]
        record: u32,
        /// Core to run on
        #[arg(long, value_name = "CORE")]
        cpu: Option<usize>,
    },
    /// Read the clock without pause, and tell how late events of a steady rate would be noticed: the floor
    /// of the lag of 'ringway-loadgen --rate'
    Clock {
        /// Events a second
        #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        rate: u64,
        /// Work on each event for so much of the time until the next, as a generator at this load does
        #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=99))]
        busy: u32,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// Core to run on
    #[arg(long, value_name = "CORE")]
    cpu: Option<usize>,
    /// Seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

impl Common {
    fn begin(&self) -> Result<Duration, String> {
        pin(self.cpu)?;
        Ok(Duration::from_secs(self.seconds))
    }
}

fn pin(cpu: Option<usize>) -> Result<(), String> {
    let Some(cpu) = cpu else {
        return Ok(());
    };
    let mut cpus = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(format!("--cpu {cpu}: there is no such core"));
    }
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).map_err(|error| format!("--cpu {cpu}: {error}"))
}

fn main() -> ExitCode {
    match run(&Flags::parse().what) {
        Ok(line) => {
            drop(writeln!(io::stdout().lock(), "{line}"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            drop(writeln!(io::stderr().lock(), "floor: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn run(what: &What) -> Result<String, String> {
    match what {
        What::Connects { tcp, rate, common } => {
            let time = common.begin()?;
            let failed = |error| format!("cannot connect to {tcp}: {error}");
            if let Some(rate) = rate {
                let found = floor::paced_connects(*tcp, *rate, time).map_err(failed)?;
                return Ok(lag(found));
            }
            let Connects { count, took } = floor::connects(*tcp, time).map_err(failed)?;
            let each = took.as_nanos() / u128::from(count.max(1));
            Ok(format!("connects={count} each_ns={each}"))
        }
        What::Handshake { count, cpu } => {
            pin(*cpu)?;
            let found = floor::handshakes(*count).map_err(|error| error.to_string())?;
            Ok(format!(
                "relay_message_1_ns={} relay_message_3_ns={} peer_ns={}",
                found.message_1.as_nanos(),
                found.message_3.as_nanos(),
                found.peer.as_nanos()
            ))
        }
        What::Lane {
            listen,
            target,
            record,
            cpu,
        } => {
            pin(*cpu)?;
            let listener = TcpListener::bind(listen)
                .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
            let record = usize::try_from(*record).unwrap_or(usize::MAX);
            lane::run(&listener, *target, record).map_err(|error| error.to_string())?;
            Ok(String::new())
        }
        What::Clock { rate, busy, common } => {
            let time = common.begin()?;
            Ok(lag(floor::clock(*rate, time, *busy, Instant::now)))
        }
    }
}

fn lag(found: Clock) -> String {
    let Clock { p50, p99, longest } = found;
    format!(
        "lag_p50_ns={} lag_p99_ns={} lag_max_ns={}",
        p50.as_nanos(),
        p99.as_nanos(),
        longest.as_nanos()
    )
}
