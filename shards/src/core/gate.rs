//! How fast a shard accepts connections.
//!
//! Here: a token bucket of time. Not here: who calls for the pause (`admission`).
//!
//! Invariant: over any span `t` at most `rate * (t + 1 s)` connections are let in, those excepted that
//! the kernel had accepted already when it was told to stop.
//! Units: nanoseconds of credit; a connection costs `1 s / rate`.

use std::time::Duration;

use ringway_proto::time::Now;

/// Time saved up for connections.
#[derive(Debug)]
pub(super) struct AcceptGate {
    cost_ns: u64,
    credit_ns: u64,
    seen_at: Now,
}

/// Most that is saved up: a relay that was quiet takes a second's worth at once.
const CREDIT_MAX_NS: u64 = 1_000_000_000;

/// Credit at which a closed gate opens again, so that the accept is not stopped and started for each
/// connection.
const REOPEN_NS: u64 = 20_000_000;

impl AcceptGate {
    /// Returns a gate for `rate` connections a second.
    pub(super) fn new(rate: u32, now: Now) -> Self {
        Self {
            cost_ns: CREDIT_MAX_NS / u64::from(rate.max(1)),
            credit_ns: CREDIT_MAX_NS,
            seen_at: now,
        }
    }

    /// A connection has come in.
    pub(super) fn pass(&mut self, now: Now) {
        self.refill(now);
        self.credit_ns = self.credit_ns.saturating_sub(self.cost_ns);
    }

    /// Returns whether there is no credit for another connection.
    pub(super) const fn is_shut(&self) -> bool {
        self.credit_ns < self.cost_ns
    }

    /// Returns whether a gate that was shut has too little credit to open.
    pub(super) fn is_low(&self) -> bool {
        self.credit_ns < self.reopen_ns()
    }

    /// Returns when a gate that is shut may open.
    pub(super) fn opens_at(&self) -> Now {
        let missing = self.reopen_ns().saturating_sub(self.credit_ns);
        self.seen_at + Duration::from_nanos(missing)
    }

    /// Returns whether a gate that was shut may open.
    pub(super) fn may_open(&mut self, now: Now) -> bool {
        self.refill(now);
        self.credit_ns >= self.reopen_ns()
    }

    fn reopen_ns(&self) -> u64 {
        self.cost_ns.max(REOPEN_NS)
    }

    /// Adds the time that has passed.
    pub(super) fn refill(&mut self, now: Now) {
        let passed = u64::try_from(now.saturating_since(self.seen_at).as_nanos());
        let credit_ns = self
            .credit_ns
            .saturating_add(passed.unwrap_or(CREDIT_MAX_NS));
        self.credit_ns = credit_ns.min(CREDIT_MAX_NS);
        self.seen_at = self.seen_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_span_lets_more_in_than_the_rate_and_one_second(
            rate in 1_u32..100_000,
            pauses in proptest::collection::vec(0_u64..50_000_000, 1..400),
        ) {
            let mut now = Now::from_nanos(5);
            let mut gate = AcceptGate::new(rate, now);
            let mut is_open = true;
            let mut passed = Vec::new();
            for pause in pauses {
                now = now + Duration::from_nanos(pause);
                is_open = is_open || gate.may_open(now);
                // As many as come at this moment.
                for _ in 0..50 {
                    if !is_open {
                        break;
                    }
                    gate.pass(now);
                    passed.push(now);
                    is_open = !gate.is_shut();
                }
            }
            for (count, from) in (0_u64..).zip(&passed) {
                let span = passed.last().unwrap().saturating_since(*from).as_secs_f64();
                let total = u64::try_from(passed.len()).unwrap() - count;
                // One more for the connection at the end of the span.
                let bound = f64::from(rate) * (span + 1.0) + 1.0;
                prop_assert!(f64::from(u32::try_from(total).unwrap()) <= bound);
            }
        }
    }

    #[test]
    fn shut_gate_says_when_it_opens() {
        let now = Now::from_nanos(0);
        let mut gate = AcceptGate::new(10, now);
        while !gate.is_shut() {
            gate.pass(now);
        }
        let opens_at = gate.opens_at();
        assert!(opens_at > now);
        assert!(!gate.may_open(Now::from_nanos(opens_at.as_nanos() - 1)));
        assert!(gate.may_open(opens_at));
    }
}
