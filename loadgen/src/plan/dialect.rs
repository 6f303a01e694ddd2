//! The dialect of the relay, and what a run in the dmsg dialect cannot do.
//!
//! Here: its names, the part of a plan that only runs in the dmsg dialect have, what is refused there. Not
//! here: how a peer of a dialect speaks (`worker::party`, `worker::objects`).
//!
//! The dialect of a run is that of its relay's key; naming it as well only guards against a mistake.

use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::key::PublicKey;
use ringway_proto::limits::{DMSG_PAYLOAD_MAX, WINDOW_INITIAL};
use serde::{Deserialize, Serialize};

use super::{Payload, Plan, RelayAddress, Scenario, Target};

/// Longest message that is one record of the dmsg dialect: what its clients cut their bytes into.
#[expect(clippy::cast_possible_truncation, reason = "4,070")]
pub const DMSG_MESSAGE_MAX: u32 = DMSG_PAYLOAD_MAX as u32;

/// A dialect as it is named on the command line, in scenarios and in results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum DialectName {
    /// Ringway's own: keys of 64 digits.
    Native,
    /// Skywire's dmsg: keys of 66 digits.
    Dmsg,
}

impl DialectName {
    /// Returns the name of the dialect that a key belongs to; `None` for one that this program does not
    /// speak.
    #[must_use]
    pub const fn of(key: &PublicKey) -> Option<Self> {
        match key.dialect() {
            Dialect::Native => Some(Self::Native),
            Dialect::Dmsg => Some(Self::Dmsg),
            _ => None,
        }
    }

    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Dmsg => "dmsg",
        }
    }

    /// Returns the dialect.
    #[must_use]
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Native => Dialect::Native,
            Self::Dmsg => Dialect::Dmsg,
        }
    }
}

/// What only a run in the dmsg dialect has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmsgPlan {
    /// Time from message 3 to the ping whose answer shows that the session stands; 0 is in the same send.
    pub ping_after: Duration,
    /// Time after which a handshake or an open without an answer has failed.
    pub patience: Duration,
}

impl Default for DmsgPlan {
    fn default() -> Self {
        Self {
            ping_after: Duration::ZERO,
            patience: PATIENCE,
        }
    }
}

/// Whom opens are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum OpensTo {
    /// A session of this run, which accepts.
    #[default]
    Peer,
    /// A key that nobody has: what is measured is how soon the relay says no.
    Nobody,
}

impl OpensTo {
    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Nobody => "nobody",
        }
    }
}

impl Plan {
    /// Returns the dialect that is spoken; `None` with plain connections.
    #[must_use]
    pub const fn dialect(&self) -> Option<DialectName> {
        match &self.target {
            Target::Relay(relay) => relay.dialect(),
            Target::Proxy { .. } | Target::Tcp(_) => None,
        }
    }

    /// Returns whether the dmsg dialect is spoken.
    #[must_use]
    pub const fn is_dmsg(&self) -> bool {
        matches!(self.dialect(), Some(DialectName::Dmsg))
    }

    /// Returns what a result is called: the name of the subcommand, and the dialect if it is not Ringway's
    /// own.
    #[must_use]
    pub fn title(&self) -> String {
        if self.is_dmsg() {
            format!("{} (dmsg)", self.name())
        } else {
            self.name().to_owned()
        }
    }

    pub(super) fn check_dialect(&self) -> Option<String> {
        let Some(dialect) = self.dialect() else {
            return self.dialect_named.map(|named| {
                format!(
                    "--dialect {}: plain connections have none; leave it out",
                    named.name()
                )
            });
        };
        if let Some(named) = self.dialect_named.filter(|named| *named != dialect) {
            return Some(format!(
                "--dialect {}: the key of --relay is one of the {} dialect ({} digits); name the relay's key of \
                 the {} dialect, or leave --dialect out",
                named.name(),
                dialect.name(),
                2 * dialect.dialect().key_len(),
                named.name(),
            ));
        }
        match dialect {
            DialectName::Native => None,
            DialectName::Dmsg => self.check_dmsg(),
        }
    }

    fn check_dmsg(&self) -> Option<String> {
        let window = self.traffic.window_bytes;
        match self.scenario {
            Scenario::Evict => Some(
                "evict in the dmsg dialect: the older session must be told why it ends, and this dialect has no \
                 reasons"
                    .into(),
            ),
            Scenario::Setups => Some(
                "setups in the dmsg dialect: its routes are set up by calls of Go's net/rpc, which this program \
                 does not speak; use the relay's native key"
                    .into(),
            ),
            _ if self.far.is_some() => Some(
                "--far in the dmsg dialect: relays forward over links of the mesh, which has a dialect of its \
                 own; use the relays' native keys"
                    .into(),
            ),
            _ if window != WINDOW_INITIAL => Some(format!(
                "--window {window} in the dmsg dialect: its windows are {WINDOW_INITIAL} bytes, always"
            )),
            _ if self.dmsg.patience.is_zero() => {
                Some("--patience must be longer than 0: nothing would ever have an answer".into())
            }
            _ if self.dmsg.ping_after >= self.dmsg.patience => Some(format!(
                "--ping-after {:?}: a session would have failed by then; raise --patience ({:?})",
                self.dmsg.ping_after, self.dmsg.patience
            )),
            _ => None,
        }
    }
}

