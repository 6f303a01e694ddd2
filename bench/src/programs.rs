//! The programs of the contest: built, found, started, ended.
//!
//! Here: cargo, the relay, the load generator and its null server. Not here: the proxies (`proxies`), what
//! they are asked to do (`contest`).
//!
//! Invariant: every program started here has ended when its value is dropped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Where the programs of this workspace are.
#[derive(Debug, Clone)]
pub struct Programs {
    pub(crate) directory: PathBuf,
    /// Key file and configurations of the contest.
    pub(crate) scratch: PathBuf,
}

impl Programs {
    /// Returns the programs beside this one.
    ///
    /// # Errors
    /// When the place of this program cannot be told, or no scratch directory made.
    pub fn beside_this() -> Result<Self, String> {
        let exe = std::env::current_exe().map_err(|error| format!("no path of mine: {error}"))?;
        let target = exe
            .ancestors()
            .nth(2)
            .ok_or("no target directory above me")?;
        let scratch = target.join("compare");
        fs::create_dir_all(&scratch)
            .map_err(|error| format!("cannot make {}: {error}", scratch.display()))?;
        Ok(Self {
            directory: target.join("release"),
            scratch,
        })
    }

    /// Builds relay and load generator in release mode. Cargo's own output tells how it goes.
    ///
    /// # Errors
    /// When cargo fails.
    pub fn build(&self) -> Result<(), String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let target = self.directory.parent().unwrap_or_else(|| Path::new("."));
        let status = Command::new(cargo)
            .args([
                "build",
                "--release",
                "-p",
                "ringway",
                "-p",
                "ringway-loadgen",
            ])
            // Not the whole package: this program would be replaced while it runs.
            .args([
                "-p",
                "ringway-bench",
                "--bin",
                "ringway",
                "--bin",
                "ringway-loadgen",
            ])
            .args(["--bin", "pipe"])
            .arg("--target-dir")
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::null())
            .status()
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        if status.success() {
            Ok(())
        } else {
            Err("cargo could not build the relay and the load generator".into())
        }
    }

    /// Starts the relay with one shard on each of `cores`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn relay(&self, cores: &[u32]) -> Result<Relay, String> {
        self.relay_with(cores, cores.len(), "off")
    }

    /// The same with `shards` shards, which are not pinned one by one where they are more than `cores`, and
    /// with an endpoint at `admin` that [`Programs::status`] can ask.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn relay_with(&self, cores: &[u32], shards: usize, admin: &str) -> Result<Relay, String> {
        let mut child = Command::new("taskset")
            .args(["-c", &list(cores)])
            .arg(self.directory.join("ringway"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", admin])
            .args(["--log-level", "error"])
            .args(["--shards", &shards.to_string()])
            .arg("--key-file")
            .arg(self.scratch.join(format!("relay-{shards}.key")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| {
                format!("cannot start the relay (taskset, package util-linux): {error}")
            })?;
        let lines = child.stdout.take().map(BufReader::new);
        let program = Program { child };
        let name = lines
            .into_iter()
            .flat_map(BufRead::lines)
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix("relay")?.trim().to_owned()));
        match name {
            Some(name) => Ok(Relay { name, program }),
            None => Err("the relay ended before it said where it listens".into()),
        }
    }

    /// Starts a null server on `port` for the far side of idle or short connections.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn null_server(&self, port: u16, core: u32) -> Result<Program, String> {
        wait_until_free(port)?;
        let child = Command::new(self.directory.join("ringway-loadgen"))
            .args(["null-server", "--listen", &format!("127.0.0.1:{port}")])
            .args(["--cpu", &core.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start the null server: {error}"))?;
        Program { child }.listening("the null server", port)
    }

    /// Returns what the relay at `admin` says of itself.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn status(&self, admin: &str) -> Result<Value, String> {
        let output = Command::new(self.directory.join("ringway"))
            .args(["status", "--json", "--admin", admin])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot ask the relay: {error}"))?;
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let why = String::from_utf8_lossy(&output.stderr);
            format!("the relay does not say how it is: {}", why.trim())
        })
    }

    /// Starts the load generator with `arguments`, at idle priority (sched(7), `SCHED_IDLE`): what it does
    /// is not measured and gives way to what is. The load ends with the value.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_load(&self, arguments: &[String]) -> Result<Program, String> {
        let child = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(self.directory.join("ringway-loadgen"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.map_err(|error| {
            format!("cannot start the load generator (chrt, package util-linux): {error}")
        })?;
        Ok(Program { child })
    }

    /// Runs the load generator with `arguments`; returns its JSON.
    ///
    /// # Errors
    /// When the run is not good.
    pub fn load(&self, arguments: &[String]) -> Result<Value, String> {
        let output = Command::new(self.directory.join("ringway-loadgen"))
            .args(arguments)
            .args(["--json", "-"])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot start the load generator: {error}"))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            let why = match (output.status.code(), why.trim()) {
                (Some(UNTRUSTWORTHY), "") => "the machine kept it from its clock",
                (_, why) => why,
            };
            let line = arguments.join(" ");
            let status = output.status;
            return Err(format!("'ringway-loadgen {line}': {status}: {why}"));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| format!("no JSON: {error}"))
    }
}

