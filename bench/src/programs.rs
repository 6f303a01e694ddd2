//! The programs of the contest: built, found, started, ended.
//!
//! Here: cargo, the relay, `HAProxy`, the load generator. Not here: what they are asked to do.
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
    directory: PathBuf,
    /// Key file and configuration of the contest.
    scratch: PathBuf,
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
                "--bins",
                "-p",
                "ringway",
                "-p",
                "ringway-loadgen",
            ])
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
        let mut child = Command::new(self.directory.join("ringway"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off"])
            .args(["--log-level", "error"])
            .args(["--shards", &cores.len().to_string()])
            .args(["--cores", &list(cores)])
            .arg("--key-file")
            .arg(self.scratch.join(format!("relay-{}.key", cores.len())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the relay: {error}"))?;
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

    /// Starts `HAProxy` with its defaults: TCP mode, one thread on each of `cores`, no tuning.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn haproxy(&self, cores: &[u32], ports: [u16; 2]) -> Result<Proxy, String> {
        let [listen, target] = ports;
        let file = self.scratch.join(format!("haproxy-{}.cfg", cores.len()));
        fs::write(&file, haproxy_config(cores.len(), listen, target))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let child = Command::new("taskset")
            .args(["-c", &list(cores), "haproxy", "-db", "-f"])
            .arg(&file)
            .env("PATH", path_with_sbin())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start HAProxy: {error}"))?;
        let mut program = Program { child };
        let since = Instant::now();
        // Looked up, not tried: HAProxy would go on for seconds to pass a trial on to its target.
        while !is_listening(listen) {
            let ended = program.child.try_wait().ok().flatten();
            if let Some(status) = ended {
                return Err(format!("HAProxy ended at once: {status}"));
            }
            if since.elapsed() > START_TIME {
                return Err("HAProxy does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Proxy {
            listen,
            target,
            program,
        })
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
            let line = arguments.join(" ");
            return Err(format!(
                "'ringway-loadgen {line}': {}: {}",
                output.status,
                why.trim()
            ));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| format!("no JSON: {error}"))
    }
}

/// Returns `HAProxy`'s version, if it is installed.
#[must_use]
pub fn haproxy_version() -> Option<String> {
    let output = Command::new("haproxy")
        .arg("-v")
        .env("PATH", path_with_sbin())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next()?;
    Some(line.split(" - ").next().unwrap_or(line).to_owned())
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

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub listen: u16,
    /// Where it forwards to.
    pub target: u16,
    /// The process.
    pub program: Program,
}

/// A process that ends with this value.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

impl Program {
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

/// The whole configuration: what `HAProxy` does by itself, in TCP mode.
fn haproxy_config(threads: usize, listen: u16, target: u16) -> String {
    format!(
        "global\n  nbthread {threads}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         frontend in\n  bind 127.0.0.1:{listen}\n  default_backend out\n\
         backend out\n  server sink 127.0.0.1:{target}\n"
    )
}

/// Debian keeps `HAProxy` where not every user looks.
fn path_with_sbin() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

fn list(cores: &[u32]) -> String {
    let cores: Vec<String> = cores.iter().map(u32::to_string).collect();
    cores.join(",")
}

/// Longest start of a program.
const START_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_not_tuned() {
        let config = haproxy_config(2, 1, 2);
        assert!(config.contains("nbthread 2"));
        assert!(!config.contains("tune."));
        assert!(!config.contains("splice"));
    }

    #[test]
    fn listeners_are_found_in_the_table() {
        let table = "  sl  local_address rem_address   st\n\
                     0: 0100007F:1C84 00000000:0000 0A 00000000\n\
                     1: 0100007F:1C85 0100007F:1C84 01 00000000\n";
        assert!(has_listener(table, 0x1c84));
        assert!(!has_listener(table, 0x1c85));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(is_listening(listener.local_addr().unwrap().port()));
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
