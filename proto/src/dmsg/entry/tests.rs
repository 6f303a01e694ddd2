//! Tests of entries: the vectors of the Go implementation, and the rules.

use std::format;
use std::string::String;
use std::vec;

use proptest::collection::vec as vectors;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// Texts of the Go implementation.
const VECTORS: &str = include_str!("../../../testdata/dmsg.txt");

/// What makes an entry another one.
type Change = fn(&mut Entry);

/// When the vectors were signed.
const SIGNED_NS: i64 = 1_700_000_000_123_456_789;

/// Returns the line behind the heading `heading`.
fn vector(heading: &str) -> &'static str {
    let mut lines = VECTORS.lines();
    lines.find(|line| *line == heading).expect("the heading");
    lines.next().expect("a line behind it")
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes([number; 32]).expect("a number below the order of the curve")
}

/// The party of the vectors with this name.
fn party(name: &str) -> SecretKey {
    let mut lines = VECTORS.lines();
    let line = lines.find(|line| line.starts_with(name)).expect("the name");
    let digits = line.split_whitespace().nth(2).expect("a secret");
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = str::from_utf8(pair).expect("digits");
        *byte = u8::from_str_radix(pair, 16).expect("digits");
    }
    SecretKey::from_bytes(bytes).expect("a secret")
}

fn server(secret: &SecretKey) -> Entry {
    let server = Server {
        address: "127.0.0.1:8081".into(),
        available_sessions: 2_048,
        ..Server::default()
    };
    Entry::of_server(secret.public(), 0, SIGNED_NS, server)
}

fn client(secret: &SecretKey, servers: Vec<PublicKey>) -> Entry {
    let mut entry = Entry::of_client(secret.public(), 3, SIGNED_NS, servers);
    entry.client_type = CLIENT_TYPE_VISOR.into();
    entry
}

fn text(entry: &Entry) -> String {
    String::from_utf8(entry.encode()).unwrap()
}

#[test]
fn entry_of_a_server_is_the_text_that_go_signs() {
    let secret = party("responder-static");
    let entry = server(&secret);
    let signed = vector("== server entry JSON that is signed");
    assert_eq!(text(&entry), signed);
    assert_eq!(entry.signed_text(), signed.as_bytes());
    assert_eq!(Entry::decode(signed.as_bytes()), Ok(entry));
}

#[test]
fn entry_that_go_has_signed_verifies_and_encodes_to_itself() {
    let text = vector("== after Sign");
    let entry = Entry::decode(text.as_bytes()).unwrap();
    assert_eq!(entry.verify(), Ok(()));
    assert_eq!(entry.validate(), Ok(()));
    assert_eq!(entry.encode(), text.as_bytes());
    assert!(entry.is_on_loopback());
    let mut own = server(&party("responder-static"));
    own.sign(&party("responder-static"));
    assert_eq!(own.verify(), Ok(()), "random there, by RFC 6979 here");
}

#[test]
fn entry_of_a_client_is_the_text_that_go_signs() {
    let (secret, at) = (party("initiator-static"), party("responder-static"));
    let entry = client(&secret, vec![at.public()]);
    let signed = vector("== client entry JSON that is signed");
    assert_eq!(text(&entry), signed);
    assert_eq!(Entry::decode(signed.as_bytes()), Ok(entry.clone()));
    assert_eq!(entry.delegated_servers(), [at.public()]);
    assert!(entry.is_visor());
}

#[test]
fn fields_stand_in_the_order_of_2026() {
    let mut entry = client(&secret(1), vec![]);
    entry.server = Some(Server {
        address: "192.0.2.1:1".into(),
        address_v6: "[2001:db8::1]:1".into(),
        address_udp: "192.0.2.1:2".into(),
        address_udp_v6: "[2001:db8::1]:2".into(),
        address_ws: "wss://a.example/dmsg?x=1&y=<2>".into(),
        available_sessions: -1,
        server_type: "official".into(),
        dht_bootstrap: true,
    });
    entry.signature = "ab".into();
    entry.protocol = "smux".into();
    let key = secret(1).public();
    let expected = format!(
        "{{\"version\":\"0.0.1\",\"sequence\":3,\"timestamp\":{SIGNED_NS},\"static\":\"{key}\",\
         \"client\":{{\"delegated_servers\":[]}},\"client_type\":\"visor\",\
         \"server\":{{\"address\":\"192.0.2.1:1\",\"address_v6\":\"[2001:db8::1]:1\",\
         \"address_udp\":\"192.0.2.1:2\",\"address_udp_v6\":\"[2001:db8::1]:2\",\
         \"address_ws\":\"wss://a.example/dmsg?x=1&y=<2>\",\"availableSessions\":-1,\
         \"serverType\":\"official\",\"dht_bootstrap\":true}},\"signature\":\"ab\",\"protocol\":\"smux\"}}"
    );
    assert_eq!(text(&entry), expected);
    assert_eq!(Entry::decode(expected.as_bytes()), Ok(entry));
}

