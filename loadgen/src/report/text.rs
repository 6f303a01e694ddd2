//! A result for people: a table on a terminal, one line in a pipe.
//!
//! Here: texts. Not here: where they are written (`main`).

use std::fmt;

use super::{Cost, Figures, Verdict};
use crate::latency::Times;
use crate::machine::Machine;
use crate::plan::{OpensTo, Plan, Scenario};
use crate::run::Outcome;

/// Returns a result as a table.
#[must_use]
pub fn table(plan: &Plan, outcome: &Outcome, machine: &Machine) -> String {
    let figures = Figures::of(plan, outcome);
    let mut out = String::new();
    let mut say = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    say(title(plan));
    if plan.scenario.has_traffic() {
        say(format!(
            "throughput     {}/s, {} messages/s",
            bytes(figures.bytes_per_second),
            count(figures.messages_per_second)
        ));
    } else if !matches!(plan.scenario, Scenario::Idle | Scenario::Slowloris) {
        let name = match plan.scenario {
            Scenario::Churn => "cycles",
            _ => plan.name(),
        };
        say(format!(
            "throughput     {} {name}/s",
            count(figures.rounds_per_second)
        ));
    }
    if let Some(relay) = &figures.relay {
        say(format!("relay CPU      {}", cost(relay)));
    }
    say(format!("generator CPU  {}", cost(&figures.generator)));
    if let (Some(relay), Some(each)) = (outcome.relay, figures.relay_bytes_per_session) {
        let (before, end) = (relay.before.rss_bytes, relay.end.rss_bytes);
        say(format!(
            "relay memory   {} KiB before, {} KiB at the end, {each:.0} B a session",
            before / 1_024,
            end / 1_024
        ));
    }
    let [sessions, streams] = outcome.setup;
    say(format!(
        "setup          sessions {sessions:.1?}, streams {:.1?}",
        streams.saturating_sub(sessions)
    ));
    times(&mut out, outcome);
    super::findings::table(&mut out, &outcome.findings);
    super::inside::table(&mut out, outcome);
    if !outcome.ledger.is_empty() {
        out.push_str(&super::ledger_head("ports"));
        for row in &outcome.ledger {
            out.push_str(&super::ledger_row("", row));
        }
    }
    notes(&mut out, plan, outcome);
    put(&mut out, format_args!("machine        {machine}\n"));
    out
}

/// Returns a result as one line of `name=value`.
#[must_use]
pub fn line(plan: &Plan, outcome: &Outcome) -> String {
    let figures = Figures::of(plan, outcome);
    let dialect = plan.dialect().map_or_else(String::new, |dialect| {
        format!(" dialect={}", dialect.name())
    });
    let mut out = format!(
        "scenario={}{dialect} verdict={} seconds={:.2} bytes_per_second={:.0} messages_per_second={:.0} \
         rounds_per_second={:.0}",
        plan.name(),
        Verdict::of(outcome).word(),
        figures.seconds,
        figures.bytes_per_second,
        figures.messages_per_second,
        figures.rounds_per_second,
    );
    if let Some(relay) = figures.relay {
        put(&mut out, format_args!(" relay_cores={:.3}", relay.cores));
        if let Some(value) = relay.seconds_per_gigabyte {
            put(&mut out, format_args!(" relay_s_per_gb={value:.3}"));
        }
        if let Some(value) = relay.micros_per_message {
            put(&mut out, format_args!(" relay_us_per_message={value:.3}"));
        }
        if let Some(value) = relay.micros_per_round {
            put(&mut out, format_args!(" relay_us_per_round={value:.3}"));
        }
    }
    let latencies = &outcome.tally.latencies;
    for (name, times) in [
        ("response", &latencies.response),
        ("service", &latencies.service),
        ("lag", &latencies.lag),
    ] {
        if times.count() > 0 {
            let summary = times.summary();
            put(
                &mut out,
                format_args!(
                    " {name}_p50_ns={} {name}_p99_ns={} {name}_p999_ns={}",
                    summary.p50_ns, summary.p99_ns, summary.p999_ns
                ),
            );
        }
    }
    if let Some(each) = figures.relay_bytes_per_session {
        put(&mut out, format_args!(" relay_bytes_per_session={each:.0}"));
    }
    let unsent = outcome.tally.messages_unsent;
    if unsent > 0 {
        put(&mut out, format_args!(" unsent={unsent}"));
    }
    super::findings::line(&mut out, &outcome.findings);
    let failures = outcome.tally.failures.total();
    put(&mut out, format_args!(" failures={failures}"));
    out
}

