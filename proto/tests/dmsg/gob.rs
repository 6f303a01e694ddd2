//! Gobs of Go, read and written; what lies, is cut or is changed.

use proptest::collection::vec;
use proptest::prelude::*;
use ringway_proto::dmsg::gob::{
    DEPTH_MAX, Decoder, Definition, Encoder, FIELDS_MAX, GobError, NAMES_MAX, Shape, StructWriter,
    TYPES_MAX, TypeId, Value, decode, message_range,
};
use ringway_proto::reason::Reason;

use crate::vectors::{self, GOB};

/// Writes a value that is no struct, of a type that is known beforehand.
fn single(of: TypeId, value: impl FnOnce(ringway_proto::dmsg::gob::ValueWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new().write_value(&[], of, &mut out, value);
    out
}

fn read<'m, T>(
    stream: &'m [u8],
    read: impl FnOnce(Value<'_, 'm>) -> Result<T, GobError>,
) -> Result<T, GobError> {
    decode(stream, read)
}

fn skip(value: Value<'_, '_>) -> Result<(), GobError> {
    value.skip()
}

#[test]
fn numbers_are_those_of_go() {
    let mut count = 0;
    for (name, bytes) in vectors::all(GOB) {
        let (kind, text) = name.split_once(' ').unwrap_or((name, ""));
        let written = match kind {
            "int" => {
                let number = text.parse().unwrap();
                assert_eq!(read(&bytes, |v| v.int()), Ok(number), "{name}");
                single(TypeId::INT, |value| value.int(number))
            }
            "uint" => {
                let number: u64 = text.parse().unwrap();
                assert_eq!(read(&bytes, |v| v.uint()), Ok(number), "{name}");
                single(TypeId::UINT, |value| value.uint(number))
            }
            "float" => {
                let number: f64 = text.parse().unwrap();
                let found = read(&bytes, |v| v.float()).unwrap();
                assert_eq!(found.to_bits(), number.to_bits(), "{name}");
                single(TypeId::FLOAT, |value| value.float(number))
            }
            "bool" => {
                let boolean = text == "true";
                assert_eq!(read(&bytes, |v| v.bool()), Ok(boolean), "{name}");
                single(TypeId::BOOL, |value| value.bool(boolean))
            }
            _ => continue,
        };
        assert_eq!(written, bytes, "{name}");
        count += 1;
    }
    assert_eq!(count, 15 + 10 + 10 + 2);
}

#[test]
fn bytes_and_texts_are_those_of_go() {
    for (name, bytes) in [("bytes", &[0, 0x7f, 0x80, 0xff][..]), ("bytes, none", &[])] {
        let gob = vectors::one(GOB, name);
        assert_eq!(read(&gob, |v| v.bytes()), Ok(bytes));
        assert_eq!(single(TypeId::BYTES, |value| value.bytes(bytes)), gob);
    }
    let gob = vectors::one(GOB, "text");
    assert_eq!(read(&gob, |v| v.text()), Ok(&b"text"[..]));
    assert_eq!(single(TypeId::STRING, |value| value.bytes(b"text")), gob);
}

#[test]
fn lists_are_those_of_go() {
    let gob = vectors::one(GOB, "list of numbers");
    let numbers = read(&gob, |value| {
        let mut numbers = Vec::new();
        let mut list = value.list(4)?;
        while let Some(item) = list.next_item() {
            numbers.push(item.uint::<u32>()?);
        }
        Ok(numbers)
    });
    assert_eq!(numbers, Ok(vec![0, 1, 0x80, u32::MAX]));
    assert_eq!(
        read(&gob, |value| value.list(3).map(|_| ())),
        Err(GobError::PeerCount { have: 4, most: 3 })
    );
    let types = [slice(87, "", TypeId::UINT)];
    let mut out = Vec::new();
    Encoder::new().write_value(&types, TypeId(87), &mut out, |value| {
        value.list(&[0, 1, 0x80, u32::MAX], |number, item| {
            item.uint(u64::from(*number));
        });
    });
    assert_eq!(out, gob);

    let gob = vectors::one(GOB, "list of bytes");
    let types = [slice(88, "", TypeId::BYTES)];
    let mut out = Vec::new();
    Encoder::new().write_value(&types, TypeId(88), &mut out, |value| {
        value.list(&[&[][..], &[1], &[2, 3]], |bytes, item| item.bytes(bytes));
    });
    assert_eq!(out, gob);
}

