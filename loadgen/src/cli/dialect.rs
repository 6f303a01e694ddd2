//! Flags of runs whose relay may speak the dmsg dialect.
//!
//! Here: the dialect, what its runs have of their own, what streams carry. Not here: whether a run can be in
//! it (`plan::dialect`).

use std::time::Duration;

use clap::Args;

use crate::plan::{DialectName, DmsgPlan, Payload, Plan, RelayAddress, Target};

/// A relay.
#[derive(Debug, Args)]
pub(super) struct Relay {
    /// The relay's key and address, as 'ringway serve' prints them; a key of 66 digits is one of the dmsg
    /// dialect
    #[arg(long, value_name = "KEY@ADDRESS:PORT")]
    relay: RelayAddress,
    #[command(flatten)]
    dialect: DialectFlags,
}

impl Relay {
    pub(super) const fn target(&self) -> Target {
        Target::Relay(self.relay)
    }

    pub(super) const fn add_to(&self, plan: &mut Plan) {
        self.dialect.add_to(plan);
    }
}

/// Flags of a dialect.
#[derive(Debug, Args)]
#[command(next_help_heading = "Dialect")]
pub(super) struct DialectFlags {
    /// Dialect of the relay, which its key says as well: one that differs is refused [default: that of the
    /// key]
    #[arg(long, value_enum, value_name = "NAME")]
    dialect: Option<DialectName>,
    /// dmsg: time from message 3 of the handshake to the ping whose answer shows that the session stands. The
    /// dialect has no verdict, so with 0s the first bytes come right behind message 3, in the same send; a
    /// server that refuses such sessions, as Go's did until 2026, needs some 100ms, which are then in each
    /// time
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    ping_after: Duration,
    /// dmsg: time after which a handshake or an open without an answer has failed; 5s is what clients of 2026
    /// wait
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    patience: Duration,
}

impl DialectFlags {
    pub(super) const fn add_to(&self, plan: &mut Plan) {
        plan.dialect_named = self.dialect;
        plan.dmsg = DmsgPlan {
            ping_after: self.ping_after,
            patience: self.patience,
        };
    }
}

/// What streams carry.
#[derive(Debug, Args)]
pub(super) struct PayloadFlags {
    /// How streams are opened and what they carry: opaque bytes on streams that share their requests, which
    /// costs the relay the same and the generator less, or everything as peers do it [default: opaque; dmsg:
    /// sealed]
    #[arg(long, value_enum, value_name = "KIND")]
    payload: Option<Payload>,
    /// The same as --payload opaque: only the server is measured, without end-to-end encryption
    #[arg(long, conflicts_with = "payload")]
    raw: bool,
}

impl PayloadFlags {
    pub(super) fn add_to(&self, plan: &mut Plan) {
        let raw = self.raw.then_some(Payload::Opaque);
        plan.traffic.payload = self.payload.or(raw).unwrap_or(plan.traffic.payload);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Task};
    use super::*;
    use crate::plan::OpensTo;

    const DMSG: &str =
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:7101";

    fn plan(line: &str) -> Result<Plan, clap::Error> {
        let (command, flags) = line.split_once(' ').unwrap_or((line, ""));
        let line = format!("x {command} {flags}");
        match Cli::try_parse_from(line.split_ascii_whitespace())?.task {
            Task::Run(command) => Ok(command.plan()),
            _ => panic!("no run"),
        }
    }

    #[test]
    fn every_run_that_goes_to_a_relay_takes_both_dialects() {
        let native = format!("{}@127.0.0.1:7100", "3b".repeat(32));
        for command in [
            "churn",
            "handshakes",
            "idle",
            "opens",
            "slow-reader",
            "slowloris",
            "steady",
            "storm",
        ] {
            let dmsg = plan(&format!(
                "{command} --relay {DMSG} --dialect dmsg --ping-after 20ms --patience 2s"
            ));
            let dmsg = dmsg.unwrap();
            assert!(dmsg.is_dmsg(), "{command}");
            assert_eq!(dmsg.dialect_named, Some(DialectName::Dmsg));
            assert_eq!(dmsg.dmsg.ping_after, Duration::from_millis(20));
            assert_eq!(dmsg.dmsg.patience, Duration::from_secs(2));
            let native = plan(&format!("{command} --relay {native}")).unwrap();
            assert_eq!(
                (native.dialect(), native.dialect_named),
                (Some(DialectName::Native), None)
            );
            assert_eq!(native.dmsg, DmsgPlan::default());
        }
    }

    #[test]
    fn streams_are_as_those_of_peers_unless_only_the_server_counts() {
        let native = format!("{}@127.0.0.1:7100", "3b".repeat(32));
        let payload = |line: &str| plan(line).unwrap().traffic.payload;
        for command in ["opens", "steady"] {
            for (flags, own, dmsg) in [
                ("", Payload::Opaque, Payload::Sealed),
                ("--raw", Payload::Opaque, Payload::Opaque),
                ("--payload sealed", Payload::Sealed, Payload::Sealed),
            ] {
                assert_eq!(payload(&format!("{command} --relay {native} {flags}")), own);
                assert_eq!(payload(&format!("{command} --relay {DMSG} {flags}")), dmsg);
            }
            assert!(plan(&format!("{command} --relay {DMSG} --raw --payload sealed")).is_err());
        }
        let size = |line: &str| plan(line).unwrap().traffic.message_bytes;
        assert_eq!(size(&format!("steady --relay {DMSG}")), 4_070);
        assert_eq!(size(&format!("steady --relay {native}")), 16_384);
        assert_eq!(
            size(&format!("steady --relay {DMSG} --message-size 64")),
            64
        );
    }

    #[test]
    fn opens_go_to_peers_or_to_nobody() {
        let to = |flags: &str| {
            plan(&format!("opens --relay {DMSG} {flags}"))
                .unwrap()
                .opens_to
        };
        assert_eq!(to(""), OpensTo::Peer);
        assert_eq!(to("--to nobody"), OpensTo::Nobody);
        assert!(plan(&format!("opens --relay {DMSG} --to somebody")).is_err());
    }
}