fn title(plan: &Plan) -> String {
    let name = plan.title();
    let sessions = plan.sessions;
    match plan.scenario {
        Scenario::Plain | Scenario::SlowReader | Scenario::Steady => {
            let traffic = &plan.traffic;
            let rate = plan.pace.as_ref().map_or_else(
                || "full speed".to_owned(),
                |pace| format!("{} a second ({})", pace.shape, pace.arrivals.name()),
            );
            let streams = plan.streams_total();
            format!(
                "{name}: {sessions} sessions, {streams} streams, {} {} B {}, {rate}, {:?}",
                traffic.mode.name(),
                traffic.message_bytes,
                traffic.payload.name(),
                plan.duration
            )
        }
        Scenario::Opens => {
            let to = match plan.opens_to {
                OpensTo::Peer => "",
                OpensTo::Nobody => ", to nobody",
            };
            let payload = plan.traffic.payload.name();
            format!(
                "{name}: {}, {payload}{to}, {:?}",
                at_a_time(plan),
                plan.duration
            )
        }
        Scenario::Handshakes => format!("{name}: {}, {:?}", at_a_time(plan), plan.duration),
        Scenario::Churn => {
            let phases: Vec<&str> = plan.churn.phases.iter().map(|phase| phase.name()).collect();
            format!(
                "{name}: {}, {} rounds, killed by {} when {}",
                at_a_time(plan),
                plan.churn.rounds,
                plan.churn.end.name(),
                phases.join(", ")
            )
        }
        Scenario::Setups => {
            let plural = if plan.hops == 1 { "" } else { "s" };
            format!(
                "{name}: over {} hop{plural}, {}, {:?}",
                plan.hops,
                at_a_time(plan),
                plan.duration
            )
        }
        Scenario::Slowloris => {
            format!(
                "{name}: {sessions} connections without a handshake, {:?}",
                plan.duration
            )
        }
        Scenario::Evict => format!(
            "{name}: {sessions} keys, {}, {:?}",
            at_a_time(plan),
            plan.duration
        ),
        Scenario::Storm => format!(
            "{name}: {sessions} sessions, due again within {:?}, {:?}",
            plan.storm.spread, plan.duration
        ),
        Scenario::Idle => format!("{name}: {sessions} sessions, {:?}", plan.duration),
    }
}

fn at_a_time(plan: &Plan) -> String {
    format!(
        "{} at a time on {}",
        plan.concurrency,
        plan.placement.threads_text()
    )
}

fn cost(cost: &Cost) -> String {
    let mut out = format!("{:.1} % of a core", cost.cores * 100.0);
    if let Some(value) = cost.seconds_per_gigabyte {
        put(&mut out, format_args!(", {value:.3} s/GB"));
    }
    if let Some(value) = cost.micros_per_message {
        put(&mut out, format_args!(", {value:.2} us/message"));
    } else if let Some(value) = cost.micros_per_round {
        put(&mut out, format_args!(", {value:.1} us each"));
    }
    if let Some(user) = cost.user_percent {
        put(&mut out, format_args!(" (user {user} %)"));
    }
    out
}

fn times(out: &mut String, outcome: &Outcome) {
    let latencies = &outcome.tally.latencies;
    let rows: Vec<(&str, &Times)> = [
        ("response", &latencies.response),
        ("service", &latencies.service),
        ("lag", &latencies.lag),
    ]
    .into_iter()
    .filter(|(_, times)| times.count() > 0)
    .collect();
    if rows.is_empty() {
        return;
    }
    put(
        out,
        format_args!(
            "{:<10} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}\n",
            "us", "count", "p50", "p90", "p99", "p99.9", "max"
        ),
    );
    for (name, times) in rows {
        let summary = times.summary();
        put(out, format_args!("{name:<10} {:>12}", summary.count));
        for nanos in [
            summary.p50_ns,
            summary.p90_ns,
            summary.p99_ns,
            summary.p999_ns,
            summary.max_ns,
        ] {
            put(out, format_args!(" {:>10.1}", super::float(nanos) / 1e3));
        }
        out.push('\n');
        if summary.saturated > 0 {
            put(
                out,
                format_args!(
                    "{:<10} {} of them longer than 60 s\n",
                    "", summary.saturated
                ),
            );
        }
    }
}

fn notes(out: &mut String, plan: &Plan, outcome: &Outcome) {
    let tally = &outcome.tally;
    if Figures::of(plan, outcome).is_generator_limit {
        put(
            out,
            format_args!(
                "limit          the generator's threads had no time left: the rate is theirs, and maybe less \
                 than the server's; trust its CPU, or give the generator more --threads\n"
            ),
        );
    }
    if tally.messages_unsent > 0 {
        let unsent = tally.messages_unsent;
        put(
            out,
            format_args!(
                "behind         {unsent} due messages were never sent: the rate is too high\n"
            ),
        );
    }
    for (name, count) in tally.failures.iter() {
        put(out, format_args!("failed         {count} x {name}\n"));
    }
    if !outcome.is_complete {
        put(out, format_args!("partial        the run was cut short\n"));
    }
    if !outcome.is_on_time {
        put(
            out,
            format_args!(
                "UNTRUSTWORTHY  the generator's own lag (p99) exceeds {} % of the median response, or its \
                 threads used more than 90 % of their time: give it a core (--cpu), more --threads, or a \
                 lower --rate\n",
                plan.lag_percent_max
            ),
        );
    }
}

pub(super) fn bytes(value: f64) -> String {
    for (size, name) in [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")] {
        if value >= size {
            return format!("{:.2} {name}", value / size);
        }
    }
    format!("{value:.0} B")
}

fn count(value: f64) -> String {
    for (size, name) in [(1e6, " million"), (1e3, "k")] {
        if value >= 10.0 * size {
            return format!("{:.2}{name}", value / size);
        }
    }
    format!("{value:.0}")
}

/// Appends a text.
pub(super) fn put(out: &mut String, text: fmt::Arguments<'_>) {
    out.push_str(&fmt::format(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(bytes(2.5e9), "2.50 GB");
        assert_eq!(bytes(12.0), "12 B");
        assert_eq!(count(9_999.0), "9999");
        assert_eq!(count(123_456.0), "123.46k");
    }
}
