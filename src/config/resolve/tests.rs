//! Layers, their origins, and what is wrong.

use std::collections::HashMap;

use ringway_shards::set::AllowedRelays;

use super::*;

fn resolve_text(
    file: &str,
    env: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, String> {
    resolve_within(None, file, env, flags).map(|resolved| resolved.config)
}

fn resolve_within(
    deployment: Option<Deployment>,
    file: &str,
    env: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Resolved, String> {
    let mut resolver = Resolver::new(deployment);
    resolver.file(Path::new("relay.toml"), file.as_bytes());
    let env: HashMap<&str, &str> = env.iter().copied().collect();
    for key in KEYS {
        if let Some(text) = env.get(key.variable().as_str()) {
            resolver.variable(key.variable(), key.path, &text.into());
        }
    }
    for (key, text) in flags {
        resolver.set(Origin::Flag("--flag".to_owned()), key, scalar(text));
    }
    resolver.finish().map_err(|problems| problems.to_string())
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = "shards = 2\n[tcp]\nbacklog = 10\n[limits]\nstreams_max = 1";
    let env = [
        ("RINGWAY_TCP_BACKLOG", "20"),
        ("RINGWAY_LIMITS_STREAMS_MAX", "2"),
    ];
    let config = resolve_text(file, &env, &[("limits.streams_max", "3")]).unwrap();
    assert_eq!(config.shards, Some(2));
    assert_eq!(config.backlog, 20);
    assert_eq!(config.streams_max, 3);
    assert_eq!(config.listen, super::super::LISTEN_DEFAULT);
}

#[test]
fn all_problems_are_reported_together() {
    let file = "lisen = \"x\"\nshards = 0\n[drain]\ntimeout = 5\n[bogus]\nx = 1";
    let env = [("RINGWAY_TCP_BACKLOG", "70000")];
    let error = resolve_text(file, &env, &[("cores", "0,0")]).unwrap_err();
    assert!(
        error.starts_with("the configuration has 6 problems\n"),
        "{error}"
    );
    for part in [
        "lisen (relay.toml:1): is no key; did you mean listen?",
        "shards (relay.toml:2): 0 is too small; accepted: \"auto\" or 1 to 256",
        "drain.timeout (relay.toml:4): 5 has no unit; write for example \"5s\"; accepted:",
        "bogus.x (relay.toml:6): is no key; the keys are listen, ",
        "tcp.backlog (RINGWAY_TCP_BACKLOG): 70000 is too large; accepted: 1 to 65535",
        "cores (--flag): core 0 stands there twice",
    ] {
        assert!(error.contains(part), "{part}\nin\n{error}");
    }
}

#[test]
fn one_broken_line_is_one_problem() {
    let error = resolve_text("shards = = 1", &[], &[]).unwrap_err();
    assert!(
        error.contains("1 problem\n  file (relay.toml): no valid TOML: line 1"),
        "{error}"
    );
}

#[test]
fn pairs_of_keys_are_checked() {
    let error = resolve_text(
        "listen = \"127.0.0.1:7180\"\nshards = 2\ncores = [0]\n[limits]\nshard_queue = \"16MiB\"",
        &[],
        &[],
    )
    .unwrap_err();
    assert!(
        error.contains("admin.listen (with listen): is 127.0.0.1:7180"),
        "{error}"
    );
    assert!(
        error.contains("cores (with shards): names 1 for 2 shards"),
        "{error}"
    );
    assert!(
        error.contains(
            "limits.session_queue (with limits.shard_queue): 32MiB for one session is more than the \
             16MiB for all of them"
        ),
        "{error}"
    );
    // The range holds two ports, and one of them is the relay's own.
    let error = resolve_text("shards = 2\n[ports]\nrange = \"7099-7100\"", &[], &[]).unwrap_err();
    assert!(
        error.contains("ports.range (with shards): leaves 1 ports for 2 shards"),
        "{error}"
    );
    assert!(resolve_text("shards = 1\n[ports]\nrange = \"7099-7100\"", &[], &[]).is_ok());
}

#[test]
fn stuck_send_is_looked_at_before_its_peer_is_given_up() {
    let stall = |file| resolve_text(file, &[], &[]).unwrap().timeouts.send_stall;
    let seconds = std::time::Duration::from_secs;
    assert_eq!(stall(""), seconds(30));
    assert_eq!(stall("[limits]\nkeepalive = \"5s\""), seconds(15));
    assert_eq!(stall("[timeouts]\nsend_stall = \"10m\""), seconds(90));
    let both = "[limits]\nkeepalive = \"1m\"\n[timeouts]\nsend_stall = \"2m\"";
    assert_eq!(stall(both), seconds(120));
}

#[test]
fn distance_counts_changes() {
    assert_eq!(distance("listen", "listen"), 0);
    assert_eq!(distance("lisen", "listen"), 1);
    assert_eq!(distance("", "abc"), 3);
    assert_eq!(distance("tcp.backlok", "tcp.backlog"), 1);
}

fn key(digit: char) -> String {
    std::iter::repeat_n(digit, 64).collect()
}

fn lab() -> Deployment {
    let (a, b) = (key('a'), key('b'));
    let json = format!(r#"{{"name": "lab", "relays": ["{a}@a:1", "{b}@b:1"]}}"#);
    Deployment::find(None, Some(json.into())).unwrap().unwrap()
}

fn origin_of(resolved: &Resolved, path: &str) -> String {
    let mut values = resolved.values.iter();
    let one = values.find(|one| one.key.path == path).unwrap();
    one.from()
}

#[test]
fn every_layer_hides_those_below_and_says_where_it_stands() {
    let a = format!("{}@a:1", key('a'));
    let file = format!("shards = 2\n[mesh]\nlinks_max = 5\nrelays = [\"{a}\"]");
    let env = [("RINGWAY_MESH_LINKS_MAX", "6"), ("RINGWAY_SHARDS", "3")];
    let relays = |resolved: &Resolved| resolved.config.relays.len();
    let nothing = resolve_within(Some(lab()), "", &[], &[]).unwrap();
    assert_eq!(relays(&nothing), 2);
    let from = origin_of(&nothing, "mesh.relays");
    assert_eq!(from, "deployment lab (RINGWAY_DEPLOY)");
    assert_eq!(origin_of(&nothing, "mesh.allowed"), "default");
    let all = resolve_within(Some(lab()), &file, &env, &[("shards", "4")]).unwrap();
    assert_eq!(relays(&all), 1);
    assert_eq!(origin_of(&all, "mesh.relays"), "file relay.toml:4");
    assert_eq!(all.config.links_max, 6);
    let from = origin_of(&all, "mesh.links_max");
    assert_eq!(from, "environment RINGWAY_MESH_LINKS_MAX");
    assert_eq!(all.config.shards, Some(4));
    assert_eq!(origin_of(&all, "shards"), "flag --flag");
    assert_eq!(origin_of(&all, "listen"), "default");
}

#[test]
fn fence_holds_against_every_layer() {
    let outside = format!("{}@c:1", key('c'));
    let file = format!("[mesh]\nrelays = [\"{outside}\"]\nallowed = \"all\"");
    let env = [("RINGWAY_MESH_RELAYS", outside.as_str())];
    let flags = [("mesh.relays", outside.as_str())];
    let error = resolve_within(Some(lab()), &file, &env, &flags).unwrap_err();
    for part in [
        "has 4 problems",
        "mesh.relays (relay.toml:2): cccc",
        "mesh.relays (RINGWAY_MESH_RELAYS): cccc",
        "mesh.relays (--flag): cccc",
        "c@c:1 is not in the deployment lab (RINGWAY_DEPLOY), and nothing outside it is contacted",
        "mesh.allowed (relay.toml:3): \"all\" is more than the deployment lab",
    ] {
        assert!(error.contains(part), "{part}\nin\n{error}");
    }
    assert!(resolve_within(None, &file, &env, &flags).is_ok());
}

#[test]
fn registry_finds_no_relay_outside_of_the_deployment() {
    let all = [("mesh.allowed", "all")];
    let free = resolve_within(None, "", &[], &all).unwrap();
    assert_eq!(free.config_of_registry(), free.config);
    let (a, b) = (key('a'), key('b'));
    let json = format!(
        r#"{{"name": "x", "relays": ["{a}@a:1", "{b}@b:1"], "keys": {{"allowed_relays": "all"}}}}"#
    );
    let deployment = Deployment::find(None, Some(json.into())).unwrap();
    let fenced = resolve_within(deployment, "", &[], &all).unwrap();
    assert_eq!(fenced.config.allowed_relays, AllowedRelays::All);
    let keys = [a.parse().unwrap(), b.parse().unwrap()].into();
    let allowed = fenced.config_of_registry().allowed_relays;
    assert_eq!(allowed, AllowedRelays::Listed(keys));
    let redis = [("mesh.registry", "redis://me:secret@c:1")];
    let error = resolve_within(Some(lab()), "", &[], &redis).unwrap_err();
    assert!(
        error.contains("mesh.registry (--flag): redis://***@c:1 is not"),
        "{error}"
    );
}

#[test]
fn relay_of_a_deployment_leaves_itself_out() {
    let own = key('a').parse().unwrap();
    let mut resolved = resolve_within(Some(lab()), "", &[], &[]).unwrap();
    resolved.leave_out(own);
    let left: Vec<String> = resolved
        .config
        .relays
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(left, [format!("{}@b:1", key('b'))]);
    let from = origin_of(&resolved, "mesh.relays");
    assert!(from.ends_with(", without this relay itself"), "{from}");
    let shown = resolved
        .values
        .iter()
        .find(|one| one.key.path == "mesh.relays");
    assert_eq!(
        shown.unwrap().text(),
        Some(format!("[\"{}@b:1\"]", key('b')))
    );
    // Without a deployment it is a mistake that somebody should hear of.
    let file = format!("[mesh]\nrelays = [\"{}@a:1\"]", key('a'));
    let mut resolved = resolve_within(None, &file, &[], &[]).unwrap();
    resolved.leave_out(own);
    assert_eq!(resolved.config.relays.len(), 1);
}

#[test]
fn value_that_was_held_down_says_so() {
    let file = "[limits]\nkeepalive = \"5s\"";
    let resolved = resolve_within(None, file, &[], &[]).unwrap();
    let mut values = resolved.values.iter();
    let one = values
        .find(|one| one.key.path == "timeouts.send_stall")
        .unwrap();
    assert_eq!(one.text().as_deref(), Some("\"15s\""));
    assert_eq!(one.from(), "default, held to three times limits.keepalive");
}
