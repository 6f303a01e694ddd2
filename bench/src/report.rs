//! The result of a contest as Markdown and as JSON.
//!
//! Here: texts. Not here: figures.

use std::io::{self, Write};

use serde::Serialize;

use crate::contest::{Figure, figures};
use crate::figures::{Results, Samples};
use crate::proxies::{Contender, Installed};

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
    /// Version of `HAProxy`, if it is installed.
    pub haproxy: Option<String>,
    /// Version of nginx, if it is.
    pub nginx: Option<String>,
}

impl Machine {
    /// Looks at this host.
    #[must_use]
    pub fn look(congestion: String, installed: &Installed) -> Self {
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
            haproxy: installed.haproxy.clone(),
            nginx: installed.nginx.as_ref().map(|nginx| nginx.0.clone()),
        }
    }

    /// Returns the machine as one line.
    #[must_use]
    pub fn line(&self) -> String {
        let haproxy = self.haproxy.as_deref().unwrap_or("HAProxy not installed");
        let nginx = self.nginx.as_deref().unwrap_or("nginx not installed");
        format!(
            "Linux {}, {}, {} cores, congestion control {}, ringway {}, {haproxy}, {nginx}",
            self.kernel, self.cpu, self.cores, self.congestion, self.ringway
        )
    }
}

/// Returns the table, with what was compared below it.
#[must_use]
pub fn markdown(results: &Results, machine: &Machine, rounds: u32, seconds: f64) -> String {
    let here: Vec<Contender> = Contender::ALL
        .into_iter()
        .filter(|contender| figures().any(|it| results.find(it.name, contender.name()).is_some()))
        .collect();
    let mut out = table(results, &here, cell);
    out.push_str("\nOurs divided by the others', medians:\n\n");
    out.push_str(&table(results, &here, ratio));
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
header a message and keeps stream windows, with sessions authenticated before; the others forward plain \
bytes. 'raw ring' is a byte pipe on the ring of our relay: what is left without frames and sessions.
- HAProxy: TCP mode, one thread a core, its defaults; with tune.bufsize 65536; with splice-request, \
splice-response and tune.pipesize 1048576. nginx: stream module, one process, proxy_buffer_size 64k.
- CPU is the relay process's own (schedstat of all its threads), kernel work on its behalf included. GB \
are 10^9 bytes of payload; headers are on our bill. A message there and back counts twice.
- Idle: ours holds authenticated sessions, one socket each; a proxy two sockets for each connection. Memory \
is what the process grew by, the kernel's not included.
- Two cores: two shards or two threads. On a host with two cores the load shares them: compare the CPU, \
not the throughput. Our sessions are shared out evenly over the shards, so about half of the pairs cross.
- Round trips include the generator, which polls without pause. The relay runs with its defaults.
- Only ratios within one run mean anything on a shared machine.
";

/// Returns a table with a row for each figure and a column for each contender.
fn table(
    results: &Results,
    here: &[Contender],
    cell: fn(&Results, &Figure, Contender) -> Option<String>,
) -> String {
    let mut out = String::from("| figure | unit |");
    for contender in here {
        out.push_str(&format!(" {} |", contender.name()));
    }
    out.push_str(&format!("\n|---|---|{}\n", "---|".repeat(here.len())));
    for figure in figures() {
        let cells: Vec<_> = here
            .iter()
            .map(|contender| cell(results, figure, *contender))
            .collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        out.push_str(&format!("| {} | {} |", figure.name, figure.unit));
        for cell in cells {
            out.push_str(&format!(" {} |", cell.as_deref().unwrap_or("-")));
        }
        out.push('\n');
    }
    out
}

fn cell(results: &Results, figure: &Figure, contender: Contender) -> Option<String> {
    median_and_spread(results.find(figure.name, contender.name())?)
}

/// Returns the median and, in brackets, the smallest and the largest sample; nothing without samples.
#[must_use]
pub fn median_and_spread(samples: &Samples) -> Option<String> {
    let (median, (smallest, largest)) = (samples.median()?, samples.spread()?);
    Some(format!(
        "{} [{}-{}]",
        short(median),
        short(smallest),
        short(largest)
    ))
}

/// Writes `text` to standard output; a reader that has read enough is no error.
///
/// # Errors
/// When it cannot be written.
pub fn print(text: &str) -> Result<(), String> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// Ours divided by that of another.
fn ratio(results: &Results, figure: &Figure, contender: Contender) -> Option<String> {
    if contender == Contender::Ringway {
        return None;
    }
    let ours = Contender::Ringway.name();
    let ratio = results.ratio(figure.name, ours, contender.name())?;
    Some(format!("{ratio:.2}"))
}

/// Three digits that matter.
pub(crate) fn short(value: f64) -> String {
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
        schema: "ringway-bench-compare/2",
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
            results.push(name, Contender::Ringway.name(), value);
            results.push(name, Contender::Haproxy.name(), value * 2.0);
        }
        let machine = Machine::look("cubic".into(), &Installed::default());
        let text = markdown(&results, &machine, 3, 1.0);
        assert!(text.contains("| figure | unit | ringway | HAProxy |"));
        assert!(text.contains("| 0.310 [0.300-0.350] | 0.620 [0.600-0.700] |"));
        assert!(text.contains("| s/GB | - | 0.50 |"));
        assert!(text.contains("HAProxy not installed"));
        assert!(json(&results, &machine, 3, 1.0).contains("ringway-bench-compare/2"));
    }

    #[test]
    fn numbers_are_short() {
        let texts: Vec<_> = [0.1234, 1.234, 12.34, 1234.5].map(short).into();
        assert_eq!(texts, ["0.123", "1.23", "12.3", "1234"]);
    }
}
