//! Tests of the rules: every answer, and who may delete whose entry.

use std::net::Ipv4Addr;

use ringway_proto::dmsg::entry::Server;
use ringway_proto::dmsg::key::SecretKey;

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const NOW: Moment = Moment::from_ms(1_700_000_000_000);

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes([number; 32]).expect("a number below the order of the curve")
}

fn rules() -> Rules {
    Rules {
        client_time: Some(Duration::from_secs(3_600)),
        ..Rules::default()
    }
}

/// An entry of the server with secret 1.
fn server(sequence: u64, at: Moment, word: &str) -> Entry {
    let server = Server {
        address: "192.0.2.9:8081".to_owned(),
        available_sessions: 7,
        server_type: word.to_owned(),
        ..Server::default()
    };
    signed(
        Entry::of_server(secret(1).public(), sequence, at.ns(), server),
        1,
    )
}

/// An entry of the client with secret 2.
fn client(sequence: u64, at: Moment) -> Entry {
    let servers = vec![secret(1).public()];
    signed(
        Entry::of_client(secret(2).public(), sequence, at.ns(), servers),
        2,
    )
}

fn signed(mut entry: Entry, signer: u8) -> Entry {
    entry.sign(&secret(signer));
    entry
}

fn admit(rules: &Rules, entry: &Entry) -> Result<Admitted, Answer> {
    let request = Request {
        body: &entry.encode(),
        source: HERE,
        now: NOW,
    };
    rules.admit(request, false)
}

fn record(entry: &Entry) -> Record {
    admit(&rules(), entry).unwrap().record
}

fn type_of(admitted: &Admitted) -> String {
    let server = admitted.record.entry().server.as_ref();
    server.unwrap().server_type.clone()
}

#[test]
fn entry_stands_as_long_as_its_kind() {
    let rules = rules();
    let ends = |entry: &Entry, is_brief| {
        let body = entry.encode();
        let request = Request {
            body: &body,
            source: HERE,
            now: NOW,
        };
        let expires = rules.admit(request, is_brief).unwrap().record.expires();
        expires.map(|end| end.since(NOW).as_secs())
    };
    assert_eq!(ends(&client(0, NOW), false), Some(3_600));
    assert_eq!(ends(&client(0, NOW), true), Some(180));
    assert_eq!(ends(&server(0, NOW, ""), false), Some(120));
    assert_eq!(ends(&server(0, NOW, ""), true), Some(120));
    let for_ever = admit(&Rules::default(), &client(0, NOW)).unwrap();
    assert_eq!(for_ever.record.expires(), None);
}

#[test]
fn wrong_entries_get_the_answers_of_the_wire() {
    let change = |change: fn(&mut Entry)| {
        let mut entry = server(0, NOW, "");
        change(&mut entry);
        entry
    };
    let at = |address: &str| {
        let mut entry = server(0, NOW, "");
        entry.server = Some(Server {
            address: address.to_owned(),
            ..Server::default()
        });
        signed(entry, 1)
    };
    let late = Moment::from_ns(NOW.ns() - 60_000_000_001);
    for (entry, answer) in [
        (change(|e| e.version.clear()), Answer::NoVersion),
        (change(|e| e.signature.clear()), Answer::NoSignature),
        (change(|e| e.sequence += 1), Answer::Unauthorized),
        (
            change(|e| e.signature = "x".to_owned()),
            Answer::Unauthorized,
        ),
        (change(|e| e.server = None), Answer::NoPart),
        (change(|e| e.protocol = "p".repeat(65)), Answer::Bounds),
        (at("127.0.0.1:8081"), Answer::Loopback),
        (at(":8081"), Answer::Loopback),
        (at(""), Answer::NoAddress),
        (server(0, late, ""), Answer::Outdated),
    ] {
        assert_eq!(admit(&rules(), &entry), Err(answer), "{entry:?}");
    }
    let request = |body| Request {
        body,
        source: HERE,
        now: NOW,
    };
    assert_eq!(rules().admit(request(b"{"), false), Err(Answer::BadInput));
    let long = vec![b' '; 65_537];
    assert_eq!(rules().admit(request(&long), false), Err(Answer::TooLong));
    let lenient = Rules {
        takes_loopback: true,
        ..rules()
    };
    assert!(admit(&lenient, &at("127.0.0.1:8081")).is_ok());
    assert!(
        admit(&rules(), &client(0, late)).is_ok(),
        "clients may be late"
    );
}

