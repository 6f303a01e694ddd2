//! Each verdict on connections.

use super::*;
use crate::check::machine::tests::assert_verdict;
use crate::finding::Verdict;
use crate::machine::Ports;

fn listening(local: &str, waiting: u32, limit: u32) -> Listening {
    Listening {
        local: local.parse().unwrap(),
        waiting,
        limit,
    }
}

#[test]
fn the_queue_in_use_is_what_counts() {
    let found = assert_verdict("backlog", Verdict::Pass, |m| {
        m.sockets.listeners = Some(vec![listening("0.0.0.0:22", 0, 128)]);
    });
    assert_eq!(found.measured, "no listener on port 7100 yet");
    let found = assert_verdict("backlog", Verdict::Pass, |m| {
        m.sockets.listeners = Some(vec![
            listening("0.0.0.0:7100", 2_048, 4_096),
            listening("[::]:7100", 1, 8_192),
        ]);
    });
    assert_eq!(
        found.measured,
        "2 listeners on port 7100, at most 4096 wait, now 2048"
    );
    let found = assert_verdict("backlog", Verdict::Warn, |m| {
        m.sockets.listeners = Some(vec![
            listening("0.0.0.0:7100", 0, 4_096),
            listening("0.0.0.0:7100", 0, 4_095),
        ]);
    });
    assert!(found.fix.contains("are 4096 at least"), "{found:?}");
    let found = assert_verdict("backlog", Verdict::Warn, |m| {
        m.sockets.listeners = Some(vec![listening("0.0.0.0:7100", 2_049, 4_096)]);
    });
    assert!(found.fix.contains("keep up"), "{found:?}");
    assert_verdict("backlog", Verdict::Warn, |m| m.sockets.listeners = None);
}

#[test]
fn drops_at_listeners_are_seen() {
    let found = assert_verdict("listen_drops", Verdict::Warn, |m| {
        (m.stack.listen_overflows, m.stack.listen_drops) = (Some(129), Some(135));
    });
    assert_eq!(
        found.measured,
        "135 dropped since the start, 129 of them at a full queue"
    );
    assert_verdict("listen_drops", Verdict::Warn, |m| {
        m.stack.listen_drops = Some(1);
    });
    assert_verdict("listen_drops", Verdict::Warn, |m| {
        m.stack.listen_overflows = None;
    });
}

#[test]
fn waiting_ports_have_room_and_are_used_again() {
    // Half of the 28,232 ports of the range.
    for (waiting, reuse, verdict) in [
        (14_116, 2, Verdict::Pass),
        (14_117, 2, Verdict::Warn),
        (14_117, 0, Verdict::Warn),
        (14_117, 1, Verdict::Pass),
    ] {
        let found = assert_verdict("time_wait", verdict, |m| {
            (m.stack.waiting, m.stack.wait_reuse) = (Some(waiting), Some(reuse));
            m.stack.wait_reuse_delay_ms = Some(1_000);
        });
        assert!(found.measured.contains("after 1000 ms"), "{found:?}");
    }
    let found = assert_verdict("time_wait", Verdict::Warn, |m| {
        m.stack.waiting_overflows = Some(1);
    });
    assert!(found.fix.contains("tcp_max_tw_buckets=524288"), "{found:?}");
    let found = assert_verdict("time_wait", Verdict::Warn, |m| {
        m.stack.timestamps = Some(0);
    });
    assert!(found.fix.contains("tcp_timestamps=1"), "{found:?}");
    assert_verdict("time_wait", Verdict::Warn, |m| m.stack.waiting = None);
    assert_verdict("time_wait", Verdict::Warn, |m| m.stack.waiting_max = None);
    assert_verdict("time_wait", Verdict::Warn, |m| m.stack.wait_reuse = None);
}

#[test]
fn orphans_do_not_stay_for_long() {
    assert_verdict("fin_timeout", Verdict::Pass, |m| {
        m.stack.fin_timeout_s = Some(60);
    });
    assert_verdict("fin_timeout", Verdict::Warn, |m| {
        m.stack.fin_timeout_s = Some(61);
    });
}

#[test]
fn ports_to_one_destination_run_out_first() {
    let ports = |count| {
        let busiest = (
            "10.0.0.1".parse().unwrap(),
            "10.0.0.2:443".parse().unwrap(),
            count,
        );
        Some(Ports {
            taken: 20_000,
            busiest: Some(busiest),
        })
    };
    assert_verdict("ports_taken", Verdict::Pass, |m| {
        m.sockets.ports = ports(14_116);
    });
    let found = assert_verdict("ports_taken", Verdict::Warn, |m| {
        m.sockets.ports = ports(14_117);
    });
    assert!(
        found.measured.contains("from 10.0.0.1 to 10.0.0.2:443"),
        "{found:?}"
    );
    assert!(
        found.fix.contains("src 10.0.0.1 dst 10.0.0.2:443"),
        "{found:?}"
    );
    assert_verdict("ports_taken", Verdict::Warn, |m| m.sockets.ports = None);
    assert_verdict("ports_taken", Verdict::Warn, |m| m.stack.port_range = None);
}

#[test]
fn ports_without_a_connection_are_a_leak() {
    assert_verdict("ports_bound", Verdict::Pass, |m| {
        m.sockets.ports_bound_only = Some(500);
    });
    assert_verdict("ports_bound", Verdict::Warn, |m| {
        m.sockets.ports_bound_only = Some(501);
    });
    let found = assert_verdict("ports_bound", Verdict::Pass, |m| {
        m.sockets.ports_bound_only = None;
    });
    assert!(found.measured.starts_with("not told"), "{found:?}");
}

#[test]
fn tables_have_places_for_all_sessions() {
    // The target has 131,072 sessions.
    assert_verdict("ehash", Verdict::Pass, |m| {
        m.stack.table_entries = Some(65_536);
    });
    let found = assert_verdict("ehash", Verdict::Warn, |m| {
        m.stack.table_entries = Some(65_535);
    });
    assert_eq!(found.fix, "boot with thash_entries=131072");
    assert_verdict("ehash", Verdict::Pass, |m| {
        m.stack.table_entries = Some(-262_144);
    });
    let found = assert_verdict("ehash", Verdict::Warn, |m| {
        m.stack.table_entries = Some(-4_096);
    });
    assert!(
        found.fix.contains("tcp_child_ehash_entries=131072"),
        "{found:?}"
    );
    assert_verdict("ehash", Verdict::Pass, |m| m.stack.table_entries = None);
    assert_verdict("conntrack_hash", Verdict::Pass, |m| {
        m.stack.tracking_buckets = Some(65_536);
    });
    let found = assert_verdict("conntrack_hash", Verdict::Warn, |m| {
        m.stack.tracking_buckets = Some(65_535);
    });
    assert!(found.fix.contains("echo 65536"), "{found:?}");
}
