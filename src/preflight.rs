//! What is checked and arranged before a relay starts.
//!
//! Here: the target that the host is checked against, the lines about it and about the kernel, the
//! choice of the congestion control. Not here: the checks (`ringway-tuning`, `ringway_shards::probe`),
//! how many sessions the host allows (`capacity`).

use ringway_shards::probe::{self, Feature};
use ringway_tuning::{Finding, Host, Target, Verdict, is_congestion_usable, judge};

use crate::capacity::Capacity;
use crate::config::{Config, Congestion};
use crate::output::complain;

/// Checks the host, and prints one line for everything that is not as it should be.
pub(crate) fn preflight(config: &Config, capacity: &Capacity) {
    for finding in findings(&Host::read(), config, capacity) {
        if finding.verdict != Verdict::Pass {
            complain(format_args!("ringway: {}", finding.line()));
        }
    }
    for feature in worth_saying(&probe::features()) {
        complain(format_args!("ringway: kernel: {feature}"));
    }
}

/// Returns the features to complain about: those that are missing, but only the first where nothing
/// works without it.
fn worth_saying(features: &[Feature]) -> impl Iterator<Item = &Feature> {
    let is_off = features.first().is_some_and(|feature| !feature.is_present);
    let count = if is_off { 1 } else { features.len() };
    features
        .iter()
        .take(count)
        .filter(|feature| !feature.is_present)
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

fn findings(host: &Host, config: &Config, capacity: &Capacity) -> Vec<Finding> {
    let target = Target {
        shards: capacity.shards.into(),
        sessions_max: capacity.sessions_max,
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn feature(name: &'static str, is_present: bool) -> Feature {
        Feature {
            name,
            since: "6.0",
            without: "less",
            is_present,
            is_required: false,
        }
    }

    fn names(features: &[Feature]) -> Vec<&str> {
        worth_saying(features).map(|feature| feature.name).collect()
    }

    #[test]
    fn only_what_is_missing_is_said() {
        let features = [
            feature("ring", true),
            feature("a", false),
            feature("b", true),
        ];
        assert_eq!(names(&features), ["a"]);
    }

    #[test]
    fn without_io_uring_nothing_else_is_said() {
        let features = [feature("ring", false), feature("a", false)];
        assert_eq!(names(&features), ["ring"]);
    }
}
