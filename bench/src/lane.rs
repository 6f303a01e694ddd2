//! A bulk lane by splice(2): records of a fixed length whose header is read and sent again, while their
//! payload goes from socket to socket through a kernel pipe and never comes to user space.
//!
//! Here: what such a lane costs, framing included, with plain system calls and epoll(7). Not here: a relay.
//! It is the experiment that says whether our relay should have such a lane (docs/benchmarks.md).
//!
//! A record is complete in the pipe before its header leaves, so that a slow sender never holds the receiver
//! inside a record.
//!
//! Bound: a pipe of 1 MiB for each direction of a connection, which a record has to fit in.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Bytes of a record's header, as long as ours.
pub const HEADER_BYTES: usize = 12;
/// What a kernel pipe holds; more takes privileges (`fs.pipe-max-size`).
const PIPE_BYTES: usize = 1 << 20;
/// Events of one look.
const EVENTS_MAX: usize = 64;
/// The listener's place among the connections.
const LISTENER: u64 = u64::MAX;

/// One direction of a connection.
#[derive(Debug)]
struct Way {
    /// Reading end, writing end.
    pipe: (OwnedFd, OwnedFd),
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that were read.
    header_read: usize,
    /// Bytes of the header that were sent, once the payload is complete.
    header_sent: usize,
    /// Bytes in the pipe.
    waiting: usize,
    /// The payload is complete.
    is_leaving: bool,
}

impl Way {
    fn new() -> io::Result<Self> {
        let pipe = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        fcntl_setpipe_size(&pipe.1, PIPE_BYTES)?;
        Ok(Self {
            pipe,
            header: [0; HEADER_BYTES],
            header_read: 0,
            header_sent: 0,
            waiting: 0,
            is_leaving: false,
        })
    }

    /// Moves what can be moved; false when the sender has ended.
    fn pump(&mut self, from: &TcpStream, to: &TcpStream, record: usize) -> io::Result<bool> {
        loop {
            let moved = if self.is_leaving && self.header_sent < HEADER_BYTES {
                self.send_header(to)
            } else if self.is_leaving {
                self.drain(to)
            } else if self.header_read == HEADER_BYTES {
                self.fill(from, record - HEADER_BYTES)
            } else {
                self.read_header(from)
            };
            match moved {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    fn read_header(&mut self, mut from: &TcpStream) -> io::Result<usize> {
        let read = from.read(&mut self.header[self.header_read..])?;
        self.header_read += read;
        Ok(read)
    }

    fn fill(&mut self, from: &TcpStream, payload: usize) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let rest = payload - self.waiting;
        let moved = splice(from, None, &self.pipe.1, None, rest, flags)?;
        self.waiting += moved;
        self.is_leaving = self.waiting == payload;
        Ok(moved)
    }

    fn send_header(&mut self, to: &TcpStream) -> io::Result<usize> {
        let rest = &self.header[self.header_sent..];
        let sent = send(to, rest, SendFlags::MORE | SendFlags::NOSIGNAL)?;
        self.header_sent += sent;
        Ok(sent)
    }

    fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(&self.pipe.0, None, to, None, self.waiting, flags)?;
        self.waiting -= moved;
        if self.waiting == 0 {
            (self.header_read, self.header_sent) = (0, 0);
            self.is_leaving = false;
        }
        Ok(moved)
    }
}

/// A connection and the one it is carried to, with both directions.
#[derive(Debug)]
struct Pair {
    ends: [TcpStream; 2],
    ways: [Way; 2],
}

/// Carries records of `record` bytes from connections to `listener` on to `target`, until a system call of
/// its own fails. A connection that fails or ends is closed with its other half.
///
/// # Errors
/// The system call that failed.
pub fn run(listener: &TcpListener, target: SocketAddr, record: usize) -> io::Result<()> {
    if record <= HEADER_BYTES {
        let why = format!("a record is longer than its header of {HEADER_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let data = EventData::new_u64(LISTENER);
    epoll::add(&poll, listener, data, EventFlags::IN)?;
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        let wait = epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None);
        if wait != Err(Errno::INTR) {
            wait?;
        }
        for event in events.drain(..) {
            if event.data.u64() == LISTENER {
                let place = u64::try_from(pairs.len()).unwrap_or(LISTENER);
                pairs.push(Some(accept(listener, target, &poll, place)?));
                continue;
            }
            let place = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            if let Some(slot) = pairs.get_mut(place) {
                serve(slot, record);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    target: SocketAddr,
    poll: &OwnedFd,
    place: u64,
) -> io::Result<Pair> {
    let (from, _) = listener.accept()?;
    let ends = [from, TcpStream::connect(target)?];
    for end in &ends {
        end.set_nonblocking(true)?;
        end.set_nodelay(true)?;
        let both = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(poll, end, EventData::new_u64(place), both)?;
    }
    Ok(Pair {
        ends,
        ways: [Way::new()?, Way::new()?],
    })
}

/// Moves what can be moved either way; closes both halves when one has ended.
fn serve(slot: &mut Option<Pair>, record: usize) {
    let Some(Pair { ends, ways }) = slot else {
        return;
    };
    let [left, right] = ends;
    let [there, back] = ways;
    let lives = there.pump(left, right, record).unwrap_or(false)
        && back.pump(right, left, record).unwrap_or(false);
    if !lives {
        *slot = None;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    /// A lane to a listener of the test; both run until the test's process ends.
    fn lane(record: usize) -> (SocketAddr, TcpListener) {
        let far = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, target) = (near.local_addr().unwrap(), far.local_addr().unwrap());
        thread::spawn(move || run(&near, target, record));
        (address, far)
    }

    #[test]
    fn records_arrive_whole_and_in_order() {
        let (address, far) = lane(70_000);
        let mut near = TcpStream::connect(address).unwrap();
        let (mut other, _) = far.accept().unwrap();
        let bytes: Vec<u8> = (0..3 * 70_000_u32)
            .map(|n| n.to_le_bytes()[n as usize % 3])
            .collect();
        let sent = bytes.clone();
        let sender = thread::spawn(move || {
            near.write_all(&sent).unwrap();
            near
        });
        let mut got = vec![0; bytes.len()];
        other.read_exact(&mut got).unwrap();
        assert!(got == bytes);
        // And back.
        let mut near = sender.join().unwrap();
        other.write_all(&bytes[..70_000]).unwrap();
        let mut got = vec![0; 70_000];
        near.read_exact(&mut got).unwrap();
        assert!(got == bytes[..70_000]);
    }

    #[test]
    fn an_end_ends_the_other_half() {
        let (address, far) = lane(100);
        let near = TcpStream::connect(address).unwrap();
        let (mut other, _) = far.accept().unwrap();
        drop(near);
        assert_eq!(other.read(&mut [0; 8]).unwrap_or(0), 0);
    }

    #[test]
    fn a_record_without_payload_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let error = run(&listener, target, HEADER_BYTES).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
