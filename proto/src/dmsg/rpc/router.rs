//! What a setup node asks a hop of a route.
//!
//! Here: the calls of `RPCGateway`. Not here: in which order they are made (`crate::route::group_setup`
//! knows).
//!
//! Visors of 2024 have no `DelRules`: they say that they cannot find it, and forget rules by themselves.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{EdgeRules, IDS_MAX, RpcError, Rule, Service, types};
use crate::dmsg::gob::{Encoder, TypeId, Value};
use crate::route::RouteId;

/// The service of a visor, on port [`ROUTER_PORT`](super::ROUTER_PORT).
#[derive(Clone, Copy, Debug)]
pub enum RouterGateway {}

/// What a setup node asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterCall {
    /// Take the rules of an end, which begins or ends here.
    AddEdgeRules(Box<EdgeRules>),
    /// Take rules for what passes.
    AddIntermediaryRules(Vec<Rule>),
    /// Forget ids and their rules.
    DelRules(Vec<RouteId>),
    /// Reserve so many ids.
    ReserveIds(u8),
}

/// What a visor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterReply {
    /// Whether it was done.
    Done(bool),
    /// These ids are reserved.
    Reserved(Vec<RouteId>),
}

impl Service for RouterGateway {
    type Call = RouterCall;
    type Reply = RouterReply;
    const NAME: &'static str = "RPCGateway";

    fn method(call: &RouterCall) -> &'static str {
        match call {
            RouterCall::AddEdgeRules(_) => ADD_EDGE_RULES,
            RouterCall::AddIntermediaryRules(_) => ADD_INTERMEDIARY_RULES,
            RouterCall::DelRules(_) => DEL_RULES,
            RouterCall::ReserveIds(_) => RESERVE_IDS,
        }
    }

    fn write_call(
        call: &RouterCall,
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
    ) -> Result<(), RpcError> {
        match call {
            RouterCall::AddEdgeRules(rules) => rules.write(encoder, out)?,
            RouterCall::AddIntermediaryRules(rules) => {
                check_len(rules)?;
                let rules: Result<Vec<_>, _> = rules.iter().map(Rule::encode).collect();
                let rules = rules?;
                encoder.write_value(&[types::RULES], types::RULES.id, out, |value| {
                    value.list(&rules, |rule, item| item.bytes(rule));
                });
            }
            RouterCall::DelRules(ids) => write_ids(ids, encoder, out)?,
            RouterCall::ReserveIds(count) => {
                encoder.write_value(&[], TypeId::UINT, out, |value| {
                    value.uint(u64::from(*count));
                });
            }
        }
        Ok(())
    }

    fn read_call(method: &str, value: Value<'_, '_>) -> Result<RouterCall, RpcError> {
        match method {
            ADD_EDGE_RULES => {
                let rules = EdgeRules::read(value)?;
                Ok(RouterCall::AddEdgeRules(Box::new(rules)))
            }
            ADD_INTERMEDIARY_RULES => {
                let mut list = value.list(IDS_MAX)?;
                let mut rules = Vec::with_capacity(list.len());
                while let Some(item) = list.next_item() {
                    rules.push(Rule::decode(item.bytes()?)?);
                }
                Ok(RouterCall::AddIntermediaryRules(rules))
            }
            DEL_RULES => read_ids(value).map(RouterCall::DelRules),
            RESERVE_IDS => Ok(RouterCall::ReserveIds(value.uint()?)),
            _ => {
                value.skip()?;
                Err(RpcError::PeerMethod)
            }
        }
    }

    fn write_reply(
        reply: &RouterReply,
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
    ) -> Result<(), RpcError> {
        match reply {
            RouterReply::Done(is_done) => {
                encoder.write_value(&[], TypeId::BOOL, out, |value| value.bool(*is_done));
                Ok(())
            }
            RouterReply::Reserved(ids) => write_ids(ids, encoder, out),
        }
    }

    fn read_reply(method: &str, value: Value<'_, '_>) -> Result<RouterReply, RpcError> {
        if method == RESERVE_IDS {
            read_ids(value).map(RouterReply::Reserved)
        } else {
            Ok(RouterReply::Done(value.bool()?))
        }
    }
}

fn read_ids(value: Value<'_, '_>) -> Result<Vec<RouteId>, RpcError> {
    let mut list = value.list(IDS_MAX)?;
    let mut ids = Vec::with_capacity(list.len());
    while let Some(item) = list.next_item() {
        ids.push(RouteId(item.uint()?));
    }
    Ok(ids)
}

fn write_ids(ids: &[RouteId], encoder: &mut Encoder, out: &mut Vec<u8>) -> Result<(), RpcError> {
    check_len(ids)?;
    encoder.write_value(&[types::IDS], types::IDS.id, out, |value| {
        value.list(ids, |id, item| item.uint(u64::from(id.0)));
    });
    Ok(())
}

const fn check_len<T>(list: &[T]) -> Result<(), RpcError> {
    if list.len() > IDS_MAX {
        return Err(RpcError::LocalList {
            have: list.len(),
            most: IDS_MAX,
        });
    }
    Ok(())
}

const ADD_EDGE_RULES: &str = "AddEdgeRules";
const ADD_INTERMEDIARY_RULES: &str = "AddIntermediaryRules";
const DEL_RULES: &str = "DelRules";
const RESERVE_IDS: &str = "ReserveIDs";
