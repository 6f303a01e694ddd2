//! Routes as Skywire describes them.
//!
//! Here: descriptors, hops, the two routes of a group and the rules of its ends, as values and as gobs. Not
//! here: rules (`rule`), where hops come from.
//!
//! A descriptor is `[33] source key | [33] destination key | u16 source port | u16 destination port`,
//! big-endian. It travels as an array, so each byte of it is a number.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::{HOPS_MAX, RpcError, Rule, types};
use crate::bytes::Reader;
use crate::dialect::Dialect;
use crate::dmsg::gob::{Encoder, StructWriter, Value, ValueWriter};
use crate::dmsg::key::KEY_LEN;
use crate::key::{Address, PublicKey};

/// Bytes of a descriptor.
pub(super) const DESCRIPTOR_LEN: usize = 2 * KEY_LEN + 4;

/// The two ends of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteDescriptor {
    /// Where it begins.
    pub source: Address,
    /// Where it ends.
    pub destination: Address,
}

impl RouteDescriptor {
    /// Returns the descriptor of the way back.
    #[must_use]
    pub const fn inverted(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
        }
    }

    /// Reads a descriptor; the keys may be any bytes.
    #[must_use]
    pub fn decode(bytes: &[u8; DESCRIPTOR_LEN]) -> Self {
        let mut reader = Reader::new(bytes);
        let mut key = || PublicKey::dmsg(reader.array().unwrap_or([0; KEY_LEN]));
        let (source, destination) = (key(), key());
        let mut port = || reader.u16().unwrap_or(0);
        let (source_port, destination_port) = (port(), port());
        Self {
            source: Address::new(source, source_port),
            destination: Address::new(destination, destination_port),
        }
    }

    /// Returns the bytes.
    ///
    /// # Errors
    ///
    /// [`RpcError::LocalDialect`].
    pub fn encode(&self) -> Result<[u8; DESCRIPTOR_LEN], RpcError> {
        let keys = [key(&self.source.key)?, key(&self.destination.key)?];
        let ports = [self.source.port, self.destination.port].map(u16::to_be_bytes);
        let mut bytes = [0; DESCRIPTOR_LEN];
        let (head, tail) = bytes.split_at_mut(2 * KEY_LEN);
        head.copy_from_slice(keys.as_flattened());
        tail.copy_from_slice(ports.as_flattened());
        Ok(bytes)
    }

    pub(super) fn read(value: Value<'_, '_>) -> Result<Self, RpcError> {
        Ok(Self::decode(&value.byte_array()?))
    }
}

/// Name of a transport, a connection of two visors.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportId(pub [u8; 16]);

impl fmt::Display for TransportId {
    /// Writes it as UUIDs are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            let dash = if matches!(position, 4 | 6 | 8 | 10) {
                "-"
            } else {
                ""
            };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A step of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Over which transport.
    pub transport: TransportId,
    /// From which visor.
    pub from: PublicKey,
    /// To which one.
    pub to: PublicKey,
}

impl Hop {
    fn read(value: Value<'_, '_>) -> Result<Self, RpcError> {
        let nobody = PublicKey::dmsg([0; KEY_LEN]);
        let mut hop = Self {
            transport: TransportId::default(),
            from: nobody,
            to: nobody,
        };
        let mut fields = value.fields()?;
        while let Some(field) = fields.next_field(&types::HOP_NAMES)? {
            match field.name {
                "TpID" => {
                    let id = field.value.opaque()?;
                    hop.transport = id
                        .try_into()
                        .map(TransportId)
                        .map_err(|_| RpcError::PeerTransportLength { have: id.len() })?;
                }
                "From" => hop.from = read_key(field.value)?,
                _ => hop.to = read_key(field.value)?,
            }
        }
        Ok(hop)
    }

    fn write(&self, item: ValueWriter<'_>) {
        item.structure(|fields| {
            fields.opaque(0, &self.transport.0);
            fields.opaque(1, self.from.as_bytes());
            fields.opaque(2, self.to.as_bytes());
        });
    }
}

/// Two routes to set up: one to the destination, one back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BidirectionalRoute {
    /// The ends of the forward route.
    pub descriptor: RouteDescriptor,
    /// Time without a packet after which a visor forgets a rule.
    pub keep_alive: Duration,
    /// From the source to the destination.
    pub forward: Vec<Hop>,
    /// From the destination to the source.
    pub reverse: Vec<Hop>,
}

impl BidirectionalRoute {
    /// Says whether both routes lead from end to end, each hop from where the last one has led to, without
    /// coming to a visor twice.
    ///
    /// # Errors
    ///
    /// [`RpcError::PeerRouteForward`], [`RpcError::PeerRouteReverse`] and [`RpcError::PeerRoute`], whose
    /// texts are those of Skywire's setup node. That one does not look at hops between the ends.
    /// [`RpcError::PeerRouteLoop`].
    pub fn check(&self) -> Result<(), RpcError> {
        if self.forward.is_empty() {
            return Err(RpcError::PeerRouteForward);
        }
        if self.reverse.is_empty() {
            return Err(RpcError::PeerRouteReverse);
        }
        let (source, destination) = (self.descriptor.source.key, self.descriptor.destination.key);
        if !leads(&self.forward, source, destination) || !leads(&self.reverse, destination, source)
        {
            return Err(RpcError::PeerRoute);
        }
        if has_loop(&self.forward) || has_loop(&self.reverse) {
            return Err(RpcError::PeerRouteLoop);
        }
        Ok(())
    }

