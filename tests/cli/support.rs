//! Running the binary.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Longest wait for anything; passing it is a failure, not a pace.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the command with an environment of its own: no setting of the host leaks in.
pub(crate) fn ringway(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command
        .env_clear()
        .env("XDG_STATE_HOME", state)
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// Runs the command to its end.
pub(crate) fn run(state: &Path, arguments: &[&str]) -> Finished {
    Finished::from(ringway(state, arguments).output().unwrap())
}

/// A command that ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A command that runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the next line of standard output.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => {
                drop(self.child.kill());
                panic!("no line ({error}); standard error: {}", self.errors());
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the end; returns code, the rest of standard output, standard error.
    pub(crate) fn finish(mut self) -> Finished {
        let errors = self.errors();
        let code = self.child.wait().unwrap().code();
        Finished {
            code,
            out: self.lines.iter().map(|line| line + "\n").collect(),
            err: errors,
        }
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut text).unwrap();
        }
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A relay on free ports.
pub(crate) struct Relay {
    pub(crate) process: Running,
    pub(crate) state: TempDir,
    /// `KEY@ADDRESS:PORT`.
    pub(crate) name: String,
    pub(crate) admin: String,
    pub(crate) greeting: [String; 4],
}

impl Relay {
    pub(crate) fn start(further: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", "1", further)
    }

    /// Starts a relay at an address, with so many shards.
    pub(crate) fn start_at(listen: &str, shards: &str, further: &[&str]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut arguments = vec!["serve", "--listen", listen, "--admin", "127.0.0.1:0"];
        arguments.extend(["--set", "limits.sessions_max=64", "--shards", shards]);
        arguments.extend(further);
        let mut process = Running::start(&mut ringway(state.path(), &arguments));
        let greeting = std::array::from_fn(|_| process.line());
        let greeting: [String; 4] = greeting;
        let name = greeting[1].split_whitespace().last().unwrap().to_owned();
        let admin = greeting[0]
            .split_once("http://")
            .map_or("", |(_, admin)| admin)
            .to_owned();
        Self {
            process,
            state,
            name,
            admin,
            greeting,
        }
    }

    pub(crate) fn key(&self) -> &str {
        self.name.split_once('@').unwrap().0
    }

    pub(crate) fn address(&self) -> &str {
        self.name.split_once('@').unwrap().1
    }

    /// Ends the relay as an operator does.
    pub(crate) fn end(self) -> Finished {
        self.process.signal("TERM");
        self.process.finish()
    }
}