#[test]
fn arrays_and_opaque_types_are_those_of_go() {
    let gob = vectors::one(GOB, "array of bytes");
    assert_eq!(read(&gob, |v| v.byte_array()), Ok([0, 0x7f, 0x80, 0xff]));
    assert_eq!(
        read(&gob, |v| v.byte_array::<3>()),
        Err(GobError::PeerRange)
    );
    assert_eq!(
        read(&gob, |v| v.byte_array::<5>()),
        Err(GobError::PeerRange)
    );
    let gob = vectors::one(GOB, "key");
    assert_eq!(read(&gob, |v| v.opaque()), Ok(&vectors::key(2)[..]));
    let mut out = Vec::new();
    Encoder::new().write_value(&[KEY], KEY.id, &mut out, |value| {
        value.bytes(&vectors::key(2));
    });
    assert_eq!(out, gob);
}

#[test]
fn a_value_of_another_type_is_named() {
    let wrong = |name, read: fn(Value<'_, '_>) -> Result<(), GobError>| {
        decode(&vectors::one(GOB, name), read).unwrap_err()
    };
    let of = |id| GobError::PeerType(TypeId(id));
    assert_eq!(wrong("uint 1", |v| v.int().map(|_| ())), of(3));
    assert_eq!(wrong("int 1", |v| v.uint::<u64>().map(|_| ())), of(2));
    assert_eq!(wrong("int 1", |v| v.bool().map(|_| ())), of(2));
    assert_eq!(wrong("int 1", |v| v.float().map(|_| ())), of(2));
    assert_eq!(wrong("text", |v| v.bytes().map(|_| ())), of(6));
    assert_eq!(wrong("bytes", |v| v.text().map(|_| ())), of(5));
    assert_eq!(wrong("key", |v| v.byte_array::<33>().map(|_| ())), of(67));
    assert_eq!(wrong("array of bytes", |v| v.opaque().map(|_| ())), of(86));
    assert_eq!(wrong("array of bytes", |v| v.list(9).map(|_| ())), of(86));
    assert_eq!(wrong("list of bytes", |v| v.fields().map(|_| ())), of(88));
    let unknown = GobError::PeerTypeUnknown(TypeId::INT);
    assert_eq!(wrong("int 1", |v| v.fields().map(|_| ())), unknown);
    assert_eq!(
        wrong("uint 256", |v| v.uint::<u8>().map(|_| ())),
        GobError::PeerRange
    );
}

/// A value with a field of every kind that dmsg uses.
#[derive(Clone, Debug, Default, PartialEq)]
struct Everything {
    bool: bool,
    int: i64,
    uint: u16,
    float: f64,
    bytes: Vec<u8>,
    text: String,
    key: Vec<u8>,
    hash: [u8; 32],
    address: (Vec<u8>, u16),
    addresses: Vec<(Vec<u8>, u16)>,
    chunks: Vec<Vec<u8>>,
    last: u64,
}

impl Everything {
    fn full() -> Self {
        Self {
            bool: true,
            int: i64::from(i32::MIN),
            uint: u16::MAX,
            float: 0.1,
            bytes: vec![0x80],
            text: "text".to_owned(),
            key: vectors::key(2).to_vec(),
            hash: vectors::hash(),
            address: (Vec::new(), 1),
            addresses: vec![
                (Vec::new(), 0),
                (vectors::key(3).to_vec(), 80),
                (Vec::new(), 0),
            ],
            chunks: vec![vec![1, 2], Vec::new(), vec![3]],
            last: u64::MAX,
        }
    }