    /// Returns every visor of both routes, the ends included, with how often it occurs: once for each route
    /// that begins, ends or passes there.
    #[must_use]
    pub fn visors(&self) -> BTreeMap<PublicKey, u8> {
        let mut visors = BTreeMap::new();
        for visor in visors_of(&self.forward).chain(visors_of(&self.reverse)) {
            let count: &mut u8 = visors.entry(visor).or_default();
            *count = count.saturating_add(1);
        }
        visors
    }

    pub(super) fn read(value: Value<'_, '_>) -> Result<Self, RpcError> {
        let mut route = Self {
            descriptor: RouteDescriptor::decode(&[0; DESCRIPTOR_LEN]),
            keep_alive: Duration::ZERO,
            forward: Vec::new(),
            reverse: Vec::new(),
        };
        let mut fields = value.fields()?;
        while let Some(field) = fields.next_field(&types::ROUTE_NAMES)? {
            match field.name {
                "Desc" => route.descriptor = RouteDescriptor::read(field.value)?,
                // A negative time is none, as for Skywire's visors.
                "KeepAlive" => {
                    let nanos = u64::try_from(field.value.int()?).unwrap_or(0);
                    route.keep_alive = Duration::from_nanos(nanos);
                }
                "Forward" => route.forward = read_hops(field.value)?,
                _ => route.reverse = read_hops(field.value)?,
            }
        }
        Ok(route)
    }

    pub(super) fn write(&self, encoder: &mut Encoder, out: &mut Vec<u8>) -> Result<(), RpcError> {
        let descriptor = self.descriptor.encode()?;
        for hops in [&self.forward, &self.reverse] {
            if hops.len() > HOPS_MAX {
                return Err(RpcError::LocalList {
                    have: hops.len(),
                    most: HOPS_MAX,
                });
            }
            for hop in hops {
                key(&hop.from)?;
                key(&hop.to)?;
            }
        }
        encoder.write_struct(&types::ROUTE, out, |fields| {
            fields.byte_array(0, &descriptor);
            let nanos = self.keep_alive.as_nanos();
            fields.int(1, i64::try_from(nanos).unwrap_or(i64::MAX));
            fields.list(2, &self.forward, Hop::write);
            fields.list(3, &self.reverse, Hop::write);
        });
        Ok(())
    }
}

/// The rules of one end of a route group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeRules {
    /// The ends of the route that ends here, which names the group in the tables of this end.
    pub descriptor: RouteDescriptor,
    /// For packets that leave.
    pub forward: Rule,
    /// For packets that arrive.
    pub reverse: Rule,
}

impl EdgeRules {
    pub(super) fn read(value: Value<'_, '_>) -> Result<Self, RpcError> {
        let mut descriptor = RouteDescriptor::decode(&[0; DESCRIPTOR_LEN]);
        let (mut forward, mut reverse) = (None, None);
        let mut fields = value.fields()?;
        while let Some(field) = fields.next_field(&types::EDGE_RULES_NAMES)? {
            match field.name {
                "Desc" => descriptor = RouteDescriptor::read(field.value)?,
                "Forward" => forward = Some(Rule::decode(field.value.bytes()?)?),
                _ => reverse = Some(Rule::decode(field.value.bytes()?)?),
            }
        }
        let missing = RpcError::PeerRuleLength { have: 0 };
        Ok(Self {
            descriptor,
            forward: forward.ok_or(missing)?,
            reverse: reverse.ok_or(missing)?,
        })
    }

    pub(super) fn write(&self, encoder: &mut Encoder, out: &mut Vec<u8>) -> Result<(), RpcError> {
        let descriptor = self.descriptor.encode()?;
        let (forward, reverse) = (self.forward.encode()?, self.reverse.encode()?);
        encoder.write_struct(&types::EDGE_RULES, out, |fields: &mut StructWriter<'_>| {
            fields.byte_array(0, &descriptor);
            fields.bytes(1, &forward);
            fields.bytes(2, &reverse);
        });
        Ok(())
    }
}

/// Returns the bytes of a key of this dialect.
pub(super) fn key(key: &PublicKey) -> Result<[u8; KEY_LEN], RpcError> {
    match (key.dialect(), key.as_bytes().try_into()) {
        (Dialect::Dmsg, Ok(bytes)) => Ok(bytes),
        _ => Err(RpcError::LocalDialect),
    }
}

fn read_key(value: Value<'_, '_>) -> Result<PublicKey, RpcError> {
    let bytes = value.opaque()?;
    let key = <[u8; KEY_LEN]>::try_from(bytes);
    key.map(PublicKey::dmsg)
        .map_err(|_| RpcError::PeerKeyLength { have: bytes.len() })
}

fn read_hops(value: Value<'_, '_>) -> Result<Vec<Hop>, RpcError> {
    let mut list = value.list(HOPS_MAX)?;
    let mut hops = Vec::with_capacity(list.len());
    while let Some(item) = list.next_item() {
        hops.push(Hop::read(item)?);
    }
    Ok(hops)
}

/// Returns whether hops lead from one key to another.
fn leads(hops: &[Hop], from: PublicKey, to: PublicKey) -> bool {
    let end = hops
        .iter()
        .try_fold(from, |at, hop| (hop.from == at).then_some(hop.to));
    end == Some(to)
}

/// Returns whether hops that lead on come to a visor twice.
fn has_loop(hops: &[Hop]) -> bool {
    let mut seen = BTreeSet::new();
    !visors_of(hops).all(|visor| seen.insert(visor))
}

/// Returns the visors of hops that lead on, both ends included.
fn visors_of(hops: &[Hop]) -> impl Iterator<Item = PublicKey> {
    let first = hops.first().map(|hop| hop.from);
    first.into_iter().chain(hops.iter().map(|hop| hop.to))
}
