//! Servers that are started for a run and end with it.
//!
//! Here: a relay, or a null server, as a child process on a free port of the loopback. Not here: what is done
//! with it.
//!
//! Both children end when their standard input closes, so a generator that is killed leaves none behind.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::plan::{DialectName, RelayAddress};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The program cannot be run.
    #[error("cannot run {}: {source}; name the relay's program with --ringway", program.display())]
    Program {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended, or said something else than where it listens.
    #[error("{} did not start: {why}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// What was seen of it.
        why: String,
    },
}

/// A server that was started.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Closing it ends the server.
    stdin: Option<ChildStdin>,
    /// Key and address of a relay.
    pub relay: Option<RelayAddress>,
    /// The same in the dmsg dialect, if it was started with that.
    pub dmsg: Option<RelayAddress>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where a relay tells its state.
    pub admin: Option<SocketAddr>,
}

impl Server {
    /// Starts a relay with a key of its own, that nobody else knows and that is gone afterwards; with
    /// `with_dmsg` it speaks that dialect as well, with one more such key and on a port of its own.
    ///
    /// # Errors
    /// [`ServerError`] when it does not say where it listens.
    pub fn relay(
        program: &Path,
        state: &Path,
        sets: &[String],
        with_dmsg: bool,
    ) -> Result<Self, ServerError> {
        let mut command = Command::new(program);
        command
            .args(["serve", "--until-stdin-closes"])
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--state-dir")
            .arg(state);
        if with_dmsg {
            command.args(["--set", "dmsg.listen=127.0.0.1:0"]);
        }
        for set in sets {
            command.args(["--set", set]);
        }
        let (child, stdin, lines) = start(program, command)?;
        let mut server = Self {
            child,
            stdin,
            relay: None,
            dmsg: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: None,
        };
        let mut said = String::new();
        for line in lines {
            said.push_str(&line);
            said.push('\n');
            if let Some((_, admin)) = line.split_once("admin http://") {
                let admin = admin.split_ascii_whitespace().next().unwrap_or("");
                server.admin = server.admin.or_else(|| admin.parse().ok());
            }
            for word in line.split_ascii_whitespace() {
                let Ok(relay) = word.parse::<RelayAddress>() else {
                    continue;
                };
                if relay.dialect() == Some(DialectName::Dmsg) {
                    server.dmsg = Some(relay);
                } else {
                    server.address = relay.socket;
                    server.relay = Some(relay);
                }
            }
            let has_all = server.relay.is_some() && (server.dmsg.is_some() || !with_dmsg);
            if has_all && server.admin.is_some() {
                return Ok(server);
            }
        }
        Err(ServerError::Start {
            program: program.to_owned(),
            why: said,
        })
    }

    /// Starts a null server with `program`, the generator itself: so many threads for so many connections
    /// each; with `closes` it ends each of them as soon as it stands.
    ///
    /// # Errors
    /// [`ServerError`] when it does not say where it listens.
    pub fn null(
        program: &Path,
        threads: u32,
        sockets: u32,
        closes: bool,
    ) -> Result<Self, ServerError> {
        let mut command = Command::new(program);
        command
            .args([
                "null-server",
                "--until-stdin-closes",
                "--listen",
                "127.0.0.1:0",
            ])
            .args([
                "--threads",
                &threads.to_string(),
                "--sockets",
                &sockets.to_string(),
            ]);
        if closes {
            command.arg("--close");
        }
        let (child, stdin, mut lines) = start(program, command)?;
        let first = lines.next().unwrap_or_default();
        let address = first
            .strip_prefix("listening ")
            .and_then(|text| text.parse().ok());
        match address {
            Some(address) => Ok(Self {
                child,
                stdin,
                relay: None,
                dmsg: None,
                address,
                admin: None,
            }),
            None => Err(ServerError::Start {
                program: program.to_owned(),
                why: first,
            }),
        }
    }

    /// Returns the id of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // A relay drains; nothing is connected any more, or ought to be.
        for _ in 0..END_LOOKS {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Looks at a child that should end: two seconds of them.
const END_LOOKS: u32 = 200;

type Lines = Box<dyn Iterator<Item = String>>;

fn start(
    program: &Path,
    mut command: Command,
) -> Result<(Child, Option<ChildStdin>, Lines), ServerError> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|source| ServerError::Program {
        program: program.to_owned(),
        source,
    })?;
    let stdin = child.stdin.take();
    let lines: Lines = match child.stdout.take() {
        Some(stdout) => Box::new(BufReader::new(stdout).lines().map_while(Result::ok)),
        None => Box::new(std::iter::empty()),
    };
    Ok((child, stdin, lines))
}
