//! Deployments: what is outside of one is not contacted; what is in force, and where it comes from.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Finished, PATIENCE, Relay, Running, ringway, run};

/// A directory with a deployment in it.
struct Lab {
    directory: TempDir,
    file: PathBuf,
    json: String,
}

impl Lab {
    fn new(relays: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lab.toml");
        let list = serde_json::to_string(relays).unwrap();
        fs::write(&file, format!("name = \"lab\"\nrelays = {list}\n")).unwrap();
        let json = format!(r#"{{"name": "lab", "relays": {list}}}"#);
        Self {
            directory,
            file,
            json,
        }
    }

    fn state(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self) -> &str {
        self.file.to_str().unwrap()
    }

    /// Runs a command to its end, with variables.
    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let mut command = ringway(self.state(), arguments);
        command.envs(variables.iter().copied());
        Finished::from(command.output().unwrap())
    }
}

/// A listener that answers nobody and knows whether anybody came.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn caller(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept() {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            None
        }
    }
}

fn wait_for_caller(listener: &TcpListener) {
    let deadline = Instant::now() + PATIENCE;
    while caller(listener).is_none() {
        assert!(Instant::now() < deadline, "nobody came");
        std::thread::yield_now();
    }
}

fn key(digit: char) -> String {
    std::iter::repeat_n(digit, 64).collect()
}

#[test]
fn endpoint_outside_of_the_deployment_is_not_contacted() {
    let (listener, address) = listener();
    let lab = Lab::new(&[&format!("{}@a.invalid:7100", key('a'))]);
    let outside = format!("{}@{address}", key('c'));
    let setting = format!("mesh.relays={outside}");
    let config = lab.state().join("relay.toml");
    fs::write(&config, format!("\n[mesh]\nrelays = [\"{outside}\"]\n")).unwrap();
    let config = config.to_str().unwrap();
    let to = format!("{}:80", key('d'));
    let expose = ["expose", "--port", "80", "--to", "127.0.0.1:1"];
    let forward = ["forward", "--listen", "127.0.0.1:0", "--to", &to];
    let relay = ["--relay", outside.as_str()];
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin", "off"];
    let line = format!("{config}:3");
    for (arguments, variable, origin) in [
        ([&serve[..], &["--link", &outside]].concat(), None, "--link"),
        ([&serve[..], &["--set", &setting]].concat(), None, "--set"),
        (
            [&serve[..], &["--config", config]].concat(),
            None,
            line.as_str(),
        ),
        (
            serve.to_vec(),
            Some("RINGWAY_MESH_RELAYS"),
            "RINGWAY_MESH_RELAYS",
        ),
        (vec!["check-config", config], None, &line),
        (vec!["config", "show", "--config", config], None, &line),
        (vec!["ping", &outside], None, "the target"),
        ([&["ping", &key('a')], &relay[..]].concat(), None, "--relay"),
        (
            vec!["ping", &key('a')],
            Some("RINGWAY_RELAY"),
            "RINGWAY_RELAY",
        ),
        ([&expose[..], &relay].concat(), None, "--relay"),
        (expose.to_vec(), Some("RINGWAY_RELAY"), "RINGWAY_RELAY"),
        ([&forward[..], &relay].concat(), None, "--relay"),
        (forward.to_vec(), Some("RINGWAY_RELAY"), "RINGWAY_RELAY"),
    ] {
        let mut variables = vec![("RINGWAY_DEPLOY", lab.json.as_str())];
        variables.extend(variable.map(|name| (name, outside.as_str())));
        let finished = lab.run(&arguments, &variables);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {}", finished.err);
        let text = format!(
            "{outside} is not in the deployment lab (RINGWAY_DEPLOY), and nothing outside it is contacted; \
             leave it out, or add it to the deployment's relays"
        );
        assert!(
            finished.err.contains(&text),
            "{arguments:?}: {}",
            finished.err
        );
        assert!(
            finished.err.contains(origin),
            "{arguments:?}: {}",
            finished.err
        );
        assert_eq!(finished.out, "");
    }
    assert!(caller(&listener).is_none());
    // The same listener hears of a command whose deployment has it.
    let inside = Lab::new(&[&outside]);
    let arguments = ["ping", &key('c'), "--deploy", inside.file()];
    let ping = Running::start(&mut ringway(inside.state(), &arguments));
    wait_for_caller(&listener);
    drop(ping);
}

