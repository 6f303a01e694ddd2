//! The committed corpora of the fuzz targets, run as ordinary tests.
//!
//! Here: every input that fuzzing found worth keeping, those of fixed bugs among them, on the pinned
//! compiler. Not here: new inputs, which need a nightly compiler (`fuzz/smoke`).

use ringway_fuzz::{TARGETS, Target, canary, corpus};

fn holds(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("a target of the table");
    let count = corpus::replay(*target, &corpus::folder(name));
    assert!(count.as_ref().is_ok_and(|count| *count > 0), "{count:?}");
}

#[test]
fn committed_frames_hold() {
    holds("frame");
}

#[test]
fn committed_headers_of_proxies_hold() {
    holds("proxy_header");
}

#[test]
fn committed_open_objects_hold() {
    holds("open_objects");
}

#[test]
fn committed_handshakes_hold() {
    holds("handshake");
}

#[test]
fn committed_entries_of_dmsg_hold() {
    holds("dmsg_entry");
}

#[test]
fn committed_gobs_hold() {
    holds("dmsg_gob");
}

#[test]
fn committed_open_objects_of_the_dmsg_dialect_hold() {
    holds("dmsg_open");
}

#[test]
fn committed_handshakes_of_the_dmsg_dialect_hold() {
    holds("dmsg_handshake");
}

#[test]
fn committed_objects_and_records_of_the_dmsg_dialect_hold() {
    holds("dmsg_sealed");
}

#[test]
fn committed_records_hold() {
    holds("record");
}

#[test]
fn committed_routes_hold() {
    holds("route");
}

#[test]
fn committed_sealed_objects_hold() {
    holds("sealed");
}

#[cfg(feature = "config")]
#[test]
fn committed_configurations_hold() {
    holds("config");
}

#[test]
fn committed_sessions_with_hostile_relays_hold() {
    holds("peer_session");
}

#[test]
fn committed_sessions_with_hostile_relays_of_the_dmsg_dialect_hold() {
    holds("dmsg_peer");
}

#[test]
fn committed_runs_of_the_shard_core_hold() {
    holds("shard_core");
}

#[cfg(feature = "config")]
#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let root = corpus::folder("");
    let mut folders: Vec<String> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(folders, names);
}

#[test]
fn an_input_that_fails_is_named() {
    let target = Target {
        name: "canary",
        run: canary::run,
    };
    let path = std::env::temp_dir().join(format!("ringway-canary-{}", std::process::id()));
    // A data frame with FIN, a window update.
    let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0];
    bytes.extend([0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9]);
    std::fs::write(&path, &bytes).unwrap();
    let wrong = corpus::replay(target, &path);
    std::fs::write(&path, &bytes[..12]).unwrap();
    let right = corpus::replay(target, &path);
    std::fs::remove_file(&path).unwrap();
    let problem = wrong.expect_err("the canary lives");
    assert!(problem.contains(path.to_str().unwrap()), "{problem}");
    assert_eq!(right, Ok(1));
}
