//! Each check at each of its verdicts.

use ringway_shards::probe::Feature;

use super::*;
use crate::check::tests::{assert_among, target};
use crate::finding::Verdict;
use crate::host::Limit;
use crate::machine::{Card, Cores, Group, Ports, Process, Sockets, Stack};

pub(super) fn good() -> Machine {
    Machine {
        nr_open: Some(1_048_576),
        file_max: Some(2_466_174),
        files_open: Some(456),
        tcp_memory: Some([1 << 30, 2 << 30, 4 << 30]),
        orphans_max: Some(262_144),
        orphans: Some(0),
        syncookies: Some(1),
        syn_backlog: Some(2_048),
        slow_start_after_idle: Some(0),
        mtu_probing: Some(1),
        softnet_dropped: Some(0),
        clock_source: Some("tsc".to_owned()),
        huge_pages: Some("madvise".to_owned()),
        swap: Some(0),
        stack: stack(),
        sockets: Sockets {
            listeners: Some(Vec::new()),
            ports: Some(Ports::default()),
            ports_bound_only: Some(0),
        },
        cards: Some(vec![Card {
            name: "eth0".to_owned(),
            receive_queues: 8,
            send_queues: 8,
            interrupts: Some(vec!["0".to_owned(), "1".to_owned()]),
            mtu: Some(1_500),
            missed: Some(0),
            dropped: Some(0),
            reverse_path: Some(0),
            ..Card::default()
        }]),
        group: Group::default(),
        cores: Cores {
            physical: Some(8),
            threads: Some(8),
            ..Cores::default()
        },
        process: Process {
            kernel: Some((6, 18)),
            locked: Some(Limit {
                soft: Some(8 << 20),
                hard: Some(8 << 20),
            }),
            maps_max: Some(65_530),
            memory: Some(16 << 30),
            memory_available: Some(12 << 30),
            is_timesync_done: Some(true),
            ..Process::default()
        },
        features: vec![Feature {
            name: "rings",
            since: "5.1",
            without: "nothing",
            is_present: true,
            is_required: true,
        }],
        is_loopback_up: true,
        ..Machine::default()
    }
}

fn stack() -> Stack {
    Stack {
        wait_reuse: Some(2),
        timestamps: Some(1),
        waiting_max: Some(262_144),
        waiting: Some(0),
        waiting_overflows: Some(0),
        fin_timeout_s: Some(60),
        port_range: Some((32_768, 60_999)),
        receive_buffer: Some([4_096, 131_072, 6_291_456]),
        send_buffer: Some([4_096, 16_384, 4_194_304]),
        memory_pressures: Some(0),
        memory_aborts: Some(0),
        option_bytes_max: Some(131_072),
        unsent_bytes_max: Some(131_072),
        queue_discipline: Some("fq_codel".to_owned()),
        congestion: Some("cubic".to_owned()),
        listen_overflows: Some(0),
        listen_drops: Some(0),
        ..Stack::default()
    }
}

/// Changes the good machine and asserts what becomes of it; the target has eight shards and 131,072 sessions.
pub(super) fn assert_verdict(
    check: &str,
    verdict: Verdict,
    change: impl Fn(&mut Machine),
) -> Finding {
    let mut machine = good();
    change(&mut machine);
    assert_among(judge_machine(&machine, &target()), check, verdict)
}

#[test]
fn good_machine_passes_everything() {
    for found in judge_machine(&good(), &target()) {
        assert_eq!(found.verdict, Verdict::Pass, "{found:?}");
    }
}

#[test]
fn what_cannot_be_read_is_said_and_is_no_pass() {
    // Hosts and kernels without the thing itself have no file either.
    let may_be_absent = [
        "cgroup_memory",
        "cgroup_cpu",
        "conntrack",
        "conntrack_hash",
        "ehash",
        "energy",
        "firewall",
        "governor",
        "idle_states",
        "keepalive",
        "numa",
        "ports_bound",
        "tasks",
        "throttling",
    ];
    for found in judge_machine(&Machine::default(), &target()) {
        let verdict = match may_be_absent.contains(&found.check) {
            true => Verdict::Pass,
            false => Verdict::Warn,
        };
        assert_eq!(found.verdict, verdict, "{found:?}");
        let is_said = ["could not be read", "no ring was tried", "no daemon"]
            .iter()
            .any(|words| found.fix.contains(words));
        assert_eq!(is_said, verdict == Verdict::Warn, "{found:?}");
    }
}

