//! A run as it was asked for, checked before the first connection.
//!
//! Here: the values that a run is made of. Not here: flags (`cli`), the sums that refuse impossible
//! plans (`plan::limits`), the run itself (`run`).
//!
//! Units: bytes, messages a second, `Duration`.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::limits::WINDOW_INITIAL;
use serde::{Deserialize, Serialize};

use crate::sources::{PortRange, Sources};

pub use self::churn::{Churn, End, KillPhase, STANDING};
pub use self::dialect::{DMSG_MESSAGE_MAX, DialectName, DmsgPlan, OpensTo};
pub use self::limits::{Host, PROCESSES_MAX, PlanError};
pub use self::setups::{HOPS, HOPS_MAX};
pub use self::shape::{Piece, RateLine, Shape};
pub use self::slow::{Loiter, Slow};
pub use self::storm::Storm;

mod churn;
mod dialect;
mod limits;
mod setups;
mod shape;
mod slow;
mod storm;

/// Everything a run needs to know.
///
/// Processes of a run hand it to each other; what users read and write are flags and scenarios.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What is done.
    pub scenario: Scenario,
    /// To whom.
    pub target: Target,
    /// Sessions at a time; half of them dial the other half where streams are used. Through a plain
    /// proxy: connections to the proxy. Of a churn: connections that come and go at a time.
    pub sessions: u32,
    /// Streams of each dialing session.
    pub streams: u32,
    /// How messages travel.
    pub traffic: Traffic,
    /// When messages, cycles, handshakes, opens or setups begin; as fast as they go if absent.
    pub pace: Option<Pace>,
    /// Decides random times.
    pub seed: u64,
    /// Handshakes, opens or setups in progress at a time on one thread.
    pub concurrency: u32,
    /// Threads and their places.
    pub placement: Placement,
    /// Time that does not count, before the one that does.
    pub warmup: Duration,
    /// Time that counts.
    pub duration: Duration,
    /// Process whose processor time and memory are measured.
    pub relay_pid: Option<u32>,
    /// Where the relay tells its state; its books are compared if it is given.
    pub admin: Option<SocketAddr>,
    /// Lag of the schedule that makes a run untrustworthy, in percent of the median response.
    pub lag_percent_max: u32,
    /// Whether others load the relay at the same time: its books then say nothing about this run.
    pub shares_relay: bool,
    /// Parts of the names of failures that are no failures of this run: what it is about.
    pub expects: Vec<String>,
    /// Relay that the accepting half of the sessions stands at, if it is another one than the target.
    pub far: Option<RelayAddress>,
    /// Whether sessions answer no sign of life: peers that are gone without a word.
    pub is_mute: bool,
    /// What only a storm has.
    pub storm: Storm,
    /// Whether intervals are told while it goes on: to a recording or a live view.
    pub tells_intervals: bool,
    /// What only a churn has.
    pub churn: Churn,
    /// What only runs with slow peers have.
    pub slow: Slow,
    /// Peers behind the asker of a route, where routes are set up.
    pub hops: u32,
    /// The dialect that was asked for; that of the relay's key must be the same.
    pub dialect_named: Option<DialectName>,
    /// What only a run in the dmsg dialect has.
    pub dmsg: DmsgPlan,
    /// Whom the opens of `opens` are for.
    pub opens_to: OpensTo,
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scenario {
    /// Connections come, reach a phase of their life and are killed there.
    Churn,
    /// A second session of a key takes the place of the first, again and again.
    Evict,
    /// Sessions come and go as fast as they can.
    Handshakes,
    /// Sessions stand and say nothing.
    Idle,
    /// Streams come and go as fast as they can.
    Opens,
    /// Messages over connections through a proxy that knows nothing of this protocol.
    Plain,
    /// Routes over several peers are set up.
    Setups,
    /// Messages over streams, while other sessions now and then stop reading.
    SlowReader,
    /// Connections that never finish their handshake.
    Slowloris,
    /// Messages over streams.
    Steady,
    /// All sessions die at once and come back.
    Storm,
}

impl Scenario {
    /// Returns the name of the subcommand.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Churn => "churn",
            Self::Evict => "evict",
            Self::Handshakes => "handshakes",
            Self::Idle => "idle",
            Self::Opens => "opens",
            Self::Plain => "plain",
            Self::Setups => "setups",
            Self::SlowReader => "slow-reader",
            Self::Slowloris => "slowloris",
            Self::Steady => "steady",
            Self::Storm => "storm",
        }
    }

    /// Returns whether messages travel.
    #[must_use]
    pub const fn has_traffic(self) -> bool {
        matches!(self, Self::Plain | Self::SlowReader | Self::Steady)
    }

    /// Returns whether streams come and go, so that their places are used again.
    #[must_use]
    pub const fn recycles_streams(self) -> bool {
        matches!(self, Self::Churn | Self::Opens | Self::Setups)
    }
}

