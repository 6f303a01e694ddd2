//! Databases that the tests write themselves: good ones, other ones, broken ones.

use std::fs;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tempfile::TempDir;

use self::mmdb::{Record, Value, Writer};
use super::*;
use crate::failure::chain;

#[path = "../../tests/support/mmdb.rs"]
mod mmdb;

fn open(writer: &Writer) -> Result<Database, DatabaseError> {
    Database::of_bytes(writer.finish())
}

fn locate(database: &Database, address: &str) -> Option<Place> {
    database.locate(address.parse().unwrap())
}

fn place(country: &str, region: &str, [latitude, longitude]: [f64; 2]) -> Option<Place> {
    Some(Place {
        country: country.to_owned(),
        region: region.to_owned(),
        latitude,
        longitude,
    })
}

const BERLIN: [f64; 2] = [52.5, 13.4];
const QUITO: [f64; 2] = [-0.2, -78.5];

fn cities(ip_version: u8, record_bits: usize) -> Writer {
    let writer = Writer::new(ip_version, record_bits)
        .insert("203.0.113.0/24", &Value::place("DE", "BE", BERLIN))
        .insert("198.51.100.8/31", &Value::place("EC", "P", QUITO));
    match ip_version {
        4 => writer,
        _ => writer.insert("2001:db8::/33", &Value::place("JP", "13", [35.6, 139.7])),
    }
}

#[test]
fn addresses_have_the_place_of_their_prefix() {
    for ip_version in [4, 6] {
        for record_bits in [24, 28, 32] {
            let database = open(&cities(ip_version, record_bits)).unwrap();
            let berlin = place("DE", "BE", BERLIN);
            assert_eq!(locate(&database, "203.0.113.0"), berlin);
            assert_eq!(locate(&database, "203.0.113.255"), berlin);
            assert_eq!(locate(&database, "::ffff:203.0.113.7"), berlin);
            assert_eq!(locate(&database, "198.51.100.9"), place("EC", "P", QUITO));
            for unknown in ["203.0.112.255", "203.0.114.0", "198.51.100.10", "8.8.8.8"] {
                assert_eq!(locate(&database, unknown), None, "{unknown}");
            }
            let tokyo = match ip_version {
                4 => None,
                _ => place("JP", "13", [35.6, 139.7]),
            };
            assert_eq!(locate(&database, "2001:db8:7fff::1"), tokyo);
            assert_eq!(locate(&database, "2001:db8:8000::1"), None);
        }
    }
}

#[test]
fn private_addresses_have_no_place_whatever_the_file_says() {
    let everywhere = Value::place("DE", "BE", BERLIN);
    let halves = ["0.0.0.0/1", "128.0.0.0/1", "4000::/2", "8000::/1"];
    let writer = halves.iter().fold(Writer::new(6, 24), |writer, half| {
        writer.insert(half, &everywhere)
    });
    let database = open(&writer).unwrap();
    for address in [
        "100.63.255.255",
        "100.128.0.0",
        "172.32.0.1",
        "fe00::1",
        "9000::1",
    ] {
        assert!(locate(&database, address).is_some(), "{address}");
    }
    for address in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.1.1",
        "172.16.0.1",
        "192.168.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.1.2.3",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "ff02::1",
    ] {
        assert_eq!(locate(&database, address), None, "{address}");
    }
}

/// A record of which only these fields are there.
fn fields(fields: &[(&'static str, &[(&'static str, Value)])]) -> Value {
    let fields = fields.iter();
    Value::Map(
        fields
            .map(|(name, of)| (*name, Value::Map(of.to_vec())))
            .collect(),
    )
}

