//! The table of keys: defaults, names, and what is wrong with a value.

use std::net::IpAddr;

use ringway_shards::set::{Prefix, Proxies};

use super::*;
use crate::config::Congestion;

fn value_of(text: &str) -> Value {
    format!("x = {text}").parse::<toml::Table>().unwrap()["x"].clone()
}

fn apply(path: &str, text: &str) -> Result<Config, String> {
    let mut config = Config::default();
    (key_of(path).unwrap().apply)(&mut config, &value_of(text)).map(|()| config)
}

#[test]
fn table_defaults_give_the_default_settings() {
    for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
        assert_eq!(
            apply(key.path, key.default),
            Ok(Config::default()),
            "{}",
            key.path
        );
    }
}

#[test]
fn document_has_every_key_with_its_default_and_no_other() {
    let document = include_str!("../../../docs/config.md");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            line.split('|')
                .map(|cell| cell.trim().trim_matches('`'))
                .collect()
        })
        .collect();
    let found: Vec<_> = rows.iter().map(|row| (row[1], row[2])).collect();
    let keys: Vec<_> = KEYS.iter().map(|key| (key.path, key.default)).collect();
    assert_eq!(found, keys);
}

#[test]
fn example_of_the_document_is_valid() {
    let document = include_str!("../../../docs/config.md");
    let example = document
        .split("```toml")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let document = super::super::file::Document::of_toml(example.as_bytes()).unwrap();
    for (path, value) in document.leaves {
        (key_of(&path).unwrap().apply)(&mut Config::default(), &value).unwrap();
    }
}

#[test]
fn paths_are_unique_and_variables_follow_from_them() {
    for (position, key) in KEYS.iter().enumerate() {
        assert!(KEYS[..position].iter().all(|other| other.path != key.path));
    }
    assert_eq!(
        key_of("limits.sessions_max").unwrap().variable(),
        "RINGWAY_LIMITS_SESSIONS_MAX"
    );
}

#[test]
fn wrong_values_are_named_with_what_is_wrong() {
    for (path, text, part) in [
        ("listen", "7100", "bare number"),
        ("listen", "\"127.0.0.1\"", "port is missing"),
        ("shards", "0", "too small"),
        ("shards", "\"many\"", "no whole number"),
        ("cores", "[0, 0]", "twice"),
        ("cores", "[]", "empty"),
        ("cores", "true", "true or false"),
        ("cores", "\"0,x\"", "no core number"),
        ("placement", "\"random\"", "no way to share out"),
        ("placement", "1", "bare number"),
        ("key_file", "\"\"", "empty"),
        ("preflight", "\"on\"", "no way to check"),
        ("preflight", "true", "true or false"),
        ("drain.timeout", "30", "no unit"),
        ("drain.timeout", "\"2h\"", "too long"),
        ("poll.spin", "\"1s\"", "too long"),
        ("poll.napi", "\"11ms\"", "too long"),
        ("poll.napi", "20", "no unit"),
        ("tcp.zero_copy", "\"1KiB\"", "too small"),
        ("tcp.zero_copy", "\"1MiB\"", "too large"),
        ("tcp.zero_copy", "16384", "no unit"),
        ("limits.keepalive", "\"1500ms\"", "whole number of seconds"),
        ("limits.keepalive", "\"0s\"", "too short"),
        ("limits.handshakes_source_max", "0", "too small"),
        ("timeouts.open", "\"50ms\"", "too short"),
        ("timeouts.half_closed", "60", "no unit"),
        ("tcp.congestion", "\"Cubic!\"", "no name"),
        ("tcp.congestion", "\"a_name_that_is_long\"", "no name"),
        ("log.format", "\"xml\"", "no log format"),
        ("log.level", "\"ringway=loud\"", "no log level"),
        ("tcp.backlog", "-1", "too small"),
        ("ports.sources", "[\"localhost\"]", "no IP address"),
        ("ports.sources", "[\"127.0.0.1\", \"127.0.0.1\"]", "twice"),
        (
            "ports.sources",
            "[\"0.0.0.0\"]",
            "no address to connect from",
        ),
        ("ports.sources", "[7]", "bare number"),
        ("mesh.relays", "[\"127.0.0.1:7100\"]", "no '@'"),
        ("mesh.relays", "7", "no list"),
        ("mesh.allowed", "[\"some\"]", "64 characters"),
        ("mesh.links_max", "0", "too small"),
        ("ports.sources", "7", "no list of IP addresses"),
        ("ports.range", "\"20000\"", "first and the last"),
        ("ports.range", "\"20000-70000\"", "no port"),
        ("ports.range", "\"80-9000\"", "below 1024"),
        ("ports.range", "\"9000-8000\"", "ends before it begins"),
        ("ports.quarantine", "\"1h\"", "too long"),
        ("ports.dials_max", "0", "too small"),
        ("limits.sessions_max", "0", "too small"),
        ("limits.sessions_max", "1000001", "too large"),
        ("limits.sessions_max", "\"all\"", "no whole number"),
        ("limits.session_queue", "33554432", "has no unit"),
        ("limits.session_queue", "\"32MB\"", "KiB, MiB and GiB"),
        ("limits.session_queue", "\"255KiB\"", "too small"),
        ("limits.session_queue", "\"2GiB\"", "too large"),
        ("limits.shard_queue", "\"1023KiB\"", "too small"),
        ("limits.shard_queue", "true", "not text"),
        ("limits.receive_memory", "\"7MiB\"", "too small"),
        ("limits.receive_memory", "\"9GiB\"", "too large"),
    ] {
        let error = apply(path, text).unwrap_err();
        assert!(error.contains(part), "{path} = {text}: {error}");
    }
}

