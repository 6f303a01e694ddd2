//! The command line.
//!
//! Here: flags and how they become a [`Plan`]. Not here: whether the plan can work (`plan::limits`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use self::hostile::{ChurnFlags, SlowReaderFlags, SlowlorisFlags};
use crate::plan::{
    Churn, Mode, Payload, Placement, Plan, PortChoice, RelayAddress, Scenario, Slow, Target,
    Traffic,
};
use crate::sources::{PortRange, Source, Sources};

mod hostile;

/// Load generator for Ringway relays.
#[derive(Debug, Parser)]
#[command(name = "ringway-loadgen", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Messages over streams, at a constant rate or as fast as they go.
    Steady(Steady),
    /// Sessions come and go: handshakes a second, and what each costs the relay.
    Handshakes(Handshakes),
    /// Streams come and go: opens a second, and what each costs the relay.
    Opens(Opens),
    /// Sessions stand and say nothing: what each costs the relay in memory.
    Idle(Idle),
    /// The same messages through any TCP proxy, to compare with.
    Plain(Plain),
    /// Connections come, reach a phase of their life and are killed there: what stays behind.
    Churn(ChurnFlags),
    /// Connections that never finish their handshake: how long the relay lets them live.
    Slowloris(SlowlorisFlags),
    /// Messages at full speed while other sessions stop reading: what the others notice.
    SlowReader(SlowReaderFlags),
}

const EXAMPLES: &str = "\
Examples:
  ringway-loadgen steady --relay KEY@127.0.0.1:7100 --sessions 16 --streams 4 --duration 10s
  ringway-loadgen steady --relay KEY@127.0.0.1:7100 --mode ping-pong --message-size 64 --rate 10000
  ringway-loadgen handshakes --relay KEY@127.0.0.1:7100 --relay-pid \"$(pidof ringway)\"
  ringway-loadgen idle --relay KEY@127.0.0.1:7100 --sessions 36000 --threads 2 \
      --src 127.0.0.1,127.0.0.2 --relay-pid \"$(pidof ringway)\"
  ringway-loadgen churn --relay KEY@127.0.0.1:7100 --cycles 100000 --rounds 10 \
      --admin 127.0.0.1:7180 --relay-pid \"$(pidof ringway)\"
  ringway-loadgen slowloris --relay KEY@127.0.0.1:7100 --sockets 10000 --hold 8s
  ringway-loadgen slow-reader --relay KEY@127.0.0.1:7100 --pairs 100 --slow 1 --windows 6

Exit status:
  0    the run is complete and without errors
  1    the run failed, or some of its messages, sessions or streams did, or the relay still owned
       something when nobody was connected
  2    the flags or the plan make no sense; nothing was connected
  3    the run is complete, but the generator could not keep its own schedule: do not use its numbers
  130  interrupted; the result is partial and says so";

/// Flags of `steady`.
#[derive(Debug, Args)]
pub struct Steady {
    #[command(flatten)]
    relay: Relay,
    #[command(flatten)]
    traffic: TrafficFlags,
    /// Sessions; half of them dial the other half
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    sessions: u32,
    /// Pairs of sessions, instead of --sessions
    #[arg(long, value_name = "COUNT", conflicts_with = "sessions")]
    pairs: Option<u32>,
    /// Streams of each dialing session
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    streams: u32,
    /// What the relay carries: plain bytes, or the encrypted records that peers send
    #[arg(long, value_enum, default_value_t = Payload::Opaque)]
    payload: Payload,
    /// Receive window of a stream
    #[arg(long, value_name = "BYTES", default_value_t = 262_144)]
    window: u32,
    /// Handshakes, then opens, in progress at a time on each thread
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    concurrency: u32,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    common: Common,
}

/// Flags of `handshakes`.
#[derive(Debug, Args)]
pub struct Handshakes {
    #[command(flatten)]
    relay: Relay,
    /// Handshakes in progress at a time on each thread
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    concurrency: u32,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    common: Common,
}

/// Flags of `opens`.
#[derive(Debug, Args)]
pub struct Opens {
    #[command(flatten)]
    relay: Relay,
    /// Sessions; half of them dial the other half
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    sessions: u32,
    /// Opens in progress at a time on each thread
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    concurrency: u32,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    common: Common,
}

