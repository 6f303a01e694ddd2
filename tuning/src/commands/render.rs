//! `ringway-tune render`: the files that bring a host to a target.
//!
//! Here: where they go. Not here: what stands in them (the library).

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ringway_tuning::{Profile, ProfileError, RenderedFile, Tuning, render};

use super::target::TargetFlags;
use super::{end, fail};

/// The profile, and the target that its values are for.
#[derive(Debug, clap::Args)]
pub(crate) struct ProfileFlags {
    /// Profile: connections, latency, throughput, container, or a file such as ./mine.toml
    #[arg(long, value_name = "NAME", default_value = "connections")]
    profile: String,

    #[command(flatten)]
    target: TargetFlags,
}

impl ProfileFlags {
    /// Returns what the profile means for the target.
    pub(super) fn tuning(&self) -> Result<Tuning, ProfileError> {
        Profile::load(&self.profile)?.tune(&self.target.target())
    }
}

/// Which files, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Render {
    #[command(flatten)]
    profile: ProfileFlags,

    /// Directory to write the files to, in place of printing them; files of the same names are replaced
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    output: Option<PathBuf>,
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  ringway-tune render --profile connections --target-sessions 1M
  ringway-tune render --profile latency --shards 8 --output files
  ringway-tune render --profile container --target-sessions 250k

Reads nothing of this host but its count of cores, and that only without --shards: the same flags give the
same files everywhere.";

impl Render {
    /// Writes the files, or prints them.
    pub(crate) fn run(&self) -> ExitCode {
        let files = match self.profile.tuning() {
            Ok(tuning) => render(&tuning),
            Err(error) => return fail(&error),
        };
        match &self.output {
            None => end(print(&files), false),
            Some(directory) => self.write(directory, &files),
        }
    }

    fn write(&self, directory: &Path, files: &[RenderedFile]) -> ExitCode {
        let mut out = io::stdout().lock();
        for file in files {
            let path = directory.join(file.path);
            if let Err(error) = put(&path, file) {
                return fail(&format!("{} cannot be written: {error}", path.display()));
            }
            if let Err(error) = writeln!(out, "{}", path.display()) {
                return end(Err(error), false);
            }
        }
        end(out.flush(), false)
    }
}

fn put(path: &Path, file: &RenderedFile) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, &file.text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(file.mode))
}

fn print(files: &[RenderedFile]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for file in files {
        writeln!(out, "==> {} <==\n{}", file.path, file.text)?;
    }
    out.flush()
}