#[test]
fn no_servers_and_an_empty_list_of_them_are_different_texts() {
    for list in ["null", "[]"] {
        let text = format!("\"client\":{{\"delegated_servers\":{list}}}");
        let json = format!("{{\"version\":\"\",\"sequence\":0,{text}}}");
        let entry = Entry::decode(json.as_bytes()).unwrap();
        let encoded = String::from_utf8(entry.encode()).unwrap();
        assert!(encoded.contains(&text), "{encoded}");
        assert!(entry.delegated_servers().is_empty());
    }
}

#[test]
fn what_this_program_does_not_know_is_dropped_before_the_signature_is_looked_at() {
    let mut entry = client(&secret(1), vec![secret(2).public()]);
    entry.sign(&secret(1));
    let more = text(&entry).replacen('{', "{\"more\":[{\"x\":null}],", 1);
    let read = Entry::decode(more.as_bytes()).unwrap();
    assert_eq!(read, entry);
    assert_eq!(read.verify(), Ok(()));
}

#[test]
fn entry_of_a_later_version_verifies_as_it_stands() {
    let key = secret(1).public();
    let unsigned = format!(
        "{{\"version\":\"0.0.2\",\"sequence\":1,\"static\":\"{key}\",\"client\":{{\"delegated_servers\":[]}},\
         \"more\":true,\"protocol\":\"x\"}}"
    );
    let signature = secret(1).sign(unsigned.as_bytes());
    let member = format!(",\"signature\":\"{signature}\",\"protocol\"");
    let signed = unsigned.replace(",\"protocol\"", &member);
    let entry = Entry::decode(signed.as_bytes()).unwrap();
    assert!(entry.verify().is_err());
    assert_eq!(entry.verify_text(signed.as_bytes()), Ok(()));
    let refused = Err(EntryError::Key(KeyError::PeerSignature));
    let changed = signed.replace("true", "null");
    assert_eq!(entry.verify_text(changed.as_bytes()), refused);
    for other in [&b""[..], b"\xff", b"{}"] {
        assert_eq!(entry.verify_text(other), refused);
    }
    // One that is known verifies whatever its text looks like.
    let mut known = client(&secret(1), vec![]);
    known.sign(&secret(1));
    assert_eq!(known.verify_text(b""), Ok(()));
}

#[test]
fn signature_is_of_the_key_and_of_every_field() {
    let mut entry = client(&secret(1), vec![secret(2).public()]);
    entry.server = server(&secret(1)).server;
    entry.sign(&secret(1));
    assert_eq!(entry.verify(), Ok(()));
    let changes: [Change; 9] = [
        |e| e.version.push('1'),
        |e| e.sequence += 1,
        |e| e.timestamp_ns += 1,
        |e| e.key = secret(3).public(),
        |e| e.client = None,
        |e| e.client_type.clear(),
        |e| e.server = None,
        |e| e.protocol.push('x'),
        |e| e.client = Some(Client::default()),
    ];
    for change in changes {
        let mut changed = entry.clone();
        change(&mut changed);
        let refused = Err(EntryError::Key(KeyError::PeerSignature));
        assert_eq!(changed.verify(), refused, "{changed:?}");
    }
    entry.signature.push('0');
    let refused = Err(EntryError::Key(KeyError::TextLengthSignature));
    assert_eq!(entry.verify(), refused);
}

#[test]
fn every_entry_needs_version_signature_key_part_and_address() {
    let mut whole = server(&secret(1));
    whole.sign(&secret(1));
    assert_eq!(whole.validate(), Ok(()));
    let cases: [(Change, EntryError); 5] = [
        (|e| e.version.clear(), EntryError::PeerNoVersion),
        (|e| e.signature.clear(), EntryError::PeerNoSignature),
        (|e| e.key = null_key(), EntryError::PeerNoKey),
        (|e| e.server = None, EntryError::PeerNoPart),
        (
            |e| e.server = Some(Server::default()),
            EntryError::PeerNoAddress,
        ),
    ];
    for (change, error) in cases {
        let mut entry = whole.clone();
        change(&mut entry);
        assert_eq!(entry.validate(), Err(error));
    }
    assert_eq!(
        Entry::decode(b"{}").unwrap().validate(),
        Err(EntryError::PeerNoVersion)
    );
}

