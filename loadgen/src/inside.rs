//! The server's side of a run: what happens inside it, and what waits in front of it.
//!
//! Here: the relay's own histograms (`/histograms` of its admin listener), the kernel's counters of refused
//! connections, the time in which the server waited for a processor, the queues of its sockets; and what lies
//! between two looks. Not here: the generator's own times (`latency`), how they are shown (`report`).
//!
//! The generator measures from the outside: network, kernel and waiting included. What the relay measures
//! begins when it has accepted a socket or read a request. The difference between the two is what waits in
//! front of it; where that is large, the relay is not slow but late, and no change inside it will help.
//!
//! Units: microseconds inside, nanoseconds outside, as they were recorded.
//! Source: schedstat of proc(5); `TcpExt` of `/proc/net/netstat`.

use std::fs;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::health;
use crate::hlog;
use crate::latency::{Summary, Times};
use crate::plan::{Plan, Scenario};
use crate::process::ProcessSample;
use crate::sockets::Queues;

/// What was seen of the server.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Inside {
    /// From accept to session, as the relay measured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Summary>,
    /// From an open request to its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<Summary>,
    /// Which of the two the generator timed from the outside, as its service time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timed: Option<&'static str>,
    /// Seconds a second in which its threads waited for a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_delay: Option<f64>,
    /// The most that was seen waiting in the kernel at one look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queues: Option<Queues>,
    /// Connections that the kernel of this host dropped because a listener's queue was full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_overflows: Option<u64>,
    /// Segments that the kernel of this host sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmissions: Option<u64>,
}

/// One look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    handshake: Option<Histogram<u64>>,
    open: Option<Histogram<u64>>,
    listen_overflows: Option<u64>,
    retransmissions: Option<u64>,
}

#[derive(Deserialize)]
struct Document {
    handshake: Encoded,
    open: Encoded,
}

#[derive(Deserialize)]
struct Encoded {
    hdr: String,
}

impl Look {
    /// Looks. What cannot be read is left out: a run does not depend on it.
    pub(crate) fn take(admin: Option<SocketAddr>) -> Self {
        let document = admin.and_then(|admin| histograms(admin).ok());
        let [handshake, open] = match document {
            Some(Document { handshake, open }) => [decode(&handshake), decode(&open)],
            None => [None, None],
        };
        let text = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
        let snmp = fs::read_to_string("/proc/net/snmp").unwrap_or_default();
        Self {
            handshake,
            open,
            listen_overflows: counter(&text, "TcpExt:", "ListenOverflows"),
            retransmissions: counter(&snmp, "Tcp:", "RetransSegs"),
        }
    }

    /// Returns what lies between an earlier look and this one.
    pub(crate) fn since(
        &self,
        earlier: &Self,
        plan: &Plan,
        process: Option<(ProcessSample, ProcessSample)>,
        seconds: f64,
    ) -> Inside {
        let between = |now: &Option<Histogram<u64>>, then: &Option<Histogram<u64>>| {
            let mut now = now.clone()?;
            now.subtract(then.as_ref()?).ok()?;
            (!now.is_empty()).then(|| Times::of_micros(&now).summary())
        };
        let grown = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        let run_delay = process
            .filter(|_| seconds > 0.0)
            .map(|(start, end)| end.run_delay_since(&start).as_secs_f64() / seconds);
        let timed = match plan.scenario {
            Scenario::Handshakes | Scenario::Storm if !plan.target.is_plain() => Some("handshake"),
            Scenario::Opens => Some("open"),
            _ => None,
        };
        Inside {
            handshake: between(&self.handshake, &earlier.handshake),
            open: between(&self.open, &earlier.open),
            timed,
            run_delay,
            queues: None,
            listen_overflows: grown(self.listen_overflows, earlier.listen_overflows),
            retransmissions: grown(self.retransmissions, earlier.retransmissions),
        }
    }
}

impl Inside {
    /// Returns the times inside that the generator timed from the outside.
    #[must_use]
    pub fn timed(&self) -> Option<&Summary> {
        match self.timed? {
            "handshake" => self.handshake.as_ref(),
            _ => self.open.as_ref(),
        }
    }
}

fn histograms(admin: SocketAddr) -> std::io::Result<Document> {
    let body = health::get(admin, "/histograms")?;
    serde_json::from_str(&body).map_err(std::io::Error::other)
}

fn decode(encoded: &Encoded) -> Option<Histogram<u64>> {
    let bytes = STANDARD.decode(&encoded.hdr).ok()?;
    hlog::unpack(&bytes).ok()
}

/// Returns a counter of a text that names the columns in one line and has their values in the next.
fn counter(text: &str, family: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(family));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names
        .split_ascii_whitespace()
        .position(|column| column == name)?;
    values.split_ascii_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Target;

    #[test]
    fn counters_are_found_by_their_column() {
        let text = "TcpExt: A ListenOverflows B\nTcpExt: 1 22 3\nIpExt: X\nIpExt: 9\n";
        assert_eq!(counter(text, "TcpExt:", "ListenOverflows"), Some(22));
        assert_eq!(counter(text, "TcpExt:", "Z"), None);
        assert_eq!(counter("TcpExt: A", "TcpExt:", "A"), None);
        let own = Look::take(None);
        assert!(own.listen_overflows.is_some() && own.retransmissions.is_some());
    }

    #[test]
    fn what_was_recorded_before_is_not_in_the_difference() {
        let look = |values: &[u64]| {
            let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
            for value in values {
                histogram.record(*value).unwrap();
            }
            Look {
                handshake: Some(histogram),
                listen_overflows: Some(7),
                ..Look::default()
            }
        };
        let plan = Plan::new(Scenario::Opens, Target::Tcp("127.0.0.1:1".parse().unwrap()));
        let (before, after) = (look(&[5_000_000]), look(&[5_000_000, 100, 100]));
        let inside = after.since(&before, &plan, None, 1.0);
        let handshake = inside.handshake.unwrap();
        assert_eq!((handshake.count, handshake.p50_ns / 1_000), (2, 100));
        assert_eq!(inside.listen_overflows, Some(0));
        // Two looks at different relays have no difference.
        let inside = before.since(&after, &plan, None, 1.0);
        assert_eq!(inside.handshake, None);
    }
}
