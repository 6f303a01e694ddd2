//! The program with relays of the dmsg dialect: flags, exit status, documents.
//!
//! Here: the built program against a relay in this process. Not here: what runs find (`relay/dmsg`), servers
//! that misbehave (`relay/rogue`).

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;

use ringway_proto::dmsg::handshake::Identity;
use ringway_proto::dmsg::key;
use ringway_proto::handshake::RelayIdentity;
use ringway_proto::key::SecretKey;
use ringway_shards::set::{DmsgConfig, ShardSet, ShardSetConfig};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringway-loadgen");

/// Runs the program to its end; the machine may be busy, so that lag is none of our business.
fn call(line: &str) -> Output {
    let mut program = Command::new(PROGRAM);
    program.args(line.split_ascii_whitespace());
    program.args(["--lag-max", "1000000"]);
    program.output().expect("the program starts")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts a relay of both dialects; returns its addresses, native and dmsg.
fn relay() -> (ShardSet, [String; 2]) {
    let secret = SecretKey::from_seed([7; 32]);
    let theirs = key::SecretKey::from_bytes([7; 32]).expect("below the order of the curve");
    let identity = Arc::new(Identity::new(theirs));
    let set = ShardSet::launch(&ShardSetConfig {
        shards_count: 2,
        dmsg: Some(DmsgConfig::new(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            Arc::clone(&identity),
        )),
        ..ShardSetConfig::new(Arc::new(RelayIdentity::new(&secret))).with_sockets(1_023)
    })
    .expect("a relay on a free port");
    let socket = set.dmsg_address().expect("it speaks dmsg");
    let native = format!("{}@{}", secret.public(), set.address());
    let dmsg = format!("{}@{socket}", identity.public());
    (set, [native, dmsg])
}

fn ends_clean(set: ShardSet) {
    for snapshot in set.shutdown() {
        assert!(snapshot.audit.is_zero(), "{:?}", snapshot.audit);
    }
}

#[test]
fn documents_of_all_processes_name_the_dialect_and_what_streams_carried() {
    let (set, [_, relay]) = relay();
    for (run, payload) in [
        ("steady --sessions 8 --streams 2 --verify", "sealed"),
        (
            "steady --sessions 8 --verify --raw --dialect dmsg",
            "opaque",
        ),
        ("opens --sessions 8", "sealed"),
        ("opens --sessions 8 --raw", "opaque"),
        ("opens --sessions 8 --raw --to nobody", "opaque"),
        ("handshakes --concurrency 4 --ping-after 1ms", "opaque"),
    ] {
        let output = call(&format!(
            "{run} --relay {relay} --duration 300ms --processes 2 --json -"
        ));
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(document["verdict"], "good", "{run}: {document}");
        assert_eq!(document["dialect"], "dmsg", "{run}");
        assert_eq!(document["plan"]["payload"], payload, "{run}");
        let waits = document["plan"]["dmsg"]["ping_after_seconds"].as_f64();
        assert_eq!(waits, Some(if run.contains("1ms") { 0.001 } else { 0.0 }));
        let done = ["rounds", "messages"].map(|name| document["counts"][name].as_u64());
        assert!(done.iter().flatten().sum::<u64>() > 0, "{run}: {document}");
    }
    ends_clean(set);
}

#[test]
fn one_line_tells_the_dialect() {
    let (set, relays) = relay();
    for (relay, dialect) in relays.iter().zip(["native", "dmsg"]) {
        let output = call(&format!(
            "idle --relay {relay} --sessions 2 --duration 50ms"
        ));
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        let start = format!("scenario=idle dialect={dialect} verdict=good ");
        assert!(line.starts_with(&start), "{line}");
    }
    ends_clean(set);
}

#[test]
fn what_cannot_be_in_the_dialect_is_refused_before_anything_is_connected() {
    // Nobody listens there.
    let native = format!("{}@127.7.7.7:1", "3b".repeat(32));
    let dmsg = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.7.7.7:1";
    for (line, words) in [
        (
            format!("idle --relay {native} --dialect dmsg"),
            "--dialect dmsg: the key of --relay is one of the native dialect (64 digits)",
        ),
        (
            format!("opens --relay {dmsg} --dialect native"),
            "--dialect native: the key of --relay is one of the dmsg dialect (66 digits)",
        ),
        (
            format!("setups --relay {dmsg}"),
            "setups in the dmsg dialect",
        ),
        (format!("evict --relay {dmsg}"), "evict in the dmsg dialect"),
        (
            format!("steady --relay {dmsg} --far {dmsg}"),
            "--far in the dmsg dialect",
        ),
        (
            format!("steady --relay {dmsg} --window 524288"),
            "--window 524288 in the dmsg dialect",
        ),
        (
            format!("steady --relay {dmsg} --message-size 4071"),
            "at most 4070 bytes",
        ),
        (
            "idle --tcp 127.7.7.7:1 --dialect dmsg".to_owned(),
            "plain connections have none",
        ),
        (
            format!("idle --relay 02{}@127.7.7.7:1", "00".repeat(32)),
            "no public key",
        ),
    ] {
        let output = call(&line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        let said = errors(&output);
        assert!(said.contains(words), "{line}: {said}");
    }
}
