//! Every profile for several targets, and everything that can be wrong with one.

use super::*;
use crate::check::Congestion;

fn target(shards: u32, sessions_max: u32) -> Target {
    Target {
        shards,
        sessions_max,
        backlog: 4_096,
        listen_port: 7_100,
        congestion: Congestion::Automatic,
    }
}

/// One setting that is right, for tests that make it wrong.
const SETTING: &str = "unit = \"u\"\nreason = \"r\"\nsource = \"s\"\nsince = \"2.6\"\n";

fn profile(lines: &str) -> String {
    format!("summary = \"a\"\ntrade = \"b\"\nsurface = \"host\"\n{lines}")
}

fn sysctl(name: &str, value: &str) -> String {
    format!("[[sysctl]]\nname = \"{name}\"\n{value}\n{SETTING}")
}

/// Returns what is wrong with a profile, at reading it or for a target of 4 shards.
fn problems(text: &str) -> String {
    let tuned =
        Profile::parse("mine.toml", text).and_then(|profile| profile.tune(&target(4, 250_000)));
    tuned.unwrap_err().to_string()
}

fn assert_problem(text: &str, expected: &[&str]) {
    let problem = problems(text);
    for words in expected {
        assert!(problem.contains(words), "{words}: {problem}");
    }
}

fn value(tuning: &Tuning, name: &str) -> Option<String> {
    let mut settings = tuning.settings.iter();
    Some(settings.find(|setting| setting.name == name)?.value.clone())
}

#[test]
fn every_profile_fits_every_size() {
    for (name, _) in PROFILES {
        for (shards, sessions) in [
            (1, 1),
            (8, 16_384),
            (4, 250_000),
            (64, 1_562_500),
            (1, 100_000_000),
        ] {
            let tuned = Profile::load(name).unwrap().tune(&target(shards, sessions));
            let tuning = tuned.unwrap();
            assert!(value(&tuning, "net.core.somaxconn").is_some());
            assert!(!tuning.summary.is_empty() && !tuning.trade.is_empty());
        }
    }
}

#[test]
fn base_is_taken_over_and_replaced_in_place() {
    let tuning = |name: &str| {
        Profile::load(name)
            .unwrap()
            .tune(&target(4, 250_000))
            .unwrap()
    };
    let (base, fast) = (tuning("connections"), tuning("throughput"));
    assert_eq!(
        value(&base, "net.ipv4.tcp_rmem").unwrap(),
        "4096 131072 1048576"
    );
    assert_eq!(
        value(&fast, "net.ipv4.tcp_rmem").unwrap(),
        "4096 131072 33554432"
    );
    assert_eq!(
        value(&fast, "net.ipv4.tcp_mem"),
        value(&base, "net.ipv4.tcp_mem")
    );
    let count = |tuning: &Tuning, name: &str| {
        let is_it = |setting: &&Setting| setting.name == name;
        tuning.settings.iter().filter(is_it).count()
    };
    assert_eq!(count(&fast, "net.ipv4.tcp_rmem"), 1);
}

#[test]
fn reserved_ports_are_set_only_where_the_relay_listens_in_the_range() {
    let profile = Profile::load("connections").unwrap();
    let reserved = |listen_port| {
        let target = Target {
            listen_port,
            ..target(4, 10)
        };
        value(
            &profile.tune(&target).unwrap(),
            "net.ipv4.ip_local_reserved_ports",
        )
    };
    assert_eq!(reserved(7_100), None);
    assert_eq!(reserved(20_000).as_deref(), Some("20000"));
}

#[test]
fn unknown_profiles_and_unreadable_files_are_named() {
    let error = Profile::load("fast").unwrap_err().to_string();
    assert!(
        error.contains("connections, container, latency, throughput"),
        "{error}"
    );
    let error = Profile::load("./missing.toml").unwrap_err().to_string();
    assert!(
        error.contains("./missing.toml") && error.contains("cannot be read"),
        "{error}"
    );
}

#[test]
fn own_file_may_begin_with_a_profile() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.toml");
    let own = sysctl("net.ipv4/tcp_fin_timeout", "value = 7").replace("ipv4/", "ipv4.");
    let text = format!("summary = \"a\"\ntrade = \"b\"\nbase = \"latency\"\n{own}");
    fs::write(&path, text).unwrap();
    let profile = Profile::load(path.to_str().unwrap()).unwrap();
    let tuning = profile.tune(&target(4, 10)).unwrap();
    assert_eq!(value(&tuning, "net.ipv4.tcp_fin_timeout").unwrap(), "7");
    assert_eq!(value(&tuning, "net.ipv4.tcp_autocorking").unwrap(), "0");
}

#[test]
fn unknown_keys_are_named_with_line_and_what_is_expected() {
    let text = profile(&sysctl("net.core.somaxconn", "value = 1\nvalu = 2"));
    assert_problem(
        &text,
        &["mine.toml", "line 7", "unknown field `valu`", "at_least"],
    );
    assert_problem(
        &profile("[[sysctls]]\n"),
        &["line 4", "unknown field `sysctls`"],
    );
    let text = profile(&sysctl("net.core.somaxconn", "value = 1.5"));
    assert_problem(&text, &["line 6", "expected a whole number, or a text"]);
    assert_problem(
        "summary = \"a\"\ntrade = \"b\"\n",
        &["surface: missing", "host"],
    );
    let text = "summary = \"a\"\ntrade = \"b\"\nbase = \"fast\"\n";
    assert_problem(text, &["\"fast\" is none of connections"]);
}

