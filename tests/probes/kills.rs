//! Connections that die in every phase of their life, with RST and with FIN.
//!
//! A survivor is the other end of whatever the victims have begun: it must be told, and go on.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use ringway_proto::frame::{Flags, Header};
use ringway_proto::reason::Reason;
use ringway_shards::set::Placement;

use crate::raw::{Begun, Event, Raw, connect, kill};
use crate::relay::{Options, Relay};

/// Victims of one phase and one way to die.
const VICTIMS: u32 = 30;

/// How a victim dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Fin,
    Rst,
}

/// What the survivor hears of one victim's death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// Its stream is reset.
    Reset(u32),
    /// Its open is refused, with 101: the destination is gone.
    Refused(u32),
}

/// How far the relay had come with a victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Handshake,
    /// The verdict may have come before the death or not.
    Either,
    Session,
}

struct Scene {
    relay: Relay,
    survivor: Raw,
    /// Shard of the victims.
    shard: u16,
    number: u32,
}

type Victim = (TcpStream, Told);

/// Brings one victim to the point where it dies: its name, what the relay counts, how.
type Phase = (&'static str, Counted, fn(&mut Scene) -> Victim);

const PHASES: [Phase; 16] = [
    ("before any byte", Counted::Handshake, Scene::silent),
    (
        "inside the length of message 1",
        Counted::Handshake,
        |scene| scene.inside_message_1(1),
    ),
    ("inside the key of message 1", Counted::Handshake, |scene| {
        scene.inside_message_1(20)
    }),
    (
        "before the last byte of message 1",
        Counted::Handshake,
        |scene| scene.inside_message_1(54),
    ),
    (
        "between message 1 and 3",
        Counted::Handshake,
        Scene::between_messages,
    ),
    (
        "inside message 3",
        Counted::Handshake,
        Scene::inside_message_3,
    ),
    (
        "right behind message 3",
        Counted::Either,
        Scene::behind_message_3,
    ),
    ("idle", Counted::Session, |scene| {
        (scene.victim().into_socket(), Told::Nothing)
    }),
    (
        "inside a frame header",
        Counted::Session,
        Scene::inside_header,
    ),
    (
        "inside a frame's payload",
        Counted::Session,
        Scene::inside_payload,
    ),
    (
        "inside an open request",
        Counted::Session,
        Scene::inside_request,
    ),
    ("opened but unanswered", Counted::Session, Scene::unanswered),
    (
        "asked but unanswering",
        Counted::Session,
        Scene::unanswering,
    ),
    ("bridged", Counted::Session, Scene::bridged),
    (
        "half-closed by the victim",
        Counted::Session,
        Scene::half_closed,
    ),
    (
        "half-closed by the survivor",
        Counted::Session,
        Scene::half_closed_there,
    ),
];

impl Scene {
    fn victim(&mut self) -> Raw {
        self.number += 1;
        self.relay.peer_on(self.shard, self.number)
    }

    fn begun(&mut self) -> Begun {
        self.number += 1;
        Begun::new(&self.relay, self.number)
    }

    fn silent(&mut self) -> Victim {
        (connect(self.relay.address()), Told::Nothing)
    }

    fn inside_message_1(&mut self, offset: usize) -> Victim {
        let mut begun = self.begun();
        begun.socket.write_all(&begun.message_1[..offset]).unwrap();
        (begun.socket, Told::Nothing)
    }

    fn between_messages(&mut self) -> Victim {
        let mut begun = self.begun();
        begun.send();
        (begun.answered().0.into_socket(), Told::Nothing)
    }

    fn inside_message_3(&mut self) -> Victim {
        let mut begun = self.begun();
        begun.send();
        let (mut raw, message_3) = begun.answered();
        raw.send(&message_3[..message_3.len() / 2]);
        (raw.into_socket(), Told::Nothing)
    }

    fn behind_message_3(&mut self) -> Victim {
        let mut begun = self.begun();
        begun.send();
        let (mut raw, message_3) = begun.answered();
        raw.send(&message_3);
        (raw.into_socket(), Told::Nothing)
    }

    fn inside_header(&mut self) -> Victim {
        let mut raw = self.victim();
        raw.send(&Header::data(1, Flags::SYN, 100).encode()[..5]);
        (raw.into_socket(), Told::Nothing)
    }

    fn inside_request(&mut self) -> Victim {
        let mut raw = self.victim();
        let request = raw.request(self.survivor.address());
        let (_, frames) = raw.sealed(&request);
        raw.send(&frames[..frames.len() / 2]);
        (raw.into_socket(), Told::Nothing)
    }

    fn unanswered(&mut self) -> Victim {
        let mut raw = self.victim();
        raw.open(self.survivor.address());
        let (far, _) = self.survivor.asked();
        (raw.into_socket(), Told::Reset(far))
    }

    fn unanswering(&mut self) -> Victim {
        let mut raw = self.victim();
        let open = self.survivor.open(raw.address());
        raw.asked();
        (raw.into_socket(), Told::Refused(open))
    }

    fn bridged(&mut self) -> Victim {
        let mut raw = self.victim();
        // Now as the one who opened, now as the one who was asked.
        let far = if self.number.is_multiple_of(2) {
            raw.bridge(&mut self.survivor).1
        } else {
            self.survivor.bridge(&mut raw).0
        };
        (raw.into_socket(), Told::Reset(far))
    }

    fn inside_payload(&mut self) -> Victim {
        let mut raw = self.victim();
        let (near, far) = raw.bridge(&mut self.survivor);
        let mut piece = Header::data(near, Flags::NONE, 1_000).encode().to_vec();
        piece.extend_from_slice(&[7; 300]);
        raw.send(&piece);
        (raw.into_socket(), Told::Reset(far))
    }

    fn half_closed(&mut self) -> Victim {
        let mut raw = self.victim();
        let (near, far) = raw.bridge(&mut self.survivor);
        raw.send_frame(Header::window_update(near, Flags::FIN, 0));
        while self.survivor.next() != Event::Finish(far) {}
        (raw.into_socket(), Told::Reset(far))
    }

    fn half_closed_there(&mut self) -> Victim {
        let mut raw = self.victim();
        let (near, far) = raw.bridge(&mut self.survivor);
        self.survivor
            .send_frame(Header::window_update(far, Flags::FIN, 0));
        while raw.next() != Event::Finish(near) {}
        (raw.into_socket(), Told::Reset(far))
    }

    /// Kills a crowd of one phase and checks what is left.
    fn kill_all(&mut self, (name, counted, phase): Phase, death: Death) {
        let (mut sockets, mut told) = (Vec::new(), Vec::new());
        for _ in 0..VICTIMS {
            let (socket, hears) = phase(self);
            sockets.push(socket);
            told.push(hears);
        }
        let what = format!("{name}, {death:?}");
        // Connecting does not wait for the relay to accept.
        let all = 1 + u64::from(VICTIMS);
        self.relay.until(&what, all, |shard| shard.audit.sockets);
        let before = self.ends();
        let mut corpses = Vec::new();
        for socket in sockets {
            match death {
                Death::Rst => kill(socket),
                Death::Fin => {
                    socket.shutdown(Shutdown::Write).unwrap();
                    corpses.push(socket);
                }
            }
        }
        self.relay.until(&what, 1, |shard| shard.audit.sockets);
        self.relay.until(&what, 0, |shard| {
            shard.audit.streams + shard.audit.handshakes + shard.audit.batches_in_flight
        });
        let after = self.ends();
        let ends = [0, 1, 2].map(|kind| after[kind] - before[kind]);
        let (handshakes, sessions) = match (counted, death) {
            (Counted::Handshake, _) => (ends[0], 0),
            (Counted::Session, Death::Fin) => (0, ends[1]),
            (Counted::Session, Death::Rst) => (0, ends[2]),
            (Counted::Either, Death::Fin) => (ends[0], ends[1]),
            (Counted::Either, Death::Rst) => (ends[0], ends[2]),
        };
        assert_eq!(
            handshakes + sessions,
            u64::from(VICTIMS),
            "{what}: {ends:?}"
        );
        self.hear(&what, told);
        self.relay.check_books();
    }

    /// Handshakes abandoned, sessions left, sessions lost so far.
    fn ends(&self) -> [u64; 3] {
        [
            self.relay.sum(|shard| shard.stats.handshakes_abandoned),
            self.relay.sum(|shard| shard.stats.sessions_left),
            self.relay.sum(|shard| shard.stats.sessions_lost),
        ]
    }

    /// The survivor is told what it must know, and nothing else, and is served.
    fn hear(&mut self, what: &str, told: Vec<Told>) {
        let (mut resets, mut refusals) = (BTreeSet::new(), BTreeSet::new());
        for event in self.survivor.ping(7) {
            match event {
                Event::Reset(id) => assert!(resets.insert(id)),
                Event::Response(id, reason) => {
                    assert_eq!(reason, Reason::UnknownDestination, "{what}");
                    assert!(refusals.insert(id));
                }
                // What a victim had sent before it died.
                Event::Data(..) => {}
                event => panic!("{what}: {event:?}"),
            }
        }
        for hears in told {
            match hears {
                Told::Nothing => {}
                Told::Reset(id) => assert!(resets.remove(&id), "{what}: no reset of {id}"),
                Told::Refused(id) => assert!(refusals.remove(&id), "{what}: no refusal of {id}"),
            }
        }
        assert!(resets.is_empty() && refusals.is_empty(), "{what}");
    }
}

fn kill_in_every_phase(shards_count: u16) {
    let mut options = Options::shards(shards_count);
    // The scene chooses its shard by trying.
    options.placement = Placement::Reuseport;
    // What ends here ends by death.
    options.timeouts.handshake = Duration::from_secs(3_600);
    options.timeouts.open = Duration::from_secs(3_600);
    let relay = Relay::start(options);
    let survivor = relay.peer_on(0, 0);
    let mut scene = Scene {
        relay,
        survivor,
        shard: shards_count - 1,
        number: 0,
    };
    scene.relay.until("sockets", 1, |shard| shard.audit.sockets);
    for phase in PHASES {
        for death in [Death::Rst, Death::Fin] {
            scene.kill_all(phase, death);
        }
    }
    let Scene {
        relay, survivor, ..
    } = scene;
    survivor.kill();
    relay.until_empty();
    relay.end();
}

#[test]
fn connections_killed_in_every_phase_leave_nothing_on_one_shard() {
    kill_in_every_phase(1);
}

#[test]
fn connections_killed_in_every_phase_leave_nothing_across_two_shards() {
    kill_in_every_phase(2);
}

#[test]
fn connections_that_are_gone_before_they_are_accepted_leave_nothing() {
    let mut options = Options::shards(2);
    // A reset right behind the bytes may be lost in the kernel (docs/internals/uring.md I); what remains is
    // ended by this.
    options.timeouts.handshake = Duration::from_secs(10);
    let relay = Relay::start(options);
    for number in 0..500 {
        let mut socket = connect(relay.address());
        if number % 2 == 0 {
            socket.write_all(&[0, 53, 1, 2, 3]).unwrap();
        }
        kill(socket);
    }
    // Each is accepted, in vain, or was dropped in the kernel's queue; these come behind all of them, by both
    // listeners. Wherever they are, they are served.
    let mut peers: Vec<_> = (0..16)
        .map(|number| Raw::admitted(&relay, number))
        .collect();
    if let [first, second, third, ..] = &mut peers[..] {
        let _ends = (first.bridge(second), first.bridge(third));
    }
    relay.until("handshakes", 0, |shard| shard.audit.handshakes);
    relay.until("sockets", 16, |shard| shard.audit.sockets);
    drop(peers);
    relay.until_empty();
    relay.end();
}
