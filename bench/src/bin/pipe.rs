//! `pipe`: the byte pipe as a program, a contender of `compare`.
//!
//! Here: flags, threads. Not here: the pipe (`ringway_bench::pipe`).

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;

use clap::Parser;
use ringway_bench::pipe::Pipe;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Carry bytes from one port to another on the raw ring, and nothing else.
#[derive(Debug, Clone, Parser)]
#[command(name = "pipe")]
struct Flags {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7300")]
    listen: SocketAddr,
    /// Where the connections go
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7301")]
    target: SocketAddr,
    /// Cores, one thread on each
    #[arg(long, value_name = "CORES", value_delimiter = ',', default_value = "0")]
    cores: Vec<usize>,
    /// Sockets of a thread, two a connection
    #[arg(long, value_name = "COUNT", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    sockets: u32,
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr().lock(), "pipe: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs until the process is ended, or one of its threads fails.
fn run(flags: &Flags) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    for core in &flags.cores {
        let (flags, core, sender) = (flags.clone(), *core, sender.clone());
        // The others end with the process.
        thread::Builder::new().spawn(move || sender.send(carry(&flags, core)))?;
    }
    let first = receiver.recv();
    first.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}

fn carry(flags: &Flags, core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::other(format!(
            "--cores {core}: there is no such core"
        )));
    }
    let mut cpus = CpuSet::new();
    cpus.set(core);
    sched_setaffinity(None, &cpus)?;
    let pipe = Pipe::new(flags.listen, flags.target, flags.sockets)?;
    pipe.run(&AtomicBool::new(false))
}
