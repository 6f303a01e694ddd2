//! The command line.
//!
//! Here: flags and how they become a [`Plan`]. Not here: whether the plan can work (`plan::limits`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use self::compare::{DiffFlags, KneeFlags, Over};
use self::dialect::{DialectFlags, PayloadFlags, Relay};
pub use self::hostile::{ChurnFlags, SlowReaderFlags, SlowlorisFlags};
pub use self::returning::{EvictFlags, StormFlags};
pub use self::scenario::{RunFlags, ScenariosFlags};
pub use self::setups::SetupsFlags;
use crate::null_server::NullServer;
use crate::plan::{
    Arrivals, End, Mode, OpensTo, PROCESSES_MAX, Pace, Placement, Plan, PortChoice, RelayAddress,
    Scenario, Shape, Target, Traffic,
};
use crate::sources::{PortRange, Source, Sources};

mod compare;
mod dialect;
mod hostile;
mod returning;
mod scenario;
mod setups;

/// Load generator for Ringway relays.
#[derive(Debug, Parser)]
#[command(name = "ringway-loadgen", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// A run.
    #[command(flatten)]
    Run(Box<Command>),
    /// Serve plain connections: send back what comes, for runs that measure the generator itself.
    NullServer(NullServerFlags),
    /// Search the highest rate, or count of sessions, that still meets an objective.
    Knee(Box<KneeFlags>),
    /// Carry out a scenario: groups side by side over phases, with asserts.
    #[command(name = "run")]
    Scenario(Box<RunFlags>),
    /// List the scenarios that come with the program, or print one.
    Scenarios(ScenariosFlags),
    /// Make the page of a run again from its files: report.html.
    Report(ReportFlags),
    /// Be one of the processes of a run: how --processes starts them.
    #[command(hide = true)]
    Member,
    /// Compare two results: directories of --out, their latency.hlog, or files of --json.
    Diff(DiffFlags),
}

/// Flags of `null-server`.
#[derive(Debug, Args)]
pub struct NullServerFlags {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7200")]
    listen: SocketAddr,
    /// Threads, each with a listener and a ring of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    threads: u32,
    /// Cores to pin the threads to, in turn
    #[arg(long, value_name = "CORE", value_delimiter = ',')]
    cpu: Vec<u32>,
    /// Connections of a thread; at most the limit on open files
    #[arg(long, value_name = "COUNT", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sockets: u32,
    /// End each connection as soon as it stands: the other side's close is then the passive one
    #[arg(long)]
    close: bool,
    /// End when standard input closes too, so that the server ends with the program that started it
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct ReportFlags {
    /// Directory that a run was given with --out; the run may have been killed, or still go on
    #[arg(value_name = "DIRECTORY")]
    pub directory: PathBuf,
    /// Where the page goes ('-' for standard output) [default: report.html in the directory]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl NullServerFlags {
    /// Returns the server that the flags describe.
    #[must_use]
    pub fn server(&self) -> NullServer {
        NullServer {
            listen: self.listen,
            threads: self.threads,
            cpus: self.cpu.clone(),
            sockets_max: self.sockets,
            closes: self.close,
        }
    }
}

/// A run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Messages over streams, at a constant rate or as fast as they go.
    Steady(Steady),
    /// Sessions come and go: handshakes a second, and what each costs the relay.
    Handshakes(Handshakes),
    /// Streams come and go: opens a second, and what each costs the relay.
    Opens(Opens),
    /// Routes over several peers are set up: setups a second, and what each costs the relay.
    Setups(SetupsFlags),
    /// Sessions, or plain connections, stand and say nothing: what each costs in memory.
    Idle(Idle),
    /// Plain connections to any TCP server come and go: connects a second, and which ports they leave.
    Connects(Connects),
    /// Messages to any TCP server that sends them back, or through any TCP proxy.
    Plain(Plain),
    /// Connections come, reach a phase of their life and are killed there: what stays behind.
    Churn(ChurnFlags),
    /// Connections that never finish their handshake: how long the relay lets them live.
    Slowloris(SlowlorisFlags),
    /// All sessions die at once and come back: how long until each is back.
    Storm(StormFlags),
    /// A second session of a key takes the place of the first: how long it takes, and what both are told.
    Evict(EvictFlags),
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
  ringway-loadgen opens --relay KEY66@127.0.0.1:7101 --raw --duration 10s
  ringway-loadgen steady --relay KEY66@127.0.0.1:8081 --mode ping-pong --message-size 64 --ping-after 100ms

A key of 66 digits is that of a server of Skywire's dmsg, or of a relay that speaks its dialect as well
(the line 'dmsg' of 'ringway serve'); a dmsg server of Go until September 2026 needs --ping-after.

On a terminal a run has a live view, in which q or ctrl-C end it early; --no-live shows one line
instead. In pipes there is a line on standard error every ten seconds.

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
    /// A second relay: the half of the sessions that is dialed stands there, so that every message crosses
    /// the mesh
    #[arg(long, value_name = "KEY@ADDRESS:PORT")]
    far: Option<RelayAddress>,
    /// Sessions; half of them dial the other half
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    sessions: u32,
    /// Pairs of sessions, instead of --sessions
    #[arg(long, value_name = "COUNT", conflicts_with = "sessions")]
    pairs: Option<u32>,
    /// Streams of each dialing session
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    streams: u32,
    #[command(flatten)]
    payload: PayloadFlags,
    /// Receive window of a stream
    #[arg(long, value_name = "BYTES", default_value_t = 262_144)]
    window: u32,
    /// Handshakes, then opens, in progress at a time on each thread
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    concurrency: u32,
    #[command(flatten)]
    pace: PaceFlags,
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
    pace: PaceFlags,
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
    /// Whom opens are for: peers of this run, or nobody, which measures how soon the relay says no
    #[arg(long, value_name = "WHOM", value_enum, default_value_t = OpensTo::Peer)]
    to: OpensTo,
    #[command(flatten)]
    payload: PayloadFlags,
    #[command(flatten)]
    pace: PaceFlags,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    common: Common,
}

