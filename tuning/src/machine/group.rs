//! Limits of the control groups that this process is in.
//!
//! Here: memory, processor time and tasks, of the own group and of all above it, in both versions of control
//! groups. Not here: what of it is enough.
//!
//! In a container the mount shows the container's own group as the root, and `/proc/self/cgroup` may still
//! tell the host's path; so every directory on the way is looked at, and what is not there is passed over.
//! Source: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst,
//! Documentation/scheduler/sched-bwc.rst.

use super::files::Files;
use crate::parse;

/// The tightest limits on the way from the own group to the root; `None` where there is none to be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// Memory that the group may have, bytes.
    pub(crate) memory_max: Option<u64>,
    /// Memory that the group with this limit has now, bytes.
    pub(crate) memory_now: Option<u64>,
    /// Processes that were killed because a group was full.
    pub(crate) memory_kills: Option<u64>,
    /// How often a group came to its limit of memory.
    pub(crate) memory_stops: Option<u64>,
    /// Processor time, thousandths of a core.
    pub(crate) cores_milli: Option<u64>,
    /// Periods in which a group was stopped for having used its processor time up.
    pub(crate) throttled: Option<u64>,
    /// Processes and threads that the group may have.
    pub(crate) tasks_max: Option<u64>,
}

impl Group {
    pub(super) fn read(files: Files<'_>) -> Self {
        let own = files.text("proc/self/cgroup").unwrap_or_default();
        let mut group = Self::default();
        for path in levels(files, &own, "memory") {
            group.take_memory(files, &path);
        }
        for path in levels(files, &own, "cpu") {
            group.take_processors(files, &path);
        }
        for path in levels(files, &own, "pids") {
            let tasks = files.number(&format!("{path}/pids.max"));
            group.tasks_max = group.tasks_max.into_iter().chain(tasks).min();
        }
        group
    }

    fn take_memory(&mut self, files: Files<'_>, path: &str) {
        let number = |name: &str| files.number::<u64>(&format!("{path}/{name}"));
        let text = |name: &str| files.text(&format!("{path}/{name}"));
        let limit = number("memory.max").or_else(|| {
            let limit = number("memory.limit_in_bytes");
            // Version 1 writes "no limit" as the largest number of whole pages.
            limit.filter(|bytes| *bytes < NO_LIMIT_MIN)
        });
        if limit.is_some_and(|limit| self.memory_max.is_none_or(|least| limit < least)) {
            self.memory_max = limit;
            self.memory_now = number("memory.current").or_else(|| number("memory.usage_in_bytes"));
        }
        let events = text("memory.events");
        let event = |name: &str| parse::named(events.as_deref()?, name);
        let kills =
            event("oom_kill").or_else(|| parse::named(&text("memory.oom_control")?, "oom_kill"));
        self.memory_kills = self.memory_kills.max(kills);
        let stops = event("max").or_else(|| number("memory.failcnt"));
        self.memory_stops = self.memory_stops.max(stops);
    }

    fn take_processors(&mut self, files: Files<'_>, path: &str) {
        let quota = files
            .text(&format!("{path}/cpu.max"))
            .and_then(|text| parse::quota(&text))
            .or_else(|| {
                // Version 1 writes "no limit" as -1.
                let quota: u64 = files.number(&format!("{path}/cpu.cfs_quota_us"))?;
                let period: u64 = files.number(&format!("{path}/cpu.cfs_period_us"))?;
                quota.saturating_mul(1_000).checked_div(period)
            });
        self.cores_milli = self.cores_milli.into_iter().chain(quota).min();
        let stat = files.text(&format!("{path}/cpu.stat"));
        let throttled = stat.and_then(|text| parse::named(&text, "nr_throttled"));
        self.throttled = self.throttled.max(throttled);
    }
}

/// Returns the directories of a controller from the root to the own group.
fn levels(files: Files<'_>, own: &str, controller: &str) -> Vec<String> {
    let (base, path) = match parse::group_path(own, controller) {
        Some(path) => (format!("{MOUNT}/{controller}"), path),
        // Where both versions are mounted the second is beside the controllers of the first.
        None if files.path(UNIFIED).is_dir() => (
            UNIFIED.to_owned(),
            parse::group_path(own, "").unwrap_or("/"),
        ),
        None => (MOUNT.to_owned(), parse::group_path(own, "").unwrap_or("/")),
    };
    let mut levels = vec![base.clone()];
    // A group outside of this namespace is told as `/../..`: only the root can be seen.
    if !path.split('/').any(|part| part == "..") {
        let mut level = base;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            level = format!("{level}/{part}");
            levels.push(level.clone());
        }
    }
    levels
}