#[test]
fn names_of_checks_are_told_apart() {
    let mut names: Vec<&str> = judge_machine(&good(), &target())
        .iter()
        .map(|found| found.check)
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn files_are_enough_for_all_sessions_or_it_fails() {
    assert_verdict("nr_open", Verdict::Pass, |m| {
        m.nr_open = Some(16_385);
    });
    let found = assert_verdict("nr_open", Verdict::Fail, |m| {
        m.nr_open = Some(16_384);
    });
    assert!(found.fix.contains("fs.nr_open=16385"), "{found:?}");
    let needed = 131_072 + 16_384;
    assert_verdict("file_max", Verdict::Pass, |m| {
        m.file_max = Some(needed + 456);
    });
    let found = assert_verdict("file_max", Verdict::Fail, |m| {
        m.file_max = Some(needed + 455);
    });
    assert!(found.fix.contains("fs.file-max=147912"), "{found:?}");
}

#[test]
fn tcp_memory_is_needed_page_by_page() {
    let needed = 131_072 * 4_096;
    assert_verdict("tcp_mem", Verdict::Pass, |m| {
        m.tcp_memory = Some([0, needed, needed]);
    });
    let found = assert_verdict("tcp_mem", Verdict::Warn, |m| {
        m.tcp_memory = Some([0, needed - 1, needed]);
    });
    assert!(found.fix.contains("\"131072 131072 262144\""), "{found:?}");
}

#[test]
fn tables_of_connections_have_room() {
    assert_verdict("orphans", Verdict::Pass, |m| {
        m.orphans_max = Some(131_072);
    });
    assert_verdict("orphans", Verdict::Warn, |m| {
        m.orphans_max = Some(131_071);
    });
    assert_verdict("conntrack", Verdict::Pass, |m| {
        m.conntrack_max = Some(262_144);
    });
    assert_verdict("conntrack", Verdict::Warn, |m| {
        m.conntrack_max = Some(262_143);
    });
    let found = assert_verdict("conntrack", Verdict::Fail, |m| {
        (m.conntrack_max, m.conntrack_count) = (Some(131_071), Some(12));
    });
    assert_eq!(found.measured, "at most 131071, now 12");
}

#[test]
fn half_open_connections_need_cookies_or_room() {
    assert_verdict("syn_queue", Verdict::Warn, |m| {
        m.syncookies = Some(0);
    });
    assert_verdict("syn_queue", Verdict::Pass, |m| {
        (m.syncookies, m.syn_backlog) = (Some(0), Some(4_096));
    });
    assert_verdict("syn_queue", Verdict::Warn, |m| {
        (m.syncookies, m.syn_backlog) = (Some(0), None);
    });
}

#[test]
fn dropped_packets_are_seen() {
    let found = assert_verdict("softnet", Verdict::Warn, |m| {
        m.softnet_dropped = Some(3);
    });
    assert!(found.measured.starts_with("3 dropped"), "{found:?}");
}

#[test]
fn slow_clocks_are_named() {
    for (source, verdict) in [
        ("tsc", Verdict::Pass),
        ("kvm-clock", Verdict::Pass),
        ("arch_sys_counter", Verdict::Pass),
        ("hpet", Verdict::Warn),
        ("acpi_pm", Verdict::Warn),
    ] {
        assert_verdict("clock", verdict, |m| {
            m.clock_source = Some(source.to_owned());
        });
    }
}

#[test]
fn memory_comes_when_it_is_asked_for() {
    let pages = |name: &str| Some(name.to_owned());
    assert_verdict("huge_pages", Verdict::Pass, |m| {
        m.huge_pages = pages("never");
    });
    assert_verdict("huge_pages", Verdict::Warn, |m| {
        m.huge_pages = pages("always");
    });
    for (swappiness, verdict) in [
        (None, Verdict::Warn),
        (Some(60), Verdict::Warn),
        (Some(10), Verdict::Pass),
    ] {
        assert_verdict("swap", verdict, |m| {
            (m.swap, m.swappiness) = (Some(1 << 30), swappiness);
        });
    }
    for (nodes, balancing, verdict) in [
        (1, Some(1), Verdict::Pass),
        (2, Some(0), Verdict::Pass),
        (2, Some(1), Verdict::Warn),
        (2, None, Verdict::Warn),
    ] {
        assert_verdict("numa", verdict, |m| {
            (m.numa_nodes, m.numa_balancing) = (Some(nodes), balancing);
        });
    }
}

#[test]
fn processors_are_at_hand() {
    for (names, verdict) in [
        (vec!["performance"], Verdict::Pass),
        (vec!["schedutil"], Verdict::Pass),
        (vec!["performance", "powersave"], Verdict::Warn),
    ] {
        assert_verdict("governor", verdict, |m| {
            m.governors = names.iter().map(ToString::to_string).collect();
        });
    }
    assert_verdict("throttling", Verdict::Pass, |m| {
        m.group.throttled = Some(0);
    });
    assert_verdict("throttling", Verdict::Warn, |m| {
        m.group.throttled = Some(1);
    });
}

#[test]
fn connections_keep_their_pace_and_find_their_size() {
    assert_verdict("idle_restart", Verdict::Warn, |m| {
        m.slow_start_after_idle = Some(1);
    });
    assert_verdict("mtu_probing", Verdict::Pass, |m| {
        m.mtu_probing = Some(2);
    });
    assert_verdict("mtu_probing", Verdict::Warn, |m| {
        m.mtu_probing = Some(0);
    });
}

#[test]
fn cores_wake_soon_and_do_not_save() {
    let sleeps = |latency_us| vec![(0, "POLL".to_owned()), (latency_us, "C6".to_owned())];
    assert_verdict("idle_states", Verdict::Pass, |m| {
        m.cores.sleeps = sleeps(100);
    });
    let found = assert_verdict("idle_states", Verdict::Warn, |m| {
        m.cores.sleeps = sleeps(133);
    });
    assert_eq!(found.measured, "down to C6, 133 us to wake");
    for (value, verdict) in [
        ("0", Verdict::Pass),
        ("6", Verdict::Pass),
        ("8", Verdict::Warn),
        ("balance_performance", Verdict::Pass),
        ("balance_power", Verdict::Warn),
        ("power", Verdict::Warn),
    ] {
        assert_verdict("energy", verdict, |m| {
            m.cores.energy = vec!["performance".to_owned(), value.to_owned()];
        });
    }
}

#[test]
fn shards_have_cores_of_their_own() {
    for (physical, threads, verdict) in [
        (8, 16, Verdict::Pass),
        (4, 8, Verdict::Warn),
        // Fewer cores than shards without threads are no matter of threads.
        (4, 4, Verdict::Pass),
    ] {
        assert_verdict("smt", verdict, |m| {
            (m.cores.physical, m.cores.threads) = (Some(physical), Some(threads));
        });
    }
}

#[test]
fn clock_is_kept_by_somebody() {
    let daemon = |name: &str| vec!["irqbalance".to_owned(), name.to_owned()];
    for (is_done, daemons, verdict) in [
        (None, daemon("chronyd"), Verdict::Pass),
        (Some(false), daemon("ntpd"), Verdict::Pass),
        (Some(false), daemon("systemd-timesyn"), Verdict::Warn),
        (Some(false), Vec::new(), Verdict::Warn),
        (None, vec!["irqbalance".to_owned()], Verdict::Warn),
    ] {
        assert_verdict("time_sync", verdict, |m| {
            m.process.is_timesync_done = is_done;
            m.process.daemons = daemons.clone();
        });
    }
}
