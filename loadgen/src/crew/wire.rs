//! What the processes of a run say to each other: lines of JSON over two pipes.
//!
//! Here: the messages. Not here: who sends them when (`member`, `service`).
//!
//! Both ends are the same executable, so there is no version to agree on. Histograms are in base64: a few
//! KiB for each interval.

use std::io::{self, BufRead, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::intervals::Contribution;
use crate::plan::Plan;
use crate::shared::{Counters, Instructions};
use crate::tally::Tally;

/// From the process that conducts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The first one: what to do.
    Begin {
        /// The whole plan.
        plan: Box<Plan>,
        /// Which of its processes this is, from 0.
        number: u32,
    },
    /// Where the run is now.
    Go(Instructions),
}

/// To the process that conducts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// All threads run.
    Started,
    /// What the threads have done so far.
    Counters(Counters),
    /// What a thread measured in an interval.
    Contribution(Box<Contribution>),
    /// The last one: what all threads measured, or why there is nothing.
    Ended(Result<Box<Tally>, String>),
}

/// Writes a message.
pub(super) fn send(output: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

/// Reads a message; none when the other side has closed.
pub(super) fn receive<T: DeserializeOwned>(input: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::{Arrivals, OpensTo, Pace, RelayAddress, Scenario, Shape, Target};

    #[test]
    fn a_plan_reaches_another_process_unchanged() {
        let relay: RelayAddress = format!("{}@[::1]:7100", "3b".repeat(32)).parse().unwrap();
        let mut plan = Plan::new(Scenario::Steady, Target::Relay(relay));
        plan.far = Some(relay);
        plan.duration = Duration::from_millis(1_500);
        plan.pace = Some(Pace {
            shape: Shape::Trace {
                file: "rates.txt".into(),
                points: vec![(5, 6)],
            },
            arrivals: Arrivals::Poisson,
        });
        plan.placement.ports = Some("20000-29999".parse().unwrap());
        check_plan(&plan);
        // The generator of the curve.
        let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let relay: RelayAddress = format!("{key}@[::1]:7101").parse().unwrap();
        let mut plan = Plan::new(Scenario::Opens, Target::Relay(relay));
        plan.dialect_named = plan.dialect();
        plan.dmsg.ping_after = Duration::from_millis(3);
        plan.opens_to = OpensTo::Nobody;
        check_plan(&plan);
    }

    fn check_plan(plan: &Plan) {
        let mut bytes = Vec::new();
        let order = Order::Begin {
            plan: Box::new(plan.clone()),
            number: 3,
        };
        send(&mut bytes, &order).unwrap();
        let mut input = bytes.as_slice();
        let Some(Order::Begin { plan: got, number }) = receive(&mut input).unwrap() else {
            panic!("no plan");
        };
        assert_eq!((&*got, number), (plan, 3));
        assert!(receive::<Order>(&mut input).unwrap().is_none());
    }

    #[test]
    fn numbers_reach_another_process_unchanged() {
        let mut tally = Tally {
            rounds: u64::MAX,
            cpu: Duration::from_nanos(7),
            ..Tally::default()
        };
        tally.latencies.lag.record(Duration::from_micros(9));
        tally.failures.count("open: no listener");
        tally.class(1).addr_not_avail = 4;
        let mut bytes = Vec::new();
        let ended = Report::Ended(Ok(Box::new(tally.clone())));
        send(&mut bytes, &ended).unwrap();
        match receive(&mut bytes.as_slice()).unwrap() {
            Some(Report::Ended(Ok(got))) => assert!(*got == tally),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_that_is_cut_is_an_error() {
        let mut bytes = Vec::new();
        send(&mut bytes, &Report::Started).unwrap();
        let cut = &bytes[..bytes.len() / 2];
        assert!(receive::<Report>(&mut { cut }).is_err());
    }
}