    fn read(value: Value<'_, '_>) -> Result<Self, GobError> {
        let mut found = Self::default();
        let mut fields = value.fields()?;
        while let Some(field) = fields.next_field(&NAMES)? {
            match field.name {
                "Bool" => found.bool = field.value.bool()?,
                "Int" => found.int = field.value.int()?,
                "Uint" => found.uint = field.value.uint()?,
                "Float" => found.float = field.value.float()?,
                "Bytes" => found.bytes = field.value.bytes()?.to_vec(),
                "Text" => found.text = String::from_utf8_lossy(field.value.text()?).into_owned(),
                "Key" => found.key = field.value.opaque()?.to_vec(),
                "Hash" => found.hash = field.value.byte_array()?,
                "Addr" => found.address = read_address(field.value)?,
                "Addrs" => {
                    let mut list = field.value.list(9)?;
                    while let Some(item) = list.next_item() {
                        found.addresses.push(read_address(item)?);
                    }
                }
                "Chunks" => {
                    let mut list = field.value.list(9)?;
                    while let Some(item) = list.next_item() {
                        found.chunks.push(item.bytes()?.to_vec());
                    }
                }
                _ => found.last = field.value.uint()?,
            }
        }
        Ok(found)
    }

    fn write(&self, out: &mut Vec<u8>, encoder: &mut Encoder) {
        encoder.write_struct(&EVERYTHING, out, |fields| {
            fields.bool(0, self.bool);
            fields.int(1, self.int);
            fields.uint(2, u64::from(self.uint));
            fields.float(3, self.float);
            fields.bytes(4, &self.bytes);
            fields.text(5, &self.text);
            fields.opaque(6, &self.key);
            fields.byte_array(7, &self.hash);
            fields.structure(8, |address| write_address(&self.address, address));
            fields.list(9, &self.addresses, |address, item| {
                item.structure(|fields| write_address(address, fields));
            });
            fields.list(10, &self.chunks, |chunk, item| item.bytes(chunk));
            fields.uint(11, self.last);
        });
    }
}

fn read_address(value: Value<'_, '_>) -> Result<(Vec<u8>, u16), GobError> {
    let (mut key, mut port) = (Vec::new(), 0);
    let mut fields = value.fields()?;
    while let Some(field) = fields.next_field(&["PK", "Port"])? {
        match field.name {
            "PK" => key = field.value.opaque()?.to_vec(),
            _ => port = field.value.uint()?,
        }
    }
    Ok((key, port))
}

fn write_address(address: &(Vec<u8>, u16), fields: &mut StructWriter<'_>) {
    fields.opaque(0, &address.0);
    fields.uint(1, u64::from(address.1));
}

#[test]
fn structs_are_those_of_go() {
    let last = Everything {
        last: 1,
        ..Everything::default()
    };
    for (name, value) in [
        ("everything, empty", Everything::default()),
        ("everything, full", Everything::full()),
        ("everything, the last field only", last),
    ] {
        let gob = vectors::one(GOB, name);
        assert_eq!(decode(&gob, Everything::read), Ok(value.clone()), "{name}");
        let mut out = Vec::new();
        value.write(&mut out, &mut Encoder::new());
        assert_eq!(out, gob, "{name}");
    }
    let gob = vectors::one(GOB, "struct without fields");
    let of = [structure(73, "", &[])];
    let mut out = Vec::new();
    Encoder::new().write_struct(&of, &mut out, |_| {});
    assert_eq!(out, gob);
    assert_eq!(read(&gob, skip), Ok(()));
}

