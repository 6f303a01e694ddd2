//! Flags of the tasks that have to do with scenario files: `run` and `scenarios`.
//!
//! Here: flags. Not here: files (`scenarios`), what is done with them (`main`).

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::plan::{DialectName, RelayAddress};
use crate::sources::PortRange;

/// Flags of `run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunFlags {
    /// A scenario that comes with the program (`ringway-loadgen scenarios` lists them), or a file
    #[arg(value_name = "NAME|FILE")]
    pub scenario: String,
    /// A relay's key and address, as 'ringway serve' prints them; scenarios with two relays take two
    #[arg(long, value_name = "KEY@ADDRESS:PORT", conflicts_with = "start")]
    pub relay: Vec<RelayAddress>,
    /// Dialect of the groups that do not say their own, instead of what the file says [default: that of each
    /// relay's key; with --start native]
    #[arg(long, value_enum, value_name = "NAME")]
    pub dialect: Option<DialectName>,
    /// A TCP server; scenarios with two of them take two
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "start")]
    pub tcp: Vec<SocketAddr>,
    /// Start the relay, or the null servers, that the scenario loads, and end them afterwards
    #[arg(long)]
    pub start: bool,
    /// The relay's program for --start [default: 'ringway' beside this program, else in PATH]
    #[arg(long, value_name = "PROGRAM")]
    pub ringway: Option<PathBuf>,
    /// Run in a network namespace of its own, with what the scenario loads in it
    #[arg(long, conflicts_with_all = ["relay", "tcp", "relay_pid", "admin"])]
    pub netns: bool,
    /// Ephemeral ports in that namespace [default: what the scenario says, else 40000-41023]
    #[arg(long, value_name = "FIRST-LAST", requires = "netns")]
    pub netns_ports: Option<PortRange>,
    /// The process is in its namespace already
    #[arg(long, hide = true)]
    pub inside_netns: bool,
    /// Process of the server: measures its processor time and memory
    #[arg(long, value_name = "PID", conflicts_with = "start")]
    pub relay_pid: Option<u32>,
    /// Where the relay answers /health, as 'ringway serve' prints it
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "start")]
    pub admin: Option<SocketAddr>,
    /// Override a value of the file: GROUP.KEY=VALUE, PHASE.time=TIME, dialect=NAME, seed=NUMBER, warmup=TIME
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Make all times so many times as long
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub time_scale: f64,
    /// Write the files of each group to a directory of its name in this one, and scenario.json
    #[arg(long, value_name = "DIRECTORY")]
    pub out: Option<PathBuf>,
    /// Write the result as JSON to this file ('-' for standard output)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl RunFlags {
    /// Returns the overrides; those of `--set` come last, and win.
    #[must_use]
    pub fn sets(&self) -> Vec<String> {
        let dialect = self.dialect.map(|it| format!("dialect={}", it.name()));
        dialect
            .into_iter()
            .chain(self.set.iter().cloned())
            .collect()
    }
}

/// Flags of `scenarios`.
#[derive(Debug, Args)]
pub struct ScenariosFlags {
    /// Print the file of this one, to start an own one from
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| format!("'{text}' is no number"))?;
    if (0.01..=1_000.0).contains(&factor) {
        Ok(factor)
    } else {
        Err("from 0.01 to 1000".into())
    }
}

const EXAMPLES: &str = "\
Examples:
  ringway-loadgen run steady --start
  ringway-loadgen run session-death --relay KEY@127.0.0.1:7100 --relay-pid \"$(pidof ringway)\"
  ringway-loadgen run one-destination --netns
  ringway-loadgen run steady --start --dialect dmsg
  ringway-loadgen run steady --start --set traffic.rate=5000 --set first.time=10s --out result
  ringway-loadgen scenarios storm > mine.toml; ringway-loadgen run mine.toml --start

Exit status:
  0    every assert held, and nothing failed that the scenario does not expect
  1    an assert did not hold, or something failed
  2    the flags or the file make no sense; nothing was connected
  3    the generator could not keep its own schedule: do not use its times
  130  interrupted";
