//! Counters and gauges in the Prometheus text format.
//!
//! Here: the laws between metrics, times, the writer. Not here: the one table of metrics (`table`), HTTP,
//! counting.
//!
//! Labels are `shard`, `reason`, `dialect`, and `le` of a bucket, and nothing else, so the number of series
//! is bounded by shards times reasons or buckets. A law stands in the HELP of the metric on its left side;
//! `/health` checks it.
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>, text format 0.0.4.

mod table;

use hdrhistogram::{Counter, Histogram};
use ringway_proto::dialect::Dialect;
use ringway_proto::reason::Reason;
use ringway_shards::core::{ByReason, CoreStats, DialectStats, Recorder};

use self::table::METRICS;
use super::ShardView;
use crate::dmsg::discovery::numbers::{self as discovery, DiscoveryNumbers};
use crate::numbers::Shown;
use crate::registry::numbers::{self, Numbers};
use crate::services::Shared;
use crate::services::finder::numbers as finder;
use crate::services::route_setup::numbers as setups;

/// One metric.
struct Metric {
    name: &'static str,
    help: &'static str,
    read: Read,
}

/// Where a metric's value comes from.
enum Read {
    /// Only grows.
    Counter(fn(&CoreStats) -> u64),
    /// Only grows, one series for each dialect.
    CounterByDialect(fn(&DialectStats) -> u64),
    /// Only grows, one series for each reason.
    CounterByReason(fn(&CoreStats) -> &ByReason),
    /// Grows and shrinks.
    Gauge(fn(&CoreStats) -> u64),
    /// Grows and shrinks, one series for each dialect.
    GaugeByDialect(fn(&DialectStats) -> u64),
    /// Only grows; of the ring or the data thread.
    ShardCounter(fn(&ShardView) -> u64),
    /// Grows and shrinks; of the ring or the data thread.
    ShardGauge(fn(&ShardView) -> u64),
}

/// Times as a histogram.
struct Times {
    name: &'static str,
    help: &'static str,
    read: fn(&Recorder) -> Option<&Histogram<u32>>,
}

const TIMES: &[Times] = &[
    Times {
        name: "ringway_handshake_seconds",
        help: "From accept to an established session.",
        read: Recorder::handshake_us,
    },
    Times {
        name: "ringway_open_seconds",
        help: "From an open request to its answer.",
        read: Recorder::open_us,
    },
];

/// Upper bounds of the buckets: in microseconds, and in seconds as `le` has them.
const BUCKETS: [(u64, &str); 14] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (5_000_000, "5"),
];

/// An equation that the ring takes part in.
pub(crate) struct ShardLaw {
    /// The equation in the words of the metrics.
    pub(crate) text: &'static str,
    /// Both sides.
    pub(crate) sides: fn(&ShardView) -> (u64, u64),
}

/// Laws of the ring's numbers. The ring may hold sockets that the core does not know of yet, whose address
/// the kernel was asked for, so there is no law between `descriptors_current` and `sockets_current`.
pub(crate) const SHARD_LAWS: &[ShardLaw] = &[
    ShardLaw {
        text: "descriptors_opened = descriptors_closed + descriptors_current",
        sides: |view| {
            let ring = &view.ring;
            (
                ring.sockets_opened,
                ring.sockets_closed + ring.sockets_current,
            )
        },
    },
    ShardLaw {
        text: "handovers_started = handovers + handovers_failed + handovers_current",
        sides: |view| {
            let ring = &view.ring;
            (
                ring.hand_overs_started,
                ring.hand_overs + ring.hand_overs_failed + ring.hand_overs_current,
            )
        },
    },
];

/// Returns the whole page. A reason's series exists from its first event on.
pub(crate) fn page(
    shards: &[ShardView],
    (registry, discoveries, services): (Option<&Numbers>, Option<&DiscoveryNumbers>, &Shared),
    uptime_s: u64,
    is_draining: bool,
) -> String {
    let mut out = String::with_capacity(16_384);
    let version = super::VERSION;
    heading(
        &mut out,
        "ringway_uptime_seconds",
        "Time since the start.",
        "gauge",
    );
    line(&mut out, format_args!("ringway_uptime_seconds {uptime_s}"));
    heading(
        &mut out,
        "ringway_draining",
        "1 while the relay takes nothing new.",
        "gauge",
    );
    line(
        &mut out,
        format_args!("ringway_draining {}", u8::from(is_draining)),
    );
    let help = format!("Relay of version {version}, commit {}.", super::COMMIT);
    heading(&mut out, "ringway_shards_current", &help, "gauge");
    line(
        &mut out,
        format_args!("ringway_shards_current {}", shards.len()),
    );
    for metric in METRICS {
        metric.write(&mut out, shards);
    }
    for times in TIMES {
        times.write(&mut out, shards);
    }
    if let Some(numbers) = registry {
        write_shown(&mut out, numbers::SHOWN, numbers);
    }
    if let Some(numbers) = discoveries {
        write_shown(&mut out, discovery::SHOWN, numbers);
    }
    write_setups(&mut out, &services.setups);
    if let Some(numbers) = services.paths.numbers() {
        write_shown(&mut out, finder::SHOWN, &numbers);
    }
    out
}

