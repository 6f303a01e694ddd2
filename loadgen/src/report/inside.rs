//! The server's side as text.
//!
//! Here: lines for people. Not here: the values (`inside`).

use super::float;
use super::text::put;
use crate::inside::Inside;
use crate::latency::Summary;
use crate::run::Outcome;

/// Appends what was seen of the server, if anything was.
pub(super) fn table(out: &mut String, outcome: &Outcome) {
    let inside = &outcome.inside;
    for (name, times) in [("handshake", &inside.handshake), ("open", &inside.open)] {
        if let Some(times) = times {
            let head = format!("inside: {name}");
            row(out, &head, times);
        }
    }
    let outside = outcome.tally.latencies.service.summary();
    if let (Some(name), Some(times)) = (inside.timed, inside.timed()) {
        row(out, &format!("outside: {name}"), &outside);
        let (inner, outer) = (times.p99_ns, outside.p99_ns);
        let share = outer.saturating_sub(inner) * 100 / outer.max(1);
        put(
            out,
            format_args!(
                "{:<20} {share} % of the p99 passes in front of the server: network, kernel, the \
                 generator\n",
                ""
            ),
        );
    }
    waits(out, inside);
}

fn row(out: &mut String, name: &str, times: &Summary) {
    let micros = |nanos| float(nanos) / 1e3;
    put(
        out,
        format_args!(
            "{name:<20} {} times, p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, max {:.0} us\n",
            times.count,
            micros(times.p50_ns),
            micros(times.p99_ns),
            micros(times.p999_ns),
            micros(times.max_ns)
        ),
    );
}

fn waits(out: &mut String, inside: &Inside) {
    let mut parts = Vec::new();
    if let Some(delay) = inside.run_delay {
        parts.push(format!("for a processor {:.0} ms/s", delay * 1e3));
    }
    if let Some(queues) = inside.queues {
        parts.push(format!(
            "at most {} connections not accepted, {} bytes not read, {} bytes not acknowledged",
            queues.accepts, queues.unread_bytes, queues.unsent_bytes
        ));
    }
    if let Some(count) = inside.listen_overflows.filter(|count| *count > 0) {
        parts.push(format!("{count} connections dropped by a full listener"));
    }
    if let Some(count) = inside.retransmissions.filter(|count| *count > 0) {
        parts.push(format!("{count} segments sent again"));
    }
    if !parts.is_empty() {
        put(out, format_args!("server waits   {}\n", parts.join("; ")));
    }
}
