//! What a host allows a relay, and what its sessions cost it.

use std::fs;
use std::process::Command;

use ringway_client::{Client, Config, RelayAddress, SecretKey};

use crate::support::{PATIENCE, Relay, Running, ringway, run};

/// Returns a command like `ringway` whose process may have `files` open files.
fn limited(state: &std::path::Path, files: u32, arguments: &[&str]) -> Command {
    let inner = ringway(state, arguments);
    let mut command = Command::new("sh");
    command
        .env_clear()
        .env("XDG_STATE_HOME", state)
        .stdin(std::process::Stdio::null())
        .arg("-c")
        // The shell becomes the relay, so that its process id is the relay's.
        .arg(format!("ulimit -n {files} && exec \"$0\" \"$@\""))
        .arg(inner.get_program())
        .args(inner.get_args());
    command
}

const SERVE: [&str; 7] = [
    "serve",
    "--listen",
    "127.0.0.1:0",
    "--admin",
    "127.0.0.1:0",
    "--shards",
    "2",
];

#[test]
fn relay_with_few_open_files_serves_fewer_sessions_and_says_so() {
    let state = tempfile::tempdir().unwrap();
    let mut process = Running::start(&mut limited(state.path(), 256, &SERVE));
    let lines: [String; 4] = std::array::from_fn(|_| process.line());
    assert!(
        lines[3].starts_with(
            "capacity   446 sessions (2 shards x 223; stopped by the open-files limit, 256 a ring), up to "
        ),
        "{}",
        lines[3]
    );
    assert!(
        lines[3].ends_with(" of memory if all queues fill"),
        "{}",
        lines[3]
    );
    let admin = lines[0].split_once("http://").unwrap().1;
    let json = run(state.path(), &["status", "--admin", admin, "--json"]);
    assert_eq!(json.code, Some(0), "{}", json.err);
    let health: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(health["limits"]["shard_sessions_max"], 223);
    assert_eq!(
        format!(
            "capacity   {}",
            health["limits"]["capacity"].as_str().unwrap()
        ),
        lines[3]
    );
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

#[test]
fn more_sessions_than_the_host_allows_are_refused_with_the_fix() {
    let state = tempfile::tempdir().unwrap();
    let mut arguments = SERVE.to_vec();
    arguments.extend(["--set", "limits.sessions_max=256"]);
    let refused = limited(state.path(), 256, &arguments).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let err = String::from_utf8(refused.stderr).unwrap();
    for part in [
        "limits.sessions_max is 256 sessions a shard",
        "open-files limit of 256 allows 254",
        "LimitNOFILE=258",
        "\"auto\"",
    ] {
        assert!(err.contains(part), "{part} in {err}");
    }
    assert_eq!(err.lines().count(), 1, "{err}");
    assert_eq!(refused.stdout, b"");
}

#[test]
fn check_config_says_what_this_host_allows() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("relay.toml");
    fs::write(&file, "shards = 1\n").unwrap();
    let name = file.to_str().unwrap();
    let checked = limited(state.path(), 300, &["check-config", name])
        .output()
        .unwrap();
    let out = String::from_utf8(checked.stdout).unwrap();
    assert!(
        out.contains("capacity   261 sessions (1 shard x 261; stopped by the open-files limit"),
        "{out}"
    );
    fs::write(&file, "shards = 1\n[limits]\nsessions_max = 300\n").unwrap();
    let refused = limited(state.path(), 300, &["check-config", name])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn queue_limits_reach_the_relay() {
    let relay = Relay::start(&[
        "--set",
        "limits.session_queue=1MiB",
        "--set",
        "limits.shard_queue=2MiB",
        "--set",
        "limits.receive_memory=8MiB",
        "--set",
        "limits.shard_streams_max=10000",
    ]);
    let json = run(
        relay.state.path(),
        &["status", "--admin", &relay.admin, "--json"],
    );
    let health: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let limits = &health["limits"];
    assert_eq!(limits["session_queue_bytes_max"], 1 << 20);
    assert_eq!(limits["shard_queue_bytes_max"], 2 << 20);
    assert_eq!(limits["shard_receive_bytes_max"], 8 << 20);
    assert_eq!(limits["shard_streams_max"], 10_000);
    // 1 GiB of queues, 300 MB of streams and 248 MiB of receive memory less than by default.
    assert!(limits["memory_bytes_max"].as_u64().unwrap() < 128 << 20);
}

/// Sockets live in the rings' tables of direct descriptors alone, and an idle session stays under its
/// bound of memory. Both are read from outside, with sessions of another process.
#[test]
fn sessions_take_no_descriptor_and_little_memory() {
    let relay = Relay::start(&["--set", "limits.sessions_max=4000"]);
    let address: RelayAddress = relay.name.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let pid = relay.process.pid();
    let mut clients = Vec::new();
    let mut connect = |count: u32| {
        for _ in 0..count {
            let mut seed = [3; 32];
            seed[..8].copy_from_slice(&u64::try_from(clients.len()).unwrap().to_be_bytes());
            let secret = SecretKey::from_seed(seed);
            let connected = runtime.block_on(async {
                tokio::time::timeout(PATIENCE, Client::connect(secret, Config::new([address])))
                    .await
                    .unwrap()
            });
            clients.push(connected.unwrap());
        }
        (descriptors(pid), resident_bytes(pid))
    };
    // The first sessions pay for pools and tables that the next ones use too.
    let (files_before, memory_before) = connect(600);
    let (files_after, memory_after) = connect(1_200);
    assert_eq!(files_before, files_after, "descriptors of the process");
    assert!(files_after < 60, "{files_after} descriptors");
    let each = memory_after.saturating_sub(memory_before) / 1_200;
    assert!(
        each <= ringway_shards::memory::IDLE_SESSION_BYTES_MAX,
        "{each} bytes of the process for an idle session"
    );
    let json = run(
        relay.state.path(),
        &["status", "--admin", &relay.admin, "--json"],
    );
    let health: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(health["shards"][0]["audit"]["descriptors"], 1_800);
    assert_eq!(health["consistency"]["ok"], true);
    drop(clients);
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Source: `proc_pid_statm(5)`, second number, pages of 4 KiB.
fn resident_bytes(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4_096
}