#[test]
fn all_wrong_settings_are_named_at_once() {
    let lines = [
        sysctl("net.core.somaxconn", "value = 1"),
        sysctl("net/core/somaxconn", "value = 2"),
        sysctl("somaxconn", "value = 1"),
        sysctl("net.core.a", ""),
        sysctl("net.core.b", "value = 1\nat_most = 2"),
        sysctl("net.core.c", "value = \"{sessions\""),
        sysctl("net.core.d", "value = 1").replace("\"r\"", "\"\""),
        sysctl("nofile", "at_least = 1").replace("sysctl", "limit"),
        sysctl("memory", "value = 1").replace("sysctl", "limit"),
        sysctl("nofile", "value = 1\nwhen = \"listen_port_in_range\"").replace("sysctl", "limit"),
        sysctl("Tasks-Max", "value = 1").replace("sysctl", "unit"),
        sysctl("gro", "value = 1").replace("sysctl", "device"),
    ];
    assert_problem(
        &profile(&lines.concat()),
        &[
            "mine.toml:12: net/core/somaxconn: is set twice, first in mine.toml:5",
            "somaxconn: expected a name such as",
            "net.core.a: no value: expected one of value",
            "net.core.b: several values",
            "net.core.c: \"{sessions\": a { without its }",
            "net.core.d: unit, reason, source, since",
            "nofile: only a sysctl has at_least",
            "memory: there is none of this name: expected memlock, nofile",
            "nofile: only a sysctl has when",
            "Tasks-Max: expected a key of [Service]",
            "gro: there is none of this name: expected governor",
        ],
    );
}

#[test]
fn values_that_the_kernel_refuses_are_named_with_its_bounds() {
    for (name, value, expected) in [
        (
            "vm.swappiness",
            "at_most = 201",
            "201 is not within what the kernel takes: 0 to 200",
        ),
        (
            "net.core.somaxconn",
            "value = \"many\"",
            "many is not within",
        ),
        (
            "net.core.somaxconn",
            "at_least = \"{backlog * 1000000}\"",
            "0 to 2147483647",
        ),
        ("net.ipv4.tcp_mem", "value = \"1 2\"", "expected 3 numbers"),
        (
            "net.ipv4.ip_local_port_range",
            "value = \"1 65536\"",
            "1 to 65535",
        ),
        ("fs.nr_open", "value = 4294967296", "2147483584"),
        (
            "kernel.unheard_of",
            "at_least = \"a\"",
            "needs whole numbers",
        ),
    ] {
        assert_problem(
            &profile(&sysctl(name, value)),
            &["mine.toml:5", name, expected],
        );
    }
    let device = sysctl("rps", "value = \"yes\"").replace("sysctl", "device");
    assert_problem(&profile(&device), &["rps: \"yes\": expected on or off"]);
    let device = sysctl("rfs_entries", "value = \"many\"").replace("sysctl", "device");
    assert_problem(&profile(&device), &["\"many\": expected a number"]);
}

#[test]
fn contradictions_are_named() {
    let text = profile(&sysctl(
        "net.ipv4.ip_local_port_range",
        "value = \"60999 32768\"",
    ));
    assert_problem(&text, &["60999 32768: expected first and last port"]);
    let text = profile(&sysctl("net.ipv4.tcp_mem", "at_least = \"9 8 10\""));
    assert_problem(&text, &["expected fine, pressure and end"]);
    let text = profile(&sysctl("net.ipv4.tcp_rmem", "value = \"9 10 8\""));
    assert_problem(&text, &["expected least, first and most"]);
    let limit = |value: &str| sysctl("nofile", value).replace("sysctl", "limit");
    let text = profile(&(sysctl("fs.nr_open", "value = 400000") + &limit("value = 500000")));
    assert_problem(
        &text,
        &["nofile: 500000 is beyond fs.nr_open, which is 400000"],
    );
    assert_problem(&profile(&limit("value = 2000000")), &["which is 1048576"]);
    assert_problem(
        &profile(&limit("value = 9")),
        &["less than the 250001 files"],
    );
}

#[test]
fn containers_get_only_what_their_namespace_has() {
    let container = |lines: &str| profile(lines).replace("\"host\"", "\"container\"");
    for name in [
        "fs.nr_open",
        "net.ipv4.tcp_mem",
        "vm.swappiness",
        "net.core.rmem_max",
    ] {
        let text = container(&sysctl(name, "value = 1"));
        assert_problem(&text, &[name, "belongs to the whole host"]);
    }
    let text = container(&sysctl("rps", "value = \"on\"").replace("sysctl", "device"));
    assert_problem(&text, &["no devices and no unit"]);
}

#[test]
fn absence_says_which_version_brought_it_or_what_it_means() {
    let profile = Profile::load("latency").unwrap();
    let tuning = profile.tune(&target(4, 10)).unwrap();
    let absence = |name: &str, kernel| {
        let mut settings = tuning.settings.iter();
        settings
            .find(|setting| setting.name == name)
            .unwrap()
            .absence(kernel)
    };
    let corking = "net.ipv4.tcp_autocorking";
    assert!(absence(corking, Some((3, 2))).contains("is 3.2, the setting came with 3.14"));
    assert!(absence(corking, Some((6, 1))).contains("(6.1) does not show it"));
    assert!(absence(corking, None).contains("(unknown) does not show it"));
    assert!(absence("net.netfilter.nf_conntrack_max", None).contains("better still"));
}
