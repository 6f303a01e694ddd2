//! Flags of the scenarios that misbehave: `churn`, `slow-reader`, `slowloris`.
//!
//! Here: the flags and how they become a [`Plan`]. Not here: the well-behaved scenarios (`cli`), whether
//! the plan can work (`plan::limits`).

use std::time::Duration;

use clap::Args;

use super::{Common, PaceFlags, Relay};
use crate::plan::{Churn, End, KillPhase, Mode, Plan, Scenario, Slow};

/// Flags of `churn`.
#[derive(Debug, Args)]
pub struct ChurnFlags {
    #[command(flatten)]
    relay: Relay,
    /// Cycles of the whole run, instead of --duration
    #[arg(long, value_name = "COUNT", conflicts_with = "duration")]
    cycles: Option<u64>,
    /// Time in which connections are made and killed, over all rounds
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Rounds; after each one everything of it is closed and the relay's books are compared
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    rounds: u32,
    /// Where connections are killed, in turn [default: all]
    #[arg(long, value_enum, value_name = "PHASE", value_delimiter = ',')]
    phases: Vec<KillPhase>,
    /// How they are killed
    #[arg(long, value_enum, default_value_t = End::Rst)]
    end: End,
    /// Connections at a time on each thread
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    concurrency: u32,
    #[command(flatten)]
    pace: PaceFlags,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Flags of `slowloris`.
#[derive(Debug, Args)]
pub struct SlowlorisFlags {
    #[command(flatten)]
    relay: Relay,
    /// Connections; in turn silent, one byte of message 1 a second, message 1 and nothing after it
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    sockets: u32,
    /// Time to hold them once all are made; one that is still open then fails the run if this is longer
    /// than 7 s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    hold: Duration,
    /// Connections being made at a time on each thread
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    concurrency: u32,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Flags of `slow-reader`.
#[derive(Debug, Args)]
pub struct SlowReaderFlags {
    #[command(flatten)]
    relay: Relay,
    /// Pairs that send and read at full speed
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pairs: u32,
    /// Pairs whose receiver grants 16 MiB a stream (dmsg: 256 KiB, as its clients) and stops reading
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    slow: u32,
    /// Streams of each slow pair; three have more granted than a relay keeps for one session
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    slow_streams: u32,
    /// Windows: without slow pairs, with, without, with, and so on
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    windows: u32,
    /// Length of a window
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    window_time: Duration,
    /// Time before the first window
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// Bytes of a message; each is one frame
    #[arg(long, value_name = "BYTES", default_value_t = 16_384)]
    message_size: u32,
    /// Receive window of a stream of the fast pairs
    #[arg(long, value_name = "BYTES", default_value_t = 262_144)]
    window: u32,
    /// Handshakes, then opens, in progress at a time on each thread
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    concurrency: u32,
    #[command(flatten)]
    pub(super) common: Common,
}

impl ChurnFlags {
    pub(super) fn plan(&self) -> Plan {
        let target = self.relay.target();
        let mut plan = self.common.plan(Scenario::Churn, target);
        plan.sessions = self.concurrency.saturating_mul(plan.placement.threads);
        plan.concurrency = self.concurrency;
        plan.duration = self.duration;
        plan.pace = self.pace.pace();
        self.relay.add_to(&mut plan);
        plan.traffic.mode = Mode::PingPong;
        plan.churn = Churn {
            cycles: self.cycles,
            rounds: self.rounds,
            phases: self.phases.clone(),
            end: self.end,
        };
        if plan.churn.phases.is_empty() {
            plan.churn.phases = KillPhase::ALL.to_vec();
        }
        plan
    }
}

impl SlowlorisFlags {
    pub(super) fn plan(&self) -> Plan {
        let target = self.relay.target();
        let mut plan = self.common.plan(Scenario::Slowloris, target);
        plan.sessions = self.sockets;
        plan.concurrency = self.concurrency;
        plan.duration = self.hold;
        self.relay.add_to(&mut plan);
        plan
    }
}

impl SlowReaderFlags {
    pub(super) fn plan(&self) -> Plan {
        let target = self.relay.target();
        let mut plan = self.common.plan(Scenario::SlowReader, target);
        plan.sessions = self.pairs.saturating_mul(2);
        plan.concurrency = self.concurrency;
        plan.duration = self.window_time;
        plan.warmup = self.warmup;
        plan.traffic.message_bytes = self.message_size;
        plan.traffic.window_bytes = self.window;
        self.relay.add_to(&mut plan);
        plan.slow = Slow {
            pairs: self.slow,
            streams: self.slow_streams,
            windows: self.windows,
        };
        plan
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Task};
    use super::*;
    use crate::plan::Shape;

    fn plan(line: &str) -> Result<Plan, clap::Error> {
        let (command, flags) = line.split_once(' ').unwrap_or((line, ""));
        let relay = format!("{}@127.0.0.1:7100", "3b".repeat(32));
        let line = format!("x {command} --relay {relay} {flags}");
        match Cli::try_parse_from(line.split_ascii_whitespace())?.task {
            Task::Run(command) => Ok(command.plan()),
            _ => panic!("no run"),
        }
    }

    #[test]
    fn churn_reads_its_flags() {
        let plan = plan(
            "churn --cycles 1000 --rate 50 --rounds 4 --phases idle,mid-frame --end fin --threads 2 \
             --concurrency 8 --admin 127.0.0.1:7180 --src 127.0.0.2,127.0.0.3",
        )
        .unwrap();
        assert_eq!(plan.churn.cycles, Some(1_000));
        assert_eq!(plan.pace.as_ref().unwrap().shape, Shape::Constant(50));
        assert_eq!(plan.churn.rounds, 4);
        assert_eq!(plan.churn.phases, [KillPhase::Idle, KillPhase::MidFrame]);
        assert_eq!((plan.churn.end, plan.sessions), (End::Fin, 16));
        assert_eq!(plan.admin.map(|admin| admin.port()), Some(7_180));
        assert_eq!(plan.sessions_standing(), 8);
        assert_eq!(plan.warmup, Duration::ZERO);
    }

    #[test]
    fn churn_kills_in_every_phase_unless_told_otherwise() {
        let plan = plan("churn").unwrap();
        assert_eq!(plan.churn.phases, KillPhase::ALL);
        assert_eq!(plan.churn.cycles, None);
        assert_eq!(plan.duration, Duration::from_secs(10));
    }

    #[test]
    fn cycles_and_duration_exclude_each_other() {
        assert!(plan("churn --cycles 5 --duration 5s").is_err());
        assert!(plan("churn --phases never").is_err());
        assert!(plan("churn --rate fast").is_err());
    }

    #[test]
    fn slow_scenarios_read_their_flags() {
        let loris = plan("slowloris --sockets 9 --hold 8s").unwrap();
        assert_eq!(
            (loris.sessions, loris.duration),
            (9, Duration::from_secs(8))
        );
        let reader = plan("slow-reader --pairs 20 --slow 2 --windows 6 --window-time 2s").unwrap();
        assert_eq!((reader.sessions, reader.pairs()), (40, 20));
        assert_eq!(
            reader.slow,
            Slow {
                pairs: 2,
                streams: 3,
                windows: 6
            }
        );
        assert_eq!(reader.duration, Duration::from_secs(2));
    }
}