#[test]
fn a_stream_defines_its_types_once() {
    let gob = vectors::one(GOB, "several values of several types");
    let (mut decoder, mut rest) = (Decoder::new(), &gob[..]);
    let mut said = Vec::new();
    while !rest.is_empty() {
        let range = message_range(rest, 4_096).unwrap().unwrap();
        let (message, after) = (&rest[range.clone()], &rest[range.end..]);
        rest = after;
        if Decoder::is_definition(message) {
            decoder.define(message).unwrap();
            continue;
        }
        let position = said.len();
        let value = decoder.read(message, |value| {
            Ok::<_, GobError>(match position {
                0 | 2 => format!("{:?}", read_address(value)?.1),
                1 => String::from_utf8_lossy(value.text()?).into_owned(),
                3 => format!("{}", value.list(2).map(|list| list.len())?),
                _ => String::new(),
            })
        });
        said.push(match value {
            Ok(value) => value,
            // A list, two structs and a number that were not read to their ends.
            Err(GobError::PeerTrailing { .. }) => "left".to_owned(),
            Err(error) => panic!("{error}"),
        });
    }
    assert_eq!(said, ["1", "between", "2", "left", "left", "left", "left"]);

    let mut out = Vec::new();
    let mut encoder = Encoder::new();
    let address = |prefix, port, out: &mut Vec<u8>, encoder: &mut Encoder| {
        encoder.write_struct(&[ADDRESS, KEY], out, |fields| {
            write_address(&(vectors::key(prefix).to_vec(), port), fields);
        });
    };
    address(2, 1, &mut out, &mut encoder);
    encoder.write_value(&[], TypeId::STRING, &mut out, |value| {
        value.bytes(b"between");
    });
    address(3, 2, &mut out, &mut encoder);
    let texts = slice(92, "", TypeId::STRING);
    encoder.write_value(&[texts], texts.id, &mut out, |value| {
        value.list(&["a", ""], |text, item| item.bytes(text.as_bytes()));
    });
    for last in [3, 4] {
        let value = Everything {
            last,
            ..Everything::default()
        };
        value.write(&mut out, &mut encoder);
    }
    encoder.write_value(&[], TypeId::UINT, &mut out, |value| value.uint(5));
    assert_eq!(out, gob);
}

#[test]
fn fields_nobody_has_heard_of_are_left_out() {
    let gob = vectors::one(GOB, "request with unknown fields");
    let found = read(&gob, |value| {
        let mut found = (0, (Vec::new(), 0), Vec::new());
        let mut fields = value.fields()?;
        while let Some(field) = fields.next_field(&["NoiseMsg", "DstAddr", "Timestamp", "None"])? {
            match field.name {
                "Timestamp" => found.0 = field.value.int()?,
                "DstAddr" => found.1 = read_address(field.value)?,
                _ => found.2 = field.value.bytes()?.to_vec(),
            }
        }
        Ok(found)
    });
    let noise: Vec<u8> = (100..149).collect();
    let address = (vectors::key(3).to_vec(), 36);
    assert_eq!(found, Ok((1_700_000_000_123_456_789, address, noise)));
    for (name, gob) in vectors::all(GOB) {
        if name != "several values of several types" {
            assert_eq!(read(&gob, skip), Ok(()), "{name}");
        }
    }
}

#[test]
fn a_gob_that_is_cut_ends_too_early_wherever() {
    for (name, gob) in vectors::all(GOB) {
        for length in 0..gob.len() {
            let cut = read(&gob[..length], skip);
            let is_stream = name == "several values of several types";
            assert!(
                cut == Err(GobError::PeerTruncated) || is_stream,
                "{name} at {length}"
            );
        }
        let longer = [&gob[..], &[0]].concat();
        assert!(read(&longer, skip).is_err(), "{name}");
    }
}

/// Whatever bytes say, they have an answer, and a reason where they are refused.
fn reads_or_refuses(gob: &[u8]) {
    if let Err(error) = read(gob, skip) {
        assert_eq!(error.reason(), Reason::ProtocolError);
        // What nobody can leave out, nobody can read; but for depth, of which each field has its own.
        let read = decode(gob, Everything::read);
        assert!(read.is_err() || error == GobError::PeerDepth);
    }
}

#[test]
fn a_gob_with_any_byte_changed_is_read_or_refused() {
    for (_, gob) in vectors::all(GOB) {
        for position in 0..gob.len() {
            for change in [0x01, 0x7f, 0x80, 0xff] {
                let mut gob = gob.clone();
                gob[position] ^= change;
                reads_or_refuses(&gob);
            }
        }
    }
}