/// Where the load goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A relay of ours.
    Relay(RelayAddress),
    /// Any TCP server; messages there and back need one that sends back what it receives.
    Tcp(SocketAddr),
    /// Any TCP proxy; this process is also what it forwards to.
    Proxy {
        /// Where the proxy listens.
        connect: SocketAddr,
        /// Where the proxy forwards to.
        listen: SocketAddr,
    },
}

impl Target {
    /// Returns whether connections carry plain bytes instead of the relay's protocol.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Proxy { .. })
    }

    /// Returns what is connected to.
    #[must_use]
    pub const fn socket(&self) -> SocketAddr {
        match self {
            Self::Relay(relay) => relay.socket,
            Self::Tcp(socket)
            | Self::Proxy {
                connect: socket, ..
            } => *socket,
        }
    }
}

/// A relay's key and where it listens: `<64 hex digits>@127.0.0.1:7100`, with 66 digits in the dmsg dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RelayAddress {
    /// Who it must prove to be.
    pub key: PublicKey,
    /// Where it listens.
    pub socket: SocketAddr,
}

impl FromStr for RelayAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, socket) = text
            .split_once('@')
            .ok_or_else(|| format!("'{text}' has no '@': write KEY@ADDRESS:PORT"))?;
        let key = PublicKey::parse_any(key)
            .map_err(|error| format!("'{key}' is no public key: {error}"))?;
        let socket = socket
            .parse()
            .map_err(|_| format!("'{socket}' is no ADDRESS:PORT (names are not looked up)"))?;
        Ok(Self { key, socket })
    }
}

impl From<RelayAddress> for String {
    fn from(address: RelayAddress) -> Self {
        format!("{}@{}", address.key, address.socket)
    }
}

impl TryFrom<String> for RelayAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// When events begin: by the clock, whatever becomes of those before (open loop).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// How many a second, over time.
    pub shape: Shape,
    /// How they lie between one second and the next.
    pub arrivals: Arrivals,
}

/// How events lie in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Arrivals {
    /// At equal distances.
    #[default]
    Even,
    /// At random, as those of many independent users do (a Poisson process).
    Poisson,
}

impl Arrivals {
    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Poisson => "poisson",
        }
    }
}

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Which way.
    pub mode: Mode,
    /// What they look like to the relay.
    pub payload: Payload,
    /// Bytes of a message.
    pub message_bytes: u32,
    /// Messages there and back that a stream has on their way at most.
    pub in_flight: u32,
    /// Receive window of a stream.
    pub window_bytes: u32,
    /// Whether every received byte is compared.
    pub verify: bool,
}

/// Which way messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Mode {
    /// From the dialing side to the accepting side.
    Bulk,
    /// There and back; a stream has so many messages on their way as `in_flight` says.
    PingPong,
}

impl Mode {
    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::PingPong => "ping-pong",
        }
    }
}

/// What a message looks like on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Payload {
    /// Plain bytes: the relay never looks inside, and the generator saves two ciphers a byte.
    Opaque,
    /// Encrypted records, as peers send them, on streams that are opened as peers do it.
    Sealed,
}

impl Payload {
    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Sealed => "sealed",
        }
    }
}

/// Threads and their places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Threads, each with a ring of its own; those of all processes together.
    pub threads: u32,
    /// Processes that have equally many of the threads; 1 is this process itself.
    pub processes: u32,
    /// Cores to pin the threads to, in turn; empty leaves it to the kernel.
    pub cpus: Vec<u32>,
    /// Addresses to connect from, in turn; empty leaves it to the kernel.
    pub sources: Sources,
    /// Local ports to connect from, shared out among the threads; the host's range if absent.
    pub ports: Option<PortRange>,
    /// Who chooses the port of a connection.
    pub port_choice: PortChoice,
    /// Congestion control of the generator's sockets; the host's default if absent.
    pub congestion: Option<String>,
    /// Whether threads look for work without pause instead of sleeping.
    pub is_spinning: bool,
}

impl Placement {
    /// Returns how many threads there are, and in how many processes if that is not one.
    #[must_use]
    pub fn threads_text(&self) -> String {
        let plural = if self.threads == 1 { "" } else { "s" };
        let threads = format!("{} thread{plural}", self.threads);
        match self.processes {
            1 => threads,
            processes => format!("{threads} of {processes} processes"),
        }
    }
}

/// Who chooses the local port of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum PortChoice {
    /// The kernel, within the host's ephemeral range.
    Kernel,
    /// The generator, which keeps a book of them: any port, and no search by the kernel.
    Own,
}

impl PortChoice {
    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Own => "own",
        }
    }
}

