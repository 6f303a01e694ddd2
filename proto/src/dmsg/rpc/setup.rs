//! What a peer asks a setup node.
//!
//! Here: the calls of `SetupRPCGateway` that are answered. Not here: those of 2026 that are not: peers ask
//! for `Capabilities` first, and whoever does not know that has none of them.

use alloc::string::String;
use alloc::vec::Vec;

use super::message::text;
use super::{BidirectionalRoute, EdgeRules, RpcError, Service, types};
use crate::dmsg::gob::{Encoder, Value};

/// The service of a setup node, on port [`SETUP_PORT`](super::SETUP_PORT).
#[derive(Clone, Copy, Debug)]
pub enum SetupGateway {}

/// What a peer asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupCall {
    /// Set up the two routes of a group.
    DialRouteGroup(BidirectionalRoute),
    /// Are you there?
    HealthCheck,
}

/// What a setup node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupReply {
    /// The routes stand; these are the asker's rules.
    DialRouteGroup(EdgeRules),
    /// It is there.
    HealthCheck(Health),
}

/// How a setup node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `OK`, which is what askers look for.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// Commit it was built from.
    pub commit: String,
    /// When it was built.
    pub date: String,
}

impl Service for SetupGateway {
    type Call = SetupCall;
    type Reply = SetupReply;
    const NAME: &'static str = "SetupRPCGateway";

    fn method(call: &SetupCall) -> &'static str {
        match call {
            SetupCall::DialRouteGroup(_) => DIAL_ROUTE_GROUP,
            SetupCall::HealthCheck => HEALTH_CHECK,
        }
    }

    fn write_call(
        call: &SetupCall,
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
    ) -> Result<(), RpcError> {
        match call {
            SetupCall::DialRouteGroup(route) => route.write(encoder, out),
            SetupCall::HealthCheck => {
                encoder.write_struct(&[types::HEALTH_CHECK], out, |_| {});
                Ok(())
            }
        }
    }

    fn read_call(method: &str, value: Value<'_, '_>) -> Result<SetupCall, RpcError> {
        match method {
            DIAL_ROUTE_GROUP => BidirectionalRoute::read(value).map(SetupCall::DialRouteGroup),
            HEALTH_CHECK => {
                value.skip()?;
                Ok(SetupCall::HealthCheck)
            }
            _ => {
                value.skip()?;
                Err(RpcError::PeerMethod)
            }
        }
    }

    fn write_reply(
        reply: &SetupReply,
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
    ) -> Result<(), RpcError> {
        match reply {
            SetupReply::DialRouteGroup(rules) => rules.write(encoder, out),
            SetupReply::HealthCheck(health) => {
                encoder.write_struct(&[types::HEALTH], out, |fields| {
                    fields.text(0, &health.status);
                    fields.text(1, &health.version);
                    fields.text(2, &health.commit);
                    fields.text(3, &health.date);
                });
                Ok(())
            }
        }
    }

    fn read_reply(method: &str, value: Value<'_, '_>) -> Result<SetupReply, RpcError> {
        if method == DIAL_ROUTE_GROUP {
            return EdgeRules::read(value).map(SetupReply::DialRouteGroup);
        }
        let mut health = Health::default();
        let mut fields = value.fields()?;
        while let Some(field) = fields.next_field(&types::HEALTH_NAMES)? {
            let said = text(field.value.text()?, HEALTH_TEXT_MAX);
            match field.name {
                "Status" => health.status = said,
                "Version" => health.version = said,
                "Commit" => health.commit = said,
                _ => health.date = said,
            }
        }
        Ok(SetupReply::HealthCheck(health))
    }
}

/// Longest text about a setup node that is kept; the rest is cut off.
const HEALTH_TEXT_MAX: usize = 128;

const DIAL_ROUTE_GROUP: &str = "DialRouteGroup";
const HEALTH_CHECK: &str = "HealthCheck";