/// Flags of `connects`.
#[derive(Debug, Args)]
pub struct Connects {
    /// The server
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp: SocketAddr,
    /// Connections being made at a time on each thread
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    concurrency: u32,
    /// How a connection ends as soon as it stands; after fin its port waits on this side for a minute
    #[arg(long, value_enum, default_value_t = End::Rst)]
    end: End,
    #[command(flatten)]
    pace: PaceFlags,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    common: Common,
}

/// Flags of `idle`.
#[derive(Debug, Args)]
pub struct Idle {
    #[command(flatten)]
    to: Where,
    #[command(flatten)]
    dialect: DialectFlags,
    /// Answer no sign of life, as peers that are gone without a word: what is measured is how long the relay
    /// lets them stand
    #[arg(long, conflicts_with = "tcp")]
    mute: bool,
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
    /// A server that sends back what it receives
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["proxy", "listen"], required_unless_present = "proxy")]
    tcp: Option<SocketAddr>,
    /// Where a proxy listens
    #[arg(long, value_name = "ADDRESS:PORT", requires = "listen")]
    proxy: Option<SocketAddr>,
    /// Where the proxy forwards to; this process listens there
    #[arg(long, value_name = "ADDRESS:PORT", requires = "proxy")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    traffic: TrafficFlags,
    /// Connections through the proxy
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    connections: u32,
    #[command(flatten)]
    pace: PaceFlags,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    common: Common,
}

/// A relay, or any server.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Where {
    /// The relay's key and address, as 'ringway serve' prints them; a key of 66 digits is one of the dmsg
    /// dialect
    #[arg(long, value_name = "KEY@ADDRESS:PORT")]
    relay: Option<RelayAddress>,
    /// Any TCP server; nothing is sent to it
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp: Option<SocketAddr>,
}

impl Where {
    fn target(&self) -> Target {
        match (self.relay, self.tcp) {
            (Some(relay), _) => Target::Relay(relay),
            (None, Some(socket)) => Target::Tcp(socket),
            (None, None) => unreachable!("the group is required"),
        }
    }
}

/// When messages, handshakes, opens, setups or cycles begin.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pace")]
struct PaceFlags {
    /// How many a second over all threads, by the clock and whatever becomes of those before (open
    /// loop): a number, ramp:FROM..TO, step:FROM..TO/LEVELS, burst:BASE,PEAK,EVERY,LENGTH or trace:FILE
    /// with lines 'SECONDS RATE' [default: as fast as they go]
    #[arg(long, value_name = "SHAPE")]
    rate: Option<Shape>,
    /// As fast as they go; the default without --rate
    #[arg(long, conflicts_with_all = ["rate", "arrivals"])]
    full_speed: bool,
    /// How they lie in time: at equal distances, or at random as those of many users do
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Arrivals::Even, requires = "rate")]
    arrivals: Arrivals,
}