/// Flags of `idle`.
#[derive(Debug, Args)]
pub struct Idle {
    #[command(flatten)]
    relay: Relay,
    /// Sessions to hold
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    sessions: u32,
    /// Handshakes in progress at a time on each thread
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    concurrency: u32,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    common: Common,
}

/// Flags of `plain`.
#[derive(Debug, Args)]
pub struct Plain {
    /// Where the proxy listens
    #[arg(long, value_name = "ADDRESS:PORT")]
    proxy: SocketAddr,
    /// Where the proxy forwards to; this process listens there
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    #[command(flatten)]
    traffic: TrafficFlags,
    /// Connections through the proxy
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    connections: u32,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Relay {
    /// The relay's key and address, as 'ringway serve' prints them
    #[arg(long, value_name = "KEY@ADDRESS:PORT")]
    relay: RelayAddress,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
struct TrafficFlags {
    /// One way, or there and back
    #[arg(long, value_enum, default_value_t = Mode::Bulk)]
    mode: Mode,
    /// Bytes of a message; each is one frame
    #[arg(long, value_name = "BYTES", default_value_t = 16_384)]
    message_size: u32,
    /// Messages a second over all streams, by the clock (open loop)
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
    /// As fast as windows and sockets allow; the default without --rate
    #[arg(long, conflicts_with = "rate")]
    full_speed: bool,
    /// Compare every received byte instead of sequence numbers and lengths
    #[arg(long)]
    verify: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Run")]
struct Span {
    /// Time that counts
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Time before it that does not
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    warmup: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Run")]
struct Common {
    /// Threads, each with a ring of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    threads: u32,
    /// Cores to pin the threads to, in turn
    #[arg(long, value_name = "CORE", value_delimiter = ',')]
    cpu: Vec<u32>,
    /// Addresses to connect from, in turn; a prefix such as 127.0.0.0/24 stands for its hosts
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    src: Vec<Source>,
    /// Local ports to connect from, shared out among the threads [default: the host's range]
    #[arg(long, value_name = "FIRST-LAST")]
    ports: Option<PortRange>,
    /// Who chooses the local port of a connection
    #[arg(long, value_name = "WHO", value_enum, default_value_t = PortChoice::Kernel)]
    port_choice: PortChoice,
    /// Congestion control of the generator's sockets [default: the host's]
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,
    /// Look for work without pause instead of sleeping: steadier latencies for a whole core
    #[arg(long)]
    spin: bool,
    /// Process of the relay: measures its processor time and memory
    #[arg(long, value_name = "PID")]
    relay_pid: Option<u32>,
    /// Lag of the generator's schedule (p99) that makes a run untrustworthy, in percent of the median
    /// response
    #[arg(long, value_name = "PERCENT", default_value_t = 25)]
    lag_max: u32,
    /// Write the result as JSON to this file ('-' for standard output)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Command {
    /// Returns the plan that the flags describe.
    #[must_use]
    pub fn plan(&self) -> Plan {
        match self {
            Self::Steady(flags) => {
                let sessions = flags
                    .pairs
                    .map_or(flags.sessions, |pairs| pairs.saturating_mul(2));
                let target = Target::Relay(flags.relay.relay);
                let mut plan = flags.span.plan(&flags.common, Scenario::Steady, target);
                plan.sessions = sessions;
                plan.streams = flags.streams;
                plan.concurrency = flags.concurrency;
                plan.traffic = flags.traffic.traffic(flags.payload, flags.window);
                plan
            }
            Self::Handshakes(flags) => {
                let target = Target::Relay(flags.relay.relay);
                let mut plan = flags.span.plan(&flags.common, Scenario::Handshakes, target);
                plan.sessions = flags.concurrency;
                plan.concurrency = flags.concurrency;
                plan
            }
            Self::Opens(flags) => {
                let target = Target::Relay(flags.relay.relay);
                let mut plan = flags.span.plan(&flags.common, Scenario::Opens, target);
                plan.sessions = flags.sessions;
                plan.concurrency = flags.concurrency;
                plan
            }
            Self::Idle(flags) => {
                let target = Target::Relay(flags.relay.relay);
                let mut plan = flags.span.plan(&flags.common, Scenario::Idle, target);
                plan.sessions = flags.sessions;
                plan.concurrency = flags.concurrency;
                plan
            }
            Self::Plain(flags) => {
                let target = Target::Proxy {
                    connect: flags.proxy,
                    listen: flags.listen,
                };
                let mut plan = flags.span.plan(&flags.common, Scenario::Plain, target);
                plan.sessions = flags.connections;
                plan.traffic = flags.traffic.traffic(Payload::Opaque, WINDOW_DEFAULT);
                plan
            }
            Self::Churn(flags) => flags.plan(),
            Self::Slowloris(flags) => flags.plan(),
            Self::SlowReader(flags) => flags.plan(),
        }
    }

    /// Returns where the JSON goes.
    #[must_use]
    pub fn json(&self) -> Option<&PathBuf> {
        let common = match self {
            Self::Steady(flags) => &flags.common,
            Self::Handshakes(flags) => &flags.common,
            Self::Opens(flags) => &flags.common,
            Self::Idle(flags) => &flags.common,
            Self::Plain(flags) => &flags.common,
            Self::Churn(flags) => &flags.common,
            Self::Slowloris(flags) => &flags.common,
            Self::SlowReader(flags) => &flags.common,
        };
        common.json.as_ref()
    }
}

impl TrafficFlags {
    const fn traffic(&self, payload: Payload, window_bytes: u32) -> Traffic {
        Traffic {
            mode: self.mode,
            payload,
            message_bytes: self.message_size,
            rate: self.rate,
            window_bytes,
            verify: self.verify,
        }
    }
}

impl Span {
    fn plan(&self, common: &Common, scenario: Scenario, target: Target) -> Plan {
        Plan {
            warmup: self.warmup,
            duration: self.duration,
            ..common.plan(scenario, target)
        }
    }
}

impl Common {
    fn plan(&self, scenario: Scenario, target: Target) -> Plan {
        Plan {
            scenario,
            target,
            sessions: 1,
            streams: 1,
            traffic: Traffic {
                mode: Mode::Bulk,
                payload: Payload::Opaque,
                message_bytes: 16_384,
                rate: None,
                window_bytes: WINDOW_DEFAULT,
                verify: false,
            },
            concurrency: 64,
            placement: Placement {
                threads: self.threads,
                cpus: self.cpu.clone(),
                sources: Sources::new(self.src.clone()),
                ports: self.ports,
                port_choice: self.port_choice,
                congestion: self.congestion.clone(),
                is_spinning: self.spin,
            },
            warmup: Duration::ZERO,
            duration: Duration::ZERO,
            relay_pid: self.relay_pid,
            admin: None,
            lag_percent_max: self.lag_max,
            churn: Churn::default(),
            slow: Slow::default(),
        }
    }
}

const WINDOW_DEFAULT: u32 = ringway_proto::limits::WINDOW_INITIAL;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn steady_reads_its_flags() {
        let relay = format!("{}@127.0.0.1:7100", "3b".repeat(32));
        let line = format!(
            "x steady --relay {relay} --pairs 8 --streams 3 --message-size 64 --mode ping-pong \
             --rate 500 --cpu 1,2 --src 127.0.0.2 --duration 2s"
        );
        let cli = Cli::try_parse_from(line.split_ascii_whitespace()).unwrap();
        let plan = cli.command.plan();
        assert_eq!((plan.sessions, plan.streams, plan.pairs()), (16, 3, 8));
        assert_eq!(plan.streams_total(), 24);
        assert_eq!(plan.traffic.rate, Some(500));
        assert_eq!(plan.placement.cpus, [1, 2]);
        assert_eq!(plan.duration, Duration::from_secs(2));
    }

    #[test]
    fn rate_and_full_speed_exclude_each_other() {
        let relay = format!("{}@127.0.0.1:7100", "3b".repeat(32));
        let line = format!("x steady --relay {relay} --rate 5 --full-speed");
        assert!(Cli::try_parse_from(line.split_ascii_whitespace()).is_err());
    }
}
