//! What a process with shards holds and does when nothing happens.
//!
//! One test, because it looks at the whole process: its descriptors and its threads.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

#[path = "support/peer.rs"]
mod support;

use std::fs;
use std::time::Duration;

use ringway_shards::set::ShardSet;

use support::admitted;
use support::check_ended;
use support::config;
use support::settled;

/// Returns how often the threads of the shards went to sleep so far.
fn sleeps() -> u64 {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let name = fs::read_to_string(path.join("comm")).unwrap();
        if !name.starts_with("ringway-") {
            continue;
        }
        let status = fs::read_to_string(path.join("status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.unwrap().trim().parse::<u64>().unwrap();
    }
    sum
}

/// Returns what the open descriptors lead to.
fn descriptors() -> Vec<String> {
    let mut open: Vec<_> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    open.sort();
    open
}

#[test]
fn quiet_shards_sleep_and_ended_shards_leave_no_descriptor() {
    // What the first launch initialises for the process stays.
    check_ended(ShardSet::launch(&config(2)).unwrap());
    let before = descriptors();
    for _ in 0..3 {
        let set = ShardSet::launch(&config(2)).unwrap();
        let peers = admitted(set.address(), 40);
        settled(&set, |_| set.directory().len() == 40);
        std::thread::park_timeout(Duration::from_millis(300));
        let start = sleeps();
        std::thread::park_timeout(Duration::from_secs(1));
        let count = sleeps() - start;
        assert!(
            count <= 8,
            "four threads went to sleep {count} times in an idle second"
        );
        drop(peers);
        settled(&set, |snapshots| {
            snapshots.iter().all(|shard| shard.audit.is_zero())
        });
        check_ended(set);
        assert_eq!(descriptors(), before);
    }
}