impl PaceFlags {
    fn pace(&self) -> Option<Pace> {
        self.rate.clone().map(|shape| Pace {
            shape,
            arrivals: self.arrivals,
        })
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
struct TrafficFlags {
    /// One way, or there and back
    #[arg(long, value_enum, default_value_t = Mode::Bulk)]
    mode: Mode,
    /// Bytes of a message; each is one frame [default: 16384; dmsg: 4070, one record of its clients]
    #[arg(long, value_name = "BYTES")]
    message_size: Option<u32>,
    /// Messages there and back that a stream has on their way
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    in_flight: u32,
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
    /// Threads of a process, each with a ring of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    threads: u32,
    /// Processes with so many threads each, conducted by this one, which adds up their histograms
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(PROCESSES_MAX)))]
    processes: u32,
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
    /// Number that decides all random times: the same one, the same times
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Congestion control of the generator's sockets [default: the host's]
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,
    /// Look for work without pause instead of sleeping: steadier latencies for a whole core
    #[arg(long)]
    spin: bool,
    /// Process of the relay: measures its processor time and memory
    #[arg(long, value_name = "PID")]
    relay_pid: Option<u32>,
    /// Where the relay answers /health and /histograms, as 'ringway serve' prints it: what it owns before and
    /// after, what it measured itself
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// Lag of the generator's schedule (p99) that makes a run untrustworthy, in percent of the median
    /// response
    #[arg(long, value_name = "PERCENT", default_value_t = 25)]
    lag_max: u32,
    /// Tell on one line how it goes, even on a terminal, and leave out the looks at sockets and at the
    /// relay each second that the live view needs
    #[arg(long)]
    no_live: bool,
    /// Write the result as JSON to this file ('-' for standard output)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write all files of the run to this directory, second by second: latency.hlog, intervals.jsonl,
    /// and at the end run.json, *.hgrm and the page report.html
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

impl Plain {
    /// Returns the plan that the flags describe.
    fn plan(&self) -> Plan {
        let target = match (self.proxy, self.listen, self.tcp) {
            (Some(connect), Some(listen), _) => Target::Proxy { connect, listen },
            (_, _, Some(socket)) => Target::Tcp(socket),
            _ => unreachable!("one of the two is required"),
        };
        let mut plan = self.span.plan(&self.common, Scenario::Plain, target);
        plan.sessions = self.connections;
        self.traffic.add_to(&mut plan.traffic);
        plan.pace = self.pace.pace();
        plan
    }
}

impl Command {
    /// Returns the plan that the flags describe.
    #[must_use]
    pub fn plan(&self) -> Plan {
        match self {
            Self::Steady(flags) => flags.plan(),
            Self::Handshakes(flags) => flags.plan(),
            Self::Opens(flags) => flags.plan(),
            Self::Connects(flags) => {
                let target = Target::Tcp(flags.tcp);
                let mut plan = flags.span.plan(&flags.common, Scenario::Handshakes, target);
                plan.sessions = flags.concurrency;
                plan.concurrency = flags.concurrency;
                plan.churn.end = flags.end;
                plan.pace = flags.pace.pace();
                plan
            }
            Self::Idle(flags) => {
                let target = flags.to.target();
                let mut plan = flags.span.plan(&flags.common, Scenario::Idle, target);
                plan.sessions = flags.sessions;
                plan.concurrency = flags.concurrency;
                plan.is_mute = flags.mute;
                flags.dialect.add_to(&mut plan);
                plan
            }
            Self::Plain(flags) => flags.plan(),
            Self::Churn(flags) => flags.plan(),
            Self::Slowloris(flags) => flags.plan(),
            Self::SlowReader(flags) => flags.plan(),
            Self::Storm(flags) => flags.plan(),
            Self::Evict(flags) => flags.plan(),
            Self::Setups(flags) => flags.plan(),
        }
    }

    /// Returns where the JSON goes.
    #[must_use]
    pub fn json(&self) -> Option<&PathBuf> {
        self.common().json.as_ref()
    }

    /// Returns the directory of the run's files.
    #[must_use]
    pub fn out(&self) -> Option<&PathBuf> {
        self.common().out.as_ref()
    }

