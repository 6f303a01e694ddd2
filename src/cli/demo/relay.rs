//! The relay of the demonstration: a child process of the same binary.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ringway_client::RelayAddress;

use crate::config::DEPLOY_VARIABLE;
use crate::control::admin;
use crate::control::health::Health;
use crate::failure::Failure;
use crate::key_file::{hex, random};
use crate::proc_text;

/// A running relay; it ends with this value, and with this process whatever happens to it.
#[derive(Debug)]
pub(super) struct RelayProcess {
    /// Where peers find it.
    pub(super) address: RelayAddress,
    admin: SocketAddr,
    child: Child,
    _directory: Directory,
}

impl RelayProcess {
    /// Starts a relay on free ports and waits for its first lines.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when it does not start; it has said why on standard error.
    pub(super) fn start(shards: Option<u16>) -> Result<Self, Failure> {
        let failed = |error| Failure::host("cannot start a relay", error);
        let directory = Directory::create()?;
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--until-stdin-closes")
            .arg("--state-dir")
            .arg(&directory.path)
            // The relay of the demonstration is in no deployment, and keeps no links.
            .env_remove(DEPLOY_VARIABLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(shards) = shards {
            command.args(["--shards", &shards.to_string()]);
        }
        let mut child = command.spawn().map_err(failed)?;
        match read_greeting(&mut child) {
            Some((address, admin)) => Ok(Self {
                address,
                admin,
                child,
                _directory: directory,
            }),
            None => {
                stop(&mut child);
                Err(Failure::Check(
                    "the relay did not start; its reason stands above".to_owned(),
                ))
            }
        }
    }

    /// Asks the relay how it is.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when it does not answer.
    pub(super) fn health(&self) -> Result<Health, Failure> {
        admin::fetch(self.admin)
    }

    /// Returns the CPU time of the relay's threads, the control thread excepted: it serves HTTP and
    /// takes no part in relaying.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when the kernel does not tell.
    pub(super) fn cpu_time(&self) -> Result<Duration, Failure> {
        let pid = self.child.id();
        let tasks = PathBuf::from(format!("/proc/{pid}/task"));
        let read = |path: &Path| -> io::Result<u64> {
            let text = fs::read_to_string(path.join("schedstat"))?;
            proc_text::schedstat_nanos(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
        };
        let sum = || -> io::Result<u64> {
            let mut nanos = 0;
            for task in fs::read_dir(&tasks)? {
                let path = task?.path();
                if !is_control(&path, pid) {
                    nanos += read(&path)?;
                }
            }
            Ok(nanos)
        };
        let nanos = sum().map_err(|error| {
            Failure::host(
                format!("cannot read CPU times under {}", tasks.display()),
                error,
            )
        })?;
        Ok(Duration::from_nanos(nanos))
    }

    /// Ends the relay as its operator would, and checks how it ends.
    ///
    /// # Errors
    ///
    /// [`Failure::Check`] when it does not end cleanly or in time.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        // A closed standard input is its sign to drain.
        drop(self.child.stdin.take());
        match wait(&mut self.child, END_TIMEOUT) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure::Check(format!("the relay ended with {status}"))),
            None => {
                stop(&mut self.child);
                Err(Failure::Check("the relay did not end in time".to_owned()))
            }
        }
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// The main thread of a relay is its control thread; what it starts for waiting has tokio's name.
fn is_control(task: &Path, pid: u32) -> bool {
    let is_main = task
        .file_name()
        .is_some_and(|name| name.to_string_lossy() == pid.to_string());
    is_main || fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("tokio"))
}

/// Reads the four lines that `serve` prints.
fn read_greeting(child: &mut Child) -> Option<(RelayAddress, SocketAddr)> {
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    let listening = lines.next()?.ok()?;
    let relay = lines.next()?.ok()?;
    let (_next, _capacity) = (lines.next()?.ok()?, lines.next()?.ok()?);
    let admin = listening.rsplit_once("http://")?.1.parse().ok()?;
    let address = relay.split_whitespace().last()?.parse().ok()?;
    Some((address, admin))
}

fn wait(child: &mut Child, time: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(WAIT_INTERVAL),
            Ok(Some(status)) => return Some(status),
            Err(_) => return None,
        }
    }
    None
}

/// Kills a process that is still there, and takes its exit status so that none is left.
fn stop(child: &mut Child) {
    if let Ok(None) = child.try_wait() {
        drop(child.kill());
        drop(child.wait());
    }
}

/// A directory that is removed with the value.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn create() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("ringway-demo-{}", hex(&random::<8>()?)));
        fs::create_dir(&path)
            .map_err(|error| Failure::host(format!("cannot create {}", path.display()), error))?;
        Ok(Self { path })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is for the host's own cleaning of temporary files.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Time the relay gets to end when nothing is left in it.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks whether it has ended.
const WAIT_INTERVAL: Duration = Duration::from_millis(10);
