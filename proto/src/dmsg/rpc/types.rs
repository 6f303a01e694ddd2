//! The types of calls and replies as gob defines them.
//!
//! Here: names, fields and numbers. Not here: what fields mean.
//!
//! Numbers are free; these are the ones of the golden conversations. Each list has the value first and then
//! the types of its fields, in Go's order.

use super::route::DESCRIPTOR_LEN;
use crate::dmsg::gob::{Definition, Shape, TypeId};

/// Head of a call.
pub(super) const REQUEST: Definition = structure(
    71,
    "Request",
    &[("ServiceMethod", TypeId::STRING), ("Seq", TypeId::UINT)],
);

/// Head of a reply.
pub(super) const RESPONSE: Definition = structure(
    72,
    "Response",
    &[
        ("ServiceMethod", TypeId::STRING),
        ("Seq", TypeId::UINT),
        ("Error", TypeId::STRING),
    ],
);

/// What stands in a reply for an answer when there is an error.
pub(super) const INVALID_REQUEST: Definition = structure(73, "", &[]);

/// A question for health.
pub(super) const HEALTH_CHECK: Definition = structure(74, "HealthCheckArgs", &[]);

/// An answer to it.
pub(super) const HEALTH: Definition = structure(
    75,
    "HealthCheckReply",
    &[
        ("Status", TypeId::STRING),
        ("Version", TypeId::STRING),
        ("Commit", TypeId::STRING),
        ("Date", TypeId::STRING),
    ],
);

/// Two routes.
pub(super) const ROUTE: [Definition; 6] = [
    structure(
        76,
        "BidirectionalRoute",
        &[
            ("Desc", TypeId(77)),
            ("KeepAlive", TypeId::INT),
            ("Forward", TypeId(80)),
            ("Reverse", TypeId(80)),
        ],
    ),
    DESCRIPTOR,
    slice(80, "[]routing.Hop", TypeId(78)),
    structure(
        78,
        "Hop",
        &[
            ("TpID", TypeId(79)),
            ("From", TypeId(67)),
            ("To", TypeId(67)),
        ],
    ),
    marshaler(79, "UUID"),
    marshaler(67, "PubKey"),
];

/// Rules of an end.
pub(super) const EDGE_RULES: [Definition; 2] = [
    structure(
        81,
        "EdgeRules",
        &[
            ("Desc", TypeId(77)),
            ("Forward", TypeId::BYTES),
            ("Reverse", TypeId::BYTES),
        ],
    ),
    DESCRIPTOR,
];

/// Rules.
pub(super) const RULES: Definition = slice(82, "", TypeId::BYTES);

/// Ids.
pub(super) const IDS: Definition = slice(83, "", TypeId::UINT);

/// Names of the fields of both heads.
pub(super) const HEAD_NAMES: [&str; 3] = ["ServiceMethod", "Seq", "Error"];

/// Names of the fields of an answer about health.
pub(super) const HEALTH_NAMES: [&str; 4] = ["Status", "Version", "Commit", "Date"];

/// Names of the fields of two routes.
pub(super) const ROUTE_NAMES: [&str; 4] = ["Desc", "KeepAlive", "Forward", "Reverse"];

/// Names of the fields of a hop.
pub(super) const HOP_NAMES: [&str; 3] = ["TpID", "From", "To"];

/// Names of the fields of the rules of an end.
pub(super) const EDGE_RULES_NAMES: [&str; 3] = ["Desc", "Forward", "Reverse"];

const DESCRIPTOR: Definition = Definition {
    id: TypeId(77),
    name: "RouteDescriptor",
    shape: Shape::Array {
        element: TypeId::UINT,
        len: 70,
    },
};

const _: () = assert!(DESCRIPTOR_LEN == 70);

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

const fn slice(id: i64, name: &'static str, element: TypeId) -> Definition {
    Definition {
        id: TypeId(id),
        name,
        shape: Shape::Slice { element },
    }
}

const fn marshaler(id: i64, name: &'static str) -> Definition {
    Definition {
        id: TypeId(id),
        name,
        shape: Shape::BinaryMarshaler,
    }
}
