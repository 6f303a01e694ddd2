//! The relays and generators that a measurement starts, and what is seen of them.
//!
//! Here: starting, waiting until they are ready, looking at them, ending them. Not here: what is measured
//! (`memory`, `processor`, `points`).
//!
//! Invariant: every process that was started here is ended when its owner goes away, and all of them listen
//! on 127.0.0.1.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::parse;
use crate::process::ProcessSample;
use crate::tcp::TcpSocket;

/// The programs, and where their files go.
#[derive(Debug)]
pub struct Programs {
    relay: PathBuf,
    generator: PathBuf,
    directory: TempDir,
    /// Whether relay and generator have a core each.
    is_pinned: bool,
}

impl Programs {
    /// Finds them in `directory`, or beside the running program.
    ///
    /// # Errors
    /// When one is not there; the text says which, and how to get it.
    pub fn find(directory: Option<&Path>) -> io::Result<Self> {
        let beside = match directory {
            Some(directory) => directory.to_owned(),
            None => std::env::current_exe()?
                .parent()
                .unwrap_or_else(|| Path::new("."))
                .to_owned(),
        };
        let find = |name: &str| {
            let path = beside.join(name);
            match path.is_file() {
                true => Ok(path),
                false => Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!(
                        "no program {}: build it with 'cargo build --release --bins', or say with --programs where \
                         it is",
                        path.display()
                    ),
                )),
            }
        };
        Ok(Self {
            relay: find("ringway")?,
            generator: find("ringway-loadgen")?,
            directory: TempDir::with_prefix("ringway-tune-")?,
            is_pinned: available_parallelism().is_ok_and(|cores| cores.get() >= 2),
        })
    }

    /// Runs the generator to its end and returns its result.
    ///
    /// # Errors
    /// When it cannot be started, fails, or counts failures.
    pub(super) fn generate(&self, words: &[&str]) -> io::Result<Value> {
        let output = self
            .generator(words)
            .args(["--json", "-"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()?;
        let result: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.trim().lines().last().unwrap_or("nothing").to_owned();
            io::Error::other(format!("ringway-loadgen {}: {last}", words.join(" ")))
        })?;
        match result["failures"]
            .as_object()
            .and_then(|all| all.iter().next())
        {
            Some((reason, count)) => Err(io::Error::other(format!(
                "ringway-loadgen {}: {count} times {reason}",
                words.join(" ")
            ))),
            None => Ok(result),
        }
    }

    /// Starts a generator that holds what it made until it is dropped.
    pub(super) fn hold(&self, words: &[&str]) -> io::Result<Held> {
        let child = self
            .generator(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Held(child))
    }

    fn generator(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.generator);
        command.args(words).arg("--no-live");
        if self.is_pinned {
            command.args(["--cpu", "1"]);
        }
        command
    }
}

/// A generator that holds sessions.
#[derive(Debug)]
pub(super) struct Held(Child);

impl Held {
    /// Fails when the generator has ended; what it has made has ended with it.
    fn check(&mut self) -> io::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!(
                "the generator that holds sessions has ended ({status}): some did not stand; let nothing else run \
                 meanwhile, and see 'ringway-loadgen idle' for the reason"
            ))),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Gone already, or ended now: either way there is nothing to do about an error.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A relay.
#[derive(Debug)]
pub(super) struct Relay {
    child: Child,
    /// Key and address, as peers take them.
    pub(super) name: String,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl Relay {
    /// Starts a relay of so many shards; one alone has the first core.
    ///
    /// # Errors
    /// When it does not start; the text is what it said.
    pub(super) fn start(programs: &Programs, shards: u32, words: &[&str]) -> io::Result<Self> {
        let directory = TempDir::with_prefix_in("relay-", programs.directory.path())?.keep();
        let said = directory.join("stderr");
        let mut command = Command::new(&programs.relay);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off"])
            .args(["--shards", &shards.to_string()])
            .args([OsStr::new("--state-dir"), directory.as_os_str()])
            .args(words);
        if programs.is_pinned && shards == 1 {
            command.args(["--cores", "0"]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&said)?)
            .spawn()?;
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        // A relay that cannot start ends, and its output with it.
        for line in lines.into_iter().flatten() {
            if let Some(name) = line?.strip_prefix("relay ") {
                let name = name.trim().to_owned();
                let address = name.split_once('@').and_then(|(_, at)| at.parse().ok());
                let address =
                    address.ok_or_else(|| io::Error::other(format!("no relay: {name}")))?;
                return Ok(Self {
                    child,
                    name,
                    address,
                });
            }
        }
        child.wait()?;
        let said = fs::read_to_string(&said)?;
        let last = said.trim().lines().last().unwrap_or("it said nothing");
        Err(io::Error::other(format!("the relay did not start: {last}")))
    }

    /// Returns its process id as a flag takes it.
    pub(super) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Looks at it.
    pub(super) fn sample(&self) -> io::Result<ProcessSample> {
        ProcessSample::take(self.child.id())
    }

    /// Waits until its memory stays as it is, and returns it, bytes.
    pub(super) fn settled(&self) -> io::Result<f64> {
        let mut last = self.sample()?.rss_bytes;
        let mut same = 0;
        let begin = Instant::now();
        while same < SETTLED_LOOKS && begin.elapsed() < SETTLE_MAX {
            sleep(LOOK);
            let now = self.sample()?.rss_bytes;
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
        Ok(crate::plan::whole(last))
    }

    /// Waits until so many connections stand at its port.
    ///
    /// # Errors
    /// When a generator that is to make them has ended, or there are fewer after [`STAND_MAX`].
    pub(super) fn wait_for(&self, connections: u32, held: &mut [Held]) -> io::Result<()> {
        let begin = Instant::now();
        loop {
            let standing = self.connections()?;
            if u32::try_from(standing).is_ok_and(|standing| standing >= connections) {
                return Ok(());
            }
            for generator in &mut *held {
                generator.check()?;
            }
            if begin.elapsed() > STAND_MAX {
                return Err(io::Error::other(format!(
                    "{standing} of {connections} sessions stood after {} s",
                    STAND_MAX.as_secs()
                )));
            }
            sleep(LOOK);
        }
    }

    /// Counts the connections that stand at its port.
    fn connections(&self) -> io::Result<usize> {
        // The list is no snapshot: while others come and go it may tell of one twice.
        let mut peers = HashSet::new();
        TcpSocket::for_each(|socket| {
            if socket.local == self.address && socket.state == "ESTABLISHED" {
                peers.insert(socket.remote);
            }
        })?;
        Ok(peers.len())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns what the kernel has in slabs, for everybody, bytes.
///
/// # Errors
/// When it does not say.
pub(super) fn slab() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let bytes = parse::meminfo(&text, "Slab")
        .ok_or_else(|| io::Error::other("/proc/meminfo has no line 'Slab'"))?;
    Ok(crate::plan::whole(bytes))
}

/// Returns a number of a result; its path is written with dots.
///
/// # Errors
/// When it is not there; the text names it.
pub(super) fn figure(result: &Value, path: &str) -> io::Result<f64> {
    let found = path
        .split('.')
        .try_fold(result, |value, name| value.get(name));
    found
        .and_then(Value::as_f64)
        .ok_or_else(|| io::Error::other(format!("the generator's result has no number {path}")))
}

const LOOK: Duration = Duration::from_millis(100);

/// Looks without a change after which memory has settled.
const SETTLED_LOOKS: u32 = 8;

/// Longest wait for that; then it is taken as it is.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Longest wait for sessions: some ten times what 30,000 take on a slow core.
const STAND_MAX: Duration = Duration::from_secs(180);
