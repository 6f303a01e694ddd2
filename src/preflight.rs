//! What is checked and arranged before a relay starts.
//!
//! Here: the target that the host is checked against, the lines about it and about the kernel, the
//! choice of the congestion control. Not here: the checks (`ringway-tuning`, `ringway_shards::probe`),
//! how many sessions the host allows (`capacity`).

use ringway_shards::probe::{self, Feature};
use ringway_tuning::{
    Finding, Host, Machine, Target, Verdict, is_congestion_usable, judge, judge_machine,
};

use crate::capacity::Capacity;
use crate::config::{Config, Congestion, Preflight};
use crate::failure::Failure;
use crate::output::complain;

/// Checks the host as the configuration says, and prints one line for everything that is not as it should be.
/// Returns the capacity it was given.
///
/// # Errors
///
/// [`Failure::Check`] with every check that failed, when the configuration is strict; else that of the
/// capacity.
pub(crate) fn preflight(
    config: &Config,
    shards: u16,
    capacity: Result<Capacity, Failure>,
) -> Result<Capacity, Failure> {
    if config.preflight == Preflight::Off {
        return capacity;
    }
    // A host without room for what was asked has its say in the checks as well.
    let sessions_max = match &capacity {
        Ok(capacity) => capacity.sessions_max,
        Err(_) if config.preflight == Preflight::Strict => config.sessions_max.unwrap_or(1),
        Err(_) => return capacity,
    };
    let target = target(config, shards, sessions_max);
    let report = Report::of(
        judge(&Host::read(), &target),
        judge_machine(&Machine::read_files(), &target),
        config.sessions_max.is_some(),
    );
    let features = probe::features();
    let (failed, mut rest) = report.lines(config.preflight, worth_saying(&features));
    match report.more(&target) {
        // A start with nothing else to say stays silent: what a host could do better is no news each time.
        Some(more) if failed.is_empty() && rest.is_empty() => tracing::info!("{more}"),
        more => rest.extend(more),
    }
    for line in rest {
        complain(format_args!("ringway: {line}"));
    }
    match failed.is_empty() {
        true => capacity,
        false => Err(refusal(&failed)),
    }
}

/// What the checks came to.
struct Report {
    /// Findings that a start tells, none of them passed.
    told: Vec<Finding>,
    /// Warnings that it leaves to `ringway-tune check`.
    unsaid: usize,
}

impl Report {
    /// Chooses what a start tells: what the relay itself needs, and of the machine what makes the asked
    /// number of sessions impossible. A number that was not asked for is only what the host allows, and
    /// nothing can fail it.
    fn of(host: Vec<Finding>, machine: Vec<Finding>, is_asked: bool) -> Self {
        let is_wrong = |finding: &Finding| finding.verdict != Verdict::Pass;
        let mut told: Vec<Finding> = host.into_iter().filter(is_wrong).collect();
        let (failed, unsaid): (Vec<_>, Vec<_>) = machine
            .into_iter()
            .filter(is_wrong)
            .partition(|finding| is_asked && finding.verdict == Verdict::Fail);
        told.extend(failed);
        Self {
            told,
            unsaid: unsaid.len(),
        }
    }

    /// Returns the lines that keep a strict relay from starting, and the others.
    fn lines<'a>(
        &self,
        mode: Preflight,
        features: impl Iterator<Item = &'a Feature>,
    ) -> (Vec<String>, Vec<String>) {
        let is_strict = mode == Preflight::Strict;
        let finding = |finding: &Finding| (finding.verdict == Verdict::Fail, finding.line());
        let feature = |feature: &Feature| (feature.is_required, format!("kernel: {feature}"));
        let (mut failed, mut rest) = (Vec::new(), Vec::new());
        let told = self.told.iter().map(finding);
        for (is_failed, line) in told.chain(features.map(feature)) {
            match is_failed && is_strict {
                true => failed.push(line),
                false => rest.push(line),
            }
        }
        (failed, rest)
    }

    /// Returns the line that says where the other warnings are, if there are any.
    fn more(&self, target: &Target) -> Option<String> {
        let Target {
            shards,
            sessions_max,
            ..
        } = target;
        let count = self.unsaid;
        let warnings = if count == 1 { "warning" } else { "warnings" };
        (count > 0).then(|| {
            format!(
                "run `ringway-tune check --shards {shards} --sessions-max {sessions_max}` for {count} more \
                 {warnings}"
            )
        })
    }
}

/// Returns the failure of a strict relay.
fn refusal(failed: &[String]) -> Failure {
    let checks = match failed.len() {
        1 => "1 check".to_owned(),
        count => format!("{count} checks"),
    };
    Failure::Check(format!(
        "this host fails {checks}, and preflight is strict:\n  {}\ndo what they say, or start with --preflight warn",
        failed.join("\n  ")
    ))
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

fn target(config: &Config, shards: u16, sessions_max: u32) -> Target {
    Target {
        shards: shards.into(),
        sessions_max,
        backlog: config.backlog,
        listen_port: config.listen.port(),
        congestion: match &config.congestion {
            Congestion::Automatic => ringway_tuning::Congestion::Automatic,
            Congestion::Named(name) => ringway_tuning::Congestion::Named(name.clone()),
            Congestion::System => ringway_tuning::Congestion::System,
        },
    }
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

    fn finding(check: &'static str, verdict: Verdict) -> Finding {
        Finding {
            check,
            verdict,
            measured: "1".to_owned(),
            needed: "2".to_owned(),
            why: "it is so".to_owned(),
            fix: "make it 2".to_owned(),
        }
    }

    fn told(report: &Report) -> Vec<&str> {
        report.told.iter().map(|finding| finding.check).collect()
    }

    #[test]
    fn start_tells_what_the_relay_needs_and_counts_the_rest() {
        use Verdict::{Fail, Pass, Warn};
        let host = || vec![finding("a", Pass), finding("b", Warn), finding("c", Fail)];
        let machine = || vec![finding("d", Pass), finding("e", Warn), finding("f", Fail)];
        let asked = Report::of(host(), machine(), true);
        assert_eq!((told(&asked), asked.unsaid), (vec!["b", "c", "f"], 1));
        let automatic = Report::of(host(), machine(), false);
        assert_eq!((told(&automatic), automatic.unsaid), (vec!["b", "c"], 2));
        let target = target(&Config::default(), 2, 100);
        let more = "run `ringway-tune check --shards 2 --sessions-max 100` for 1 more warning";
        assert_eq!(asked.more(&target).as_deref(), Some(more));
        let none = Report::of(host(), Vec::new(), true);
        assert_eq!(none.more(&target), None);
    }

    #[test]
    fn only_a_strict_relay_is_refused_and_only_for_what_failed() {
        let host = vec![finding("b", Verdict::Warn), finding("c", Verdict::Fail)];
        let report = Report::of(host, Vec::new(), true);
        let mut features = [feature("a", false), feature("b", false)];
        features[1].is_required = true;
        let (failed, rest) = report.lines(Preflight::Warn, features.iter());
        assert_eq!((failed.len(), rest.len()), (0, 4));
        let (failed, rest) = report.lines(Preflight::Strict, features.iter());
        assert_eq!((failed.len(), rest.len()), (2, 2));
        assert!(failed[0].starts_with("FAIL c: 1, needs 2"), "{failed:?}");
        let text = refusal(&failed).to_string();
        for part in ["fails 2 checks", "make it 2", "--preflight warn"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