#[test]
fn registry_outside_of_the_deployment_is_not_contacted() {
    let (listener, address) = listener();
    let relay = format!("{}@127.0.0.1:1", key('a'));
    let lab = Lab::new(&[&relay]);
    let registry = format!("redis://:secret@{address}/0");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin", "off"];
    let set = ["--set", "limits.sessions_max=64", "--shards", "1"];
    let serve = [&serve[..], &set].concat();
    let variables = [
        ("RINGWAY_DEPLOY", lab.json.as_str()),
        ("RINGWAY_MESH_REGISTRY", &registry),
    ];
    let finished = lab.run(&serve, &variables);
    assert_eq!(finished.code, Some(2), "{}", finished.err);
    let text = format!(
        "mesh.registry (RINGWAY_MESH_REGISTRY): redis://***@{address}/0 is not the registry of the \
         deployment lab"
    );
    assert!(finished.err.contains(&text), "{}", finished.err);
    assert!(!finished.err.contains("secret"), "{}", finished.err);
    assert!(caller(&listener).is_none());
    // The deployment's own is contacted, with the password of the environment.
    let own =
        format!(r#"{{"name": "lab", "relays": ["{relay}"], "registry": "redis://{address}/0"}}"#);
    let mut command = ringway(lab.state(), &serve);
    command.env("RINGWAY_DEPLOY", own);
    let serving = Running::start(command.env("RINGWAY_MESH_REGISTRY", &registry));
    wait_for_caller(&listener);
    drop(serving);
}

#[test]
fn name_outside_of_the_deployment_is_not_looked_up() {
    let lab = Lab::new(&[&format!("{}@127.0.0.1:1", key('a'))]);
    let outside = format!("{}@outside.invalid:7100", key('c'));
    let alone = run(lab.state(), &["ping", &outside]);
    assert!(
        alone.err.contains("cannot resolve outside.invalid"),
        "{}",
        alone.err
    );
    // A relay of the deployment at another place is outside as well.
    let moved = format!("{}@outside.invalid:7100", key('a'));
    for (relay, part) in [
        (&outside, "is not in the deployment lab"),
        (&moved, "is not where it is in the deployment lab"),
    ] {
        let fenced = run(lab.state(), &["ping", relay, "--deploy", lab.file()]);
        assert_eq!(fenced.code, Some(2));
        assert!(fenced.err.contains(part), "{}", fenced.err);
        assert!(!fenced.err.contains("resolve"), "{}", fenced.err);
    }
}

/// Returns the links of a relay, from what its admin endpoint says.
fn links(state: &Path, admin: &str) -> u64 {
    let status = run(state, &["status", "--admin", admin, "--json"]);
    let health: Value = serde_json::from_str(&status.out).unwrap();
    let shards = health["shards"].as_array().unwrap().iter();
    shards
        .map(|shard| shard["audit"]["links"].as_u64().unwrap())
        .sum()
}

#[test]
fn relays_and_peers_need_nothing_but_the_deployment() {
    let state = tempfile::tempdir().unwrap();
    let keys = ["a.key", "b.key"].map(|name| state.path().join(name));
    let names = keys.each_ref().map(|path| {
        let made = run(state.path(), &["keygen", path.to_str().unwrap()]);
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("{}@{}", made.out.trim(), free.local_addr().unwrap())
    });
    let lab = Lab::new(&[&names[0], &names[1]]);
    let relays = [0, 1].map(|number| {
        let address = names[number].split_once('@').unwrap().1;
        let key = keys[number].to_str().unwrap();
        let further = ["--deploy", lab.file(), "--key-file", key];
        Relay::start_at(address, "1", &further)
    });
    let deadline = Instant::now() + PATIENCE;
    while relays
        .iter()
        .any(|one| links(one.state.path(), &one.admin) == 0)
    {
        assert!(Instant::now() < deadline, "the relays have no link");
        std::thread::yield_now();
    }
    let variables = [("RINGWAY_DEPLOY", lab.json.as_str())];
    for relay in &relays {
        let ping = lab.run(&["ping", relay.key(), "-c", "1"], &variables);
        assert_eq!(ping.code, Some(0), "{}", ping.err);
        let first = format!("PING {} over {}", relay.key(), relay.name);
        assert!(ping.out.starts_with(&first), "{}", ping.out);
    }
    let mut command = ringway(
        lab.state(),
        &["expose", "--port", "80", "--to", "127.0.0.1:1"],
    );
    let mut expose = Running::start(command.env("RINGWAY_DEPLOY", lab.file()));
    assert!(expose.line().starts_with("exposing  127.0.0.1:1 as "));
    expose.signal("TERM");
    assert_eq!(expose.finish().code, Some(0));
    for relay in relays {
        let finished = relay.end();
        assert_eq!(finished.code, Some(0), "{}", finished.err);
    }
}

#[test]
fn demonstration_is_in_no_deployment() {
    let lab = Lab::new(&[&format!("{}@127.0.0.1:1", key('a'))]);
    let arguments = ["demo", "--duration", "100ms", "--shards", "1"];
    let demo = lab.run(&arguments, &[("RINGWAY_DEPLOY", "/nonexistent/lab.toml")]);
    assert_eq!(demo.code, Some(0), "{}", demo.err);
}

fn entry<'a>(shown: &'a Value, key: &str) -> &'a Value {
    let mut keys = shown["keys"].as_array().unwrap().iter();
    keys.find(|one| one["key"] == key).unwrap()
}