#[test]
fn a_type_may_contain_itself_as_deep_as_values_may() {
    let gob = vectors::one(GOB, "struct that contains itself");
    assert_eq!(read(&gob, skip), Ok(()));
    // A list of lists of lists: each level says that it has one item.
    let types = [slice(64, "", TypeId(64))];
    let nested = |depth: u32| {
        let mut out = Vec::new();
        Encoder::new().write_value(&types, TypeId(64), &mut out, |_| {});
        let value = [&[0xff, 0x80, 0][..], &vec![1; depth as usize], &[0]].concat();
        out.truncate(out.len() - 4);
        out.push(u8::try_from(value.len()).unwrap());
        [out, value].concat()
    };
    assert_eq!(read(&nested(DEPTH_MAX - 1), skip), Ok(()));
    let deeper = read(&nested(DEPTH_MAX), skip);
    assert_eq!(deeper, Err(GobError::PeerDepth));
}

/// Messages with their lengths.
fn messages(messages: &[&[u8]]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| {
            [
                &[u8::try_from(message.len()).expect("a short message")],
                *message,
            ]
            .concat()
        })
        .collect()
}

#[test]
fn definitions_that_are_none_are_refused() {
    let refused = |definition: &[u8]| read(&messages(&[definition]), skip).unwrap_err();
    // The ids 64, 63, 2^31 and -2^63: slices of int.
    assert_eq!(refused(&[0x7f, 2, 2, 4, 0, 0]), GobError::PeerTruncated);
    let id = |id: i64| GobError::PeerDefinition(TypeId(id));
    assert_eq!(refused(&[0x7d, 2, 2, 4, 0, 0]), id(63));
    assert_eq!(
        refused(&[0xfc, 0xff, 0xff, 0xff, 0xff, 2, 2, 4, 0, 0]),
        id(1 << 31)
    );
    let lowest = [&[0xf8][..], &[0xff; 8], &[2, 2, 4, 0, 0]].concat();
    assert_eq!(refused(&lowest), id(0));
    // No kind, an unknown kind, a field that its kind does not have, two kinds, bytes behind it.
    assert_eq!(refused(&[0x7f, 0]), id(64));
    assert_eq!(refused(&[0x7f, 8, 0, 0]), id(64));
    assert_eq!(refused(&[0x7f, 2, 3, 4, 0, 0]), id(64));
    assert_eq!(refused(&[0x7f, 2, 2, 4, 0, 1, 0, 0]), id(64));
    assert_eq!(
        refused(&[0x7f, 2, 2, 4, 0, 0, 9]),
        GobError::PeerTrailing { have: 1 }
    );
    // A field of a field that is neither its name nor its type.
    let field = GobError::PeerField {
        field: 2,
        fields: 2,
    };
    assert_eq!(refused(&[0x7f, 3, 2, 1, 3, 0, 0, 0]), field);
}

#[test]
fn a_type_is_defined_once_and_before_its_values() {
    let list = [0x7f, 2, 2, 4, 0, 0];
    let again = read(&messages(&[&list, &list]), skip);
    assert_eq!(again, Err(GobError::PeerTypeAgain(TypeId(64))));
    let value = [0xff, 0x80, 0, 1, 2];
    assert_eq!(read(&messages(&[&list, &value]), skip), Ok(()));
    let before = read(&messages(&[&value]), skip);
    assert_eq!(before, Err(GobError::PeerTypeUnknown(TypeId(64))));
    // A struct whose field has a type that never comes; without that field it is none the less one.
    let structure = [0x7f, 3, 2, 1, 1, 1, b'A', 1, 0xff, 0x84, 0, 0, 0];
    let value = |fields: &'static [u8]| {
        let value = [&[0xff, 0x80], fields, &[0]].concat();
        read(&messages(&[&structure, &value]), skip)
    };
    assert_eq!(value(&[]), Ok(()));
    assert_eq!(value(&[1, 2]), Err(GobError::PeerTypeUnknown(TypeId(66))));
    let field = GobError::PeerField {
        field: 1,
        fields: 1,
    };
    assert_eq!(value(&[2, 2]), Err(field));
}

