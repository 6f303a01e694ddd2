//! The types of open objects as gob defines them.
//!
//! Here: names, fields and numbers. Not here: what fields mean (`open`).
//!
//! Numbers are free; these are the ones of the vectors, so that objects can be compared byte by byte. Each
//! list has the object first and then the types of its fields, in Go's order.

use crate::dmsg::gob::{Definition, Shape, TypeId};

/// A request without the fields of 2026.
pub(super) const REQUEST_2024: [Definition; 3] = [
    object(
        64,
        "StreamRequest",
        &[
            ("Timestamp", TypeId::INT),
            ("SrcAddr", TypeId(65)),
            ("DstAddr", TypeId(65)),
            ("IPinfo", TypeId::BOOL),
            ("NoiseMsg", TypeId::BYTES),
        ],
    ),
    address(65, &[("PK", TypeId(66)), ("Port", TypeId::UINT)]),
    key(66),
];

/// A response without the fields of 2026.
pub(super) const RESPONSE_2024: [Definition; 2] = [
    object(
        67,
        "StreamResponse",
        &[
            ("ReqHash", TypeId(68)),
            ("Accepted", TypeId::BOOL),
            ("IP", TypeId::BYTES),
            ("ErrCode", TypeId::UINT),
            ("NoiseMsg", TypeId::BYTES),
        ],
    ),
    hash(68),
];

/// A request with all fields.
pub(super) const REQUEST: [Definition; 3] = [
    object(
        65,
        "StreamRequest",
        &[
            ("Timestamp", TypeId::INT),
            ("SrcAddr", TypeId(66)),
            ("DstAddr", TypeId(66)),
            ("IPinfo", TypeId::BOOL),
            ("GeoInfo", TypeId::BOOL),
            ("NoiseMsg", TypeId::BYTES),
        ],
    ),
    address(66, &[("PK", TypeId(67)), ("Port", TypeId::UINT)]),
    key(67),
];

/// A response with all fields.
pub(super) const RESPONSE: [Definition; 2] = [
    object(
        68,
        "StreamResponse",
        &[
            ("ReqHash", TypeId(69)),
            ("Accepted", TypeId::BOOL),
            ("IP", TypeId::BYTES),
            ("GeoCountry", TypeId::STRING),
            ("GeoRegion", TypeId::STRING),
            ("GeoLat", TypeId::FLOAT),
            ("GeoLon", TypeId::FLOAT),
            ("ErrCode", TypeId::UINT),
            ("NoiseMsg", TypeId::BYTES),
        ],
    ),
    hash(69),
];

/// An announcement.
pub(super) const ANNOUNCE: [Definition; 2] = [
    object(
        70,
        "PeerAnnounce",
        &[("Timestamp", TypeId::INT), ("SrcPK", TypeId(67))],
    ),
    key(67),
];

/// Names of a request's fields.
pub(super) const REQUEST_NAMES: [&str; 6] = [
    "Timestamp",
    "SrcAddr",
    "DstAddr",
    "IPinfo",
    "GeoInfo",
    "NoiseMsg",
];

/// Names of a response's fields.
pub(super) const RESPONSE_NAMES: [&str; 9] = [
    "ReqHash",
    "Accepted",
    "IP",
    "GeoCountry",
    "GeoRegion",
    "GeoLat",
    "GeoLon",
    "ErrCode",
    "NoiseMsg",
];

/// Names of an announcement's fields.
pub(super) const ANNOUNCE_NAMES: [&str; 2] = ["Timestamp", "SrcPK"];

/// Names of an address's fields.
pub(super) const ADDRESS_NAMES: [&str; 2] = ["PK", "Port"];

const fn object(
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

const fn address(id: i64, fields: &'static [(&'static str, TypeId)]) -> Definition {
    object(id, "Addr", fields)
}

const fn key(id: i64) -> Definition {
    Definition {
        id: TypeId(id),
        name: "PubKey",
        shape: Shape::BinaryMarshaler,
    }
}

const fn hash(id: i64) -> Definition {
    Definition {
        id: TypeId(id),
        name: "SHA256",
        shape: Shape::Array {
            element: TypeId::UINT,
            len: 32,
        },
    }
}
