//! Plans that set routes up.
//!
//! Here: how many hops and setups at a time there can be. Not here: the sums of all plans (`limits`).

use ringway_proto::limits::{ROUTE_HOPS_MAX, ROUTE_REQUESTS_MAX};

use super::{Plan, Scenario};

/// Peers behind the asker of a route, unless others are asked for.
pub const HOPS: u32 = 3;

/// Most peers behind the asker of a route: a path of the protocol without its first peer.
#[expect(clippy::cast_possible_truncation, reason = "a path has 16 peers")]
pub const HOPS_MAX: u32 = ROUTE_HOPS_MAX as u32 - 1;

/// Setups that one asker has in progress at most: the relay reads no more of its stream.
#[expect(clippy::cast_possible_truncation, reason = "32")]
const REQUESTS_MAX: u32 = ROUTE_REQUESTS_MAX as u32;

impl Plan {
    pub(super) fn check_setups(&self) -> Option<String> {
        let threads = self.placement.threads;
        if self.scenario != Scenario::Setups || threads == 0 {
            return None;
        }
        let hops = self.hops;
        if hops == 0 || hops > HOPS_MAX {
            return Some(format!(
                "--hops {hops}: a route has 1 to {HOPS_MAX} peers behind the asker"
            ));
        }
        // The thread that has fewest; one without any is told elsewhere.
        let pairs = self.share(self.pairs(), threads - 1);
        if pairs == 0 {
            return None;
        }
        if pairs < hops {
            let sessions = hops.saturating_mul(threads).saturating_mul(2);
            return Some(format!(
                "--hops {hops} with {pairs} hops on a thread: no peer stands on a route twice, so have at least \
                 --sessions {sessions}"
            ));
        }
        let most = pairs.saturating_mul(REQUESTS_MAX);
        (self.concurrency > most).then(|| {
            format!(
                "--concurrency {}: {pairs} askers on a thread x {REQUESTS_MAX} setups on the stream of each = \
                 {most}: lower it or add --sessions",
                self.concurrency
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Target;

    fn plan() -> Plan {
        let relay = format!("{}@127.0.0.1:7100", "3b".repeat(32));
        let mut plan = Plan::new(Scenario::Setups, Target::Relay(relay.parse().unwrap()));
        plan.sessions = 32;
        plan.concurrency = 200;
        plan
    }

    #[test]
    fn each_thread_needs_hops_for_a_path() {
        let mut plan = plan();
        assert_eq!(plan.check_setups(), None);
        plan.placement.threads = 6;
        let problem = plan.check_setups().unwrap();
        assert!(problem.contains("with 2 hops on a thread"), "{problem}");
        assert!(problem.contains("--sessions 36"), "{problem}");
        plan.sessions = 36;
        plan.concurrency = 96;
        assert_eq!(plan.check_setups(), None);
        plan.hops = 0;
        assert!(plan.check_setups().unwrap().contains("1 to 15"));
        plan.hops = 16;
        assert!(plan.check_setups().unwrap().contains("--hops 16"));
    }

    #[test]
    fn setups_beyond_what_the_relay_reads_are_refused() {
        let mut plan = plan();
        plan.concurrency = 512;
        assert_eq!(plan.check_setups(), None);
        plan.concurrency = 513;
        let problem = plan.check_setups().unwrap();
        assert!(problem.contains("16 askers"), "{problem}");
        assert!(problem.contains("x 32 setups"), "{problem}");
        plan.scenario = Scenario::Opens;
        assert_eq!(plan.check_setups(), None);
    }
}
