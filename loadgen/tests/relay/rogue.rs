//! Servers of the dmsg dialect that misbehave: each ends in a named failure, and none holds a run.
//!
//! Here: a small server that does what a test wants at one stage. Not here: the relay.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;

use ringway_loadgen::failures::Failures;
use ringway_loadgen::plan::OpensTo;
use ringway_proto::dialect::{Dialect, RequestHash};
use ringway_proto::dmsg::handshake::{Established, Responder};
use ringway_proto::dmsg::open::StreamResponse;
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};

use super::dmsg::identity;
use super::*;

/// What a server does at its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Says nothing.
    Hang,
    /// Closes in good order.
    Close,
    /// Closes without reading what is there, which resets the connection.
    Reset,
    /// Sends what is nothing.
    Garbage,
}

const DEEDS: [Deed; 4] = [Deed::Hang, Deed::Close, Deed::Reset, Deed::Garbage];

impl Deed {
    /// Does it, and returns when the client is gone.
    fn commit(self, mut stream: &TcpStream) -> io::Result<()> {
        match self {
            Self::Hang => {}
            Self::Close => stream.shutdown(Shutdown::Write)?,
            Self::Reset => {
                stream.peek(&mut [0])?;
                return Ok(());
            }
            Self::Garbage => stream.write_all(&[0xff; 600])?,
        }
        io::copy(&mut stream, &mut io::sink()).map(drop)
    }
}

