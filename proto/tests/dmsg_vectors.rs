//! Vectors of the Go implementation of dmsg, `proto/testdata/dmsg.txt`, in both directions.
//!
//! Here: keys, signatures, handshakes, frames. Not here: the objects that are signed (`open`, `entry`).

use ringway_proto::dmsg::handshake::{Established, Identity, Initiator, Responder, message_len};
use ringway_proto::dmsg::key::{SecretKey, Signature, hash, parse, verify};
use ringway_proto::dmsg::kk::{KkInitiator, kk_respond};
use ringway_proto::dmsg::record::{RecordOpener, RecordSealer, SoftAead};
use ringway_proto::key::PublicKey;
use ringway_proto::sealed::{DmsgHead, dmsg_head};

/// The file; see its own head for what made it.
const VECTORS: &str = include_str!("../testdata/dmsg.txt");

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
            .expect("the vectors are hex")
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "{text}");
    pairs
        .iter()
        .map(|[high, low]| (digit(*high) << 4) | digit(*low))
        .collect()
}

/// Returns the words of the first line that starts so, behind that, within a section.
fn words(section: &str, start: &str) -> Vec<&'static str> {
    let within = VECTORS.split("\n== ").find(|it| it.starts_with(section));
    let line = within.and_then(|it| it.lines().find_map(|line| line.strip_prefix(start)));
    line.expect("the section has a line that starts so")
        .split_whitespace()
        .collect()
}

/// Returns the secret and the public key of that name.
fn pair(name: &str) -> (SecretKey, PublicKey) {
    let words = words("initiator-static", name);
    let secret = hex(words[1]).try_into().expect("a secret has 32 bytes");
    let secret = SecretKey::from_bytes(secret).expect("a secret of the vectors is one");
    (
        secret,
        parse(words[3]).expect("a key of the vectors is one"),
    )
}

#[test]
fn secrets_have_the_public_keys_of_the_vectors() {
    for name in [
        "initiator-static",
        "responder-static",
        "initiator-ephemeral",
        "responder-ephemeral",
    ] {
        let (secret, public) = pair(name);
        assert_eq!(secret.public(), public, "{name}");
    }
}

#[test]
fn signed_object_verifies_and_has_its_hash() {
    let (_, key) = pair("initiator-static");
    let section = "SignedObject(StreamRequest) ";
    let signature: Signature = words(section, "sig ")[0].parse().unwrap();
    let object = hex(words(section, "gob ")[0]);
    assert_eq!(verify(&key, &object, &signature), Ok(()));
    let signed = [signature.as_bytes(), object.as_slice()].concat();
    assert_eq!(hash(&signed)[..], hex(words(section, "hash(sig||gob) ")[0]));
}

#[test]
fn signed_entry_verifies() {
    let (_, key) = pair("responder-static");
    let json = line_behind("server entry JSON that is signed");
    let (_, signature) = line_behind("after Sign")
        .split_once("\"signature\":\"")
        .expect("the entry is signed");
    let signature: Signature = signature.trim_end_matches("\"}").parse().unwrap();
    assert_eq!(verify(&key, json.as_bytes(), &signature), Ok(()));
}

#[test]
fn session_handshake_is_that_of_the_vectors() {
    let ((peer, peer_key), (relay, relay_key)) =
        (pair("initiator-static"), pair("responder-static"));
    let [first, second, third] = ["msg1 ", "msg2 ", "msg3 "].map(|start| message(XK, start));
    let relay = Identity::new(relay);
    let mut responder = Responder::new(&relay, ephemeral("responder-ephemeral"));
    let (initiator, sent) = Initiator::new(
        &Identity::new(peer),
        &relay_key,
        ephemeral("initiator-ephemeral"),
    )
    .unwrap();
    assert_eq!(framed(&sent), first);
    assert_eq!(framed(&responder.message_1(&first).unwrap()), second);
    let (sent, mut at_peer) = initiator.message_2(&second).unwrap();
    assert_eq!(framed(&sent), third);
    let mut at_relay = responder.message_3(&third).unwrap();
    assert_eq!((at_relay.key, at_peer.key), (peer_key, relay_key));
    // The peer seals with the second key of the split, the relay with the first.
    assert_eq!(sealed_hello(&mut at_peer), message(XK, K2));
    assert_eq!(sealed_hello(&mut at_relay), message(XK, K1));
    let mut up = object(&message(XK, K2));
    assert_eq!(at_relay.opener.open(&mut up), Ok(&b"hello"[..]));
    let mut down = object(&message(XK, K1));
    assert_eq!(at_peer.opener.open(&mut down), Ok(&b"hello"[..]));
}

#[test]
fn stream_handshake_and_first_records_are_those_of_the_vectors() {
    let ((opener, opener_key), (taker, taker_key)) =
        (pair("initiator-static"), pair("responder-static"));
    let random = ephemeral("initiator-ephemeral");
    let (initiator, first) = KkInitiator::new(&Identity::new(opener), &taker_key, random).unwrap();
    assert_eq!(first, message(KK, "msg1 "));
    let random = ephemeral("responder-ephemeral");
    let (second, taken) = kk_respond(&Identity::new(taker), &opener_key, &first, random).unwrap();
    assert_eq!(second, message(KK, "msg2 "));
    let opened = initiator.finish(&message(KK, "msg2 ")).unwrap();
    for (seal, open, start) in [(opened.seal, taken.open, K1), (taken.seal, opened.open, K2)] {
        let mut record = Vec::new();
        RecordSealer::new(SoftAead::new(&seal))
            .seal(b"hello", &mut record)
            .unwrap();
        let expected = [
            &29_u16.to_be_bytes(),
            object(&message(KK, start)).as_slice(),
        ]
        .concat();
        assert_eq!(record, expected);
        let mut reader = RecordOpener::new(SoftAead::new(&open));
        reader.push(&expected);
        assert_eq!(reader.next_record(), Ok(Some(&b"hello"[..])));
    }
}

const XK: &str = "Noise_XK_";
const KK: &str = "Noise_KK_";
const K1: &str = "AEAD(k1 = ";
const K2: &str = "AEAD(k2 = ";

/// Returns the bytes that a line of a section ends with.
fn message(section: &str, start: &str) -> Vec<u8> {
    hex(words(section, start).last().expect("a line has words"))
}

fn ephemeral(name: &str) -> [u8; 32] {
    *pair(name).0.bytes()
}

/// Returns a message without its length prefix, which must be right.
fn framed(message: &[u8]) -> &[u8] {
    assert_eq!(message_len(message), Ok(Some(message.len())));
    &message[2..]
}

/// Returns what an object with nonce 1 is on the wire, behind its length.
fn object(sealed: &[u8]) -> Vec<u8> {
    [&1_u64.to_be_bytes(), sealed].concat()
}

/// Seals the text of the vectors and returns the part that they show.
fn sealed_hello(side: &mut Established) -> Vec<u8> {
    let mut out = Vec::new();
    let sealed = side.sealer.seal(b"hello", &mut out);
    assert_eq!(sealed, Ok(()));
    assert_eq!(dmsg_head(&out), Ok(Some(DmsgHead::Object(out.len()))));
    assert_eq!(out[2..10], 1_u64.to_be_bytes());
    out.split_off(10)
}

/// Returns the line behind the head of a section.
fn line_behind(head: &str) -> &'static str {
    let mut lines = VECTORS
        .lines()
        .skip_while(|line| line.strip_prefix("== ") != Some(head));
    lines.nth(1).expect("a section has a line")
}