impl RelayAddress {
    /// Returns the dialect of the relay's key.
    #[must_use]
    pub const fn dialect(&self) -> Option<DialectName> {
        DialectName::of(&self.key)
    }
}

/// Returns what streams carry unless something else is asked for.
pub(super) const fn payload_of(scenario: Scenario, is_dmsg: bool) -> Payload {
    match scenario {
        // Route setup is read by the relay.
        Scenario::Setups => Payload::Sealed,
        // As its clients do.
        Scenario::Opens | Scenario::Steady if is_dmsg => Payload::Sealed,
        _ => Payload::Opaque,
    }
}

/// Time in which a session or a stream must have its answer: what clients of 2026 wait for a stream, and
/// clients of all years for a session.
///
/// Source: docs/dmsg.md.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Host;

    const NATIVE: &str =
        "3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b@127.0.0.1:7100";
    /// The generator of the curve.
    const DMSG: &str =
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:7101";

    fn plan(scenario: Scenario, relay: &str) -> Plan {
        let mut plan = Plan::new(scenario, Target::Relay(relay.parse().unwrap()));
        plan.sessions = 4;
        plan.slow.pairs = 1;
        plan
    }

    fn problem(plan: &Plan) -> String {
        plan.check(&Host::look()).unwrap_err().to_string()
    }

    #[test]
    fn the_key_decides_and_a_name_that_differs_is_refused() {
        for (relay, own, other) in [
            (NATIVE, DialectName::Native, DialectName::Dmsg),
            (DMSG, DialectName::Dmsg, DialectName::Native),
        ] {
            let mut plan = plan(Scenario::Idle, relay);
            assert_eq!(plan.dialect(), Some(own));
            assert_eq!(plan.check(&Host::look()), Ok(()));
            plan.dialect_named = Some(own);
            assert_eq!(plan.check(&Host::look()), Ok(()));
            plan.dialect_named = Some(other);
            let text = problem(&plan);
            let digits = format!("({} digits)", relay.find('@').unwrap());
            assert!(
                text.contains(&digits) && text.contains(other.name()),
                "{text}"
            );
        }
        let socket = "127.0.0.1:1".parse().unwrap();
        let mut plain = Plan::new(Scenario::Idle, Target::Tcp(socket));
        assert_eq!(
            (plain.dialect(), plain.check(&Host::look())),
            (None, Ok(()))
        );
        plain.dialect_named = Some(DialectName::Dmsg);
        assert!(problem(&plain).contains("plain connections have none"));
    }

    #[test]
    fn what_the_dialect_has_not_is_refused_by_name() {
        for (scenario, words) in [
            (Scenario::Evict, "no reasons"),
            (Scenario::Setups, "net/rpc"),
        ] {
            let text = problem(&plan(scenario, DMSG));
            assert!(text.contains(words), "{text}");
        }
        for scenario in [
            Scenario::Churn,
            Scenario::Handshakes,
            Scenario::Idle,
            Scenario::Opens,
            Scenario::SlowReader,
            Scenario::Slowloris,
            Scenario::Steady,
            Scenario::Storm,
        ] {
            let plan = plan(scenario, DMSG);
            assert_eq!(plan.check(&Host::look()), Ok(()), "{scenario:?}");
        }
        let mut far = plan(Scenario::Steady, DMSG);
        far.far = DMSG.parse().ok();
        assert!(problem(&far).contains("--far"));
        let mut wide = plan(Scenario::Steady, DMSG);
        wide.traffic.window_bytes = 524_288;
        assert!(problem(&wide).contains("--window 524288"));
        let mut late = plan(Scenario::Handshakes, DMSG);
        late.dmsg.ping_after = late.dmsg.patience;
        assert!(problem(&late).contains("--ping-after 5s"));
        late.dmsg = DmsgPlan {
            patience: Duration::ZERO,
            ..DmsgPlan::default()
        };
        assert!(problem(&late).contains("--patience"));
    }

    #[test]
    fn messages_are_records_as_long_as_clients_make_them() {
        let mut steady = plan(Scenario::Steady, DMSG);
        assert_eq!(steady.traffic.payload, Payload::Sealed);
        assert_eq!(steady.traffic.message_bytes, 4_070);
        steady.traffic.message_bytes = 4_071;
        assert!(problem(&steady).contains("--message-size 4071: at most 4070"));
        steady.traffic.payload = Payload::Opaque;
        assert_eq!(steady.check(&Host::look()), Ok(()));
        assert_eq!(plan(Scenario::Churn, DMSG).traffic.payload, Payload::Opaque);
    }
}