#[test]
fn counts_that_lie_are_refused() {
    let list = [0x7f, 2, 2, 4, 0, 0];
    for count in [
        &[2][..],
        &[0xff, 0xff],
        &[0xf8, 255, 255, 255, 255, 255, 255, 255, 255],
    ] {
        let value = [&[0xff, 0x80, 0], count, &[2]].concat();
        let gob = messages(&[&list, &value]);
        let skipped = read(&gob, skip);
        assert!(
            matches!(skipped, Err(GobError::PeerCount { most: 1, .. })),
            "{skipped:?}"
        );
        let read = read(&gob, |value| value.list(usize::MAX).map(|_| ()));
        assert!(matches!(read, Err(GobError::PeerCount { most: 1, .. })));
    }
    // A struct of 255 fields in four bytes.
    let structure = read(&messages(&[&[0x7f, 3, 2, 0xff, 0xff, 0, 0, 0]]), skip);
    let most = GobError::PeerCount { have: 255, most: 3 };
    assert_eq!(structure, Err(most));
    // An array whose value has another length than its type.
    let array = [0x7f, 1, 2, 6, 1, 4, 0, 0];
    let value = |value: &[u8]| {
        let value = [&[0xff, 0x80, 0], value].concat();
        let gob = messages(&[&array, &value]);
        (read(&gob, skip), read(&gob, |v| v.byte_array::<2>()))
    };
    assert_eq!(value(&[2, 5, 6]), (Ok(()), Ok([5, 6])));
    let range = GobError::PeerRange;
    assert_eq!(value(&[1, 5]), (Err(range), Err(range)));
    // A number that is no byte.
    assert_eq!(value(&[2, 5, 0xfe, 1, 0]), (Ok(()), Err(range)));
}

#[test]
fn a_stream_has_a_bound_of_types_fields_and_names() {
    let id = |number: usize| TypeId(64 + i64::try_from(number).unwrap());
    let types: Vec<_> = (0..=TYPES_MAX)
        .map(|number| slice(id(number).0, "", TypeId::INT))
        .collect();
    let defined = |count: usize| {
        let mut out = Vec::new();
        Encoder::new().write_value(&types[..count], TypeId::INT, &mut out, |value| value.int(1));
        read(&out, skip)
    };
    assert_eq!(defined(TYPES_MAX), Ok(()));
    assert_eq!(defined(TYPES_MAX + 1), Err(GobError::PeerTypesMax));

    let fields = |count: usize, name: &'static str| {
        let fields = vec![(name, TypeId::INT); count].leak();
        let mut out = Vec::new();
        let types = [
            structure(64, "", &fields[..count / 2]),
            structure(65, "", &fields[count / 2..]),
        ];
        Encoder::new().write_struct(&types, &mut out, |_| {});
        read(&out, skip)
    };
    assert_eq!(fields(FIELDS_MAX, ""), Ok(()));
    assert_eq!(fields(FIELDS_MAX + 1, ""), Err(GobError::PeerTypesMax));
    let name = "n".repeat(NAMES_MAX / 8).leak();
    assert_eq!(fields(8, name), Ok(()));
    assert_eq!(fields(9, name), Err(GobError::PeerTypesMax));
}

#[test]
fn a_message_is_refused_by_its_length() {
    assert_eq!(message_range(&[], 9), Ok(None));
    assert_eq!(message_range(&[0xfe, 1], 9), Ok(None));
    assert_eq!(message_range(&[9, 1], 9), Ok(Some(1..10)));
    assert_eq!(
        message_range(&[10], 9),
        Err(GobError::PeerTooLong { have: 10, most: 9 })
    );
    let longest = [&[0xf8][..], &[0xff; 8]].concat();
    assert!(message_range(&longest, usize::MAX).is_err());
    assert_eq!(message_range(&[0x80], 9), Err(GobError::PeerNumber));
    // A message of no bytes, and one that has an id alone.
    assert_eq!(read(&[0], skip), Err(GobError::PeerTruncated));
    assert_eq!(read(&[1, 4], skip), Err(GobError::PeerTruncated));
    // A single value has a 0 before it.
    assert_eq!(read(&[3, 4, 1, 2], skip), Err(GobError::PeerRange));
}