#[test]
fn every_value_says_where_it_comes_from() {
    let a = format!("{}@127.0.0.1:7100", key('a'));
    let lab = Lab::new(&[&a]);
    let config = lab.state().join("relay.toml");
    fs::write(&config, "shards = 2\n\n[tcp]\nbacklog = 10\n").unwrap();
    let config = config.to_str().unwrap();
    let show = ["config", "show", "--config", config, "--deploy", lab.file()];
    let variables = [("RINGWAY_LIMITS_STREAMS_MAX", "9"), ("RINGWAY_SHARDS", "3")];
    let flags = ["--set", "drain.timeout=7s"];
    let json = lab.run(&[&show[..], &flags, &["--json"]].concat(), &variables);
    let shown: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(shown["deployment"]["name"], "lab");
    assert_eq!(shown["deployment"]["relays"], serde_json::json!([a]));
    let deployment = serde_json::json!({
        "layer": "deployment", "name": "lab", "source": lab.file(), "line": 2,
    });
    for (key, value, from) in [
        (
            "listen",
            serde_json::json!("127.0.0.1:7100"),
            serde_json::json!({"layer": "default"}),
        ),
        ("mesh.relays", serde_json::json!([a]), deployment),
        (
            "tcp.backlog",
            serde_json::json!(10),
            serde_json::json!({"layer": "file", "source": config, "line": 4}),
        ),
        (
            "shards",
            serde_json::json!(3),
            serde_json::json!({"layer": "environment", "variable": "RINGWAY_SHARDS"}),
        ),
        (
            "drain.timeout",
            serde_json::json!("7s"),
            serde_json::json!({"layer": "flag", "flag": "--set"}),
        ),
    ] {
        assert_eq!(entry(&shown, key)["value"], value, "{key}");
        assert_eq!(entry(&shown, key)["from"], from, "{key}");
    }
    // For people the same, a line a key, in the order of the documentation.
    let table = lab.run(&[&show[..], &flags].concat(), &variables);
    let lines: Vec<&str> = table.out.lines().collect();
    let first = format!(
        "deployment lab ({}): 1 relay, and nothing else is contacted",
        lab.file()
    );
    assert_eq!(lines[0], first);
    let keys = shown["keys"].as_array().unwrap();
    assert_eq!(lines.len(), keys.len() + 1);
    for (line, one) in lines[1..].iter().zip(keys) {
        assert!(line.starts_with(one["key"].as_str().unwrap()), "{line}");
    }
    let backlog = lines
        .iter()
        .find(|line| line.starts_with("tcp.backlog"))
        .unwrap();
    assert!(
        backlog.ends_with(&format!("  file {config}:4")),
        "{backlog}"
    );
}

