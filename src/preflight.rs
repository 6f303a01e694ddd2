//! What is checked and arranged before a relay starts.
//!
//! Here: the target that the host is checked against, the lines about it, the open-files limit, the
//! choice of the congestion control. Not here: the checks (`ringway-tuning`).

use ringway_tuning::{Finding, Host, Target, Verdict, is_congestion_usable, judge};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Congestion};
use crate::output::complain;

/// Raises the open-files limit as far as this process may, checks the host, and prints one line for
/// everything that is not as it should be.
pub(crate) fn preflight(config: &Config, shards: u16) {
    raise_open_files();
    for finding in findings(&Host::read(), config, shards) {
        if finding.verdict != Verdict::Pass {
            complain(format_args!("ringway: {}", finding.line()));
        }
    }
}

/// Returns the congestion control to ask the kernel for; `None` is the host's default.
pub(crate) fn congestion(config: &Config) -> Option<String> {
    match &config.congestion {
        Congestion::Automatic => {
            is_congestion_usable(&Host::read(), "cubic").then(|| "cubic".to_owned())
        }
        Congestion::Named(name) => Some(name.clone()),
        Congestion::System => None,
    }
}

fn findings(host: &Host, config: &Config, shards: u16) -> Vec<Finding> {
    let target = Target {
        shards: shards.into(),
        sessions_max: config.sessions_max,
        backlog: config.backlog,
        listen_port: config.listen.port(),
        congestion: match &config.congestion {
            Congestion::Automatic => ringway_tuning::Congestion::Automatic,
            Congestion::Named(name) => ringway_tuning::Congestion::Named(name.clone()),
            Congestion::System => ringway_tuning::Congestion::System,
        },
    };
    judge(host, &target)
}

fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        tracing::warn!(%error, "cannot raise the open-files limit to its maximum");
    }
}
