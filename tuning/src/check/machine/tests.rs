//! Each check at each of its verdicts.

use super::*;
use crate::check::tests::{assert_among, target};

fn good() -> Machine {
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
        ..Machine::default()
    }
}

/// Changes the good machine and asserts what becomes of it; the target has 131,072 sessions.
fn assert_verdict(check: &str, verdict: Verdict, change: impl Fn(&mut Machine)) -> Finding {
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
    let may_be_absent = ["conntrack", "numa", "governor", "throttling"];
    for found in judge_machine(&Machine::default(), &target()) {
        let verdict = match may_be_absent.contains(&found.check) {
            true => Verdict::Pass,
            false => Verdict::Warn,
        };
        assert_eq!(found.verdict, verdict, "{found:?}");
        let is_said = found.fix.contains("could not be read");
        assert_eq!(is_said, verdict == Verdict::Warn, "{found:?}");
    }
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
        m.throttled = Some(0);
    });
    assert_verdict("throttling", Verdict::Warn, |m| {
        m.throttled = Some(1);
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
