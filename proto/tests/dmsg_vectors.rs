//! Vectors of the Go implementation of dmsg, `proto/testdata/dmsg.txt`, in both directions.
//!
//! Here: keys, signatures, handshakes, frames. Not here: the objects that are signed (`open`, `entry`).

use ringway_proto::dmsg::key::{SecretKey, Signature, hash, parse, verify};
use ringway_proto::key::PublicKey;

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

/// Returns the line behind the head of a section.
fn line_behind(head: &str) -> &'static str {
    let mut lines = VECTORS
        .lines()
        .skip_while(|line| line.strip_prefix("== ") != Some(head));
    lines.nth(1).expect("a section has a line")
}
