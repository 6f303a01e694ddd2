//! What a start says about a host that is not as the relay needs it, and when it refuses.

use std::net::TcpListener;
use std::process::Command;

use crate::support::{Finished, Running, ringway};

/// A name that no kernel has an algorithm of.
const IMPOSSIBLE: &str = "tcp.congestion=nosuch";

fn serve(state: &std::path::Path, listen: &str, further: &[&str]) -> Command {
    let fixed = [
        "serve",
        "--listen",
        listen,
        "--admin",
        "127.0.0.1:0",
        "--shards",
        "1",
    ];
    ringway(state, &[&fixed, further].concat())
}

/// Starts a relay on a port that the kernel also gives to outgoing connections, which is worth a warning on
/// every host, and ends it again.
fn started(further: &[&str]) -> Finished {
    let state = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap().to_string();
    drop(free);
    let mut relay = Running::start(&mut serve(state.path(), &listen, further));
    let first = relay.line();
    assert!(first.starts_with("listening  "), "{first}");
    relay.signal("TERM");
    relay.finish()
}

/// Runs a relay that cannot start to its end.
fn refused(command: &mut Command) -> Finished {
    let refused = Finished::from(command.output().unwrap());
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert_eq!(refused.out, "");
    refused
}

#[test]
fn by_default_a_warning_is_said_and_the_relay_starts() {
    for mode in [&[][..], &["--preflight", "warn"]] {
        let relay = started(mode);
        assert_eq!(relay.code, Some(0), "{}", relay.err);
        assert!(
            relay.err.contains("ringway: WARN port_range"),
            "{}",
            relay.err
        );
        // What only the machine could do better is left to the other command.
        let told = relay.err.lines().filter(|line| line.contains(" swap: "));
        assert_eq!(told.count(), 0, "{}", relay.err);
    }
}

#[test]
fn off_says_nothing() {
    let relay = started(&["--preflight", "off"]);
    assert_eq!((relay.code, relay.err.as_str()), (Some(0), ""));
}

#[test]
fn strict_starts_where_nothing_fails() {
    let relay = started(&["--preflight", "strict"]);
    assert_eq!(relay.code, Some(0), "{}", relay.err);
    assert!(relay.err.contains("WARN port_range"), "{}", relay.err);
}

#[test]
fn strict_refuses_with_every_failed_check_and_its_fix() {
    let state = tempfile::tempdir().unwrap();
    let further = [
        "--preflight",
        "strict",
        "--set",
        IMPOSSIBLE,
        "--set",
        "limits.sessions_max=300",
    ];
    let inner = serve(state.path(), "127.0.0.1:0", &further);
    let mut command = Command::new("sh");
    command
        .env_clear()
        .env("XDG_STATE_HOME", state.path())
        .args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args());
    let err = refused(&mut command).err;
    for part in [
        "this host fails 2 checks, and preflight is strict:",
        "FAIL nofile: 256 open files, needs 301",
        "LimitNOFILE=301",
        "FAIL congestion: ",
        "modprobe tcp_nosuch",
        "start with --preflight warn",
    ] {
        assert!(err.contains(part), "{part} in {err}");
    }
}

#[test]
fn strict_is_a_setting_too_and_refuses_before_a_socket_is_opened() {
    let state = tempfile::tempdir().unwrap();
    // An admin address that is taken would be the first thing to fail.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("admin.listen={}", taken.local_addr().unwrap());
    let further = ["--set", "preflight=strict", "--set", IMPOSSIBLE];
    let mut command = ringway(
        state.path(),
        &[
            &["serve", "--listen", "127.0.0.1:0", "--set", &admin],
            &further[..],
        ]
        .concat(),
    );
    let err = refused(&mut command).err;
    assert!(err.contains("this host fails 1 check"), "{err}");
    assert!(!err.contains("is in use"), "{err}");
}

#[test]
fn warn_says_what_fails_and_tries() {
    let state = tempfile::tempdir().unwrap();
    let further = ["--set", IMPOSSIBLE];
    let err = refused(&mut serve(state.path(), "127.0.0.1:0", &further)).err;
    assert!(err.contains("ringway: FAIL congestion: "), "{err}");
    assert!(!err.contains("preflight is strict"), "{err}");
}