impl Plan {
    /// Returns a plan of one session on one thread that sends large messages as fast as they go, and
    /// leaves the rest to the host.
    #[must_use]
    pub fn new(scenario: Scenario, target: Target) -> Self {
        let is_dmsg =
            matches!(&target, Target::Relay(relay) if relay.dialect() == Some(DialectName::Dmsg));
        Self {
            scenario,
            target,
            sessions: 1,
            streams: 1,
            traffic: Traffic {
                mode: Mode::Bulk,
                payload: dialect::payload_of(scenario, is_dmsg),
                message_bytes: if is_dmsg {
                    DMSG_MESSAGE_MAX
                } else {
                    MESSAGE_BYTES
                },
                in_flight: 1,
                window_bytes: WINDOW_INITIAL,
                verify: false,
            },
            pace: None,
            seed: 1,
            concurrency: 64,
            placement: Placement {
                threads: 1,
                processes: 1,
                cpus: Vec::new(),
                sources: Sources::default(),
                ports: None,
                port_choice: PortChoice::Kernel,
                congestion: None,
                is_spinning: false,
            },
            warmup: Duration::ZERO,
            duration: Duration::ZERO,
            relay_pid: None,
            admin: None,
            lag_percent_max: 25,
            shares_relay: false,
            expects: Vec::new(),
            far: None,
            is_mute: false,
            storm: Storm::default(),
            tells_intervals: false,
            churn: Churn::default(),
            slow: Slow::default(),
            hops: HOPS,
            dialect_named: None,
            dmsg: DmsgPlan::default(),
            opens_to: OpensTo::default(),
        }
    }

    /// Returns the name of the subcommand.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match (self.scenario, self.target) {
            (Scenario::Handshakes, Target::Tcp(_)) => "connects",
            (scenario, _) => scenario.name(),
        }
    }

    /// Returns the pairs of sessions that exchange messages or open streams.
    #[must_use]
    pub const fn pairs(&self) -> u32 {
        match self.scenario {
            Scenario::Churn
            | Scenario::Evict
            | Scenario::Handshakes
            | Scenario::Idle
            | Scenario::Slowloris
            | Scenario::Storm => 0,
            Scenario::Plain => self.sessions,
            Scenario::Opens | Scenario::Setups | Scenario::SlowReader | Scenario::Steady => {
                self.sessions / 2
            }
        }
    }

    /// Returns the streams of the whole run.
    #[must_use]
    pub const fn streams_total(&self) -> u32 {
        match self.scenario {
            Scenario::SlowReader | Scenario::Steady => self.pairs().saturating_mul(self.streams),
            Scenario::Plain => self.sessions,
            // Each asker keeps one.
            Scenario::Setups => self.pairs(),
            Scenario::Churn
            | Scenario::Evict
            | Scenario::Handshakes
            | Scenario::Idle
            | Scenario::Opens
            | Scenario::Slowloris
            | Scenario::Storm => 0,
        }
    }

    /// Returns whether the relay's books are compared before and after.
    #[must_use]
    pub const fn compares_books(&self) -> bool {
        !self.shares_relay && self.is_about_memory()
    }

    /// Returns whether what the relay keeps is what the scenario is about.
    #[must_use]
    pub const fn is_about_memory(&self) -> bool {
        matches!(
            self.scenario,
            Scenario::Churn | Scenario::SlowReader | Scenario::Slowloris
        )
    }

    /// Returns the sessions that stand before the load begins.
    #[must_use]
    pub const fn sessions_standing(&self) -> u32 {
        match self.scenario {
            Scenario::Churn => self.placement.threads.saturating_mul(STANDING),
            Scenario::Handshakes | Scenario::Slowloris => 0,
            Scenario::Plain => match self.target {
                // Each connection comes out of the proxy again.
                Target::Proxy { .. } => self.sessions.saturating_mul(2),
                Target::Relay(_) | Target::Tcp(_) => self.sessions,
            },
            Scenario::Evict
            | Scenario::Idle
            | Scenario::Opens
            | Scenario::Setups
            | Scenario::SlowReader
            | Scenario::Steady
            | Scenario::Storm => self.sessions,
        }
    }

    /// Returns how many of `total` things thread `index` owns when they are dealt out in turn.
    #[must_use]
    pub const fn share(&self, total: u32, index: u32) -> u32 {
        let threads = self.placement.threads;
        total / threads + if index < total % threads { 1 } else { 0 }
    }
}

/// Bytes of a message unless others are asked for, in the native dialect.
const MESSAGE_BYTES: u32 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_addresses_are_read_or_named_wrong() {
        let key = "3b".repeat(32);
        let relay: RelayAddress = format!("{key}@127.0.0.1:7100").parse().unwrap();
        assert_eq!(relay.key.to_string(), key);
        assert_eq!(relay.socket.port(), 7100);
        for (text, word) in [
            ("127.0.0.1:7100", "'@'"),
            ("ab@127.0.0.1:7100", "public key"),
            (&format!("{key}@localhost:1"), "ADDRESS:PORT"),
        ] {
            let error = text.parse::<RelayAddress>().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
