//! Rules as Skywire's visors keep them.
//!
//! Here: their bytes. Not here: tables of rules, packets.
//!
//! Big-endian. All kinds: `u64 keep alive, ns | u8 kind | u32 id`. Then, kind 0, what arrives here: a
//! descriptor; kind 1, what leaves here: `descriptor | u32 next id | [16] transport`; kind 2, what passes:
//! `u32 next id | [16] transport`. Kinds 1 and 2 end with 17 bytes that say nothing: they were made as long
//! as if a key stood in the place of the transport.
//! Source: docs/dmsg.md "Calls of route setup".

use alloc::vec::Vec;
use core::time::Duration;

use super::route::DESCRIPTOR_LEN;
use super::{RouteDescriptor, RpcError, TransportId};
use crate::bytes::Reader;
use crate::route::RouteId;

/// What a visor does with packets of one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The id.
    pub id: RouteId,
    /// Time without a packet after which the visor forgets the rule.
    pub keep_alive: Duration,
    /// What is done.
    pub kind: RuleKind,
}

/// What is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// It has arrived.
    Consume {
        /// The ends of the route that ends here.
        descriptor: RouteDescriptor,
    },
    /// It leaves.
    Forward {
        /// The ends of the route that begins here.
        descriptor: RouteDescriptor,
        /// Its id at the next visor.
        next: RouteId,
        /// The transport to that.
        transport: TransportId,
    },
    /// It goes on.
    Intermediary {
        /// Its id at the next visor.
        next: RouteId,
        /// The transport to that.
        transport: TransportId,
    },
}

impl Rule {
    /// Reads a rule. Bytes behind what its kind says are ignored, up to [`RULE_MAX`].
    ///
    /// # Errors
    ///
    /// [`RpcError::PeerRuleLength`] and [`RpcError::PeerRuleKind`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RpcError> {
        let length = RpcError::PeerRuleLength { have: bytes.len() };
        if bytes.len() > RULE_MAX {
            return Err(length);
        }
        let mut reader = Reader::new(bytes);
        let keep_alive = Duration::from_nanos(reader.u64().ok_or(length)?);
        let kind = reader.u8().ok_or(length)?;
        let id = RouteId(reader.u32().ok_or(length)?);
        let kind = match kind {
            KIND_CONSUME => RuleKind::Consume {
                descriptor: read_descriptor(&mut reader).ok_or(length)?,
            },
            KIND_FORWARD => RuleKind::Forward {
                descriptor: read_descriptor(&mut reader).ok_or(length)?,
                next: RouteId(reader.u32().ok_or(length)?),
                transport: TransportId(reader.array().ok_or(length)?),
            },
            KIND_INTERMEDIARY => RuleKind::Intermediary {
                next: RouteId(reader.u32().ok_or(length)?),
                transport: TransportId(reader.array().ok_or(length)?),
            },
            kind => return Err(RpcError::PeerRuleKind(kind)),
        };
        Ok(Self {
            id,
            keep_alive,
            kind,
        })
    }

    /// Returns the bytes.
    ///
    /// # Errors
    ///
    /// [`RpcError::LocalDialect`].
    pub fn encode(&self) -> Result<Vec<u8>, RpcError> {
        let mut out = Vec::with_capacity(RULE_LEN_MAX);
        let nanos = u64::try_from(self.keep_alive.as_nanos()).unwrap_or(u64::MAX);
        out.extend_from_slice(&nanos.to_be_bytes());
        let (kind, descriptor, next) = match &self.kind {
            RuleKind::Consume { descriptor } => (KIND_CONSUME, Some(descriptor), None),
            RuleKind::Forward {
                descriptor,
                next,
                transport,
            } => (KIND_FORWARD, Some(descriptor), Some((next, transport))),
            RuleKind::Intermediary { next, transport } => {
                (KIND_INTERMEDIARY, None, Some((next, transport)))
            }
        };
        out.push(kind);
        out.extend_from_slice(&self.id.0.to_be_bytes());
        if let Some(descriptor) = descriptor {
            out.extend_from_slice(&descriptor.encode()?);
        }
        if let Some((next, transport)) = next {
            out.extend_from_slice(&next.0.to_be_bytes());
            out.extend_from_slice(&transport.0);
            out.extend_from_slice(&[0; SPARE_LEN]);
        }
        Ok(out)
    }
}

fn read_descriptor(reader: &mut Reader<'_>) -> Option<RouteDescriptor> {
    reader
        .array::<DESCRIPTOR_LEN>()
        .map(|bytes| RouteDescriptor::decode(&bytes))
}

/// Longest rule that is read.
pub const RULE_MAX: usize = 256;

/// Longest rule that is written.
const RULE_LEN_MAX: usize = 8 + 1 + 4 + DESCRIPTOR_LEN + 4 + 16 + SPARE_LEN;

/// Bytes that say nothing: a key's 33 for a transport's 16.
const SPARE_LEN: usize = 17;

const KIND_CONSUME: u8 = 0;
const KIND_FORWARD: u8 = 1;
const KIND_INTERMEDIARY: u8 = 2;
