//! Clients of the dmsg dialect against a real relay: a Go program on the libraries of the Go implementation.

use std::path::Path;
use std::process::Command;

use crate::mesh::get;
use crate::support::{Relay, Running, ringway, run};

/// Where Debian keeps the sources of Go libraries.
const GO_PATH: &str = "/usr/share/gocode";

/// What the program stands on.
const LIBRARIES: [&str; 3] = [
    "github.com/btcsuite/btcd/btcec",
    "github.com/flynn/noise",
    "github.com/hashicorp/yamux",
];

/// Builds the program into `directory`; `None`, and a line that says why, where Go or its libraries are
/// missing.
fn built(directory: &Path) -> Option<Command> {
    let has_go = Command::new("go").arg("version").output().is_ok();
    let missing = LIBRARIES
        .into_iter()
        .find(|library| !Path::new(GO_PATH).join("src").join(library).is_dir());
    if !has_go || missing.is_some() {
        println!(
            "skipped: no Go with {}; on Debian: apt-get install golang-go golang-github-btcsuite-btcd-btcec-dev \
             golang-github-flynn-noise-dev golang-github-hashicorp-yamux-dev",
            missing.unwrap_or("its libraries")
        );
        return None;
    }
    let program = directory.join("dmsg");
    let status = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dmsg_go"))
        .env("GO111MODULE", "off")
        .env("GOPATH", GO_PATH)
        .env("GOFLAGS", "")
        .env("GOCACHE", directory.join("cache"))
        .status();
    assert!(status.unwrap().success(), "the program builds");
    Some(Command::new(program))
}

/// Starts a relay with a listener of the dialect; returns it with the dialect's key and address.
fn relay(shards: &str) -> (Relay, String, String) {
    relay_with(shards, &[])
}

fn relay_with(shards: &str, further: &[&str]) -> (Relay, String, String) {
    let dmsg = [&["--set", "dmsg.listen=127.0.0.1:0"], further].concat();
    let mut relay = Relay::start_at("127.0.0.1:0", shards, &dmsg);
    let line = relay.process.line();
    let name = line.strip_prefix("dmsg").expect("the fifth line").trim();
    let (key, address) = name.split_once('@').unwrap();
    (relay, key.to_owned(), address.to_owned())
}

/// Runs the program, which must end well and have done these steps.
fn check_steps(program: &mut Command, steps: &[&str]) {
    let output = program.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let expected: String = steps.iter().map(|step| format!("ok {step}\n")).collect();
    assert_eq!(said, expected);
}

/// What `ringway status` says of a relay.
fn status(relay: &Relay) -> String {
    let shown = run(relay.state.path(), &["status", "--admin", &relay.admin]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    shown.out
}

#[test]
fn go_clients_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut program) = built(directory.path()) else {
        return;
    };
    for shards in ["1", "2"] {
        let (relay, key, address) = relay(shards);
        let steps = [
            "session",
            "address",
            "stream",
            "refusals",
            "many",
            "newest",
            "nothing left",
        ];
        check_steps(program.args([&key, &address]), &steps);
        let metrics = get(&relay.admin, "/metrics");
        let opened = metrics
            .lines()
            .filter(|line| line.starts_with("ringway_dialect_sessions_opened_total"))
            .filter(|line| line.contains("dialect=\"dmsg\""))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        assert_eq!(opened.sum::<u64>(), 3);
        let shown = status(&relay);
        assert!(
            shown.contains(&format!("dmsg    {key}, in no discovery")),
            "{shown}"
        );
        program = Command::new(directory.path().join("dmsg"));
        let ended = relay.end();
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
}

#[test]
fn go_visors_have_their_routes_set_up() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut program) = built(directory.path()) else {
        return;
    };
    for shards in ["1", "2"] {
        let (relay, key, address) = relay(shards);
        let steps = ["health", "route", "refused routes"];
        check_steps(program.args([&key, &address, "routes"]), &steps);
        let metrics = get(&relay.admin, "/metrics");
        for expected in [
            "ringway_setups_received_total 6",
            "ringway_setups_done_total 1",
            "ringway_setups_current 0",
            "ringway_setups_undone_blindly_total 0",
            "ringway_setup_streams_broken_total 1",
            "ringway_setups_refused_total{reason=\"bad_route\"} 3",
        ] {
            assert!(metrics.contains(expected), "{expected}\n{metrics}");
        }
        program = Command::new(directory.path().join("dmsg"));
        let ended = relay.end();
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
}

#[test]
fn clients_of_two_relays_find_each_other_by_a_discovery() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut program) = built(directory.path()) else {
        return;
    };
    let store = format!("embedded:{}", directory.path().join("entries").display());
    let arguments = [
        "dmsg-discovery",
        "--listen",
        "127.0.0.1:0",
        "--allow-loopback",
        "--store",
        &store,
    ];
    let mut discovery = Running::start(&mut ringway(directory.path(), &arguments));
    let line = discovery.line();
    let url = line.split_whitespace().last().unwrap().to_owned();
    let named = format!("dmsg.discovery={url}");
    let further = ["--set", &named, "--set", "dmsg.allowed=all"];
    let (first, first_key, first_at) = relay_with("1", &further);
    let (second, second_key, second_at) = relay_with("2", &further);
    let steps = [
        "across",
        "health",
        "route",
        "refused routes",
        "nothing left",
    ];
    program.args([&first_key, &first_at, &second_key, &second_at, &url]);
    check_steps(&mut program, &steps);
    // The first one reads its list again ten seconds after its start.
    for (relay, key, rest) in [
        (&first, &first_key, "which name "),
        (&second, &second_key, "which name 1 other servers"),
    ] {
        let shown = status(relay);
        let expected = format!("dmsg    {key}, in 1 of 1 discoveries, {rest}");
        assert!(shown.contains(&expected), "{shown}");
    }
    assert_eq!(first.end().code, Some(0));
    assert_eq!(second.end().code, Some(0));
    discovery.signal("TERM");
    let ended = discovery.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

#[test]
fn key_of_the_dialect_is_made_once_and_kept() {
    let (relay, key, _) = relay("1");
    let file = relay.state.path().join("ringway/dmsg.key");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(&format!("# Public key: {key}")));
    let shown = run(
        relay.state.path(),
        &[
            "keygen",
            "--dialect",
            "dmsg",
            "--show",
            file.to_str().unwrap(),
        ],
    );
    assert_eq!((shown.code, shown.out.trim()), (Some(0), key.as_str()));
    // The same file is no native key.
    let native = run(
        relay.state.path(),
        &["keygen", "--show", file.to_str().unwrap()],
    );
    assert_eq!(native.code, Some(1));
    assert!(native.err.contains("dialect"), "{}", native.err);
    assert_eq!(relay.end().code, Some(0));
}