const MOUNT: &str = "sys/fs/cgroup";
const UNIFIED: &str = "sys/fs/cgroup/unified";

/// From here on a limit of version 1 is none: the largest number of bytes less a page, 64 KiB pages included.
const NO_LIMIT_MIN: u64 = 0x7fff_ffff_ffff_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::Tree;

    #[test]
    fn version_two_takes_the_tightest_limit_on_the_way() {
        let tree = Tree::new(&[
            ("proc/self/cgroup", "0::/system.slice/ringway.service\n"),
            ("sys/fs/cgroup/cpu.stat", "nr_throttled 1\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "1000\n"),
            ("sys/fs/cgroup/system.slice/memory.current", "900\n"),
            ("sys/fs/cgroup/system.slice/pids.max", "max\n"),
            (
                "sys/fs/cgroup/system.slice/ringway.service/memory.max",
                "4000\n",
            ),
            (
                "sys/fs/cgroup/system.slice/ringway.service/memory.current",
                "7\n",
            ),
            (
                "sys/fs/cgroup/system.slice/ringway.service/memory.events",
                include_str!("../../testdata/memory_events.txt"),
            ),
            (
                "sys/fs/cgroup/system.slice/ringway.service/cpu.max",
                "150000 100000\n",
            ),
            (
                "sys/fs/cgroup/system.slice/ringway.service/cpu.stat",
                include_str!("../../testdata/cpu_stat.txt"),
            ),
            (
                "sys/fs/cgroup/system.slice/ringway.service/pids.max",
                "4096\n",
            ),
        ]);
        let expected = Group {
            memory_max: Some(1_000),
            memory_now: Some(900),
            memory_kills: Some(2),
            memory_stops: Some(31),
            cores_milli: Some(1_500),
            throttled: Some(37),
            tasks_max: Some(4_096),
        };
        assert_eq!(Group::read(tree.files()), expected);
    }

    #[test]
    fn version_one_has_a_tree_for_each_controller() {
        let own = include_str!("../../testdata/cgroup_v1.txt");
        let inner = "sys/fs/cgroup/memory/docker/4a38ec39bba8d7f75d61d186b534ab38";
        let limit = format!("{inner}/memory.limit_in_bytes");
        let usage = format!("{inner}/memory.usage_in_bytes");
        let mut files = vec![
            ("proc/self/cgroup", own),
            ("sys/fs/cgroup/unified/cgroup.procs", ""),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "sys/fs/cgroup/memory/memory.oom_control",
                include_str!("../../testdata/memory_oom_control.txt"),
            ),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            (
                "sys/fs/cgroup/cpu/cpu.stat",
                include_str!("../../testdata/cpu_stat_v1.txt"),
            ),
        ];
        let expected = Group {
            memory_kills: Some(0),
            throttled: Some(0),
            ..Group::default()
        };
        assert_eq!(Group::read(Tree::new(&files).files()), expected);
        files.extend([(limit.as_str(), "5000\n"), (usage.as_str(), "12\n")]);
        files.push(("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"));
        let expected = Group {
            memory_max: Some(5_000),
            memory_now: Some(12),
            cores_milli: Some(500),
            ..expected
        };
        assert_eq!(Group::read(Tree::new(&files).files()), expected);
    }

    #[test]
    fn paths_of_another_namespace_leave_the_root() {
        let tree = Tree::new(&[
            ("proc/self/cgroup", "0::/../other\n"),
            ("sys/fs/cgroup/memory.max", "70\n"),
        ]);
        assert_eq!(levels(tree.files(), "0::/../other\n", "memory"), [MOUNT]);
        assert_eq!(Group::read(tree.files()).memory_max, Some(70));
        // A path of the host that the container does not see.
        let own = "0::/kubepods.slice/pod1\n";
        let expected = [
            "sys/fs/cgroup",
            "sys/fs/cgroup/kubepods.slice",
            "sys/fs/cgroup/kubepods.slice/pod1",
        ];
        assert_eq!(levels(tree.files(), own, "memory"), expected);
        assert_eq!(levels(tree.files(), "", "memory"), [MOUNT]);
    }
}