#[test]
fn what_a_record_says_oddly_is_left_out() {
    let code = |text: &str| [("iso_code", Value::text(text))];
    let at = |[latitude, longitude]: [f64; 2]| {
        [
            ("latitude", Value::Double(latitude)),
            ("longitude", Value::Double(longitude)),
        ]
    };
    let nowhere = [0.0, 0.0];
    let cases = [
        (
            fields(&[("country", &code("FR"))]),
            place("FR", "", nowhere),
        ),
        (
            fields(&[("country", &code("FR")), ("location", &at(BERLIN))]),
            place("FR", "", BERLIN),
        ),
        (fields(&[("location", &at(QUITO))]), place("", "", QUITO)),
        (
            fields(&[("location", &at([90.0, -180.0]))]),
            place("", "", [90.0, -180.0]),
        ),
        (
            fields(&[("country", &code("FRANCE")), ("location", &at(QUITO))]),
            place("", "", QUITO),
        ),
        (
            fields(&[("country", &code("F\u{e9}")), ("location", &at(QUITO))]),
            place("", "", QUITO),
        ),
        (Value::place("DE", "LONG", BERLIN), place("DE", "", BERLIN)),
        (
            Value::place("DE", "BE", [90.1, 0.0]),
            place("DE", "BE", nowhere),
        ),
        (
            Value::place("DE", "BE", [f64::NAN, 1.0]),
            place("DE", "BE", nowhere),
        ),
        (
            Value::place("DE", "BE", [1.0, f64::INFINITY]),
            place("DE", "BE", nowhere),
        ),
        (
            fields(&[("country", &code("FR")), ("location", &at(BERLIN)[..1])]),
            place("FR", "", nowhere),
        ),
        (fields(&[("location", &at(BERLIN)[1..])]), None),
        (fields(&[("country", &[])]), None),
        (fields(&[]), None),
        (Value::Text("Paris".into()), None),
        (Value::Map(vec![("country", Value::text("France"))]), None),
        (
            fields(&[("country", &[("iso_code", Value::Uint(6, 33))])]),
            None,
        ),
    ];
    for (record, expected) in cases {
        let database = open(&cities(6, 28).insert("192.0.2.0/24", &record)).unwrap();
        assert_eq!(locate(&database, "192.0.2.1"), expected, "{record:?}");
    }
}

#[test]
fn degrees_may_be_in_single_precision() {
    let degrees = [("latitude", 52.5), ("longitude", -13.25)];
    let degrees = degrees.map(|(name, value)| (name, Value::Float(value)));
    let record = fields(&[("location", &degrees)]);
    let database = open(&Writer::new(4, 24).insert("192.0.2.0/24", &record)).unwrap();
    let expected = place("", "", [52.5, -13.25]);
    assert_eq!(locate(&database, "192.0.2.1"), expected);
}

/// A file of a test's own; its directory goes with the test.
fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("places.mmdb");
    fs::write(&path, bytes).unwrap();
    (directory, path)
}

fn refused(path: &Path) -> String {
    let failure = Database::open(path).unwrap_err();
    assert_eq!(failure.exit_code(), 1);
    let text = chain(&failure);
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(text.contains("dmsg.geo_database"), "{text}");
    text
}

#[test]
fn file_that_is_good_is_read() {
    let (_directory, path) = file(&cities(6, 24).finish());
    let database = Database::open(&path).unwrap();
    assert_eq!(locate(&database, "203.0.113.7"), place("DE", "BE", BERLIN));
    assert!(format!("{database:?}").contains("Ringway-City-Test"));
}

#[test]
fn file_that_is_none_is_refused_with_its_path_and_the_fix() {
    let (directory, path) = file(b"places");
    assert!(refused(&path).contains("invalid database"));
    fs::write(&path, b"").unwrap();
    assert!(refused(&path).contains("invalid database"));
    assert!(refused(directory.path()).contains("no file"));
    assert!(refused(Path::new("/dev/zero")).contains("no file"));
    assert!(refused(&directory.path().join("missing")).contains("No such file"));
    let file = File::create(&path).unwrap();
    file.set_len(FILE_BYTES_MAX + 1).unwrap();
    assert!(refused(&path).contains("more than 536870912 bytes"));
}

#[test]
fn file_that_is_cut_short_is_refused() {
    for (ip_version, record_bits) in [(4, 24), (6, 28)] {
        let bytes = cities(ip_version, record_bits).finish();
        for end in 0..bytes.len() {
            assert!(Database::of_bytes(bytes[..end].to_vec()).is_err(), "{end}");
        }
    }
}

