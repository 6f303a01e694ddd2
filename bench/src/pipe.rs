//! A byte pipe on the raw ring: what relaying costs without frames, sessions, windows and fairness.
//!
//! Here: connections that come in on one port and leave for another, bytes by reference from receive to
//! send. Not here: anything that a relay does beyond that.
//!
//! It is the floor for a relay that copies each byte twice: ours is compared with it, on the same ring with
//! the same buffers.
//! When one end closes, the other one is reset as soon as the kernel has taken what waits for it: what is not
//! acknowledged by then is lost, so ends of a measurement close when they have all.
//!
//! Bound: a connection whose other side does not read has one batch in flight and one that waits; past
//! that its receive is stopped until the batch has been sent.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringway_proto::limits::BATCH_SEGMENTS_MAX;
use ringway_shards::batch::Batch;
use ringway_shards::ring::{
    Completion, ConnectOptions, ListenOptions, Listener, ReceiveEnd, Ring, RingConfig, RingLease,
    Slot, Wait,
};

/// What may wait for one socket before its other side is not read any more.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// The same in segments: half of what a send takes, since more may arrive until the receive has ended.
const WAITING_SEGMENTS_MAX: usize = BATCH_SEGMENTS_MAX / 2;
/// Longest sleep.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// Whether a socket is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    On,
    /// The receive was asked to end, because the other end is slow.
    Stopping,
    Off,
}

/// One socket of a pipe.
#[derive(Debug, Default)]
struct End {
    /// The other end, once it stands.
    other: Option<Slot>,
    waiting: Option<Batch<RingLease>>,
    is_sending: bool,
    reading: Reading,
    /// It receives no more: the pipe closes when what waits is sent.
    has_ended: bool,
    is_closing: bool,
}

/// A pipe on one thread.
#[derive(Debug)]
pub struct Pipe {
    ring: Ring,
    target: SocketAddr,
    ends: Vec<End>,
    /// Sockets with something to send.
    dirty: Vec<Slot>,
}

impl Pipe {
    /// Listens on `listen` for connections to be carried to `target`.
    ///
    /// # Errors
    /// When the ring cannot be made, or the address not be listened on.
    pub fn new(listen: SocketAddr, target: SocketAddr, sockets_max: u32) -> io::Result<Self> {
        let config = RingConfig {
            sockets_max,
            ..RingConfig::default()
        };
        let mut ring = Ring::new(&config).map_err(io::Error::other)?;
        let listener = Listener::bind(&ListenOptions {
            address: listen,
            backlog: 4_096,
            congestion: None,
            closes_with_fin: false,
        });
        ring.listen(listener.map_err(io::Error::other)?);
        let count = usize::try_from(sockets_max).unwrap_or(usize::MAX);
        Ok(Self {
            ring,
            target,
            ends: (0..count).map(|_| End::default()).collect(),
            dirty: Vec::new(),
        })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.ring.listen_address()
    }

    /// Carries bytes until `is_over` becomes true.
    ///
    /// # Errors
    /// When the ring fails.
    pub fn run(mut self, is_over: &AtomicBool) -> io::Result<()> {
        let mut completions = Vec::new();
        while !is_over.load(Ordering::Acquire) {
            let turn = self.ring.turn(Wait::For(IDLE_WAIT), &mut completions);
            turn.map_err(io::Error::other)?;
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
            Completion::Accepted { slot, .. } => self.on_accepted(slot),
            Completion::Connected { slot, token } => self.on_connected(slot, token),
            Completion::ConnectFailed { token, .. } => self.close(slot_of(token)),
            Completion::Received { slot, lease } => self.on_received(slot, lease),
            Completion::ReceiveEnded { slot, end } => self.on_receive_ended(slot, end),
            Completion::Sent {
                slot,
                batch,
                result,
            } => {
                let is_whole = usize::try_from(result.unwrap_or(0)) == Ok(batch.len());
                self.end(slot).is_sending = false;
                if is_whole {
                    self.send(slot);
                    self.resume(slot);
                } else {
                    self.close_both(slot);
                }
            }
            // A ring without a choice hands nothing over.
            Completion::Arrived { .. }
            | Completion::HandedIn { .. }
            | Completion::HandedOver { .. }
            | Completion::HandOverFailed { .. }
            | Completion::AcceptFailed { .. }
            | Completion::Closed { .. }
            | Completion::Released { .. }
            | Completion::Woken => {}
        }
    }

    fn on_accepted(&mut self, slot: Slot) {
        *self.end(slot) = End::default();
        let options = ConnectOptions::default();
        let connect = self.ring.connect(self.target, &options, u64::from(slot.0));
        if connect.is_err() {
            self.close(slot);
        }
    }

    fn on_connected(&mut self, slot: Slot, token: u64) {
        let first = slot_of(token);
        *self.end(slot) = End::default();
        self.end(slot).other = Some(first);
        self.end(first).other = Some(slot);
        self.ring.receive(slot);
        self.ring.receive(first);
    }

