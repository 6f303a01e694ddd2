//! The tasks that have to do with scenario files: `run` and `scenarios`.
//!
//! Here: files read, servers started, results printed, exit status. Not here: the scenario (`scenarios`).

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use ringway_loadgen::cli::{RunFlags, ScenariosFlags};
use ringway_loadgen::health::Health;
use ringway_loadgen::machine::Machine;
use ringway_loadgen::netns::{self, Settings};
use ringway_loadgen::scenarios::{self, BUILT_IN, Netns, ScenarioFile, Targets, Told};
use ringway_loadgen::servers::{Server, ServerError};

use crate::{FAILED, REFUSED, complain};

/// Ports of a namespace of a scenario that says nothing about it.
const NETNS_PORTS: &str = "40000-41023";

/// Lists the scenarios that come with the program, or prints one.
pub(crate) fn list(flags: &ScenariosFlags) -> ExitCode {
    let mut text = String::new();
    match flags.name.as_deref() {
        Some(name) => match scenarios::built_in(name) {
            Some(file) => text.push_str(file),
            None => return refuse(&unknown(name)),
        },
        None => {
            for (name, file) in BUILT_IN {
                match ScenarioFile::read(name, file, &[]) {
                    Ok(file) => {
                        let question = file.question.trim().replace('\n', " ");
                        text.push_str(&format!("{name:<18} {question}\n"));
                    }
                    Err(why) => return refuse(&why.join("\n")),
                }
            }
        }
    }
    // A reader that has seen enough is no failure.
    drop(write!(io::stdout().lock(), "{text}"));
    ExitCode::SUCCESS
}

/// Carries a scenario out.
pub(crate) fn run(flags: &RunFlags, interrupt: &AtomicBool) -> ExitCode {
    let mut scenario = match read(flags) {
        Ok(scenario) => scenario,
        Err(wrong) => return refuse(&wrong.join("\n")),
    };
    if flags.netns && !flags.inside_netns {
        return enter_netns();
    }
    if flags.inside_netns
        && let Err(error) = settings(flags, &scenario)
            .and_then(|settings| netns::set_up(&settings).map_err(|error| error.to_string()))
    {
        return refuse(&error);
    }
    scenario.scale(flags.time_scale);
    let started = if flags.start || flags.netns {
        match Started::of(&scenario, flags.ringway.as_deref()) {
            Ok(started) => started,
            Err(error) => return refuse(&error),
        }
    } else {
        Started::default()
    };
    let targets = started.targets(flags);
    let mut tell = |told: Told<'_>| match told {
        Told::Phase(name) => complain(&format!("phase {name}")),
        Told::Line(name, line) => complain(&format!("{name}: {line}")),
        Told::Progress(..) => {}
    };
    let out = flags.out.as_deref();
    let played = match scenarios::play(&scenario, &targets, out, interrupt, &mut tell) {
        Ok(played) => played,
        Err(error) => return refuse(&error.to_string()),
    };
    drop(started);
    let machine = Machine::look();
    let document = scenarios::document(&scenario, &played, &machine);
    let files = out.map(|out| out.join("scenario.json"));
    for path in files
        .iter()
        .chain(flags.json.iter().filter(|path| **path != *Path::new("-")))
    {
        if let Err(error) = fs::write(path, format!("{document}\n")) {
            complain(&format!("cannot write {}: {error}", path.display()));
            return ExitCode::from(FAILED);
        }
    }
    let is_stdout = flags.json.as_deref() == Some(Path::new("-"));
    let text = if is_stdout {
        document
    } else {
        scenarios::table(&scenario, &played, &machine)
    };
    if let Err(error) = writeln!(io::stdout().lock(), "{}", text.trim_end())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return ExitCode::from(FAILED);
    }
    ExitCode::from(played.verdict().status())
}

/// Reads the scenario that the flags name.
fn read(flags: &RunFlags) -> Result<ScenarioFile, Vec<String>> {
    let name = flags.scenario.as_str();
    let sets = flags.sets();
    if let Some(text) = scenarios::built_in(name) {
        return ScenarioFile::read(name, text, &sets);
    }
    let path = Path::new(name);
    if path.extension().is_none() && !path.exists() {
        return Err(vec![unknown(name)]);
    }
    let text = fs::read_to_string(path).map_err(|error| vec![format!("{name}: {error}")])?;
    let stem = path
        .file_stem()
        .map_or_else(|| name.into(), |stem| stem.to_string_lossy());
    ScenarioFile::read(&stem, &text, &sets)
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    format!(
        "no scenario '{name}': {}, or a file FILE.toml",
        names.join(", ")
    )
}

/// Runs the program again in a namespace, with the same flags.
fn enter_netns() -> ExitCode {
    let mut arguments: Vec<_> = env::args_os().skip(1).collect();
    arguments.push("--inside-netns".into());
    match netns::run_again(&arguments) {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            ExitCode::from(code.unwrap_or(FAILED))
        }
        Err(error) => refuse(&error.to_string()),
    }
}

