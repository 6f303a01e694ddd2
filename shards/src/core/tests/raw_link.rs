//! A relay that speaks on its link whatever it likes.

use std::time::Duration;

use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::handshake::{Initiator, InitiatorEstablished, Role, message_len};
use ringway_proto::key::{Address, SecretKey};
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::peer_set::{PeerSet, RawKey};
use ringway_proto::reason::Reason;
use ringway_proto::sealed::object_len;
use ringway_proto::verdict::Verdict;

use super::harness::{Harness, secret};
use crate::core::{AllowedRelays, Directory};

/// The far side of a link, by hand.
struct RawLink {
    harness: Harness,
    wire: usize,
    keys: InitiatorEstablished,
    /// What has come and was not looked at.
    input: Vec<u8>,
}

/// The relay whose key is made from this byte is the one by hand.
const OWN: u8 = 150;

fn raw(byte: u8) -> RawKey {
    *secret(byte).public().as_bytes().first_chunk().unwrap()
}

impl RawLink {
    fn new() -> Self {
        let mut harness = Harness::with(1, |config| config.mesh.allowed = AllowedRelays::All);
        let wire = harness.connect_raw(0);
        let relay: SecretKey = secret(200);
        let begun = Initiator::new(&secret(OWN), &relay.public(), Role::Relay, &[], [7; 32]);
        let (initiator, first) = begun.unwrap();
        harness.inject(wire, &first);
        harness.run();
        let second = std::mem::take(&mut harness.wires[wire].raw);
        assert_eq!(message_len(&second), Ok(Some(second.len())));
        let (third, mut keys) = initiator.message_2(&second[2..]).unwrap();
        harness.inject(wire, &third);
        harness.run();
        let mut input = std::mem::take(&mut harness.wires[wire].raw);
        let length = object_len(&input).unwrap().unwrap();
        let mut verdict: Vec<u8> = input.drain(..length).collect();
        let verdict = Verdict::decode(keys.opener.open(&mut verdict[2..]).unwrap()).unwrap();
        assert_eq!(verdict, Verdict::ACCEPTED);
        Self {
            harness,
            wire,
            keys,
            input,
        }
    }

    fn send(&mut self, header: Header, payload: &[u8]) {
        let frame = [&header.encode()[..], payload].concat();
        self.harness.inject(self.wire, &frame);
        self.harness.run();
    }

    fn send_object(&mut self, id: u32, plain: &[u8]) {
        let mut object = Vec::new();
        self.keys.sealer.seal(plain, &mut object).unwrap();
        let length = u32::try_from(object.len()).unwrap();
        self.send(Header::data(id, Flags::NONE, length), &object);
    }

    /// Tells who its peers are.
    fn tell(&mut self, is_anew: bool, sequence: u64, appeared: &[RawKey], gone: &[RawKey]) {
        let set = PeerSet::new(is_anew, sequence, appeared, gone).unwrap();
        self.send_object(1, &set.encode());
    }

    /// Returns the objects that have come on a stream.
    fn objects(&mut self, id: u32) -> Vec<Vec<u8>> {
        let raw = std::mem::take(&mut self.harness.wires[self.wire].raw);
        self.input.extend_from_slice(&raw);
        let mut objects = Vec::new();
        while let Some(header) = self.input.first_chunk::<HEADER_LEN>() {
            let header = Header::decode(header).unwrap();
            let is_data = header.kind == FrameKind::Data;
            let payload = if is_data { header.length as usize } else { 0 };
            let mut frame: Vec<u8> = self.input.drain(..HEADER_LEN + payload).collect();
            if is_data {
                let plain = self.keys.opener.open(&mut frame[HEADER_LEN + 2..]).unwrap();
                if header.stream_id == id {
                    objects.push(plain.to_vec());
                }
            }
        }
        objects
    }

    fn holders(&self, byte: u8) -> usize {
        let key = secret(byte).public();
        self.harness.directory.holders(&key).len()
    }

    fn is_up(&self) -> bool {
        self.harness.cores[0].stats().links_current == 1
    }

    fn closed_for(&self, reason: Reason) -> u64 {
        self.harness.cores[0].stats().links_closed.of(reason)
    }

    fn finish(mut self) {
        self.harness.assert_clean();
    }
}

#[test]
fn gap_is_noticed_and_the_set_asked_for_anew() {
    let mut link = RawLink::new();
    // Before a set has begun nothing is believed.
    link.tell(false, 5, &[raw(1)], &[]);
    assert_eq!(link.holders(1), 0);
    link.tell(true, 6, &[raw(1), raw(2)], &[]);
    link.tell(false, 7, &[raw(3)], &[raw(1)]);
    assert_eq!([1, 2, 3].map(|byte| link.holders(byte)), [0, 1, 1]);
    link.objects(2);
    // Number 8 is missing: what it said is not known, what was said before is still believed.
    link.tell(false, 9, &[raw(4)], &[raw(2)]);
    assert_eq!([2, 3, 4].map(|byte| link.holders(byte)), [1, 1, 0]);
    let asked = link.objects(2);
    let asks = |object: &Vec<u8>| PeerSet::decode(object).unwrap().wants_anew;
    assert_eq!(asked.iter().filter(|object| asks(object)).count(), 1);
    link.tell(false, 10, &[raw(5)], &[]);
    assert_eq!(link.objects(2).len(), 0, "asked once");
    link.tell(true, 11, &[raw(4)], &[]);
    assert_eq!([2, 3, 4].map(|byte| link.holders(byte)), [0, 0, 1]);
    assert_eq!(link.harness.cores[0].stats().peer_sets_missed, 1);
    link.finish();
}

