//! A server that sends back what it receives and does nothing else.
//!
//! Here: the far end of runs that measure the generator itself, or the network and kernel between two
//! hosts. Not here: anything that a relay does.
//!
//! Bound: a connection whose peer does not read has one batch in flight and one that waits; past
//! 4 MiB it is closed, since its receive memory is everybody's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringway_shards::batch::Batch;
use ringway_shards::lease::Lease;
use ringway_shards::ring::{
    Completion, ListenOptions, Listener, Ring, RingConfig, RingLease, Slot, Wait, Waker,
};

/// What waits for one connection at most.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Longest sleep; an interrupt wakes the threads.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// How the server runs.
#[derive(Debug, Clone)]
pub struct NullServer {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Threads, each with a listener and a ring of its own.
    pub threads: u32,
    /// Cores to pin them to, in turn; empty leaves it to the kernel.
    pub cpus: Vec<u32>,
    /// Connections of one thread.
    pub sockets_max: u32,
    /// Whether each connection is ended as soon as it stands.
    pub closes: bool,
}

/// One connection.
#[derive(Debug, Default)]
struct Connection {
    waiting: Option<Batch<RingLease>>,
    is_sending: bool,
    is_closing: bool,
}

/// A thread of the server that can be ended.
#[derive(Debug)]
struct Thread {
    handle: thread::JoinHandle<Result<(), String>>,
    waker: Waker,
}

impl NullServer {
    /// Serves until `interrupt` becomes true; calls `listening` with the address once all threads listen.
    ///
    /// # Errors
    /// A sentence when the address cannot be listened on or a ring not be made.
    pub fn run(
        &self,
        interrupt: &AtomicBool,
        listening: impl FnOnce(SocketAddr),
    ) -> Result<(), String> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut address = self.listen;
        let mut result = Ok(());
        for index in 0..self.threads.max(1) {
            match self.start(index, address, &is_over) {
                Ok((thread, bound)) => {
                    address = bound;
                    threads.push(thread);
                }
                Err(why) => {
                    result = Err(why);
                    break;
                }
            }
        }
        if result.is_ok() {
            listening(address);
            while !interrupt.load(Ordering::Acquire)
                && !threads.iter().any(|thread| thread.handle.is_finished())
            {
                thread::sleep(Duration::from_millis(50));
            }
        }
        is_over.store(true, Ordering::Release);
        for thread in threads {
            thread.waker.wake();
            let ended = thread.handle.join();
            let ended = ended.unwrap_or_else(|_| Err("a thread panicked".into()));
            result = result.and(ended);
        }
        result
    }

    fn start(
        &self,
        index: u32,
        address: SocketAddr,
        is_over: &Arc<AtomicBool>,
    ) -> Result<(Thread, SocketAddr), String> {
        let cpu = match self.cpus.len() {
            0 => None,
            count => self
                .cpus
                .get(usize::try_from(index).unwrap_or(0) % count)
                .copied(),
        };
        let (sockets_max, closes) = (self.sockets_max, self.closes);
        let is_over = Arc::clone(is_over);
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let body = move || {
            if let Some(cpu) = cpu {
                crate::process::pin(cpu)
                    .map_err(|error| format!("cannot pin to core {cpu}: {error}"))?;
            }
            let server = Server::new(address, sockets_max, closes)?;
            let bound = server.ring.listen_address().unwrap_or(address);
            // Whoever started it waits.
            drop(sender.send((server.ring.waker(), bound)));
            server.run(&is_over)
        };
        let handle = thread::Builder::new()
            .name(format!("null-{index}"))
            .spawn(body)
            .map_err(|error: io::Error| format!("no thread: {error}"))?;
        match receiver.recv() {
            Ok((waker, bound)) => Ok((Thread { handle, waker }, bound)),
            Err(_) => Err(match handle.join() {
                Ok(Err(why)) => why,
                Ok(Ok(())) | Err(_) => "a thread ended too early".into(),
            }),
        }
    }
}

/// One thread.
struct Server {
    ring: Ring,
    connections: Vec<Connection>,
    dirty: Vec<Slot>,
    closes: bool,
}

impl Server {
    fn new(address: SocketAddr, sockets_max: u32, closes: bool) -> Result<Self, String> {
        let mut ring = Ring::new(&RingConfig {
            sockets_max,
            ..RingConfig::default()
        })
        .map_err(|error| error.to_string())?;
        let options = ListenOptions {
            address,
            backlog: 65_535,
            congestion: None,
            closes_with_fin: true,
        };
        ring.listen(Listener::bind(&options).map_err(|error| error.to_string())?);
        let count = usize::try_from(sockets_max).unwrap_or(usize::MAX);
        Ok(Self {
            ring,
            connections: (0..count).map(|_| Connection::default()).collect(),
            dirty: Vec::new(),
            closes,
        })
    }

    fn run(mut self, is_over: &AtomicBool) -> Result<(), String> {
        let mut completions = Vec::new();
        while !is_over.load(Ordering::Acquire) {
            let wait = Wait::For(IDLE_WAIT);
            self.ring
                .turn(wait, &mut completions)
                .map_err(|error| error.to_string())?;
            for completion in completions.drain(..) {
                self.on_completion(completion);
            }
            for slot in std::mem::take(&mut self.dirty) {
                self.send(slot);
            }
        }
        Ok(())
    }

    fn on_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { slot, .. } => {
                *self.connection(slot) = Connection::default();
                if self.closes {
                    self.close(slot);
                } else {
                    self.ring.receive(slot);
                }
            }
            Completion::Received { slot, lease } => self.on_received(slot, lease),
            Completion::Sent {
                slot,
                batch,
                result,
            } => {
                let is_whole = usize::try_from(result.unwrap_or(0)) == Ok(batch.len());
                self.connection(slot).is_sending = false;
                if is_whole {
                    self.send(slot);
                } else {
                    self.close(slot);
                }
            }
            Completion::ReceiveEnded { slot, .. } => self.close(slot),
            // Its ring keeps what it accepts.
            Completion::Arrived { .. }
            | Completion::HandedIn { .. }
            | Completion::HandedOver { .. }
            | Completion::HandOverFailed { .. } => {}
            Completion::AcceptFailed { .. }
            | Completion::Closed { .. }
            | Completion::Connected { .. }
            | Completion::ConnectFailed { .. }
            | Completion::Released { .. }
            | Completion::Woken => {}
        }
    }

    fn on_received(&mut self, slot: Slot, lease: RingLease) {
        let connection = self.connection(slot);
        let waiting = connection.waiting.get_or_insert_with(Batch::new);
        let is_first = waiting.is_empty();
        let bytes = waiting.len() + lease.len();
        if waiting.is_full() || bytes > WAITING_BYTES_MAX {
            return self.close(slot);
        }
        waiting.push_lease(lease);
        if is_first {
            self.dirty.push(slot);
        }
    }

    fn send(&mut self, slot: Slot) {
        let connection = self.connection(slot);
        if connection.is_sending || connection.is_closing {
            return;
        }
        if let Some(batch) = connection.waiting.take_if(|batch| !batch.is_empty()) {
            connection.is_sending = true;
            self.ring.send(slot, batch);
        }
    }

    fn close(&mut self, slot: Slot) {
        let connection = self.connection(slot);
        connection.waiting = None;
        if !std::mem::replace(&mut connection.is_closing, true) {
            self.ring.close(slot);
        }
    }

    fn connection(&mut self, slot: Slot) -> &mut Connection {
        let index = usize::try_from(slot.0).unwrap_or(usize::MAX);
        &mut self.connections[index]
    }
}