/// Writes numbers that are not of one shard.
pub(crate) fn write_shown<N>(out: &mut String, all: &[Shown<N>], numbers: &N) {
    for shown in all {
        heading(out, shown.name, shown.help, shown.kind);
        let value = (shown.read)(numbers);
        line(out, format_args!("{} {value}", shown.name));
    }
}

/// Writes what route setup counts; it is the same for all shards.
fn write_setups(out: &mut String, setups: &setups::Numbers) {
    write_shown(out, setups::SHOWN, setups);
    let name = "ringway_setups_refused_total";
    heading(out, name, "Route setups that were refused.", "counter");
    for (reason, count) in setups.refused() {
        let label = reason.label();
        line(out, format_args!("{name}{{reason=\"{label}\"}} {count}"));
    }
    for phase in setups::Phase::ALL {
        let (name, help) = phase.metric();
        heading(out, name, help, "histogram");
        if let Some(times) = setups.phase_us(phase) {
            write_buckets(out, name, "", &times);
        }
    }
}

impl Metric {
    fn write(&self, out: &mut String, shards: &[ShardView]) {
        let Self { name, help, read } = self;
        let kind = match read {
            Read::Counter(_)
            | Read::CounterByDialect(_)
            | Read::CounterByReason(_)
            | Read::ShardCounter(_) => "counter",
            Read::Gauge(_) | Read::GaugeByDialect(_) | Read::ShardGauge(_) => "gauge",
        };
        heading(out, name, help, kind);
        for view in shards {
            let ShardView { shard, stats, .. } = view;
            match read {
                Read::ShardCounter(read) | Read::ShardGauge(read) => {
                    line(
                        out,
                        format_args!("{name}{{shard=\"{shard}\"}} {}", read(view)),
                    );
                }
                Read::Counter(read) | Read::Gauge(read) => {
                    line(
                        out,
                        format_args!("{name}{{shard=\"{shard}\"}} {}", read(stats)),
                    );
                }
                Read::CounterByDialect(read) | Read::GaugeByDialect(read) => {
                    for dialect in Dialect::ALL {
                        let label = dialect.label();
                        let value = read(&stats.dialects[dialect.index()]);
                        line(
                            out,
                            format_args!("{name}{{shard=\"{shard}\",dialect=\"{label}\"}} {value}"),
                        );
                    }
                }
                Read::CounterByReason(read) => {
                    for (reason, count) in by_reason(read(stats)) {
                        let label = reason.label();
                        line(
                            out,
                            format_args!("{name}{{shard=\"{shard}\",reason=\"{label}\"}} {count}"),
                        );
                    }
                }
            }
        }
    }
}

/// Returns the reasons that have happened.
pub(crate) fn by_reason(counters: &ByReason) -> impl Iterator<Item = (Reason, u64)> + '_ {
    Reason::ALL
        .into_iter()
        .map(|reason| (reason, counters.of(reason)))
        .filter(|(_, count)| *count > 0)
}

impl Times {
    fn write(&self, out: &mut String, shards: &[ShardView]) {
        let Self { name, help, read } = self;
        heading(out, name, help, "histogram");
        for view in shards {
            let Some(histogram) = read(&view.recorder) else {
                continue;
            };
            write_buckets(out, name, &format!("shard=\"{}\"", view.shard), histogram);
        }
    }
}

/// Writes one histogram; `labels` are those of all its series.
fn write_buckets<C: Counter>(out: &mut String, name: &str, labels: &str, times: &Histogram<C>) {
    let comma = if labels.is_empty() { "" } else { "," };
    for (bound, le) in BUCKETS {
        let count = times.count_between(0, bound);
        line(
            out,
            format_args!("{name}_bucket{{{labels}{comma}le=\"{le}\"}} {count}"),
        );
    }
    let count = times.len();
    line(
        out,
        format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}"),
    );
    let braces = match labels {
        "" => String::new(),
        labels => format!("{{{labels}}}"),
    };
    let sum = seconds(times);
    line(out, format_args!("{name}_sum{braces} {sum}"));
    line(out, format_args!("{name}_count{braces} {count}"));
}

/// Returns the sum of all values, as exact as the histogram: 0.1 %.
fn seconds<C: Counter>(histogram: &Histogram<C>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the histogram has three digits")]
    let count = histogram.len() as f64;
    histogram.mean() * count / 1e6
}

/// Writes what stands above the rows of a metric.
pub(crate) fn heading(out: &mut String, name: &str, help: &str, kind: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

/// Writes one row.
pub(crate) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.push_str(&text.to_string());
    out.push('\n');
}

#[cfg(test)]
mod tests;