    fn on_received(&mut self, slot: Slot, lease: RingLease) {
        let Some(other) = self.end(slot).other else {
            return;
        };
        let end = self.end(other);
        let waiting = end.waiting.get_or_insert_with(Batch::new);
        let is_first = waiting.is_empty();
        waiting.push_lease(lease);
        let is_much =
            waiting.segments_count() >= WAITING_SEGMENTS_MAX || waiting.len() > WAITING_BYTES_MAX;
        if is_first {
            self.dirty.push(other);
        }
        let end = self.end(slot);
        if is_much && end.reading == Reading::On {
            end.reading = Reading::Stopping;
            self.ring.stop_receive(slot);
        }
    }

    fn on_receive_ended(&mut self, slot: Slot, end: ReceiveEnd) {
        let has_stopped = self.end(slot).reading == Reading::Stopping && end != ReceiveEnd::Eof;
        if has_stopped {
            self.end(slot).reading = Reading::Off;
            // What it waits for may have been sent meanwhile.
            if let Some(other) = self.end(slot).other {
                self.resume(other);
            }
            return;
        }
        self.end(slot).has_ended = true;
        let other = self.end(slot).other;
        let has_more = other.is_some_and(|other| {
            let end = self.end(other);
            end.is_sending || end.waiting.is_some()
        });
        if !has_more {
            self.close_both(slot);
        }
    }

    fn send(&mut self, slot: Slot) {
        let end = self.end(slot);
        if end.is_sending || end.is_closing {
            return;
        }
        if let Some(batch) = end.waiting.take() {
            end.is_sending = true;
            self.ring.send(slot, batch);
        } else if let Some(other) = end.other
            && self.end(other).has_ended
        {
            self.close_both(slot);
        }
    }

    /// Reads the other end of `slot` again when nothing waits any more.
    fn resume(&mut self, slot: Slot) {
        let end = self.end(slot);
        if end.waiting.is_some() {
            return;
        }
        if let Some(other) = end.other
            && self.end(other).reading == Reading::Off
        {
            self.end(other).reading = Reading::On;
            self.ring.receive(other);
        }
    }

    fn close_both(&mut self, slot: Slot) {
        let other = self.end(slot).other;
        self.close(slot);
        if let Some(other) = other {
            self.close(other);
        }
    }

    fn close(&mut self, slot: Slot) {
        let end = self.end(slot);
        end.waiting = None;
        if !std::mem::replace(&mut end.is_closing, true) {
            self.ring.close(slot);
        }
    }

    fn end(&mut self, slot: Slot) -> &mut End {
        let index = usize::try_from(slot.0).unwrap_or(usize::MAX);
        &mut self.ends[index]
    }
}

/// The accepted socket that a connect was made for.
fn slot_of(token: u64) -> Slot {
    Slot(u32::try_from(token).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// Runs `test` with the address of a pipe and the listener behind it.
    fn with_pipe(test: impl FnOnce(SocketAddr, TcpListener)) {
        let behind = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = behind.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                let pipe = Pipe::new("127.0.0.1:0".parse().unwrap(), target, 64).unwrap();
                sender.send(pipe.address().unwrap()).unwrap();
                pipe.run(&is_over).unwrap();
            })
        };
        test(receiver.recv().unwrap(), behind);
        is_over.store(true, Ordering::Release);
        thread.join().unwrap();
    }

    #[test]
    fn bytes_go_both_ways_unchanged_however_slow_the_reader() {
        with_pipe(|address, behind| {
            let mut near = TcpStream::connect(address).unwrap();
            let (mut far, _) = behind.accept().unwrap();
            let sent: Vec<u8> = (0..40_000_000_u32)
                .map(|n| n.to_le_bytes()[n as usize % 3])
                .collect();
            let got = thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    // Long enough for everything on the way to fill up.
                    thread::sleep(Duration::from_millis(200));
                    let mut got = vec![0; sent.len()];
                    far.read_exact(&mut got).unwrap();
                    got
                });
                near.write_all(&sent).unwrap();
                reader.join().unwrap()
            });
            assert!(got == sent);
            far.write_all(b"back").unwrap();
            let mut back = [0; 4];
            near.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"back");
        });
    }

    #[test]
    fn an_end_that_closes_closes_the_other() {
        with_pipe(|address, behind| {
            let mut near = TcpStream::connect(address).unwrap();
            let (mut far, _) = behind.accept().unwrap();
            near.write_all(&[7; 300_000]).unwrap();
            let mut got = vec![0; 300_000];
            far.read_exact(&mut got).unwrap();
            assert!(got.iter().all(|byte| *byte == 7));
            drop(near);
            // A close or a reset: the pipe resets what it closes.
            assert!(!matches!(far.read(&mut [0; 1]), Ok(1..)));
        });
    }

    #[test]
    fn nobody_behind_it_closes_the_connection() {
        with_pipe(|address, behind| {
            drop(behind);
            let mut near = TcpStream::connect(address).unwrap();
            assert!(!matches!(near.read(&mut [0; 1]), Ok(1..)));
        });
    }
}
