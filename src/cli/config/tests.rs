//! What is shown, read back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::config::{Config, KEYS};

/// Returns texts that a key takes as a flag or a variable, some of them its bounds.
fn texts_of(path: &str) -> BoxedStrategy<String> {
    let count = |max: u32| (1..=max).prop_map(|count| count.to_string()).boxed();
    let one_of = |texts: &[&'static str]| select(texts.to_vec()).prop_map(str::to_owned).boxed();
    let size = |min: u64, max: u64| (min..=max).prop_map(|size| format!("{size}KiB")).boxed();
    let millis = |min: u64, max: u64| (min..=max).prop_map(|time| format!("{time}ms")).boxed();
    let key = "[0-9a-f]{64}";
    match path {
        "listen" | "admin.listen" => one_of(&["0.0.0.0:1", "[::1]:7100", "127.0.0.1:0"]),
        "shards" | "tcp.backlog" | "limits.handshakes_source_max" => count(256),
        "cores" => one_of(&["auto", "0", "0,1", "3, 2,1"]),
        "preflight" => one_of(&["off", "warn", "strict"]),
        "placement" => one_of(&["balanced", "hash", "reuseport"]),
        "key_file" => "[^0-9\\x00][^\\x00]{0,20}".boxed(),
        "limits.sessions_max" | "limits.accepts_per_s_max" => count(1_000_000),
        "limits.streams_max" | "limits.handshakes_max" => count(65_536),
        "limits.shard_streams_max" => one_of(&["2", "100000000"]),
        "limits.session_queue" => size(256, 1_048_576),
        "limits.shard_queue" => size(1_024, 1 << 30),
        "limits.receive_memory" => size(8_192, 8_388_608),
        "limits.keepalive" => (1..=3_600_u32).prop_map(|time| format!("{time}s")).boxed(),
        "timeouts.handshake" | "timeouts.open" => millis(100, 3_600_000),
        "timeouts.half_closed" | "timeouts.bridge_idle" => millis(1_000, 86_400_000),
        "timeouts.send_stall" => millis(1_000, 3_600_000),
        "tcp.congestion" => one_of(&["auto", "system", "bbr"]),
        "tcp.zero_copy" => size(4, 256),
        "ports.sources" => one_of(&["auto", "192.0.2.1", "127.0.0.1, ::1"]),
        "ports.range" => one_of(&["auto", "20000-59999"]),
        "ports.quarantine" | "drain.timeout" => millis(0, 300_000),
        "ports.dials_max" => count(65_535),
        "mesh.relays" => (key, key, "[a-z]{1,9}")
            .prop_map(|(one, other, host)| format!("{one}@{host}:7100,{other}@[::1]:1"))
            .boxed(),
        "mesh.allowed" => {
            let keys = (key, key).prop_map(|(one, other)| format!("{one},{other}"));
            prop_oneof![Just("all".to_owned()), keys].boxed()
        }
        "mesh.links_max" => count(4_096),
        "mesh.announce_peers" => one_of(&["on", "off"]),
        "mesh.registry" => one_of(&["embedded", "off", "redis://registry.example:6379/0"]),
        "mesh.registry_prefix" => "[^0-9\\x00-\\x1f\\x7f-\\x9f][a-z:\"]{0,9}".boxed(),
        "mesh.lease" => millis(3_000, 300_000),
        "mesh.announce" => one_of(&["auto", "off", "192.0.2.1:7100"]),
        "poll.spin" | "poll.napi" => millis(1, 10),
        "log.format" => one_of(&["text", "json"]),
        "log.level" => one_of(&["off", "debug", "warn,ringway=debug"]),
        // Stays at its default, which is shown and read back all the same.
        _ => Just(String::new()).boxed(),
    }
}

/// Returns some of the keys with their texts, and whether each is a flag, else a variable.
fn settings() -> impl Strategy<Value = Vec<(&'static str, String, bool)>> {
    let paths: Vec<&'static str> = KEYS.iter().map(|key| key.path).collect();
    let count = paths.len();
    subsequence(paths, 0..=count).prop_flat_map(|paths| {
        let one = |path: &'static str| (Just(path), texts_of(path), any::<bool>());
        paths.into_iter().map(one).collect::<Vec<_>>()
    })
}

fn resolved(texts: &[(&'static str, String, bool)]) -> Result<Resolved, Failure> {
    let mut settings = Settings::default();
    let mut variables = BTreeMap::new();
    for (path, text, is_flag) in texts.iter().filter(|(_, text, _)| !text.is_empty()) {
        if *is_flag {
            let flag = ("--set".to_owned(), (*path).to_owned(), text.clone());
            settings.flags.push(flag);
        } else {
            let key = KEYS.iter().find(|key| key.path == *path).unwrap();
            variables.insert(key.variable(), OsString::from(text));
        }
    }
    resolve(&settings, |name| variables.get(name).cloned())
}

fn read_back(shown: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("whole.toml");
    fs::write(&file, shown).unwrap();
    let settings = Settings {
        file: Some(file),
        ..Settings::default()
    };
    resolve(&settings, |_| None).unwrap().config
}

proptest! {
    #[test]
    fn shown_file_reads_back_as_the_same_configuration(texts in settings()) {
        // Pairs of keys can contradict each other; then there is nothing to show.
        let Ok(resolved) = resolved(&texts) else {
            return Err(TestCaseError::reject("the keys contradict each other"));
        };
        prop_assert_eq!(read_back(&toml(&resolved)), resolved.config);
    }
}

#[test]
fn each_key_alone_reads_back() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for key in KEYS {
        // Some texts of a key contradict defaults of others: enough of them have to do.
        let mut shown_count = 0;
        for _ in 0..20 {
            let text = texts_of(key.path).new_tree(&mut runner).unwrap().current();
            if let Ok(resolved) = resolved(&[(key.path, text, true)]) {
                assert_eq!(read_back(&toml(&resolved)), resolved.config, "{}", key.path);
                shown_count += 1;
            }
        }
        assert!(shown_count >= 5, "{}: its texts are refused", key.path);
    }
}

#[test]
fn password_is_in_nothing_that_is_shown() {
    let url = "redis://me:secret@registry.example:6379/0".to_owned();
    let resolved = resolved(&[("mesh.registry", url, true)]).unwrap();
    let hidden = "\"redis://***@registry.example:6379/0\"";
    for shown in [
        table(&resolved),
        toml(&resolved),
        json(&resolved).to_string(),
    ] {
        assert!(
            shown.contains(hidden) && !shown.contains("secret"),
            "{shown}"
        );
    }
    let line = format!("# mesh.registry = {hidden}  # flag --set; the password is not shown");
    assert!(toml(&resolved).lines().any(|one| one == line));
}

#[test]
fn defaults_are_shown_in_order_with_their_origin() {
    let resolved = resolved(&[]).unwrap();
    let (table, toml) = (table(&resolved), toml(&resolved));
    assert_eq!(table.lines().count(), KEYS.len());
    for (key, (row, line)) in KEYS.iter().zip(table.lines().zip(toml.lines())) {
        assert!(row.starts_with(key.path), "{row}");
        match key.default {
            "" => assert_eq!(line, format!("# {} has no value", key.path)),
            default => assert_eq!(line, format!("{} = {default}  # default", key.path)),
        }
    }
    assert_eq!(json(&resolved)["deployment"], serde_json::Value::Null);
}