#[test]
fn database_of_something_else_is_refused_with_its_kind() {
    let number = Value::Map(vec![
        ("autonomous_system_number", Value::Uint(6, 64_512)),
        ("autonomous_system_organization", Value::text("Example")),
    ]);
    let mut writer = Writer::new(6, 24).insert("203.0.113.0/24", &number);
    writer.kind = "GeoLite2-ASN";
    let (_directory, path) = file(&writer.finish());
    assert!(refused(&path).contains("GeoLite2-ASN"));
    let (_directory, path) = file(&Writer::new(4, 24).finish());
    assert!(refused(&path).contains("no place"));
}

#[test]
fn hostile_file_is_refused_and_does_not_hang() {
    // A tree of 2^128 paths, none of them to data: each node leads twice to the next.
    let mut deep = Writer::new(6, 24);
    deep.nodes = (1..129).map(|next| [Record::Node(next); 2]).collect();
    // A tree that goes round.
    let mut round = Writer::new(6, 32);
    round.nodes = vec![[Record::Node(0); 2]];
    // Values outside of the file.
    let mut outside = Writer::new(4, 24);
    outside.nodes = vec![[Record::Value(1_000); 2]];
    // A pointer to itself: kind 1, with 11 bits of offset.
    let mut itself = Writer::new(4, 24);
    itself.values = vec![0x20, 0];
    itself.nodes = vec![[Record::Value(0); 2]];
    // Arrays in arrays, and an array of 16 million elements.
    let mut nested = Writer::new(4, 24);
    nested.values = [1, 4].repeat(5_000);
    nested.nodes = vec![[Record::Value(0); 2]];
    let mut wide = Writer::new(4, 24);
    wide.values = vec![31, 4, 0xff, 0xff, 0xff];
    wide.nodes = vec![[Record::Value(0); 2]];
    for writer in [deep, round, outside, itself, nested, wide] {
        assert!(open(&writer).is_err(), "{:?}", writer.nodes.first());
    }
}

#[test]
fn damaged_record_is_an_unknown_place() {
    let good = cities(4, 24);
    let offset = good.values.len();
    let mut writer = good.insert("192.0.2.0/24", &Value::Map(Vec::new()));
    // A map of one field whose name is a pointer to itself.
    writer.values.truncate(offset);
    let [high, low] = u16::try_from(offset + 1).unwrap().to_be_bytes();
    writer.values.extend([0xe1, 0x20 | high, low]);
    let database = open(&writer).unwrap();
    assert_eq!(locate(&database, "192.0.2.1"), None);
    assert_eq!(locate(&database, "203.0.113.7"), place("DE", "BE", BERLIN));
}

proptest! {
    /// Whatever of a file is changed, it is refused, or its lookups end.
    #[test]
    fn changed_file_is_refused_or_answers(
        is_ipv6 in any::<bool>(),
        record_bits in prop_oneof![Just(24), Just(28), Just(32)],
        changes in vec((any::<Index>(), any::<u8>()), 1..12),
        addresses in vec(any::<[u8; 16]>(), 1..20),
    ) {
        let mut bytes = cities(if is_ipv6 { 6 } else { 4 }, record_bits).finish();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(database) = Database::of_bytes(bytes) {
            let known = IpAddr::from([203, 0, 113, 7]);
            let ipv4 = addresses.iter().map(|it| IpAddr::from([it[0], it[1], it[2], it[3]]));
            let ipv6 = addresses.iter().map(|it| IpAddr::from(*it));
            for address in ipv4.chain(ipv6).chain([known]) {
                if let Some(place) = database.locate(address) {
                    prop_assert!(place.country.len() <= COUNTRY_LEN_MAX);
                    prop_assert!(place.region.len() <= REGION_LEN_MAX);
                    prop_assert!(place.latitude.abs() <= 90.0 && place.longitude.abs() <= 180.0);
                }
            }
        }
    }

    /// What is no file of this kind at all is refused.
    #[test]
    fn other_bytes_are_refused(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(Database::of_bytes(bytes).is_err());
    }
}
