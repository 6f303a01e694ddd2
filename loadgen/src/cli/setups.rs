//! Flags of `setups`.
//!
//! Here: the flags and how they become a [`Plan`]. Not here: whether the plan can work (`plan::limits`).

use clap::Args;

use super::{Common, PaceFlags, Relay, Span};
use crate::plan::{HOPS, HOPS_MAX, Plan, Scenario};

/// Flags of `setups`.
#[derive(Debug, Args)]
pub struct SetupsFlags {
    #[command(flatten)]
    relay: Relay,
    /// Sessions; half of them ask for routes, the other half are the hops
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    sessions: u32,
    /// Peers behind the asker on each route, the destination among them
    #[arg(long, value_name = "COUNT", default_value_t = HOPS, value_parser = clap::value_parser!(u32).range(1..=i64::from(HOPS_MAX)))]
    hops: u32,
    /// Setups in progress at a time on each thread, spread over the streams of its askers
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    concurrency: u32,
    #[command(flatten)]
    pace: PaceFlags,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    pub(super) common: Common,
}

impl SetupsFlags {
    pub(super) fn plan(&self) -> Plan {
        let target = self.relay.target();
        let mut plan = self.span.plan(&self.common, Scenario::Setups, target);
        plan.sessions = self.sessions;
        plan.hops = self.hops;
        plan.concurrency = self.concurrency;
        self.relay.add_to(&mut plan);
        plan.pace = self.pace.pace();
        plan
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Task};
    use super::*;
    use crate::plan::Payload;

    fn plan(flags: &str) -> Result<Plan, clap::Error> {
        let relay = format!("{}@127.0.0.1:7100", "3b".repeat(32));
        let line = format!("x setups --relay {relay} {flags}");
        match Cli::try_parse_from(line.split_ascii_whitespace())?.task {
            Task::Run(command) => Ok(command.plan()),
            _ => panic!("no run"),
        }
    }

    #[test]
    fn flags_become_a_plan() {
        let plan = plan("--sessions 40 --hops 5 --concurrency 200 --rate 900").unwrap();
        assert_eq!((plan.scenario, plan.name()), (Scenario::Setups, "setups"));
        assert_eq!((plan.sessions, plan.hops, plan.concurrency), (40, 5, 200));
        assert_eq!((plan.pairs(), plan.streams_total()), (20, 20));
        assert!(plan.pace.is_some());
        // The relay reads what it is asked, so it is never a stand-in.
        assert_eq!(plan.traffic.payload, Payload::Sealed);
    }

    #[test]
    fn routes_have_as_many_hops_as_the_protocol_allows() {
        assert_eq!(plan("").unwrap().hops, 3);
        for hops in ["1", "15"] {
            assert!(plan(&format!("--hops {hops}")).is_ok());
        }
        for hops in ["0", "16"] {
            assert!(plan(&format!("--hops {hops}")).is_err());
        }
    }
}
