//! A result as JSON.
//!
//! Here: the document and its version. Not here: its figures (`report`).
//!
//! Within a version fields may be added; none changes its meaning or leaves.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Figures, Verdict};
use crate::findings::Findings;
use crate::inside::Inside;
use crate::latency::Summary;
use crate::ledger::LedgerRow;
use crate::machine::Machine;
use crate::plan::{DialectName, Plan, Scenario};
use crate::process::ProcessSample;
use crate::run::Outcome;

/// Name and version of the document.
const SCHEMA: &str = "ringway-loadgen/2";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    scenario: &'static str,
    /// What was spoken, if the target was a relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    verdict: &'static str,
    is_complete: bool,
    is_on_time: bool,
    machine: &'a Machine,
    plan: PlanDocument,
    setup: Setup,
    figures: Figures,
    counts: Counts,
    latencies: BTreeMap<&'static str, Summary>,
    failures: BTreeMap<&'a str, u64>,
    relay: Option<RelayDocument>,
    findings: &'a Findings,
    /// What went wrong as it was expected.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    expected: BTreeMap<&'a str, u64>,
    ledger: &'a [LedgerRow],
    /// The server's side.
    inside: &'a Inside,
}

#[derive(Serialize)]
struct PlanDocument {
    sessions: u32,
    streams: u32,
    mode: &'static str,
    payload: &'static str,
    message_bytes: u32,
    in_flight: u32,
    /// Text of the shape, if events begin by the clock.
    rate: Option<String>,
    arrivals: Option<&'static str>,
    seed: u64,
    window_bytes: u32,
    verify: bool,
    concurrency: u32,
    threads: u32,
    processes: u32,
    cpus: Vec<u32>,
    congestion: Option<String>,
    is_spinning: bool,
    duration_seconds: f64,
    warmup_seconds: f64,
    sources: Vec<String>,
    ports: Option<String>,
    port_choice: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    churn: Option<ChurnDocument>,
    /// How connections end, of `connects`.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storm: Option<StormDocument>,
    /// Whether sessions answer no sign of life.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_mute: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow: Option<SlowDocument>,
    /// Peers behind the asker of a route, of `setups`.
    #[serde(skip_serializing_if = "Option::is_none")]
    hops: Option<u32>,
    /// Whom the opens are for, of `opens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'static str>,
    /// The dialect, and what its runs have of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dmsg: Option<DmsgDocument>,
}

#[derive(Serialize)]
struct DmsgDocument {
    ping_after_seconds: f64,
    patience_seconds: f64,
}

#[derive(Serialize)]
struct ChurnDocument {
    cycles: Option<u64>,
    rounds: u32,
    phases: Vec<&'static str>,
    end: &'static str,
}

#[derive(Serialize)]
struct StormDocument {
    spread_seconds: f64,
    every_seconds: Option<f64>,
}

#[derive(Serialize)]
struct SlowDocument {
    pairs: u32,
    streams: u32,
    windows: u32,
}

#[derive(Serialize)]
struct Setup {
    sessions_seconds: f64,
    streams_seconds: f64,
}

#[derive(Serialize)]
struct Counts {
    messages: u64,
    bytes: u64,
    rounds: u64,
    messages_sent_total: u64,
    messages_received_total: u64,
    messages_unsent: u64,
}

#[derive(Serialize)]
struct RelayDocument {
    pid: Option<u32>,
    before: ProcessSample,
    start: ProcessSample,
    end: ProcessSample,
}

/// Returns the document of an outcome.
#[must_use]
pub fn document(plan: &Plan, outcome: &Outcome, machine: &Machine) -> String {
    let tally = &outcome.tally;
    let [sessions, streams] = outcome.setup;
    let latencies = [
        ("response", &tally.latencies.response),
        ("service", &tally.latencies.service),
        ("lag", &tally.latencies.lag),
    ];
    let document = Document {
        schema: SCHEMA,
        scenario: plan.name(),
        dialect: plan.dialect().map(DialectName::name),
        verdict: Verdict::of(outcome).word(),
        is_complete: outcome.is_complete,
        is_on_time: outcome.is_on_time,
        machine,
        plan: plan_document(plan),
        setup: Setup {
            sessions_seconds: sessions.as_secs_f64(),
            streams_seconds: streams.as_secs_f64(),
        },
        figures: Figures::of(plan, outcome),
        counts: Counts {
            messages: tally.messages,
            bytes: tally.bytes,
            rounds: tally.rounds,
            messages_sent_total: tally.messages_sent,
            messages_received_total: tally.messages_received,
            messages_unsent: tally.messages_unsent,
        },
        latencies: latencies
            .into_iter()
            .filter(|(_, times)| times.count() > 0)
            .map(|(name, times)| (name, times.summary()))
            .collect(),
        failures: tally.failures.iter().collect(),
        relay: outcome.relay.map(|relay| RelayDocument {
            pid: plan.relay_pid,
            before: relay.before,
            start: relay.start,
            end: relay.end,
        }),
        findings: &outcome.findings,
        expected: outcome.expected.iter().collect(),
        ledger: &outcome.ledger,
        inside: &outcome.inside,
    };
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

fn plan_document(plan: &Plan) -> PlanDocument {
    PlanDocument {
        sessions: plan.sessions,
        streams: plan.streams_total(),
        mode: plan.traffic.mode.name(),
        payload: plan.traffic.payload.name(),
        message_bytes: plan.traffic.message_bytes,
        in_flight: plan.traffic.in_flight,
        rate: plan.pace.as_ref().map(|pace| pace.shape.to_string()),
        arrivals: plan.pace.as_ref().map(|pace| pace.arrivals.name()),
        seed: plan.seed,
        window_bytes: plan.traffic.window_bytes,
        verify: plan.traffic.verify,
        concurrency: plan.concurrency,
        threads: plan.placement.threads,
        processes: plan.placement.processes,
        cpus: plan.placement.cpus.clone(),
        congestion: plan.placement.congestion.clone(),
        is_spinning: plan.placement.is_spinning,
        duration_seconds: plan.duration.as_secs_f64(),
        warmup_seconds: plan.warmup.as_secs_f64(),
        sources: plan.placement.sources.names(),
        ports: plan.placement.ports.map(|range| range.to_string()),
        port_choice: plan.placement.port_choice.name(),
        churn: (plan.scenario == Scenario::Churn).then(|| ChurnDocument {
            cycles: plan.churn.cycles,
            rounds: plan.churn.rounds,
            phases: plan.churn.phases.iter().map(|phase| phase.name()).collect(),
            end: plan.churn.end.name(),
        }),
        end: (plan.scenario == Scenario::Handshakes && plan.target.is_plain())
            .then(|| plan.churn.end.name()),
        storm: (plan.scenario == Scenario::Storm).then(|| StormDocument {
            spread_seconds: plan.storm.spread.as_secs_f64(),
            every_seconds: plan.storm.every.map(|every| every.as_secs_f64()),
        }),
        is_mute: plan.is_mute,
        slow: (plan.scenario == Scenario::SlowReader).then_some(SlowDocument {
            pairs: plan.slow.pairs,
            streams: plan.slow.streams,
            windows: plan.slow.windows,
        }),
        hops: (plan.scenario == Scenario::Setups).then_some(plan.hops),
        to: (plan.scenario == Scenario::Opens).then(|| plan.opens_to.name()),
        dialect: plan.dialect().map(DialectName::name),
        dmsg: plan.is_dmsg().then_some(DmsgDocument {
            ping_after_seconds: plan.dmsg.ping_after.as_secs_f64(),
            patience_seconds: plan.dmsg.patience.as_secs_f64(),
        }),
    }
}
