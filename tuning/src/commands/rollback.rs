//! `ringway-tune rollback`: this host as it was before an apply.
//!
//! Here: what is shown of it. Not here: doing it (the library).

use std::io::{self, Write};
use std::process::ExitCode;

use ringway_tuning::{Restored, Rollback as Record};

use super::apply::Place;
use super::{complain, end, fail};

/// Which state is restored.
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// Also restore what somebody else has changed since, or what another host wrote
    #[arg(long, help_heading = "Changes")]
    force: bool,

    #[command(flatten)]
    place: Place,
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  sudo ringway-tune rollback
  sudo ringway-tune rollback --rollback-file before-latency.json --force

Values and files that somebody has changed since the apply are named and left. The rollback file is removed
when everything is as it was; until then the command can be run again, also after it was killed.";

impl Rollback {
    /// Restores, and says what and what not.
    pub(crate) fn run(&self) -> ExitCode {
        let path = self.place.rollback_file();
        let record = match Record::read(&path, &self.place.root(), self.force) {
            Ok(record) => record,
            Err(error) => return fail(&error),
        };
        for note in &record.notes {
            complain(format_args!("note: {note}"));
        }
        let restored = record.restore(self.force);
        for line in &restored.left {
            complain(format_args!("{line}"));
        }
        let is_failed = !restored.left.is_empty();
        end(print(&record, &restored), is_failed)
    }
}

fn print(record: &Record, restored: &Restored) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in &restored.done {
        writeln!(out, "{line}")?;
    }
    match restored.left.len() {
        0 => writeln!(
            out,
            "The host is as it was before the profile {}. Limits hold after `systemctl daemon-reload` and a restart of \
             the relay; what ringway-network.sh has set holds until the host starts again.",
            record.profile()
        )?,
        left => writeln!(out, "{left} not restored (above); the rollback file stays.")?,
    }
    out.flush()
}