/// Waits until nobody listens on `port`: the kernel closes the listener of a ring some time after its process
/// was killed, and the next program would be taken for ready by the listener of the last.
///
/// # Errors
/// When somebody goes on listening.
pub(crate) fn wait_until_free(port: u16) -> Result<(), String> {
    let since = Instant::now();
    while is_listening(port) {
        if since.elapsed() > START_TIME {
            return Err(format!("port {port} is in use: see 'ss -ltnp'"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Returns whether a socket of this network listens on `port`.
fn is_listening(port: u16) -> bool {
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    has_listener(&table, port)
}

/// Looks for a listener in the text of `/proc/net/tcp`: local address second, state 0A fourth.
fn has_listener(table: &str, port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some("0A")
    })
}

/// Returns the cores that this process may use.
#[must_use]
pub fn allowed_cores() -> Vec<u32> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return vec![0];
    };
    let all = 0..u32::try_from(rustix::thread::CpuSet::MAX_CPU).unwrap_or(0);
    all.filter(|core| usize::try_from(*core).is_ok_and(|core| set.is_set(core)))
        .collect()
}

/// A running relay of ours.
#[derive(Debug)]
pub struct Relay {
    /// Its key and address, as the load generator takes them.
    pub name: String,
    /// The process.
    pub program: Program,
}

/// A process that ends with this value.
#[derive(Debug)]
pub struct Program {
    pub(crate) child: Child,
}

impl Program {
    /// Waits until something listens on `port`, which is this program.
    ///
    /// # Errors
    /// When it ends, or does not listen in time.
    pub(crate) fn listening(mut self, name: &str, port: u16) -> Result<Self, String> {
        let since = Instant::now();
        // Looked up, not tried: a proxy would go on for seconds to pass a trial on to its target.
        while !is_listening(port) {
            if let Some(status) = self.child.try_wait().ok().flatten() {
                return Err(format!("{name} ended at once: {status}"));
            }
            if since.elapsed() > START_TIME {
                return Err(format!("{name} does not listen"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// Returns its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has no state worth saving. An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn list(cores: &[u32]) -> String {
    let cores: Vec<String> = cores.iter().map(u32::to_string).collect();
    cores.join(",")
}

/// How the load generator ends when its figures are worth nothing (docs/loadgen.md).
const UNTRUSTWORTHY: i32 = 3;

/// Longest start of a program.
const START_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_found_in_the_table() {
        let table = "  sl  local_address rem_address   st\n\
                     0: 0100007F:1C84 00000000:0000 0A 00000000\n\
                     1: 0100007F:1C85 0100007F:1C84 01 00000000\n";
        assert!(has_listener(table, 0x1c84));
        assert!(!has_listener(table, 0x1c85));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_listening(port));
        drop(listener);
        assert_eq!(wait_until_free(port), Ok(()));
    }

    #[test]
    fn a_program_ends_with_its_value() {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let program = Program { child };
        let place = format!("/proc/{}", program.pid());
        assert!(Path::new(&place).exists());
        drop(program);
        assert!(!Path::new(&place).exists());
    }
}