#[test]
fn age_counts_for_servers_alone() {
    let second = 1_000_000_000;
    let entry = server(&secret(1));
    for (now_ns, expected) in [
        (SIGNED_NS, Ok(())),
        (SIGNED_NS + 60 * second, Ok(())),
        (SIGNED_NS + 60 * second + 1, Err(EntryError::PeerAge)),
        (SIGNED_NS - 5 * second, Ok(())),
        (SIGNED_NS - 5 * second - 1, Err(EntryError::PeerAge)),
        (i64::MIN, Err(EntryError::PeerAge)),
        (i64::MAX, Err(EntryError::PeerAge)),
    ] {
        assert_eq!(entry.validate_age(now_ns), expected, "{now_ns}");
        let client = client(&secret(1), vec![]);
        assert_eq!(client.validate_age(now_ns), Ok(()));
    }
}

#[test]
fn later_entry_has_a_greater_sequence_and_no_smaller_time() {
    let before = client(&secret(1), vec![]);
    let after = |sequence, timestamp_ns| Entry {
        sequence,
        timestamp_ns,
        ..before.clone()
    };
    for (sequence, timestamp_ns, expected) in [
        (4, SIGNED_NS, Ok(())),
        (u64::MAX, i64::MAX, Ok(())),
        (
            3,
            SIGNED_NS + 1,
            Err(EntryError::PeerSequence { have: 3, before: 3 }),
        ),
        (
            0,
            SIGNED_NS + 1,
            Err(EntryError::PeerSequence { have: 0, before: 3 }),
        ),
        (4, SIGNED_NS - 1, Err(EntryError::PeerTime)),
    ] {
        let outcome = after(sequence, timestamp_ns).validate_after(&before);
        assert_eq!(outcome, expected, "{sequence} {timestamp_ns}");
    }
}

#[test]
fn bounds_are_refused_by_name() {
    let of = |entry: &Entry| Entry::decode(&entry.encode());
    let mut many = client(&secret(1), vec![secret(2).public(); DELEGATED_MAX]);
    assert_eq!(of(&many), Ok(many.clone()));
    assert!(many.encode().len() < ENTRY_LEN_MAX);
    many.client = client(&secret(1), vec![secret(2).public(); DELEGATED_MAX + 1]).client;
    assert_eq!(of(&many), Err(EntryError::PeerServers { have: 513 }));
    let long = vec![b' '; ENTRY_LEN_MAX + 1];
    assert_eq!(
        Entry::decode(&long),
        Err(EntryError::PeerLength { have: 65_537 })
    );
    assert_eq!(Entry::decode(&long[1..]), Err(EntryError::PeerJson));
    let mut named = client(&secret(1), vec![]);
    named.protocol = "p".repeat(NAME_LEN_MAX);
    assert_eq!(of(&named), Ok(named.clone()));
    named.protocol.push('p');
    assert_eq!(of(&named), Err(EntryError::PeerText { field: "protocol" }));
    let mut at = server(&secret(1));
    for address in [
        "a".repeat(ADDRESS_LEN_MAX + 1),
        "a\nb".into(),
        "\u{7f}".into(),
    ] {
        at.server = Some(Server {
            address,
            ..Server::default()
        });
        assert_eq!(of(&at), Err(EntryError::PeerText { field: "address" }));
    }
}

#[test]
fn fields_have_names() {
    // Where a structure is expected, serde would take a list of its fields as well.
    for json in [
        "[]",
        "[\"0.0.1\",1]",
        "null",
        "{\"client\":[]}",
        "{\"client\":[null]}",
        "{\"server\":[\"192.0.2.1:1\"]}",
        "{\"server\":1}",
    ] {
        let read = Entry::decode(json.as_bytes());
        assert_eq!(read, Err(EntryError::PeerJson), "{json}");
    }
    let none = Entry::decode(b"{\"client\":null,\"server\":null}").unwrap();
    assert_eq!((none.client, none.server), (None, None));
}

#[test]
fn keys_are_read_in_either_case_and_written_in_one() {
    let key = secret(1).public();
    let upper = key.to_string().to_uppercase();
    assert_eq!(parse_key(&upper), Ok(key));
    let entry = Entry::decode(format!("{{\"static\":\"{upper}\"}}").as_bytes()).unwrap();
    assert_eq!(entry.key, key);
    for nobody in ["", "0", &"0".repeat(66)] {
        let json = format!("{{\"static\":\"{nobody}\"}}");
        assert_eq!(Entry::decode(json.as_bytes()).unwrap().key, null_key());
    }
    for none in [&"ab".repeat(33), "x", &upper[1..], &format!("{upper}00")] {
        let json = format!("{{\"static\":\"{none}\"}}");
        assert_eq!(Entry::decode(json.as_bytes()), Err(EntryError::PeerJson));
    }
}

