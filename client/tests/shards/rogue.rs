//! A party of the dmsg dialect that shakes hands as it should and then seals records as it should not.

use std::io::ErrorKind;

use ringway_client::{Address, Client, Config, DmsgSecretKey, NativeAead, Stream};
use ringway_proto::dialect::peer::Identity;
use ringway_proto::dmsg::record::RecordSealer;
use ringway_proto::kk::RecordKeys;
use ringway_proto::peer::{PeerConfig, PeerEvent, PeerSession, StreamId};
use ringway_proto::time::Now;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dmsg::start;
use crate::relay::Relay;

/// The rogue's side of one session.
struct Rogue {
    session: PeerSession,
    socket: TcpStream,
    now: Now,
}

impl Rogue {
    async fn connect(relay: &Relay) -> Self {
        let socket = TcpStream::connect(relay.address.socket).await;
        let now = Now::from_nanos(1);
        let session = PeerSession::connect(
            identity(220),
            relay.address.key,
            PeerConfig::new(1_700_000_000_000_000_000),
            [221; 32],
            now,
        );
        let mut rogue = Self {
            session: session.expect("a key of the relay's dialect"),
            socket: socket.expect("a connection"),
            now,
        };
        while !matches!(rogue.event().await, PeerEvent::Ready { .. }) {}
        rogue
    }

    /// Waits for the next event.
    async fn event(&mut self) -> PeerEvent {
        let mut buffer = [0; 4_096];
        loop {
            self.send().await;
            if let Some(event) = self.session.poll_event() {
                return event;
            }
            let read = self.socket.read(&mut buffer).await.expect("a read");
            assert!(read > 0, "the relay has ended the session");
            let received = self.session.receive(&buffer[..read], self.now);
            received.expect("the relay keeps the rules");
        }
    }

    async fn send(&mut self) {
        let mut out = Vec::new();
        self.session.transmit(&mut out, usize::MAX);
        self.socket.write_all(&out).await.expect("a write");
    }

    /// Accepts the next open.
    async fn accept(&mut self) -> (StreamId, RecordKeys) {
        loop {
            if let PeerEvent::Incoming {
                stream, request, ..
            } = self.event().await
            {
                let keys = self.session.accept(stream, request, [222; 32]);
                self.send().await;
                return (stream, keys.expect("an honest request"));
            }
        }
    }
}

fn identity(byte: u8) -> Identity {
    DmsgSecretKey::from_bytes([byte; 32])
        .expect("a scalar of the curve")
        .into()
}

/// Returns what the reader of a stream meets whose sender writes what `make` returns and then, if it
/// `is_cut`, ends.
async fn met_by(
    make: impl FnOnce(RecordSealer<NativeAead>) -> Vec<u8>,
    is_cut: bool,
) -> (Vec<u8>, ErrorKind) {
    let relay = start(1);
    let mut rogue = Rogue::connect(&relay).await;
    let client = Client::connect(identity(223), Config::new([relay.address])).await;
    let client = client.expect("a session");
    let destination = Address::new(identity(220).public(), 80);
    let (dialled, accepted) = tokio::join!(client.dial(destination), rogue.accept());
    let (mut stream, (id, keys)) = (dialled.expect("a dial"), accepted);
    let bytes = make(RecordSealer::new(NativeAead::new(&keys.seal)));
    let written = rogue.session.write(id, &bytes);
    assert_eq!(written, Ok(bytes.len()));
    if is_cut {
        rogue.session.finish(id).expect("an open stream");
    }
    rogue.send().await;
    let met = read_to_error(&mut stream).await;
    if met.1 == ErrorKind::InvalidData {
        // Whoever seals wrongly is told so.
        while !matches!(rogue.event().await, PeerEvent::Reset { stream } if stream == id) {}
    }
    drop(stream);
    client.close().await;
    drop(rogue);
    relay.end();
    met
}

async fn read_to_error(stream: &mut Stream) -> (Vec<u8>, ErrorKind) {
    let mut heard = Vec::new();
    let error = stream.read_to_end(&mut heard).await;
    (heard, error.expect_err("a record that is none").kind())
}

fn record(sealer: &mut RecordSealer<NativeAead>, plain: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    sealer.seal(plain, &mut wire).expect("a short record");
    wire
}

#[tokio::test]
async fn a_record_seen_before_resets_the_stream() {
    let twice = |mut sealer| record(&mut sealer, b"once").repeat(2);
    let met = met_by(twice, false).await;
    assert_eq!(met, (b"once".to_vec(), ErrorKind::InvalidData));
}

#[tokio::test]
async fn a_record_longer_than_any_resets_the_stream_before_it_is_there() {
    let too_long = |mut sealer| [record(&mut sealer, b"good"), vec![0x0f, 0xff]].concat();
    let met = met_by(too_long, false).await;
    assert_eq!(met, (b"good".to_vec(), ErrorKind::InvalidData));
}

#[tokio::test]
async fn a_changed_record_resets_the_stream() {
    let changed = |mut sealer| {
        let mut wire = record(&mut sealer, b"good");
        let mut second = record(&mut sealer, b"bad");
        *second.last_mut().expect("a tag") ^= 1;
        wire.append(&mut second);
        wire
    };
    let met = met_by(changed, false).await;
    assert_eq!(met, (b"good".to_vec(), ErrorKind::InvalidData));
}

#[tokio::test]
async fn an_end_inside_a_record_is_no_end() {
    let cut = |mut sealer| {
        let mut wire = record(&mut sealer, b"whole");
        let second = record(&mut sealer, b"cut");
        wire.extend_from_slice(&second[..second.len() - 1]);
        wire
    };
    let met = met_by(cut, true).await;
    assert_eq!(met, (b"whole".to_vec(), ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn records_may_be_left_out_but_not_come_back() {
    let left_out = |mut sealer| {
        let first = record(&mut sealer, b"1");
        let second = record(&mut sealer, b"2");
        let third = record(&mut sealer, b"3");
        [first, third, second].concat()
    };
    let met = met_by(left_out, false).await;
    assert_eq!(met, (b"13".to_vec(), ErrorKind::InvalidData));
}