/// A server of one kind.
struct Rogue {
    relay: RelayAddress,
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Rogue {
    /// Starts a server that does `serve` with each connection, on a thread of its own. Errors of a connection
    /// are the client's affair.
    fn start(serve: impl Fn(&TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let relay = RelayAddress {
            key: identity(9).public(),
            socket: listener.local_addr().expect("loopback"),
        };
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            thread::scope(|scope| {
                for stream in listener.incoming().map_while(Result::ok) {
                    if ends.load(Ordering::Acquire) {
                        return;
                    }
                    let serve = &serve;
                    scope.spawn(move || drop(serve(&stream)));
                }
            });
        });
        Self {
            relay,
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        drop(TcpStream::connect(self.relay.socket));
        let thread = self.thread.take().expect("one end");
        let ended = thread.join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

/// Takes a handshake message without its length.
fn read_message(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Does the whole handshake.
fn shake(mut stream: &TcpStream) -> io::Result<Established> {
    let mut responder = Responder::new(&identity(9), [3; 32]);
    let answer = responder.message_1(&read_message(stream)?);
    stream.write_all(&answer.map_err(io::Error::other)?)?;
    let established = responder.message_3(&read_message(stream)?);
    established.map_err(io::Error::other)
}

/// A session that answers pings.
fn pong(stream: &TcpStream) -> io::Result<()> {
    loop {
        let (header, _) = read_frame(stream)?;
        if header.kind == FrameKind::Ping {
            return send(stream, Header::ping(Flags::ACK, header.length), &[]);
        }
    }
}

fn read_frame(mut stream: &TcpStream) -> io::Result<(Header, Vec<u8>)> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header)?;
    let header = Header::decode(&header).map_err(io::Error::other)?;
    let mut payload = vec![0; usize::try_from(header.payload_bytes()).map_err(io::Error::other)?];
    stream.read_exact(&mut payload)?;
    Ok((header, payload))
}

fn send(mut stream: &TcpStream, header: Header, payload: &[u8]) -> io::Result<()> {
    let mut frame = header.encode().to_vec();
    frame.extend_from_slice(payload);
    stream.write_all(&frame)
}

/// Returns the names of what failed in a run that does not last long.
fn failures(scenario: Scenario, rogue: &Rogue, change: impl FnOnce(&mut Plan)) -> Vec<String> {
    let mut plan = plan(scenario, rogue.relay);
    plan.sessions = 2;
    plan.concurrency = 2;
    plan.relay_pid = None;
    // On a busy machine nothing but what is meant to hang may take too long.
    plan.dmsg.patience = Duration::from_secs(60);
    change(&mut plan);
    let failures = match carry_out(&plan) {
        Ok(outcome) => {
            assert_eq!(Verdict::of(&outcome), Verdict::Failed);
            outcome.tally.failures
        }
        Err(RunError::Setup { failures, .. }) => failures,
        // No test expects it.
        Err(error) => {
            let mut failures = Failures::default();
            failures.count(&error.to_string());
            failures
        }
    };
    let names = failures.iter().map(|(name, _)| name.to_owned());
    let names: Vec<_> = names.collect();
    assert!(!names.is_empty());
    names
}

/// Lets a server that hangs be given up.
fn hurry(plan: &mut Plan) {
    plan.dmsg.patience = Duration::from_millis(100);
}

/// Checks that every name begins with one of `starts`.
fn are(names: &[String], starts: &[&str]) {
    for name in names {
        let is_it = starts.iter().any(|start| name.starts_with(start));
        assert!(is_it, "{names:?}: none of {starts:?}");
    }
}

#[test]
fn a_server_that_goes_wrong_behind_message_1_is_named() {
    for deed in DEEDS {
        let rogue = Rogue::start(move |stream| deed.commit(stream));
        let starts: &[&str] = match deed {
            Deed::Hang => &["handshake: no answer in 100ms"],
            Deed::Close => &["handshake, behind message 1: closed by the other side"],
            Deed::Reset => &["handshake, behind message 1: Connection reset", "send: "],
            Deed::Garbage => &["handshake: message length"],
        };
        for scenario in [Scenario::Handshakes, Scenario::Idle] {
            let names = failures(scenario, &rogue, |plan| {
                if deed == Deed::Hang {
                    hurry(plan);
                }
            });
            are(&names, starts);
        }
    }
}

#[test]
fn a_server_that_is_another_one_is_named() {
    let rogue = Rogue::start(|mut stream| {
        read_message(stream)?;
        // A well-formed message 2 of nobody.
        stream.write_all(&[0, 49])?;
        stream.write_all(&[2; 49])?;
        Deed::Hang.commit(stream)
    });
    let names = failures(Scenario::Idle, &rogue, |_| {});
    are(&names, &["handshake: not that relay"]);
}

#[test]
fn a_server_that_goes_wrong_behind_message_3_is_named() {
    for deed in DEEDS {
        let rogue = Rogue::start(move |stream| {
            shake(stream)?;
            deed.commit(stream)
        });
        let starts: &[&str] = match deed {
            Deed::Hang => &["handshake: no answer in 100ms"],
            // As Go's servers of 2024 end a session whose first bytes come too early.
            Deed::Close => &["handshake, behind message 3 (see --ping-after): closed"],
            Deed::Reset => &[
                "handshake, behind message 3 (see --ping-after): Connection reset",
                "send: ",
            ],
            Deed::Garbage => &["protocol: frame header"],
        };
        for scenario in [Scenario::Handshakes, Scenario::Idle] {
            let names = failures(scenario, &rogue, |plan| {
                if deed == Deed::Hang {
                    hurry(plan);
                }
            });
            are(&names, starts);
        }
    }
}

#[test]
fn a_session_that_is_told_to_go_is_refused() {
    let rogue = Rogue::start(|stream| {
        shake(stream)?;
        let mut go_away = Header::ping(Flags::NONE, 203);
        go_away.kind = FrameKind::GoAway;
        send(stream, go_away, &[])?;
        Deed::Hang.commit(stream)
    });
    let names = failures(Scenario::Idle, &rogue, |_| {});
    are(&names, &["session refused: 203 too_many_sessions"]);
}

#[test]
fn the_answer_to_another_ping_is_no_sign_of_life() {
    let rogue = Rogue::start(|stream| {
        shake(stream)?;
        send(stream, Header::ping(Flags::ACK, 7_777), &[])?;
        Deed::Hang.commit(stream)
    });
    let names = failures(Scenario::Idle, &rogue, hurry);
    are(&names, &["handshake: no answer in 100ms"]);
}

/// A server whose sessions stand, and that does `answer` with the first object of each stream.
fn answering(
    answer: impl Fn(&TcpStream, &mut Established, u32, Vec<u8>) -> io::Result<()>
    + Send
    + Sync
    + 'static,
) -> Rogue {
    Rogue::start(move |stream| {
        let mut session = shake(stream)?;
        pong(stream)?;
        loop {
            let (header, payload) = read_frame(stream)?;
            if header.flags.contains(Flags::SYN) && header.kind == FrameKind::WindowUpdate {
                let ack = Header::window_update(header.stream_id, Flags::ACK, 0);
                send(stream, ack, &[])?;
            } else if header.kind == FrameKind::Data {
                answer(stream, &mut session, header.stream_id, payload)?;
            }
        }
    })
}

#[test]
fn opens_that_are_reset_or_closed_are_refused() {
    for (flags, name) in [
        (Flags::RST, "open refused: reset"),
        (Flags::FIN, "open refused: closed"),
    ] {
        let rogue = answering(move |stream, _, id, _| {
            send(stream, Header::window_update(id, flags, 0), &[])
        });
        are(&failures(Scenario::Steady, &rogue, |_| {}), &[name]);
        are(&failures(Scenario::Opens, &rogue, |_| {}), &[name]);
        // What nobody could accept is what such a run is about.
        let mut plan = plan(Scenario::Opens, rogue.relay);
        plan.opens_to = OpensTo::Nobody;
        plan.relay_pid = None;
        plan.pace = Some(constant(200));
        assert!(complete(&plan).tally.rounds > 0);
    }
}

#[test]
fn opens_without_an_answer_are_given_up() {
    let rogue = answering(|_, _, _, _| Ok(()));
    for to in [OpensTo::Peer, OpensTo::Nobody] {
        let names = failures(Scenario::Opens, &rogue, |plan| {
            plan.opens_to = to;
            // The handshakes before have to be in time.
            plan.dmsg.patience = Duration::from_secs(3);
            plan.duration = Duration::from_secs(4);
        });
        are(
            &names,
            &["open: no answer in 3s", "open: no answer until the end"],
        );
        assert!(names[0].contains("in 3s"), "{names:?}");
    }
}

#[test]
fn a_session_without_an_answer_at_the_end_is_a_failure() {
    let rogue = Rogue::start(|stream| Deed::Hang.commit(stream));
    let names = failures(Scenario::Handshakes, &rogue, |plan| {
        plan.duration = Duration::from_millis(100);
    });
    are(&names, &["handshake: no answer until the end"]);
}

#[test]
fn objects_that_are_no_answers_end_the_session_by_name() {
    type Answer = fn(&mut Established, Vec<u8>) -> Vec<u8>;
    let cases: [(&str, Answer); 5] = [
        ("protocol: sealed object", |_, _| vec![0, 5, 1, 2, 3, 4, 5]),
        ("protocol: response does not open", |_, _| {
            let mut object = vec![0, 100];
            object.resize(102, 7);
            object
        }),
        ("protocol: response", |session, _| {
            seal(
                session,
                b"no signed object at all, but as long as one would have to be",
            )
        }),
        ("protocol: response to another request", |session, _| {
            let response = StreamResponse::accept(RequestHash([7; 32]), &[2; 49]);
            sign(session, &response)
        }),
        // Only the destination could have signed it.
        ("open: signature", |session, mut object| {
            let request = session.opener.open(&mut object[2..]).expect("its request");
            let hash = Dialect::Dmsg.request_hash(request);
            sign(session, &StreamResponse::accept(hash, &[2; 49]))
        }),
    ];
    for (name, object) in cases {
        let rogue = answering(move |stream, session, id, request| {
            let object = object(session, request);
            let length = u32::try_from(object.len()).map_err(io::Error::other)?;
            send(stream, Header::data(id, Flags::NONE, length), &object)
        });
        let names = failures(Scenario::Steady, &rogue, |plan| plan.streams = 1);
        are(&names, &[name, "stream: its session ended"]);
        assert!(names.iter().any(|it| it == name), "{names:?}");
    }
}

fn sign(session: &mut Established, response: &StreamResponse<'_>) -> Vec<u8> {
    let signed = response.encode(identity(9).secret());
    seal(session, &signed.expect("short enough"))
}

fn seal(session: &mut Established, plain: &[u8]) -> Vec<u8> {
    let mut object = Vec::new();
    session
        .sealer
        .seal(plain, &mut object)
        .expect("short enough");
    object
}

#[test]
fn frames_of_nobody_and_garbage_end_the_session_by_name() {
    for (frame, name) in [
        // The dialer is asked for a stream.
        (
            Header::window_update(2, Flags::SYN, 0).encode(),
            "protocol: unexpected open",
        ),
        ([9; HEADER_LEN], "protocol: frame header"),
    ] {
        let rogue = Rogue::start(move |mut stream| {
            shake(stream)?;
            pong(stream)?;
            stream.write_all(&frame)?;
            Deed::Hang.commit(stream)
        });
        let names = failures(Scenario::Idle, &rogue, |plan| {
            plan.duration = Duration::from_millis(400);
        });
        are(&names, &[name]);
    }
}