fn settings(flags: &RunFlags, scenario: &ScenarioFile) -> Result<Settings, String> {
    let own = scenario.netns.as_ref();
    let text = own.map_or(NETNS_PORTS, |netns: &Netns| netns.ports.as_str());
    let ports = match flags.netns_ports {
        Some(ports) => ports,
        None => text.parse().map_err(|why| format!("netns.ports: {why}"))?,
    };
    let tw_reuse = own.and_then(|netns| netns.tw_reuse).unwrap_or(2);
    Ok(Settings { ports, tw_reuse })
}

/// Pause between two looks for links.
const LINK_PAUSE: Duration = Duration::from_millis(50);

/// Looks for links before it is given up: 10 s, twenty times what a first try takes.
const LINK_LOOKS_MAX: u32 = 200;

/// The servers that were started for a scenario.
#[derive(Default)]
struct Started {
    relays: Vec<Server>,
    tcp: Vec<Server>,
    /// Removed when the servers are gone.
    state: Option<tempfile::TempDir>,
}

impl Started {
    fn of(scenario: &ScenarioFile, ringway: Option<&Path>) -> Result<Self, String> {
        let mut started = Self::default();
        let count = |is_tcp| {
            let groups = scenario.groups.iter();
            let targets = groups
                .flat_map(|group| [Some(group.target), group.far])
                .flatten();
            let numbers = targets
                .filter(|target| target.is_tcp == is_tcp)
                .map(|t| t.number);
            numbers.max().unwrap_or(0)
        };
        let own = env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
        for number in 1..=count(true) {
            let closes = scenario.start.closing.contains(&number);
            let server = Server::null(&own, NULL_THREADS, NULL_SOCKETS, closes)
                .map_err(|error| error.to_string())?;
            started.tcp.push(server);
        }
        if count(false) > 0 {
            let state = tempfile::tempdir().map_err(|error| format!("no directory: {error}"))?;
            let program = ringway.map_or_else(beside, Path::to_owned);
            for number in 0..count(false) {
                let own = state.path().join(number.to_string());
                let mut sets = scenario.start.set.clone();
                if scenario.start.linked {
                    sets.extend(started.link_settings());
                }
                let server = Server::relay(&program, &own, &sets, scenario.needs_dmsg());
                started
                    .relays
                    .push(server.map_err(|error: ServerError| error.to_string())?);
            }
            if scenario.start.linked {
                started.wait_for_links()?;
            }
            started.state = Some(state);
        }
        Ok(started)
    }

    /// Returns what the next relay is told so that it has links with those that run.
    fn link_settings(&self) -> Vec<String> {
        let relays = self.relays.iter().filter_map(|server| server.relay);
        let names: Vec<String> = relays
            .map(|relay| format!("{}@{}", relay.key, relay.socket))
            .collect();
        vec![
            "mesh.allowed=all".to_owned(),
            format!("mesh.relays={}", names.join(",")),
        ]
    }

    /// Waits until every relay has a link with every other one.
    fn wait_for_links(&self) -> Result<(), String> {
        let wanted = u64::try_from(self.relays.len()).unwrap_or(u64::MAX) - 1;
        for server in &self.relays {
            let admin = server
                .admin
                .ok_or("a relay does not say where its admin endpoint is")?;
            let has_links = || -> Result<bool, String> {
                let health = Health::fetch(admin).map_err(|error| error.to_string())?;
                Ok(health.audit.get("links").copied().unwrap_or(0) >= wanted)
            };
            let mut looks = 0;
            while !has_links()? {
                looks += 1;
                if looks > LINK_LOOKS_MAX {
                    return Err(format!("the relay at {admin} has no link with the others"));
                }
                thread::sleep(LINK_PAUSE);
            }
        }
        Ok(())
    }

    fn targets(&self, flags: &RunFlags) -> Targets {
        if self.relays.is_empty() && self.tcp.is_empty() {
            return Targets {
                relays: flags.relay.clone(),
                twin: None,
                tcp: flags.tcp.clone(),
                pid: flags.relay_pid,
                admin: flags.admin,
            };
        }
        let first = self.relays.first().or_else(|| self.tcp.first());
        let relays = self.relays.iter();
        Targets {
            // Groups that name no dialect count these alone.
            relays: relays
                .clone()
                .filter_map(|server| server.relay)
                .chain(relays.filter_map(|server| server.dmsg))
                .collect(),
            twin: self.relays.first().and_then(|server| server.dmsg),
            tcp: self.tcp.iter().map(|server| server.address).collect(),
            pid: first.map(Server::pid),
            admin: first.and_then(|server| server.admin),
        }
    }
}

/// Threads of a null server that is started for a scenario.
const NULL_THREADS: u32 = 2;
/// Connections of each of them: what the limit on open files allows.
const NULL_SOCKETS: u32 = 16_384;

/// Returns the relay's program: beside this one, else whatever PATH has.
fn beside() -> PathBuf {
    let own = env::current_exe().ok();
    let beside = own.map(|own| own.with_file_name("ringway"));
    beside
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("ringway"))
}

fn refuse(why: &str) -> ExitCode {
    complain(why);
    ExitCode::from(REFUSED)
}
