//! What waits for one neighbour.
//!
//! Here: a bounded queue in which each route has its share. Not here: the stream that empties it.
//!
//! Bound: [`ROUTE_QUEUE_MAX`] bytes, [`ROUTE_QUEUE_ROUTE_MAX`] of them of one route.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ringway_proto::limits::{ROUTE_QUEUE_MAX, ROUTE_QUEUE_ROUTE_MAX};
use ringway_proto::route::RouteId;
use ringway_proto::time::Now;
use tokio::sync::Notify;

/// A neighbour with a packet stream, or one that is being opened.
#[derive(Debug)]
pub(crate) struct Neighbour {
    queue: VecDeque<(RouteId, Vec<u8>)>,
    bytes: usize,
    of_routes: BTreeMap<RouteId, usize>,
    /// Told when there is something in the queue, or when the stream is let go.
    pub(crate) wake: Arc<Notify>,
    /// Which stream this is: one that was lost says nothing about the next one.
    pub(crate) generation: u64,
    pub(crate) used_at: Now,
}

impl Neighbour {
    pub(crate) fn new(generation: u64, now: Now) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            of_routes: BTreeMap::new(),
            wake: Arc::new(Notify::new()),
            generation,
            used_at: now,
        }
    }

    /// Puts a packet in the queue; `false` when there is no room for it.
    pub(crate) fn push(&mut self, route: RouteId, packet: Vec<u8>, now: Now) -> bool {
        if self.room(route) < packet.len() {
            return false;
        }
        self.used_at = now;
        self.bytes += packet.len();
        *self.of_routes.entry(route).or_default() += packet.len();
        self.queue.push_back((route, packet));
        self.wake.notify_one();
        true
    }

    /// Takes packets until there are `bytes_max` bytes or more.
    pub(crate) fn take(&mut self, bytes_max: usize, out: &mut Vec<u8>) {
        while out.len() < bytes_max
            && let Some((route, packet)) = self.queue.pop_front()
        {
            self.bytes -= packet.len();
            if let Some(bytes) = self.of_routes.get_mut(&route) {
                *bytes -= packet.len();
                if *bytes == 0 {
                    self.of_routes.remove(&route);
                }
            }
            out.extend_from_slice(&packet);
        }
    }

    /// Returns how many bytes of a route may be put in the queue.
    pub(crate) fn room(&self, route: RouteId) -> usize {
        let of_route = self.of_routes.get(&route).copied().unwrap_or(0);
        let all = ROUTE_QUEUE_MAX.saturating_sub(self.bytes);
        all.min(ROUTE_QUEUE_ROUTE_MAX.saturating_sub(of_route))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_its_share_and_the_queue_its_bound() {
        let mut neighbour = Neighbour::new(1, Now::ZERO);
        let mut pushed = 0;
        for route in 1..10 {
            let mut of_route = 0;
            while neighbour.push(RouteId(route), vec![1; 10_000], Now::ZERO) {
                of_route += 10_000;
            }
            assert!(of_route <= ROUTE_QUEUE_ROUTE_MAX);
            assert!(route > 3 || of_route + 10_000 > ROUTE_QUEUE_ROUTE_MAX);
            pushed += of_route;
        }
        assert!(pushed <= ROUTE_QUEUE_MAX && pushed + 10_000 > ROUTE_QUEUE_MAX);
        let mut out = Vec::new();
        neighbour.take(65_536, &mut out);
        assert_eq!(out.len(), 70_000);
        assert!(neighbour.push(RouteId(9), vec![1; 10_000], Now::ZERO));
        neighbour.take(usize::MAX, &mut out);
        assert_eq!(out.len(), pushed + 10_000);
        assert!(neighbour.is_empty() && neighbour.of_routes.is_empty());
        assert_eq!(neighbour.bytes, 0);
    }
}
