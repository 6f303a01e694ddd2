//! Files in the `MaxMind` DB format, as small as a test needs them.
//!
//! Here: a writer of search trees over IPv4 and IPv6 prefixes, of values, of the metadata. Not here: sharing
//! of equal values, prefixes inside of prefixes.
//!
//! ```text
//! tree: two records a node, 24, 28 or 32 bits each | 16 zeros | values | marker | metadata, a map
//! record: a node | count of nodes: no data | count of nodes + 16 + offset of a value
//! value: kind (3 bits), size (5 bits) | the kind again if it is above 7 | bytes, big-endian
//! ```
//!
//! Source: `MaxMind`, "DB File Format Specification" 2.0.

use std::net::IpAddr;

/// A value of the format.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Array(Vec<Self>),
    Double(f64),
    Float(f32),
    Map(Vec<(&'static str, Self)>),
    Text(String),
    Uint(u8, u64),
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A record of a database of cities.
    pub(crate) fn place(country: &str, region: &str, [latitude, longitude]: [f64; 2]) -> Self {
        let code = |text: &str| Self::Map(vec![("iso_code", Self::text(text))]);
        let degrees = [("latitude", latitude), ("longitude", longitude)];
        let location = degrees.map(|(name, value)| (name, Self::Double(value)));
        Self::Map(vec![
            ("city", Self::Map(vec![("geoname_id", Self::Uint(6, 7))])),
            ("country", code(country)),
            ("location", Self::Map(location.to_vec())),
            (
                "subdivisions",
                Self::Array(vec![code(region), code("other")]),
            ),
        ])
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Array(values) => {
                head(out, 11, values.len());
                values.iter().for_each(|value| value.write(out));
            }
            Self::Double(value) => {
                head(out, 3, 8);
                out.extend(value.to_be_bytes());
            }
            Self::Float(value) => {
                head(out, 15, 4);
                out.extend(value.to_be_bytes());
            }
            Self::Map(fields) => {
                head(out, 7, fields.len());
                for (name, value) in fields {
                    Self::text(*name).write(out);
                    value.write(out);
                }
            }
            Self::Text(text) => {
                head(out, 2, text.len());
                out.extend(text.as_bytes());
            }
            Self::Uint(kind, value) => {
                let bytes = value.to_be_bytes();
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                head(out, *kind, bytes.len() - zeros);
                out.extend(&bytes[zeros..]);
            }
        }
    }
}

/// Writes the kind and the size of a value, of 284 bytes or elements at most.
fn head(out: &mut Vec<u8>, kind: u8, size: usize) {
    let byte = |number: usize| u8::try_from(number).expect("a short value");
    let (short, more) = match size {
        0..29 => (byte(size), None),
        _ => (29, Some(byte(size - 29))),
    };
    if kind > 7 {
        out.extend([short, kind - 7]);
    } else {
        out.push(kind << 5 | short);
    }
    out.extend(more);
}

/// A record of the tree.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Record {
    Empty,
    Node(usize),
    /// Offset of a value.
    Value(usize),
}

/// A file in the making.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) kind: &'static str,
    pub(crate) ip_version: u8,
    pub(crate) record_bits: usize,
    pub(crate) nodes: Vec<[Record; 2]>,
    pub(crate) values: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(ip_version: u8, record_bits: usize) -> Self {
        Self {
            kind: "Ringway-City-Test",
            ip_version,
            record_bits,
            nodes: vec![[Record::Empty; 2]],
            values: Vec::new(),
        }
    }

    /// Gives the addresses that share the first bits of one a value.
    pub(crate) fn insert(mut self, prefix: &str, value: &Value) -> Self {
        let offset = self.values.len();
        value.write(&mut self.values);
        let (bits, count) = self.bits(prefix);
        let mut node = 0;
        for place in 0..count {
            let bit = usize::from(bits >> (127 - place) & 1 == 1);
            if place + 1 == count {
                self.nodes[node][bit] = Record::Value(offset);
            } else if let Record::Node(next) = self.nodes[node][bit] {
                node = next;
            } else {
                let next = self.nodes.len();
                self.nodes[node][bit] = Record::Node(next);
                self.nodes.push([Record::Empty; 2]);
                node = next;
            }
        }
        self
    }

    /// Returns the bits of a prefix, the first one on top, and how many there are.
    fn bits(&self, prefix: &str) -> (u128, u32) {
        let (address, len) = prefix.split_once('/').expect("a prefix");
        let len: u32 = len.parse().expect("a length");
        match (address.parse().expect("an address"), self.ip_version) {
            (IpAddr::V4(address), 4) => (u128::from(u32::from(address)) << 96, len),
            (IpAddr::V4(address), _) => (u32::from(address).into(), 96 + len),
            (IpAddr::V6(address), _) => (address.into(), len),
        }
    }

    /// Returns the file.
    pub(crate) fn finish(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for node in &self.nodes {
            let [left, right] = node.map(|record| self.number(record).to_be_bytes());
            match self.record_bits {
                24 => out.extend([&left[1..], &right[1..]].concat()),
                28 => {
                    out.extend(&left[1..]);
                    out.push(left[0] << 4 | right[0]);
                    out.extend(&right[1..]);
                }
                _ => out.extend([left, right].concat()),
            }
        }
        out.extend([0; 16]);
        out.extend(&self.values);
        out.extend(b"\xab\xcd\xefMaxMind.com");
        self.metadata().write(&mut out);
        out
    }

    fn number(&self, record: Record) -> u32 {
        let number = match record {
            Record::Empty => self.nodes.len(),
            Record::Node(node) => node,
            Record::Value(offset) => self.nodes.len() + 16 + offset,
        };
        u32::try_from(number).expect("a small file")
    }

    fn metadata(&self) -> Value {
        let uint = |kind, number: usize| Value::Uint(kind, number.try_into().expect("a number"));
        Value::Map(vec![
            ("node_count", uint(6, self.nodes.len())),
            ("record_size", uint(5, self.record_bits)),
            ("ip_version", uint(5, self.ip_version.into())),
            ("database_type", Value::text(self.kind)),
            ("languages", Value::Array(vec![Value::text("en")])),
            ("binary_format_major_version", uint(5, 2)),
            ("binary_format_minor_version", uint(5, 0)),
            ("build_epoch", Value::Uint(9, 1_700_000_000)),
            (
                "description",
                Value::Map(vec![("en", Value::text("for tests"))]),
            ),
        ])
    }
}
