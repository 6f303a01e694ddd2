//! Each check at each of its verdicts.

use super::*;
use crate::host::Setter;

fn good() -> Host {
    let limit = |value| {
        Some(Limit {
            soft: Some(value),
            hard: Some(value),
        })
    };
    Host {
        kernel: Some((6, 12)),
        nofile: limit(100_000),
        io_uring_disabled: Some(0),
        io_uring_group: Some(-1),
        somaxconn: Some(4_096),
        port_range: Some((32_768, 60_999)),
        congestion_available: vec!["reno".into(), "cubic".into(), "bbr".into()],
        congestion_allowed: vec!["reno".into(), "cubic".into()],
        congestion_default: Some("cubic".into()),
        ..Host::default()
    }
}

pub(super) fn target() -> Target {
    Target {
        shards: 8,
        sessions_max: 16_384,
        backlog: 4_096,
        listen_port: 7_100,
        congestion: Congestion::Automatic,
    }
}

fn finding(check: &str, host: &Host, target: &Target) -> Finding {
    among(judge(host, target), check)
}

fn among(all: Vec<Finding>, check: &str) -> Finding {
    let found = all.into_iter().find(|finding| finding.check == check);
    found.unwrap()
}

fn assert_verdict(check: &str, host: &Host, verdict: Verdict) -> Finding {
    assert_among(judge(host, &target()), check, verdict)
}

/// Asserts the verdict of one of the findings, and that a bad one says what to do.
pub(super) fn assert_among(all: Vec<Finding>, check: &str, verdict: Verdict) -> Finding {
    let found = among(all, check);
    assert_eq!(found.verdict, verdict, "{found:?}");
    assert_eq!(found.fix.is_empty(), verdict == Verdict::Pass, "{found:?}");
    assert!(!found.measured.is_empty() && !found.needed.is_empty() && !found.why.is_empty());
    found
}

#[test]
fn good_host_passes_everything() {
    for found in judge(&good(), &target()) {
        assert_eq!(found.verdict, Verdict::Pass, "{found:?}");
    }
}

#[test]
fn unknown_host_warns_and_never_panics() {
    let found = judge(&Host::default(), &target());
    assert!(found.iter().any(|finding| finding.verdict == Verdict::Warn));
}

#[test]
fn kernel_is_judged_by_its_features() {
    for (kernel, verdict) in [
        (Some((5, 15)), Verdict::Fail),
        (Some((6, 0)), Verdict::Fail),
        (Some((6, 1)), Verdict::Warn),
        (Some((6, 11)), Verdict::Warn),
        (Some((6, 12)), Verdict::Pass),
        (Some((7, 0)), Verdict::Pass),
        (None, Verdict::Warn),
    ] {
        assert_verdict("kernel", &Host { kernel, ..good() }, verdict);
    }
}

#[test]
fn io_uring_needs_the_right_to_it() {
    let host = |disabled, group, groups: &[i64], capabilities| Host {
        io_uring_disabled: Some(disabled),
        io_uring_group: Some(group),
        groups: groups.to_vec(),
        capabilities,
        ..good()
    };
    assert_verdict("io_uring", &host(2, -1, &[], u64::MAX), Verdict::Fail);
    assert_verdict("io_uring", &host(1, -1, &[-1], 0), Verdict::Fail);
    assert_verdict("io_uring", &host(1, 27, &[5, 27], 0), Verdict::Pass);
    assert_verdict(
        "io_uring",
        &host(1, -1, &[], 1 << CAP_SYS_ADMIN),
        Verdict::Pass,
    );
    assert_verdict(
        "io_uring",
        &Host {
            io_uring_disabled: None,
            ..good()
        },
        Verdict::Pass,
    );
}

