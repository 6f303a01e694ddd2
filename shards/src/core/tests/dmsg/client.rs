//! One client: its keys, and what it sends and has received.

use ringway_proto::dmsg::handshake::{Initiator, message_len};
use ringway_proto::dmsg::key::SecretKey;
use ringway_proto::dmsg::open::{StreamRequest, StreamResponse};
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::key::{Address, PublicKey};
use ringway_proto::sealed::{Opener, Sealer};

use super::super::harness::{Harness, dmsg_identity};

/// The relay whose key is made from this byte is the harness's.
const RELAY: u8 = 200;

pub(super) fn secret(byte: u8) -> SecretKey {
    dmsg_identity(byte).secret().clone()
}

pub(super) fn public(byte: u8) -> PublicKey {
    dmsg_identity(byte).public()
}

pub(super) fn relay() -> PublicKey {
    public(RELAY)
}

/// A frame from the relay.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
}

pub(super) struct Client {
    pub(super) wire: usize,
    secret: SecretKey,
    sealer: Sealer,
    opener: Opener,
}

impl Client {
    /// Connects the client whose key is made from `byte` to a shard.
    pub(super) fn join(harness: &mut Harness, byte: u8, shard: usize) -> Self {
        Self::join_with(harness, byte, shard, &[])
    }

    /// The same, with bytes right behind message 3.
    pub(super) fn join_with(harness: &mut Harness, byte: u8, shard: usize, behind: &[u8]) -> Self {
        let wire = harness.connect_dmsg(shard, [192, 0, 2, 1]);
        Self::join_on(harness, byte, wire, [&[], behind])
    }

    /// The same on a socket that was accepted before, with bytes right before message 1 as well.
    pub(super) fn join_on(
        harness: &mut Harness,
        byte: u8,
        wire: usize,
        [before, behind]: [&[u8]; 2],
    ) -> Self {
        let begun = Initiator::new(&dmsg_identity(byte), &relay(), [byte ^ 0x55; 32]);
        let (initiator, first) = begun.unwrap();
        harness.inject(wire, &[before, &first].concat());
        harness.run();
        let second = std::mem::take(&mut harness.wires[wire].raw);
        assert_eq!(message_len(&second), Ok(Some(second.len())));
        let (third, established) = initiator.message_2(&second[2..]).unwrap();
        harness.inject(wire, &[&third[..], behind].concat());
        harness.run();
        Self {
            wire,
            secret: secret(byte),
            sealer: established.sealer,
            opener: established.opener,
        }
    }

    pub(super) fn send(&self, harness: &mut Harness, header: Header, payload: &[u8]) {
        harness.inject(self.wire, &[&header.encode()[..], payload].concat());
        harness.run();
    }

    pub(super) fn data(&self, harness: &mut Harness, id: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap();
        self.send(harness, Header::data(id, Flags::NONE, length), payload);
    }

    /// Returns what has come since the last look.
    pub(super) fn frames(&self, harness: &mut Harness) -> Vec<Frame> {
        let raw = std::mem::take(&mut harness.wires[self.wire].raw);
        let mut rest = raw.as_slice();
        let mut frames = Vec::new();
        while let Some((header, behind)) = rest.split_first_chunk::<HEADER_LEN>() {
            let header = Header::decode(header).unwrap();
            let is_data = header.kind == FrameKind::Data;
            let length = if is_data { header.length as usize } else { 0 };
            frames.push(Frame {
                header,
                payload: behind[..length].to_vec(),
            });
            rest = &behind[length..];
        }
        assert!(rest.is_empty(), "whole frames");
        frames
    }

    pub(super) fn headers(&self, harness: &mut Harness) -> Vec<Header> {
        let frames = self.frames(harness).into_iter();
        frames.map(|frame| frame.header).collect()
    }

    /// Returns the payload that has come on a stream.
    pub(super) fn payload(&self, harness: &mut Harness, id: u32) -> Vec<u8> {
        let frames = self.frames(harness).into_iter();
        frames
            .filter(|frame| frame.header.stream_id == id)
            .flat_map(|frame| frame.payload)
            .collect()
    }

    pub(super) fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut object = Vec::new();
        self.sealer.seal(plain, &mut object).unwrap();
        object
    }

    pub(super) fn unseal(&mut self, object: &[u8]) -> Vec<u8> {
        let mut object = object.to_vec();
        self.opener.open(&mut object[2..]).unwrap().to_vec()
    }

    /// Returns a signed request of this client.
    pub(super) fn signed(&self, destination: PublicKey, port: u16) -> Vec<u8> {
        self.encode(destination, port, false)
    }

    /// Returns a signed question for this client's own address.
    pub(super) fn lookup(&self, server: PublicKey) -> Vec<u8> {
        self.encode(server, 1, true)
    }

    fn encode(&self, destination: PublicKey, port: u16, wants_ip: bool) -> Vec<u8> {
        let request = StreamRequest {
            timestamp_ns: 1_700_000_000_000_000_000,
            source: Address::new(self.secret.public(), 49_152),
            destination: Address::new(destination, port),
            wants_ip,
            wants_geo: false,
            noise: if wants_ip { &[] } else { &[3; 49] },
        };
        request.encode(&self.secret).unwrap()
    }

    /// Opens a stream and sends a request; returns it as it is signed.
    pub(super) fn open(
        &mut self,
        harness: &mut Harness,
        id: u32,
        destination: PublicKey,
        port: u16,
    ) -> Vec<u8> {
        let plain = self.signed(destination, port);
        self.start(harness, id, &plain);
        plain
    }

    /// Sends a request on a stream that is open.
    pub(super) fn request(
        &mut self,
        harness: &mut Harness,
        id: u32,
        destination: PublicKey,
        port: u16,
    ) {
        let object = self.seal(&self.signed(destination, port));
        self.data(harness, id, &object);
    }

    /// Opens a stream with an object.
    pub(super) fn start(&mut self, harness: &mut Harness, id: u32, plain: &[u8]) {
        let object = self.seal(plain);
        self.start_sealed(harness, id, &object);
    }

    pub(super) fn start_sealed(&self, harness: &mut Harness, id: u32, object: &[u8]) {
        self.send(harness, Header::window_update(id, Flags::SYN, 0), &[]);
        self.data(harness, id, object);
    }

    /// Answers a request.
    pub(super) fn answer(
        &mut self,
        harness: &mut Harness,
        id: u32,
        request: &[u8],
        is_accepted: bool,
    ) {
        let hash = StreamRequest::hash(request);
        let response = if is_accepted {
            StreamResponse::accept(hash, &[4; 49])
        } else {
            StreamResponse::refuse(hash, 0)
        };
        let object = self.seal(&response.encode(&self.secret).unwrap());
        self.data(harness, id, &object);
    }
}
