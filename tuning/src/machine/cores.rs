//! Processors: how deep they sleep, what they save, which share a core.
//!
//! Here: `/sys/devices/system/cpu`. Not here: frequency governors (the module above).

use super::files::{Files, each_once};

/// What the processors are set to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cores {
    /// States a core may sleep in, by the time it takes to wake, us; empty where the host shows none.
    ///
    /// Source: Documentation/admin-guide/pm/cpuidle.rst.
    pub(crate) sleeps: Vec<(u64, String)>,
    /// How much each core prefers saving energy, each value once: `energy_performance_preference` in words,
    /// or `energy_perf_bias` from 0 (speed) to 15.
    ///
    /// Source: Documentation/admin-guide/pm/`intel_epb.rst` and `intel_pstate.rst`.
    pub(crate) energy: Vec<String>,
    /// Cores as a whole; threads of one core count once.
    pub(crate) physical: Option<u64>,
    /// Threads of all cores.
    pub(crate) threads: Option<u64>,
}

impl Cores {
    pub(super) fn read(files: Files<'_>) -> Self {
        let cores = files.cores();
        let siblings: Option<Vec<String>> = cores
            .iter()
            // A core that is switched off has no such file.
            .filter(|core| files.path(&format!("{core}/topology")).exists())
            .map(|core| files.word(&format!("{core}/topology/thread_siblings_list")))
            .collect();
        let siblings = siblings.filter(|list| !list.is_empty());
        let count = |list: &[String]| u64::try_from(list.len()).unwrap_or(u64::MAX);
        let threads = siblings.as_deref().map(count);
        Self {
            sleeps: each_once(cores.iter().flat_map(|core| sleeps(files, core))),
            energy: each_once(cores.iter().filter_map(|core| energy(files, core))),
            physical: siblings.map(|list| count(&each_once(list.into_iter()))),
            threads,
        }
    }
}

fn sleeps(files: Files<'_>, core: &str) -> Vec<(u64, String)> {
    let root = format!("{core}/cpuidle");
    let states = files.names_of(&root, "state").into_iter();
    let state = |name: String| {
        let is_off = files.number::<u64>(&format!("{root}/{name}/disable")) == Some(1);
        let latency_us = files.number(&format!("{root}/{name}/latency"))?;
        let name = files.word(&format!("{root}/{name}/name"))?;
        (!is_off).then_some((latency_us, name))
    };
    states.filter_map(state).collect()
}

fn energy(files: Files<'_>, core: &str) -> Option<String> {
    files
        .word(&format!("{core}/cpufreq/energy_performance_preference"))
        .or_else(|| files.word(&format!("{core}/power/energy_perf_bias")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::Tree;

    #[test]
    fn sleeping_and_sharing_are_read() {
        let cpu = "sys/devices/system/cpu";
        let mut files = Vec::new();
        for core in 0..4 {
            let mut put = |path: &str, text: &str| {
                files.push((format!("{cpu}/cpu{core}/{path}"), text.to_owned()));
            };
            let siblings = if core % 2 == 0 { "0,2\n" } else { "1,3\n" };
            put("topology/thread_siblings_list", siblings);
            for (state, name, latency, disable) in [
                (0, "POLL", "0", "0"),
                (1, "C1E", "10", "0"),
                (2, "C6", "133", if core == 3 { "0" } else { "1" }),
            ] {
                put(&format!("cpuidle/state{state}/name"), &format!("{name}\n"));
                put(
                    &format!("cpuidle/state{state}/latency"),
                    &format!("{latency}\n"),
                );
                put(
                    &format!("cpuidle/state{state}/disable"),
                    &format!("{disable}\n"),
                );
            }
            put("power/energy_perf_bias", "6\n");
        }
        let preference = format!("{cpu}/cpu1/cpufreq/energy_performance_preference");
        files.push((preference, "balance_power\n".to_owned()));
        files.push((
            format!("{cpu}/cpuidle/current_driver"),
            "intel_idle\n".to_owned(),
        ));
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        let expected = Cores {
            // Switched off on three cores of four, so it is still there.
            sleeps: [(0, "POLL"), (10, "C1E"), (133, "C6")]
                .map(|(latency, name)| (latency, name.to_owned()))
                .to_vec(),
            energy: vec!["6".to_owned(), "balance_power".to_owned()],
            physical: Some(2),
            threads: Some(4),
        };
        assert_eq!(Cores::read(Tree::new(&files).files()), expected);
    }

    #[test]
    fn host_that_shows_nothing_is_unknown() {
        assert_eq!(Cores::read(Tree::new(&[]).files()), Cores::default());
        let file = ("sys/devices/system/cpu/cpu0/topology/core_id", "0\n");
        assert_eq!(Cores::read(Tree::new(&[file]).files()), Cores::default());
    }
}