    /// Returns whether a terminal may show a live view.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.common().no_live
    }

    fn common(&self) -> &Common {
        match self {
            Self::Steady(flags) => &flags.common,
            Self::Handshakes(flags) => &flags.common,
            Self::Opens(flags) => &flags.common,
            Self::Idle(flags) => &flags.common,
            Self::Connects(flags) => &flags.common,
            Self::Plain(flags) => &flags.common,
            Self::Churn(flags) => &flags.common,
            Self::Slowloris(flags) => &flags.common,
            Self::SlowReader(flags) => &flags.common,
            Self::Storm(flags) => &flags.common,
            Self::Evict(flags) => &flags.common,
            Self::Setups(flags) => &flags.common,
        }
    }
}

impl Steady {
    fn plan(&self) -> Plan {
        let sessions = self
            .pairs
            .map_or(self.sessions, |pairs| pairs.saturating_mul(2));
        let target = self.relay.target();
        let mut plan = self.span.plan(&self.common, Scenario::Steady, target);
        plan.sessions = sessions;
        plan.streams = self.streams;
        plan.far = self.far;
        plan.concurrency = self.concurrency;
        self.payload.add_to(&mut plan);
        self.traffic.add_to(&mut plan.traffic);
        plan.traffic.window_bytes = self.window;
        self.relay.add_to(&mut plan);
        plan.pace = self.pace.pace();
        plan
    }
}

impl Handshakes {
    fn plan(&self) -> Plan {
        let target = self.relay.target();
        let mut plan = self.span.plan(&self.common, Scenario::Handshakes, target);
        plan.sessions = self.concurrency;
        plan.concurrency = self.concurrency;
        self.relay.add_to(&mut plan);
        plan.pace = self.pace.pace();
        plan
    }
}

impl Opens {
    fn plan(&self) -> Plan {
        let target = self.relay.target();
        let mut plan = self.span.plan(&self.common, Scenario::Opens, target);
        plan.sessions = self.sessions;
        plan.concurrency = self.concurrency;
        plan.opens_to = self.to;
        self.payload.add_to(&mut plan);
        self.relay.add_to(&mut plan);
        plan.pace = self.pace.pace();
        plan
    }
}

impl TrafficFlags {
    fn add_to(&self, traffic: &mut Traffic) {
        traffic.mode = self.mode;
        traffic.message_bytes = self.message_size.unwrap_or(traffic.message_bytes);
        traffic.in_flight = self.in_flight;
        traffic.verify = self.verify;
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
            seed: self.seed,
            placement: Placement {
                threads: self.threads.saturating_mul(self.processes),
                processes: self.processes,
                cpus: self.cpu.clone(),
                sources: Sources::new(self.src.clone()),
                ports: self.ports,
                port_choice: self.port_choice,
                congestion: self.congestion.clone(),
                is_spinning: self.spin,
            },
            relay_pid: self.relay_pid,
            admin: self.admin,
            lag_percent_max: self.lag_max,
            tells_intervals: self.out.is_some(),
            ..Plan::new(scenario, target)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn plan(line: &str) -> Result<Plan, clap::Error> {
        match Cli::try_parse_from(line.split_ascii_whitespace())?.task {
            Task::Run(command) => Ok(command.plan()),
            _ => panic!("no run"),
        }
    }

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
        let plan = plan(&line).unwrap();
        assert_eq!((plan.sessions, plan.streams, plan.pairs()), (16, 3, 8));
        assert_eq!(plan.streams_total(), 24);
        let pace = plan.pace.clone().unwrap();
        assert_eq!(
            (pace.shape, pace.arrivals),
            (Shape::Constant(500), Arrivals::Even)
        );
        assert_eq!(plan.placement.cpus, [1, 2]);
        assert_eq!(plan.duration, Duration::from_secs(2));
    }

    #[test]
    fn rate_and_full_speed_exclude_each_other() {
        let relay = format!("{}@127.0.0.1:7100", "3b".repeat(32));
        let line = format!("x steady --relay {relay} --rate 5 --full-speed");
        assert!(plan(&line).is_err());
    }

    #[test]
    fn random_arrivals_need_a_rate() {
        let relay = format!("{}@127.0.0.1:7100", "3b".repeat(32));
        let line = format!("x opens --relay {relay} --arrivals poisson");
        assert!(plan(&line).is_err());
        let line = format!("x opens --relay {relay} --arrivals poisson --rate ramp:1..9 --seed 7");
        let plan = plan(&line).unwrap();
        assert_eq!(plan.pace.unwrap().arrivals, Arrivals::Poisson);
        assert_eq!(plan.seed, 7);
    }
}
