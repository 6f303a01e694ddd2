//! The result of a contest as Markdown and as JSON.
//!
//! Here: texts. Not here: figures.

use serde::Serialize;

use crate::contest::{Figure, OURS, THEIRS, figures};
use crate::figures::{Results, Samples};

/// What a result was measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Processor model.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Congestion control of all sockets of the contest.
    pub congestion: String,
    /// Version of the relay.
    pub ringway: String,
    /// Version of `HAProxy`, if it took part.
    pub haproxy: Option<String>,
}

impl Machine {
    /// Looks at this host.
    #[must_use]
    pub fn look(congestion: String, haproxy: Option<String>) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown processor", |(_, model)| model.trim());
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            cpu: model.to_owned(),
            cores,
            congestion,
            ringway: env!("CARGO_PKG_VERSION").to_owned(),
            haproxy,
        }
    }

    /// Returns the machine as one line.
    #[must_use]
    pub fn line(&self) -> String {
        let haproxy = self.haproxy.as_deref().unwrap_or("HAProxy not installed");
        format!(
            "Linux {}, {}, {} cores, congestion control {}, ringway {}, {haproxy}",
            self.kernel, self.cpu, self.cores, self.congestion, self.ringway
        )
    }
}

/// Returns the table, with what was compared below it.
#[must_use]
pub fn markdown(results: &Results, machine: &Machine, rounds: u32, seconds: f64) -> String {
    let mut out = String::from(
        "| figure | unit | ringway | HAProxy, defaults | ringway / HAProxy |\n|---|---|---|---|---|\n",
    );
    for figure in figures() {
        if let Some(row) = row(results, figure) {
            out.push_str(&row);
        }
    }
    out.push_str(&format!(
        "\nMedian [smallest-largest] of {rounds} rounds of {seconds} s, contenders alternating. \
         {}\n\n{NOTES}",
        machine.line()
    ));
    out
}

/// What the figures say and what they do not.
const NOTES: &str = "\
- Same work: 16 (1, 64) byte streams come in on one TCP connection each and leave on another, through one \
process on core 0; the load generator is the same program on core 1. Ours parses and rewrites a 12-byte \
header a message and keeps stream windows, with sessions authenticated before; HAProxy forwards plain \
bytes (TCP mode, its default buffers, no splice, one thread a core).
- CPU is the relay process's own (schedstat of all its threads), kernel work on its behalf included. GB \
are 10^9 bytes of payload; headers are on our bill. A message there and back counts twice.
- Two cores: two shards or two threads. On a host with two cores the load shares them: compare the CPU, \
not the throughput. Our sessions are shared out evenly over the shards, so about half of the pairs cross.
- Round trips include the generator, which polls without pause. The relay runs with its defaults.
- Only ratios within one run mean anything on a shared machine.
";

fn row(results: &Results, figure: &Figure) -> Option<String> {
    let ours = results.find(figure.name, OURS)?;
    let theirs = results.find(figure.name, THEIRS);
    let ratio = results.ratio(figure.name, OURS, THEIRS);
    Some(format!(
        "| {} | {} | {} | {} | {} |\n",
        figure.name,
        figure.unit,
        cell(Some(ours)),
        cell(theirs),
        ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
    ))
}

fn cell(samples: Option<&Samples>) -> String {
    let found = samples.and_then(|samples| Some((samples.median()?, samples.spread()?)));
    match found {
        None => "-".to_owned(),
        Some((median, (smallest, largest))) => {
            format!("{} [{}-{}]", short(median), short(smallest), short(largest))
        }
    }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else if value >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    machine: &'a Machine,
    rounds: u32,
    seconds: f64,
    results: &'a Results,
}

/// Returns everything, each sample included, as JSON.
#[must_use]
pub fn json(results: &Results, machine: &Machine, rounds: u32, seconds: f64) -> String {
    let document = Document {
        schema: "ringway-bench-compare/1",
        machine,
        rounds,
        seconds,
        results,
    };
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_show_what_is_there() {
        let mut results = Results::default();
        let name = figures().next().unwrap().name;
        for value in [0.3, 0.31, 0.35] {
            results.push(name, OURS, value);
            results.push(name, THEIRS, value * 2.0);
        }
        let machine = Machine::look("cubic".into(), None);
        let text = markdown(&results, &machine, 3, 1.0);
        assert!(text.contains("| 0.310 [0.300-0.350] | 0.620 [0.600-0.700] | 0.50 |"));
        assert!(text.contains("HAProxy not installed"));
        assert!(json(&results, &machine, 3, 1.0).contains("ringway-bench-compare/1"));
    }

    #[test]
    fn numbers_are_short() {
        let texts: Vec<_> = [0.1234, 1.234, 12.34, 1234.5].map(short).into();
        assert_eq!(texts, ["0.123", "1.23", "12.3", "1234"]);
    }
}