#[test]
fn last_number_there_is_has_no_successor() {
    let mut link = RawLink::new();
    link.tell(true, u64::MAX, &[raw(1)], &[]);
    assert_eq!(link.holders(1), 1);
    link.tell(false, 0, &[raw(2)], &[]);
    assert_eq!(link.holders(2), 0);
    link.tell(true, 0, &[raw(2)], &[]);
    assert_eq!([1, 2].map(|byte| link.holders(byte)), [0, 1]);
    assert!(link.is_up());
    link.finish();
}

#[test]
fn set_is_told_again_when_it_is_asked_for() {
    let mut link = RawLink::new();
    let peers: Vec<usize> = (1..=30).map(|byte| link.harness.connect(byte, 0)).collect();
    let first = link.objects(2);
    assert!(PeerSet::decode(&first[0]).unwrap().is_anew);
    link.harness.end(peers[0], crate::core::RecvEnd::Eof);
    link.objects(2);
    let asking = PeerSet::new(true, 0, &[], &[]).unwrap().asking_anew();
    link.send_object(1, &asking.encode());
    let again = link.objects(2);
    let sets: Vec<PeerSet<'_>> = again
        .iter()
        .map(|set| PeerSet::decode(set).unwrap())
        .collect();
    assert!(sets[0].is_anew && sets[1..].iter().all(|set| !set.is_anew));
    assert_eq!(
        sets.iter().map(|set| set.appeared().count()).sum::<usize>(),
        29
    );
    assert!(
        sets.windows(2)
            .all(|pair| pair[1].sequence == pair[0].sequence + 1)
    );
    link.finish();
}

#[test]
fn forged_request_is_refused_and_the_link_stands() {
    let mut link = RawLink::new();
    let victim = link.harness.connect(9, 0);
    let request = |signer: u8, forwarded| {
        let request = OpenRequest {
            forwarded,
            timestamp_ns: 1_700_000_000_000_000_000,
            source: Address::new(secret(1).public(), 50_000),
            destination: Address::new(secret(9).public(), 80),
            noise: &[5; 48],
        };
        request.encode(&secret(signer)).unwrap()
    };
    for (id, signer, forwarded, reason) in [
        (3, 2, true, Some(Reason::BadSignature)),
        // A relay speaks for others only with the flag.
        (5, 1, false, Some(Reason::NotAllowed)),
        (7, 1, true, None),
    ] {
        link.send(Header::window_update(id, Flags::SYN, 0), &[]);
        link.send_object(id, &request(signer, forwarded));
        let answers = link.objects(id);
        let code = answers
            .first()
            .map(|answer| OpenResponse::decode(answer).unwrap().reason_code);
        assert_eq!(code, reason.map(Reason::code), "stream {id}");
    }
    assert!(link.is_up());
    let events = link.harness.take_events(victim);
    let incoming = |event: &&ringway_proto::peer::PeerEvent| {
        matches!(event, ringway_proto::peer::PeerEvent::Incoming { .. })
    };
    assert_eq!(events.iter().filter(incoming).count(), 1, "the honest one");
    link.harness.pass(Duration::from_secs(6));
    link.finish();
}

#[test]
fn destination_that_is_not_here_is_not_looked_for_elsewhere() {
    let mut link = RawLink::new();
    let request = OpenRequest {
        forwarded: true,
        timestamp_ns: 1,
        source: Address::new(secret(1).public(), 50_000),
        destination: Address::new(secret(9).public(), 80),
        noise: &[5; 48],
    };
    // This link itself is said to be the way to it.
    link.tell(true, 0, &[raw(9)], &[]);
    link.send(Header::window_update(3, Flags::SYN, 0), &[]);
    link.send_object(3, &request.encode(&secret(1)).unwrap());
    let answers = link.objects(3);
    let answer = OpenResponse::decode(&answers[0]).unwrap();
    assert_eq!(answer.reason_code, Reason::ForwardedTwice.code());
    assert_eq!(link.harness.cores[0].stats().forwards_sent, 0);
    link.finish();
}

#[test]
fn what_does_not_belong_on_the_first_streams_ends_the_link() {
    let wrong: [fn(&mut RawLink); 7] = [
        |link| link.send(Header::data(1, Flags::FIN, 0), &[]),
        |link| link.send(Header::window_update(1, Flags::RST, 0), &[]),
        |link| link.send(Header::window_update(2, Flags::RST, 0), &[]),
        |link| link.send(Header::data(2, Flags::NONE, 4), &[1; 4]),
        |link| link.send(Header::window_update(1, Flags::SYN, 0), &[]),
        |link| link.send_object(1, &Verdict::ACCEPTED.encode()),
        |link| link.send(Header::window_update(2, Flags::NONE, u32::MAX), &[]),
    ];
    for (number, send) in wrong.iter().enumerate() {
        let mut link = RawLink::new();
        link.tell(true, 0, &[raw(1)], &[]);
        send(&mut link);
        assert!(!link.is_up(), "case {number}");
        assert_eq!(link.closed_for(Reason::ProtocolError), 1, "case {number}");
        link.harness.run();
        assert_eq!(link.holders(1), 0, "case {number}");
        link.finish();
    }
}

#[test]
fn relay_that_tells_without_end_is_granted_only_what_was_read() {
    let mut link = RawLink::new();
    link.tell(true, 0, &[], &[]);
    let mut granted = 0;
    for sequence in 1..3_000 {
        let keys: Vec<RawKey> = (0..12).map(|byte| raw(byte + 1)).collect();
        let (appeared, gone) = if sequence % 2 == 0 {
            (&keys[..], &[][..])
        } else {
            (&[][..], &keys[..])
        };
        link.tell(false, sequence, appeared, gone);
        granted += 1;
    }
    assert!(link.is_up(), "{granted} sets, four windows of them");
    assert_eq!(link.harness.cores[0].stats().announced_current, 0);
    link.finish();
}
