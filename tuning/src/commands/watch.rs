//! `ringway-tune watch`: what the kernel counts while a relay runs.
//!
//! Here: the flags, the pace, the lines. Not here: what a counter means (the library).

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway_tuning::watch::{Flow, Interval, Sign, Total, Totals, Watcher, Weight, unknowns};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{complain, end};

/// How long and how often the kernel's counters are compared.
#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    /// Time between two looks, such as 1s or 500ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,

    /// Looks to take [default: until an interrupt]
    #[arg(
        long,
        value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    count: Option<u64>,

    /// Print one JSON object a line in place of text
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  ringway-tune watch
  ringway-tune watch --interval 10s --count 6 --json
  nsenter --net --target $(pidof ringway) ringway-tune watch

Ends with a summary; exits with 1 when a bad sign was seen. Connections, ports and drops are those of the
network namespace it runs in; softnet, orphans and TCP memory are the whole host's.";

impl Watch {
    /// Watches until the last look or an interrupt, and prints the summary.
    pub(crate) fn run(&self) -> ExitCode {
        let watcher = Watcher::begin();
        if watcher.snapshot().is_blind() {
            complain(format_args!(
                "nothing to watch: no counter could be read from /proc/net/netstat, /proc/net/snmp or \
                 /proc/net/softnet_stat"
            ));
            return ExitCode::from(1);
        }
        let mut totals = Totals::default();
        let result = self.watch(watcher, &mut totals);
        end(result, totals.is_bad())
    }

    fn watch(&self, mut watcher: Watcher, totals: &mut Totals) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let printer = Printer { is_json: self.json };
        runtime.block_on(async {
            let mut interrupts = Interrupts::take()?;
            printer.begin(&unknowns(watcher.snapshot()))?;
            let mut pace = tokio::time::interval(self.interval);
            // A look that was late is not made up for by one that is early.
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            pace.tick().await;
            while self.count.is_none_or(|count| totals.intervals < count) {
                tokio::select! {
                    biased;
                    () = interrupts.next() => break,
                    _ = pace.tick() => {}
                }
                let interval = watcher.take();
                printer.interval(&interval, totals)?;
                totals.add(&interval);
            }
            printer.end(totals)
        })
    }
}

/// The two signals that end a watch with its summary.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn take() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Writes what a watch sees, each look at once: a pipe's reader is not kept waiting.
struct Printer {
    is_json: bool,
}

impl Printer {
    fn begin(&self, unknown: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.is_json {
            let line = json!({"schema": SCHEMA, "kind": "start", "unix_ms": unix_ms(), "unknown": unknown});
            return writeln!(out, "{line}");
        }
        for line in unknown {
            writeln!(out, "unknown on this host: {line}")?;
        }
        out.flush()
    }

    /// Prints an interval; the fix of a bad sign only when no interval of `before` had it.
    fn interval(&self, interval: &Interval, before: &Totals) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.is_json {
            let line = json!({"kind": "interval", "unix_ms": unix_ms(), "interval": interval});
            return writeln!(out, "{line}");
        }
        let time = clock(unix_ms());
        if interval.signs.is_empty() {
            writeln!(out, "{time}  quiet    {}", flow_text(&interval.flow))?;
        }
        for sign in &interval.signs {
            writeln!(out, "{time}  {}", sign_text(sign))?;
            let is_same = |total: &Total| total.name == sign.name && total.weight == Weight::Bad;
            if sign.weight == Weight::Bad && !before.signs.iter().any(is_same) {
                writeln!(out, "          fix: {}", sign.fix)?;
            }
        }
        out.flush()
    }

    fn end(&self, totals: &Totals) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.is_json {
            let line = json!({
                "kind": "summary",
                "unix_ms": unix_ms(),
                "is_bad": totals.is_bad(),
                "totals": totals,
            });
            return writeln!(out, "{line}");
        }
        let (intervals, quiet) = (totals.intervals, totals.quiet);
        writeln!(out, "\n{intervals} looks, {quiet} of them quiet")?;
        for total in &totals.signs {
            writeln!(out, "{}", total_text(total))?;
            if total.weight == Weight::Bad {
                writeln!(out, "         fix: {}", total.fix)?;
            }
        }
        out.flush()
    }
}

/// Reads the time between two looks.
fn interval(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (INTERVAL_MIN..=INTERVAL_MAX).contains(&time) {
        true => Ok(time),
        false => Err("expected 100ms to 1h".to_owned()),
    }
}

fn sign_text(sign: &Sign) -> String {
    format!("{:<8} {}: {}", sign.weight.label(), sign.name, sign.says)
}

fn total_text(total: &Total) -> String {
    let Total {
        name,
        weight,
        intervals,
        count,
        per_second_max,
        level_max,
        ..
    } = total;
    let looks = if *intervals == 1 { "look" } else { "looks" };
    let seen = format!("in {intervals} {looks}");
    let what = match level_max {
        Some(level) => format!("at most {} of {}, {seen}", level.now, level.most),
        None if *weight == Weight::Unknown => format!("could not be compared {seen}"),
        None => format!("{count} {seen}, at most {per_second_max:.0} a second"),
    };
    format!("{:<8} {name}: {what}", weight.label())
}

fn flow_text(flow: &Flow) -> String {
    let number = |value: Option<f64>| {
        value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.0}"))
    };
    let connections = flow
        .connections
        .map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    format!(
        "a second: {} connections in, {} out, {} segments; {connections} connections",
        number(flow.accepted_per_second),
        number(flow.opened_per_second),
        number(flow.segments_per_second)
    )
}

/// Returns the time of day, UTC, as the logs of a relay have it.
fn clock(unix_ms: u64) -> String {
    let second = unix_ms / 1_000 % 86_400;
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{hour:02}:{minute:02}:{:02}Z", second % 60)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// First line of the JSON output.
const SCHEMA: &str = "ringway-tune-watch/1";

/// Below a tenth of a second the reading itself would be seen in the numbers.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// An hour hides any storm in its average.
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_units_and_bounds() {
        assert_eq!(interval("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(interval("1h").unwrap(), INTERVAL_MAX);
        for text in ["1", "99ms", "2h", "0s", "", "soon"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn clock_is_the_time_of_day() {
        assert_eq!(clock(0), "00:00:00Z");
        assert_eq!(clock(86_399_999), "23:59:59Z");
        assert_eq!(clock(86_400_000 + 3_661_000), "01:01:01Z");
    }

    #[test]
    fn what_cannot_be_compared_is_called_unknown() {
        let flow = Flow {
            accepted_per_second: None,
            opened_per_second: Some(2.4),
            segments_per_second: Some(1_000.0),
            connections: None,
        };
        let text = flow_text(&flow);
        assert!(text.contains("unknown connections in, 2 out"), "{text}");
        assert!(text.ends_with("unknown connections"), "{text}");
    }
}