#[test]
fn every_error_has_an_answer_and_a_reason() {
    use super::answer::Answer;

    for (error, status, reason) in [
        (
            EntryError::Key(KeyError::PeerSignature),
            401,
            Reason::BadSignature,
        ),
        (EntryError::PeerAge, 422, Reason::StaleTimestamp),
        (EntryError::PeerJson, 400, Reason::ProtocolError),
        (
            EntryError::PeerLength { have: 1 },
            413,
            Reason::ProtocolError,
        ),
        (EntryError::PeerNoAddress, 422, Reason::ProtocolError),
        (EntryError::PeerNoKey, 422, Reason::ProtocolError),
        (EntryError::PeerNoPart, 422, Reason::ProtocolError),
        (EntryError::PeerNoSignature, 422, Reason::BadSignature),
        (EntryError::PeerNoVersion, 422, Reason::ProtocolError),
        (
            EntryError::PeerSequence { have: 1, before: 1 },
            422,
            Reason::Replay,
        ),
        (
            EntryError::PeerServers { have: 1 },
            422,
            Reason::ProtocolError,
        ),
        (
            EntryError::PeerText { field: "x" },
            422,
            Reason::ProtocolError,
        ),
        (EntryError::PeerTime, 422, Reason::StaleTimestamp),
    ] {
        assert_eq!(Answer::from(error).status(), status, "{error}");
        assert_eq!(error.reason(), reason, "{error}");
    }
}

fn name() -> impl Strategy<Value = String> {
    "[ -~\u{a0}-\u{fff}]{0,12}"
}

prop_compose! {
    fn server_part()(
        address in name(),
        more in [name(), name(), name(), name(), name()],
        available_sessions in any::<i64>(),
        dht_bootstrap in any::<bool>(),
    ) -> Server {
        let [address_v6, address_udp, address_udp_v6, address_ws, server_type] = more;
        Server {
            address, address_v6, address_udp, address_udp_v6, address_ws,
            available_sessions, server_type, dht_bootstrap,
        }
    }
}

prop_compose! {
    fn entry()(
        [version, client_type, protocol] in [name(), name(), name()],
        sequence in any::<u64>(),
        timestamp_ns in any::<i64>(),
        servers in option::of(option::of(vectors(1_u8..9, 0..4))),
        server in option::of(server_part()),
    ) -> Entry {
        let keys = |numbers: Vec<u8>| numbers.into_iter().map(|n| secret(n).public()).collect();
        let client = servers.map(|numbers| Client { delegated_servers: numbers.map(keys) });
        Entry {
            version, client, client_type, server, protocol,
            ..Entry::of_nobody(secret(1).public(), sequence, timestamp_ns)
        }
    }
}

proptest! {
    /// What was encoded decodes to itself, and a signature stays valid on the way.
    #[test]
    fn entry_roundtrips_with_its_signature(mut entry in entry(), signer in 1_u8..9) {
        entry.sign(&secret(signer));
        let read = Entry::decode(&entry.encode()).unwrap();
        prop_assert_eq!(&read, &entry);
        prop_assert_eq!(read.verify(), Ok(()));
        prop_assert_eq!(read.key, secret(signer).public());
    }

    /// What decodes encodes to what decodes to the same, whatever it was.
    #[test]
    fn text_that_decodes_has_one_form(mut entry in entry(), at in any::<prop::sample::Index>(), byte: u8) {
        entry.sign(&secret(1));
        let mut json = entry.encode();
        let at = at.index(json.len());
        json[at] = byte;
        if let Ok(read) = Entry::decode(&json) {
            let again = read.encode();
            prop_assert_eq!(Entry::decode(&again), Ok(read.clone()));
            prop_assert_eq!(again == entry.encode(), read == entry);
            // A changed byte is either without meaning, such as a blank, or breaks the signature.
            prop_assert_eq!(read.verify().is_ok(), read == entry);
        }
    }

    #[test]
    fn bytes_are_an_entry_or_an_error(json in vectors(any::<u8>(), 0..200)) {
        if let Ok(entry) = Entry::decode(&json) {
            prop_assert!(entry.verify().is_err());
        }
    }
}
