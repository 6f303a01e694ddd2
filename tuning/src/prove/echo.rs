//! One connection between two threads: round trips of a small message, and as many bytes as go through.
//!
//! Here: both measurements. Not here: percentiles (`super`).

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::loopback::pair;
use super::{histogram, nanoseconds};
use crate::parse;
use crate::watch::float;

/// Round trips of one round.
#[derive(Debug)]
pub(super) struct Echo {
    pub(super) address: SocketAddr,
    /// Nanoseconds each.
    pub(super) times: Histogram<u32>,
}

/// Bytes of one round.
#[derive(Debug)]
pub(super) struct Bulk {
    pub(super) address: SocketAddr,
    pub(super) bytes_per_second: f64,
    /// Processor time of both threads; none when the kernel does not tell it.
    pub(super) cpu_seconds_per_gigabyte: Option<f64>,
}

/// Sends a message to and fro for a while.
pub(super) fn run(time: Duration) -> io::Result<Echo> {
    let (here, there, address) = pair()?;
    let mut times = histogram()?;
    thread::scope(|scope| {
        let echo = spawn(scope, "echo", || answer(there))?;
        let asked = ask(here, time, &mut times);
        // The reset of `here` has ended the other thread.
        drop(echo.join());
        asked
    })?;
    Ok(Echo { address, times })
}

fn ask(mut here: TcpStream, time: Duration, times: &mut Histogram<u32>) -> io::Result<()> {
    let until = Instant::now() + time;
    let mut message = [7; MESSAGE_BYTES];
    loop {
        let now = Instant::now();
        if now >= until && !times.is_empty() {
            return Ok(());
        }
        here.write_all(&message)?;
        here.read_exact(&mut message)?;
        times.saturating_record(nanoseconds(now.elapsed()));
    }
}

/// Sends back what comes until the connection ends.
fn answer(mut there: TcpStream) {
    let mut message = [0; MESSAGE_BYTES];
    while there.read_exact(&mut message).is_ok() && there.write_all(&message).is_ok() {}
}

/// Sends as much as goes through for a while.
pub(super) fn run_bulk(time: Duration) -> io::Result<Bulk> {
    let (here, there, address) = pair()?;
    let (sent, received) = thread::scope(|scope| {
        let sender = spawn(scope, "bulk", || send(here, time))?;
        let received = receive(there);
        Ok::<_, io::Error>((sender.join(), received))
    })?;
    let sent = sent.map_err(|_| io::Error::other("the sending thread ended early"))?;
    let Received {
        bytes,
        last_at,
        cpu,
    } = received;
    if bytes == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let took = last_at - sent.began_at;
    let cpu = sent.cpu.zip(cpu).map(|(sent, received)| sent + received);
    let per_gigabyte = |cpu: Duration| cpu.as_secs_f64() / (float(bytes) / 1e9);
    Ok(Bulk {
        address,
        bytes_per_second: float(bytes) / took.as_secs_f64(),
        cpu_seconds_per_gigabyte: cpu.map(per_gigabyte),
    })
}

struct Sent {
    began_at: Instant,
    cpu: Option<Duration>,
}

/// Sends for a while, counted from when the thread gets to run.
fn send(mut here: TcpStream, time: Duration) -> Sent {
    let (began_at, before) = (Instant::now(), thread_cpu());
    let chunk = vec![7; CHUNK_BYTES];
    while here.write_all(&chunk).is_ok() && began_at.elapsed() < time {}
    let cpu = cpu_since(before);
    Sent { began_at, cpu }
}

struct Received {
    bytes: u64,
    last_at: Instant,
    cpu: Option<Duration>,
}

/// Receives until the other end resets the connection.
fn receive(mut there: TcpStream) -> Received {
    let (mut last_at, before) = (Instant::now(), thread_cpu());
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    while let Ok(count @ 1..) = there.read(&mut buffer) {
        bytes += u64::try_from(count).unwrap_or(0);
        last_at = Instant::now();
    }
    let cpu = cpu_since(before);
    Received {
        bytes,
        last_at,
        cpu,
    }
}

fn cpu_since(before: Option<Duration>) -> Option<Duration> {
    thread_cpu()?.checked_sub(before?)
}

/// Returns the processor time of this thread so far, to the last tick or switch.
///
/// A kernel that accounts interrupts apart does not charge the thread with the delivery of its packets.
/// Source: Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`: the first number, nanoseconds.
fn thread_cpu() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    parse::number(text.split_whitespace().next()?).map(Duration::from_nanos)
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<thread::ScopedJoinHandle<'scope, T>> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn_scoped(scope, work)
}

/// A small message: a keepalive of a relay with its envelope has about as much.
const MESSAGE_BYTES: usize = 64;

/// What is sent and received at once: four of the largest packets of the loopback.
const CHUNK_BYTES: usize = 256 * 1_024;