#[test]
fn server_is_official_by_word_by_key_or_where_nobody_is_special() {
    let nobody = rules();
    let of_word = Rules {
        passphrase: "open sesame".to_owned(),
        ..rules()
    };
    let of_key = Rules {
        official: BTreeSet::from([secret(1).public()]),
        ..rules()
    };
    let of_other = Rules {
        official: BTreeSet::from([secret(3).public()]),
        ..rules()
    };
    for (rules, word, expected, is_vouched) in [
        (&nobody, "", OFFICIAL, false),
        (&nobody, "community", OFFICIAL, false),
        (&of_word, "open sesame", OFFICIAL, true),
        (&of_word, "open sesam", COMMUNITY, false),
        (&of_word, "", COMMUNITY, false),
        (&of_word, "official", COMMUNITY, false),
        (&of_key, "", OFFICIAL, true),
        (&of_other, "", COMMUNITY, false),
    ] {
        let admitted = admit(rules, &server(0, NOW, word)).unwrap();
        assert_eq!(type_of(&admitted), expected, "{rules:?} {word:?}");
        assert_eq!(admitted.is_vouched, is_vouched);
        let text = String::from_utf8(admitted.record.json().to_vec()).unwrap();
        assert!(!text.contains("sesame"), "the word is shown to nobody");
    }
}

#[test]
fn later_entry_takes_the_place_and_no_other() {
    let later = Moment::from_ms(NOW.ms() + 1);
    let stands = record(&client(5, NOW));
    for (entry, expected) in [
        (client(6, NOW), Ok(Answer::Iterated)),
        (client(9, later), Ok(Answer::Iterated)),
        (client(5, later), Err(Answer::WrongSequence)),
        (client(4, later), Err(Answer::WrongSequence)),
        (
            client(6, Moment::from_ns(NOW.ns() - 1)),
            Err(Answer::WrongTime),
        ),
    ] {
        let new = record(&entry);
        assert_eq!(Rules::follow(&new, Some(&stands)), expected);
        assert_eq!(Rules::follow(&new, None), Ok(Answer::Written));
    }
}

#[test]
fn entry_is_deleted_by_its_party_and_by_nobody_who_has_only_read_it() {
    let stands = record(&client(5, NOW));
    let shown = stands.entry();
    let later = client(6, NOW);
    for (entry, source, expected) in [
        // As clients of Go do it: the entry as it was read.
        (shown, HERE, Ok(())),
        (shown, ELSEWHERE, Err(Answer::Unauthorized)),
        (&later, HERE, Ok(())),
        (&later, ELSEWHERE, Ok(())),
        (&client(4, NOW), HERE, Err(Answer::WrongSequence)),
        (
            &client(6, Moment::from_ns(NOW.ns() - 1)),
            HERE,
            Err(Answer::WrongTime),
        ),
    ] {
        assert_eq!(Rules::delete(entry, Some(&stands), source), expected);
    }
    let mut forged = later.clone();
    forged.sequence += 1;
    let refused = Err(Answer::Unauthorized);
    assert_eq!(Rules::delete(&forged, Some(&stands), HERE), refused);
    assert_eq!(Rules::delete(&forged, None, HERE), refused);
    assert_eq!(
        Rules::delete(&later, None, ELSEWHERE),
        Ok(()),
        "nothing there"
    );
    let forgotten = Record::new(shown.clone(), None, None);
    assert_eq!(Rules::delete(shown, Some(&forgotten), ELSEWHERE), Ok(()));
}

#[test]
fn server_can_delete_its_entry_though_its_type_has_changed() {
    let stands = record(&server(5, NOW, ""));
    let shown = stands.entry();
    assert!(shown.verify().is_err(), "the discovery has changed it");
    assert_eq!(Rules::delete(shown, Some(&stands), HERE), Ok(()));
    let refused = Err(Answer::Unauthorized);
    assert_eq!(Rules::delete(shown, Some(&stands), ELSEWHERE), refused);
    // Without the type it is what was signed, which anybody can make of it.
    let mut signed = shown.clone();
    signed.server.as_mut().unwrap().server_type.clear();
    assert_eq!(signed.verify(), Ok(()));
    assert_eq!(Rules::delete(&signed, Some(&stands), HERE), Ok(()));
    assert_eq!(Rules::delete(&signed, Some(&stands), ELSEWHERE), refused);
}

#[test]
fn deletion_of_a_server_is_timely_too() {
    let request = |entry: &Entry, now| {
        let body = entry.encode();
        let request = Request {
            body: &body,
            source: HERE,
            now,
        };
        Rules::read_deletion(request).map(drop)
    };
    let late = NOW.after(Duration::from_secs(61));
    assert_eq!(request(&server(5, NOW, ""), NOW), Ok(()));
    assert_eq!(request(&server(5, NOW, ""), late), Err(Answer::Outdated));
    assert_eq!(request(&client(5, NOW), late), Ok(()));
}