#[test]
fn proxies_are_named_by_their_addresses() {
    for (text, part) in [
        ("\"on\"", "no IP address and no prefix"),
        ("true", "no list"),
        ("[7]", "bare number"),
        ("[\"haproxy.example\"]", "no IP address"),
        ("[\"10.0.0.0/33\"]", "too large"),
        ("[\"10.0.0.0/-1\"]", "length of the prefix"),
        ("[\"10.0.0.0/x\"]", "length of the prefix"),
        ("[\"10.0.0.1/8\"]", "bits behind its prefix"),
        ("[\"::1/64\"]", "bits behind its prefix"),
    ] {
        let error = apply("dmsg.proxy_protocol", text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    let many = vec!["\"10.0.0.1\""; 257].join(", ");
    let error = apply("dmsg.proxy_protocol", &format!("[{many}]")).unwrap_err();
    assert!(error.contains("257 proxies are too many"), "{error}");
    let proxies = |text| apply("dmsg.proxy_protocol", text).unwrap().dmsg.proxies;
    let [first, second] = ["10.0.0.0", "2001:db8::1"].map(|text| text.parse().unwrap());
    let listed = [Prefix::new(first, 8), Prefix::new(second, 128)].map(Option::unwrap);
    for text in [
        "[\"10.0.0.0/8\", \"2001:db8::1\"]",
        "\"10.0.0.0/8, 2001:db8::1/128\"",
    ] {
        assert_eq!(proxies(text), Proxies::Listed(listed.to_vec()), "{text}");
    }
    assert_eq!(proxies("\"all\""), Proxies::All);
    assert_eq!(proxies("[]"), Proxies::NONE);
}

#[test]
fn right_values_arrive() {
    assert_eq!(apply("cores", "\"0,1\"").unwrap().cores, Some(vec![0, 1]));
    assert_eq!(apply("cores", "3").unwrap().cores, Some(vec![3]));
    assert_eq!(apply("admin.listen", "\"off\"").unwrap().admin_listen, None);
    assert_eq!(apply("shards", "2").unwrap().shards, Some(2));
    for placement in Placement::ALL {
        let text = format!("\"{}\"", placement.name());
        assert_eq!(apply("placement", &text).unwrap().placement, placement);
    }
    assert_eq!(
        apply("tcp.congestion", "\"bbr\"").unwrap().congestion,
        Congestion::Named("bbr".into())
    );
    let config = apply("ports.sources", "\"127.0.0.1, ::1\"").unwrap();
    let texts: Vec<String> = config.port_sources.iter().map(IpAddr::to_string).collect();
    assert_eq!(texts, ["127.0.0.1", "::1"]);
    let config = apply("ports.range", "\"20000-59999\"").unwrap();
    assert_eq!(config.port_range, Some((20_000, 59_999)));
    assert_eq!(apply("ports.range", "\"auto\"").unwrap().port_range, None);
    assert_eq!(
        apply("limits.sessions_max", "7").unwrap().sessions_max,
        Some(7)
    );
    let queue = apply("limits.session_queue", "\"256KiB\"").unwrap();
    assert_eq!(queue.session_queue_bytes_max, 262_144);
    let queue = apply("limits.shard_queue", "\"2GiB\"").unwrap();
    assert_eq!(queue.shard_queue_bytes_max, 2 << 30);
    let receive = apply("limits.receive_memory", "\"8MiB\"").unwrap();
    assert_eq!(receive.receive_bytes_max, 8 << 20);
    let spin = apply("poll.spin", "\"0us\"").unwrap().spin;
    assert_eq!(spin, Duration::ZERO);
    let zero_copy = |text| apply("tcp.zero_copy", text).unwrap().zero_copy_min;
    assert_eq!(zero_copy("\"16KiB\""), Some(16_384));
    assert_eq!(zero_copy("\"off\""), None);
    let napi = |text| apply("poll.napi", text).unwrap().napi;
    assert_eq!(napi("\"50us\""), Some(Duration::from_micros(50)));
    assert_eq!(napi("\"off\""), None);
}