#[test]
fn open_files_are_judged_by_the_hard_limit() {
    let host = |hard| Host {
        nofile: Some(Limit {
            soft: Some(1_024),
            hard,
        }),
        ..good()
    };
    assert_verdict("nofile", &host(None), Verdict::Pass);
    assert_verdict("nofile", &host(Some(16_385)), Verdict::Pass);
    let found = assert_verdict("nofile", &host(Some(10_000)), Verdict::Fail);
    assert!(
        found.fix.contains("LimitNOFILE=16385") && found.fix.contains("sessions_max to 9999"),
        "{}",
        found.fix
    );
    // Whoever set it is told where.
    let unit = Host {
        setter: Setter::Unit("relay.service".to_owned()),
        ..host(Some(10_000))
    };
    let found = assert_verdict("nofile", &unit, Verdict::Fail);
    assert!(
        found.fix.contains("systemctl edit relay.service"),
        "{found:?}"
    );
    let container = Host {
        setter: Setter::Container,
        ..host(Some(10_000))
    };
    let found = assert_verdict("nofile", &container, Verdict::Fail);
    assert!(
        found.fix.contains("--ulimit nofile=16385:16385"),
        "{found:?}"
    );
    // Too few for the process itself: fewer sessions do not help.
    let found = assert_verdict("nofile", &host(Some(100)), Verdict::Fail);
    assert!(!found.fix.contains("sessions_max"), "{}", found.fix);
    assert_verdict(
        "nofile",
        &Host {
            nofile: None,
            ..good()
        },
        Verdict::Warn,
    );
}

#[test]
fn short_kernel_queue_warns() {
    assert_verdict(
        "somaxconn",
        &Host {
            somaxconn: Some(128),
            ..good()
        },
        Verdict::Warn,
    );
    assert_verdict(
        "somaxconn",
        &Host {
            somaxconn: None,
            ..good()
        },
        Verdict::Warn,
    );
}

#[test]
fn listen_port_inside_the_range_warns_unless_reserved() {
    let mut host = Host {
        port_range: Some((1_024, 60_999)),
        ..good()
    };
    assert_verdict("port_range", &host, Verdict::Warn);
    host.ports_reserved = vec![(7_000, 7_200)];
    assert_verdict("port_range", &host, Verdict::Pass);
    assert_verdict(
        "port_range",
        &Host {
            port_range: Some((40_000, 40_063)),
            ..good()
        },
        Verdict::Warn,
    );
    assert_verdict(
        "port_range",
        &Host {
            port_range: None,
            ..good()
        },
        Verdict::Warn,
    );
}

#[test]
fn congestion_control_must_be_there_and_allowed() {
    let bbr_only = Host {
        congestion_available: vec!["reno".into(), "bbr".into(), "cubic".into()],
        congestion_allowed: vec!["reno".into(), "bbr".into()],
        congestion_default: Some("bbr".into()),
        ..good()
    };
    let found = assert_verdict("congestion", &bbr_only, Verdict::Warn);
    assert!(found.fix.contains("\"reno bbr cubic\""), "{}", found.fix);
    let privileged = Host {
        capabilities: 1 << CAP_NET_ADMIN,
        ..bbr_only.clone()
    };
    assert_verdict("congestion", &privileged, Verdict::Pass);

    let named = |name: &str| Target {
        congestion: Congestion::Named(name.into()),
        ..target()
    };
    let verdict = |name| finding("congestion", &bbr_only, &named(name)).verdict;
    assert_eq!(verdict("bbr"), Verdict::Pass);
    assert_eq!(verdict("cubic"), Verdict::Fail);
    assert!(
        finding("congestion", &bbr_only, &named("vegas"))
            .fix
            .contains("modprobe tcp_vegas")
    );
    let system = Target {
        congestion: Congestion::System,
        ..target()
    };
    assert_eq!(
        finding("congestion", &bbr_only, &system).verdict,
        Verdict::Pass
    );
}

#[test]
fn line_says_everything() {
    let line = finding(
        "somaxconn",
        &Host {
            somaxconn: Some(128),
            ..good()
        },
        &target(),
    )
    .line();
    assert!(
        line.starts_with("WARN somaxconn: 128, needs tcp.backlog = 4096: "),
        "{line}"
    );
    assert!(line.contains("sysctl net.core.somaxconn=4096"), "{line}");
}