#[test]
fn shown_file_does_the_same() {
    let state = tempfile::tempdir().unwrap();
    let names = ["a", "b"].map(|digit| format!("{}@127.0.0.1:7100", digit.repeat(64)));
    let lab = Lab::new(&[&names[0], &names[1]]);
    let flags = [
        "--set",
        "cores=0,1",
        "--set",
        "limits.keepalive=5s",
        "--set",
        "log.format=json",
    ];
    let arguments = [
        &["config", "show", "--toml", "--deploy", lab.file()],
        &flags[..],
    ]
    .concat();
    let first = run(state.path(), &arguments);
    assert_eq!(first.code, Some(0), "{}", first.err);
    let whole = state.path().join("whole.toml");
    fs::write(&whole, &first.out).unwrap();
    let whole = whole.to_str().unwrap();
    let values = |arguments: &[&str]| -> Vec<(Value, Value)> {
        let shown = run(
            state.path(),
            &[&["config", "show", "--json"], arguments].concat(),
        );
        let shown: Value = serde_json::from_str(&shown.out).unwrap();
        let keys = shown["keys"].as_array().unwrap().iter();
        keys.map(|one| (one["key"].clone(), one["value"].clone()))
            .collect()
    };
    let with_deployment = values(&[&["--deploy", lab.file()], &flags[..]].concat());
    assert_eq!(values(&["--config", whole]), with_deployment);
    assert!(with_deployment.contains(&("mesh.relays".into(), serde_json::json!(names))));
    let checked = run(state.path(), &["check-config", whole]);
    assert!(!checked.err.contains("problem"), "{}", checked.err);
}

#[test]
fn relay_that_has_a_key_is_shown_without_itself() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("own.key");
    let file = file.to_str().unwrap();
    let own = run(state.path(), &["keygen", file]).out.trim().to_owned();
    let other = format!("{}@127.0.0.1:7100", key('b'));
    let lab = Lab::new(&[&format!("{own}@127.0.0.1:7101"), &other]);
    let arguments = [
        "config",
        "show",
        "--json",
        "--deploy",
        lab.file(),
        "--key-file",
        file,
    ];
    let shown: Value = serde_json::from_str(&run(state.path(), &arguments).out).unwrap();
    let relays = entry(&shown, "mesh.relays");
    assert_eq!(relays["value"], serde_json::json!([other]));
    assert_eq!(relays["note"], "without this relay itself");
    // Showing makes no key.
    let absent = state.path().join("absent.key");
    let path = absent.to_str().unwrap();
    let shown = run(state.path(), &["config", "show", "--key-file", path]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(!absent.exists());
}

#[test]
fn wrong_deployments_are_named_by_every_command() {
    let lab = Lab::new(&[]);
    let ping = key('a');
    let commands: [&[&str]; 4] = [
        &["serve", "--listen", "127.0.0.1:0", "--admin", "off"],
        &["ping", &ping],
        &["expose", "--port", "80", "--to", "127.0.0.1:1"],
        &["config", "show"],
    ];
    let unknown = format!(
        r#"{{"name": "x", "relays": ["{}@a:1"], "relay": 1}}"#,
        key('a')
    );
    for (variable, code, part) in [
        (
            lab.file(),
            2,
            "lab.toml:2): is empty; name at least one relay",
        ),
        (
            lab.json.as_str(),
            2,
            "relays (RINGWAY_DEPLOY): is empty; name at",
        ),
        (
            &unknown,
            2,
            "relay (RINGWAY_DEPLOY): is no key of a deployment; the keys are name,",
        ),
        (
            "{\"name\": ",
            2,
            "file (RINGWAY_DEPLOY): no valid JSON: EOF while parsing",
        ),
        (
            "",
            2,
            "RINGWAY_DEPLOY is empty: name a deployment file with it, or unset it",
        ),
        (
            "/nonexistent/lab.toml",
            1,
            "cannot read the deployment /nonexistent/lab.toml; name an",
        ),
        (
            "/dev/zero",
            2,
            "is larger than 1048576 bytes, the most that a deployment file may have",
        ),
    ] {
        for command in commands {
            let finished = lab.run(command, &[("RINGWAY_DEPLOY", variable)]);
            assert_eq!(finished.code, Some(code), "{command:?}: {}", finished.err);
            assert!(finished.err.contains(part), "{part} in {}", finished.err);
            assert_eq!(finished.out, "");
        }
    }
    // The flag beats the variable.
    let good = Lab::new(&[&format!("{}@127.0.0.1:1", key('a'))]);
    let arguments = ["config", "show", "--deploy", good.file()];
    let shown = good.run(&arguments, &[("RINGWAY_DEPLOY", "/nonexistent/lab.toml")]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
}
