//! Flags of the scenarios in which sessions come back: `storm`, `evict`.
//!
//! Here: the flags and how they become a [`Plan`]. Not here: whether the plan can work (`plan::limits`).

use std::time::Duration;

use clap::Args;

use super::{Common, DialectFlags, PaceFlags, Relay, Span, Where};
use crate::plan::{Plan, Scenario, Storm};

/// Flags of `storm`.
#[derive(Debug, Args)]
pub struct StormFlags {
    #[command(flatten)]
    to: Where,
    #[command(flatten)]
    dialect: DialectFlags,
    /// Sessions
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    sessions: u32,
    /// Time over which they come back, at random; 0s is all at once
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    spread: Duration,
    /// Let a storm come this often [default: one, when the time begins to count]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    every: Option<Duration>,
    /// Handshakes in progress at a time on each thread [default: no bound, as peers do not know each other]
    #[arg(long, value_name = "COUNT")]
    concurrency: Option<u32>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Flags of `evict`.
#[derive(Debug, Args)]
pub struct EvictFlags {
    #[command(flatten)]
    relay: Relay,
    /// Keys; each has a session that is replaced again and again
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    keys: u32,
    /// Replacements in progress at a time on each thread
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    concurrency: u32,
    #[command(flatten)]
    pace: PaceFlags,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    pub(super) common: Common,
}

impl StormFlags {
    pub(super) fn plan(&self) -> Plan {
        let mut plan = self
            .span
            .plan(&self.common, Scenario::Storm, self.to.target());
        plan.sessions = self.sessions;
        plan.concurrency = self.concurrency.unwrap_or(self.sessions);
        self.dialect.add_to(&mut plan);
        plan.storm = Storm {
            spread: self.spread,
            every: self.every,
        };
        plan
    }
}

impl EvictFlags {
    pub(super) fn plan(&self) -> Plan {
        let target = self.relay.target();
        let mut plan = self.span.plan(&self.common, Scenario::Evict, target);
        plan.sessions = self.keys;
        plan.concurrency = self.concurrency;
        self.relay.add_to(&mut plan);
        plan.pace = self.pace.pace();
        plan
    }
}
