//! Verdicts on what waits in the kernel to be sent or read.
//!
//! Here: sizes of buffers, their shortage, how sends are paced. Not here: the sum over all connections
//! (`tcp_mem` in the module above).

use super::{Check, kibibytes, mebibytes, option_text, sessions, unknown};
use crate::check::{Congestion, Target};
use crate::finding::Finding;
use crate::machine::Machine;

pub(super) fn sizes(machine: &Machine, target: &Target) -> Finding {
    let (receive, send) = (machine.stack.receive_buffer, machine.stack.send_buffer);
    let text = |sizes: Option<[u64; 3]>| {
        sizes.map_or_else(unknown, |[_, first, most]| {
            format!("{} to {}", kibibytes(first), kibibytes(most))
        })
    };
    let check = Check {
        name: "tcp_buffers",
        measured: format!("receive {}, send {}", text(receive), text(send)),
        needed: format!(
            "bounds of {}, first send buffers within memory",
            kibibytes(BUFFER_MOST_MIN)
        ),
        why: "a buffer smaller than what the path holds caps a connection's speed; receivers that are slow fill \
              their first send buffer, all of them together",
    };
    let (Some([_, _, receive_most]), Some([least, first, send_most])) = (receive, send) else {
        return check.unknown("/proc/sys/net/ipv4/tcp_rmem and tcp_wmem");
    };
    let all_full = sessions(target).saturating_mul(first);
    if receive_most < BUFFER_MOST_MIN {
        check.warn(format!(
            "run `sysctl net.ipv4.tcp_rmem=\"4096 131072 {BUFFER_MOST}\"`"
        ))
    } else if send_most < BUFFER_MOST_MIN {
        check.warn(format!(
            "run `sysctl net.ipv4.tcp_wmem=\"4096 16384 {BUFFER_MOST}\"`"
        ))
    } else if machine
        .process
        .memory
        .is_some_and(|memory| all_full > memory)
        && first > least
    {
        check.warn(format!(
            "run `sysctl net.ipv4.tcp_wmem=\"{least} {least} {send_most}\"`: all first buffers together are {}",
            mebibytes(all_full)
        ))
    } else {
        check.pass()
    }
}

pub(super) fn shortage(machine: &Machine) -> Finding {
    let (pressures, aborts) = (machine.stack.memory_pressures, machine.stack.memory_aborts);
    let check = Check {
        name: "tcp_pressure",
        measured: pressures
            .zip(aborts)
            .map_or_else(unknown, |(pressures, aborts)| {
                format!("{pressures} times short of memory, {aborts} connections cut for it")
            }),
        needed: "never short".to_owned(),
        why: "when all buffers together come near the end of tcp_mem every window shrinks, and at the end \
              connections are cut",
    };
    match (pressures, aborts) {
        (Some(0), Some(0)) => check.pass(),
        (Some(_), Some(_)) => check.warn(
            "raise net.ipv4.tcp_mem where there is memory (check tcp_mem says to what), or hold fewer sessions",
        ),
        _ => check.unknown("/proc/net/netstat"),
    }
}

pub(super) fn options(machine: &Machine) -> Finding {
    let most = machine.stack.option_bytes_max;
    let check = Check {
        name: "optmem_max",
        measured: most.map_or_else(unknown, |most| format!("{most} bytes")),
        needed: format!("{OPTION_BYTES_MIN} bytes"),
        why: "the program that spreads connections over listeners (placement = \"hash\") must fit in it, or the \
              relay cannot attach it; zero-copy sends of rings need none",
    };
    match most {
        None => check.unknown("/proc/sys/net/core/optmem_max"),
        Some(most) if most < OPTION_BYTES_MIN => check.warn(format!(
            "run `sysctl net.core.optmem_max={OPTION_BYTES_MIN}`"
        )),
        Some(_) => check.pass(),
    }
}

pub(super) fn unsent(machine: &Machine) -> Finding {
    let most = machine.stack.unsent_bytes_max;
    let check = Check {
        name: "notsent_lowat",
        measured: most.map_or_else(unknown, |most| match most >= UNSENT_NO_LIMIT {
            true => "no limit".to_owned(),
            false => kibibytes(most),
        }),
        needed: format!("at most {}", kibibytes(UNSENT_BYTES_MAX)),
        why: "without a limit the kernel takes bulk in far ahead of what the path carries, and what is urgent in the \
              same session waits behind it",
    };
    match most {
        None => check.unknown("/proc/sys/net/ipv4/tcp_notsent_lowat"),
        Some(most) if most > UNSENT_BYTES_MAX => check.warn(format!(
            "run `sysctl net.ipv4.tcp_notsent_lowat={UNSENT_BYTES_MAX}`"
        )),
        Some(_) => check.pass(),
    }
}

pub(super) fn pacing(machine: &Machine, target: &Target) -> Finding {
    let default = machine.stack.congestion.as_deref();
    // The same choice as the relay's: check congestion says what keeps it from cubic.
    let is_allowed = machine.process.is_network_admin
        || machine
            .stack
            .congestion_allowed
            .iter()
            .any(|name| name == "cubic");
    let congestion = match &target.congestion {
        Congestion::Named(name) => Some(name.as_str()),
        Congestion::Automatic if is_allowed => Some("cubic"),
        Congestion::Automatic | Congestion::System => default,
    };
    let queue = machine.stack.queue_discipline.as_deref();
    let check = Check {
        name: "qdisc",
        measured: format!("{} with {}", option_text(queue), option_text(congestion)),
        needed: "fq where bbr is used".to_owned(),
        why: "bbr sends by the clock; without fq TCP sets a timer for each burst of each connection, which costs \
              processor time",
    };
    match (queue, congestion) {
        (Some("fq"), _) => check.pass(),
        (None, _) => check.unknown("/proc/sys/net/core/default_qdisc"),
        (_, None) => check.unknown("/proc/sys/net/ipv4/tcp_congestion_control"),
        (Some(_), Some(name)) if name.starts_with("bbr") => check.warn(
            "run `sysctl net.core.default_qdisc=fq` and `tc qdisc replace dev CARD root fq`, or set tcp.congestion to \
             \"cubic\"",
        ),
        _ => check.pass(),
    }
}