fn everything() -> impl Strategy<Value = Everything> {
    let key = || prop_oneof![Just(Vec::new()), vec(1_u8.., 33)];
    let address = move || (key(), any::<u16>());
    let bytes = || vec(any::<u8>(), 0..40);
    (
        (any::<bool>(), any::<i64>(), any::<u16>(), any::<f64>()),
        (bytes(), ".{0,20}", key(), any::<[u8; 32]>(), address()),
        (vec(address(), 0..5), vec(bytes(), 0..5), any::<u64>()),
    )
        .prop_map(|(numbers, texts, lists)| Everything {
            bool: numbers.0,
            int: numbers.1,
            uint: numbers.2,
            // Go's zero has no sign.
            float: if numbers.3 == 0.0 { 0.0 } else { numbers.3 },
            bytes: texts.0,
            text: texts.1,
            key: texts.2,
            hash: texts.3,
            address: texts.4,
            addresses: lists.0,
            chunks: lists.1,
            last: lists.2,
        })
}

proptest! {
    #[test]
    fn a_value_roundtrips_and_every_cut_is_seen(value in everything(), at: prop::sample::Index) {
        let mut out = Vec::new();
        value.write(&mut out, &mut Encoder::new());
        prop_assert_eq!(decode(&out, Everything::read), Ok(value));
        let cut = decode(&out[..at.index(out.len())], Everything::read);
        prop_assert_eq!(cut, Err(GobError::PeerTruncated));
        prop_assert_eq!(read(&out, skip), Ok(()));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in vec(any::<u8>(), 0..200),
        at: prop::sample::Index,
        change in 1_u8..,
    ) {
        reads_or_refuses(&bytes);
        // Bytes behind good definitions, and good ones with one changed.
        let mut gob = Vec::new();
        Everything::full().write(&mut gob, &mut Encoder::new());
        let start = at.index(gob.len());
        reads_or_refuses(&[&gob[..start], &bytes].concat());
        gob[start] ^= change;
        reads_or_refuses(&gob);
    }
}

const fn slice(id: i64, name: &'static str, element: TypeId) -> Definition {
    Definition {
        id: TypeId(id),
        name,
        shape: Shape::Slice { element },
    }
}

const fn structure(
    id: i64,
    name: &'static str,
    fields: &'static [(&'static str, TypeId)],
) -> Definition {
    Definition {
        id: TypeId(id),
        name,
        shape: Shape::Struct(fields),
    }
}

const NAMES: [&str; 12] = [
    "Bool", "Int", "Uint", "Float", "Bytes", "Text", "Key", "Hash", "Addr", "Addrs", "Chunks",
    "Last",
];

const KEY: Definition = Definition {
    id: TypeId(67),
    name: "PubKey",
    shape: Shape::BinaryMarshaler,
};

const ADDRESS: Definition = structure(66, "Addr", &[("PK", TypeId(67)), ("Port", TypeId::UINT)]);

const EVERYTHING: [Definition; 6] = [
    structure(
        90,
        "everything",
        &[
            ("Bool", TypeId::BOOL),
            ("Int", TypeId::INT),
            ("Uint", TypeId::UINT),
            ("Float", TypeId::FLOAT),
            ("Bytes", TypeId::BYTES),
            ("Text", TypeId::STRING),
            ("Key", TypeId(67)),
            ("Hash", TypeId(69)),
            ("Addr", TypeId(66)),
            ("Addrs", TypeId(91)),
            ("Chunks", TypeId(88)),
            ("Last", TypeId::UINT),
        ],
    ),
    KEY,
    Definition {
        id: TypeId(69),
        name: "SHA256",
        shape: Shape::Array {
            element: TypeId::UINT,
            len: 32,
        },
    },
    ADDRESS,
    slice(91, "[]dmsg.Addr", TypeId(66)),
    slice(88, "", TypeId::BYTES),
];