/// Least upper bound of a buffer, bytes: 100 Mbit/s over 80 ms are in flight in as much.
const BUFFER_MOST_MIN: u64 = 1 << 20;

/// The upper bound to set: the kernel's own default for sends, 1 Gbit/s over 33 ms.
const BUFFER_MOST: u64 = 4 << 20;

/// Least `optmem_max`, bytes: the kernel's default before it was raised to 128 KiB.
///
/// A program as long as the relay's is refused with ENOMEM at 256 bytes and taken at 400.
/// Source: seen on Linux 6.18; net/core/filter.c, `sk_reuseport_attach_filter`. `SEND_ZC` of
/// `io_uring_enter(2)` notifies by completions, where `MSG_ZEROCOPY` takes this memory.
const OPTION_BYTES_MIN: u64 = 20_480;

/// Bytes not sent yet that the kernel should take: a few sends of the relay, so that a core that comes late
/// finds the path still busy. 128 KiB are 1 ms at 1 Gbit/s.
const UNSENT_BYTES_MAX: u64 = 131_072;

/// The default, the largest number that fits.
const UNSENT_NO_LIMIT: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::machine::judge_machine;
    use crate::check::machine::tests::{assert_verdict, good};
    use crate::check::tests::{assert_among, target};
    use crate::finding::Verdict;

    #[test]
    fn buffers_hold_a_path_and_fit_in_memory() {
        let found = assert_verdict("tcp_buffers", Verdict::Pass, |_| {});
        assert!(
            found.measured.contains("send 16 KiB to 4096 KiB"),
            "{found:?}"
        );
        let found = assert_verdict("tcp_buffers", Verdict::Warn, |m| {
            m.stack.receive_buffer = Some([4_096, 131_072, (1 << 20) - 1]);
        });
        assert!(found.fix.contains("tcp_rmem="), "{found:?}");
        let found = assert_verdict("tcp_buffers", Verdict::Warn, |m| {
            m.stack.send_buffer = Some([4_096, 16_384, (1 << 20) - 1]);
        });
        assert!(found.fix.contains("tcp_wmem="), "{found:?}");
        // 131,072 sessions of 16 KiB are 2 GiB.
        assert_verdict("tcp_buffers", Verdict::Pass, |m| {
            m.process.memory = Some(2 << 30);
        });
        let found = assert_verdict("tcp_buffers", Verdict::Warn, |m| {
            m.process.memory = Some((2 << 30) - 1);
        });
        assert!(found.fix.contains("\"4096 4096 4194304\""), "{found:?}");
        assert_verdict("tcp_buffers", Verdict::Warn, |m| m.stack.send_buffer = None);
    }

    #[test]
    fn shortage_that_was_is_seen() {
        let found = assert_verdict("tcp_pressure", Verdict::Warn, |m| {
            m.stack.memory_pressures = Some(3);
        });
        assert!(found.measured.starts_with("3 times"), "{found:?}");
        assert_verdict("tcp_pressure", Verdict::Warn, |m| {
            m.stack.memory_aborts = Some(1);
        });
    }

    #[test]
    fn program_of_the_placement_fits() {
        assert_verdict("optmem_max", Verdict::Pass, |m| {
            m.stack.option_bytes_max = Some(20_480);
        });
        assert_verdict("optmem_max", Verdict::Warn, |m| {
            m.stack.option_bytes_max = Some(20_479);
        });
    }

    #[test]
    fn what_is_urgent_does_not_wait_behind_bulk() {
        assert_verdict("notsent_lowat", Verdict::Pass, |m| {
            m.stack.unsent_bytes_max = Some(16_384);
        });
        let found = assert_verdict("notsent_lowat", Verdict::Warn, |m| {
            m.stack.unsent_bytes_max = Some(u32::MAX.into());
        });
        assert_eq!(found.measured, "no limit");
    }

    #[test]
    fn bbr_wants_fq() {
        let judged = |queue: &str, default: &str, congestion, verdict| {
            let mut machine = good();
            machine.stack.queue_discipline = Some(queue.to_owned());
            machine.stack.congestion = Some(default.to_owned());
            let target = Target {
                congestion,
                ..target()
            };
            assert_among(judge_machine(&machine, &target), "qdisc", verdict)
        };
        let bbr = || Congestion::Named("bbr".to_owned());
        judged("fq", "bbr", Congestion::System, Verdict::Pass);
        judged("fq_codel", "bbr", Congestion::System, Verdict::Warn);
        judged(
            "fq_codel",
            "bbr",
            Congestion::Named("cubic".to_owned()),
            Verdict::Pass,
        );
        judged("pfifo_fast", "cubic", Congestion::Automatic, Verdict::Pass);
        judged("pfifo_fast", "bbr", Congestion::Automatic, Verdict::Warn);
        let found = judged("pfifo_fast", "cubic", bbr(), Verdict::Warn);
        assert_eq!(found.measured, "pfifo_fast with bbr");
        // Where cubic may be chosen the default is not used.
        for change in [
            (|m| m.process.is_network_admin = true) as fn(&mut Machine),
            |m| m.stack.congestion_allowed = vec!["cubic".to_owned()],
        ] {
            assert_verdict("qdisc", Verdict::Pass, |m| {
                m.stack.congestion = Some("bbr".to_owned());
                change(m);
            });
        }
    }
}
