//! Verdicts on the rings that a relay is made of.
//!
//! Here: what a ring of this kernel can do, what memory and maps its rings may have. Not here: whether rings
//! are allowed at all (`io_uring` in `check`).

use ringway_shards::probe::Feature;

use super::{Check, kibibytes, option_text, unknown};
use crate::finding::Finding;
use crate::host::Limit;
use crate::machine::{Machine, PAGE_BYTES};

use crate::check::Target;

pub(super) fn ring(machine: &Machine) -> Finding {
    let features = &machine.features;
    let count = features.len();
    let is_missing = |feature: &&Feature| !feature.is_present;
    let missing: Vec<&Feature> = features.iter().filter(is_missing).collect();
    let check = Check {
        name: "ring",
        measured: match (count, missing.len()) {
            (0, _) => unknown(),
            (_, 0) => format!("all of {count} features"),
            (_, short) => format!("{short} of {count} features missing"),
        },
        needed: "every feature that the relay asks a ring for".to_owned(),
        why: "rings were made and tried: without a required feature the relay does not start, without another it \
              does the same at a higher price or less",
    };
    // When rings are refused altogether, every feature is missing and none of them is the cause.
    let is_refused = features.first().is_some_and(|feature| !feature.is_present);
    let is_fatal = missing.iter().any(|feature| feature.is_required);
    let texts: Vec<String> = missing.iter().map(|feature| lacking(feature)).collect();
    let texts = texts.join("; ");
    if count == 0 {
        check.warn("no ring was tried")
    } else if is_refused {
        check.fail(
            "see the checks io_uring and memlock; in a container allow io_uring_setup, io_uring_enter and \
             io_uring_register in its seccomp profile",
        )
    } else if is_fatal {
        check.fail(format!("boot a newer kernel: {texts}"))
    } else if missing.is_empty() {
        check.pass()
    } else if machine.is_loopback_up {
        check.warn(format!(
            "boot a newer kernel for the full speed (or, where check memlock fails, mend that first): {texts}"
        ))
    } else {
        check.warn(format!(
            "run `ip link set lo up` and check again, for without the loopback not all can be tried: {texts}"
        ))
    }
}

fn lacking(feature: &Feature) -> String {
    let Feature {
        name,
        since,
        without,
        ..
    } = feature;
    format!("{name} (Linux {since}), without it {without}")
}

pub(super) fn memlock(machine: &Machine, target: &Target) -> Finding {
    let process = &machine.process;
    let rings = u64::from(target.shards).saturating_mul(RING_LOCKED_BYTES);
    let needed = rings.saturating_add(TRIAL_LOCKED_BYTES);
    let check = Check {
        name: "memlock",
        measured: match (process.is_lock_free, process.locked) {
            (true, _) => "no limit with CAP_IPC_LOCK".to_owned(),
            (false, None) => unknown(),
            (false, Some(Limit { soft: None, .. })) => "unlimited".to_owned(),
            (
                false,
                Some(Limit {
                    soft: Some(soft), ..
                }),
            ) => kibibytes(soft),
        },
        needed: format!("{} for {} rings", kibibytes(needed), target.shards),
        why: "this kernel may count each ring as locked memory, those of the user's other processes too; past the \
              limit a ring is refused with ENOMEM and the relay does not start",
    };
    let (is_free, locked) = (process.is_lock_free, process.locked);
    let fix = || {
        let kibibytes = needed.div_ceil(1_024);
        format!(
            "raise it (LimitMEMLOCK={kibibytes}K in the unit, `memlock {kibibytes}` in deploy/limits.d, --ulimit \
             memlock={needed} for a container)"
        )
    };
    match locked {
        _ if is_free => check.pass(),
        None => check.unknown("/proc/self/limits"),
        Some(Limit {
            soft: Some(soft), ..
        }) if soft < needed => {
            // Older kernels, from 5.12 on, do not count rings.
            match process.kernel >= Some(KERNEL_COUNTS_RINGS) {
                true => check.fail(fix()),
                false => check.warn(fix()),
            }
        }
        Some(_) => check.pass(),
    }
}

pub(super) fn map_count(machine: &Machine, target: &Target) -> Finding {
    let most = machine.process.maps_max;
    let needed = MAPS_FIXED + u64::from(target.shards).saturating_mul(MAPS_PER_SHARD);
    let check = Check {
        name: "max_map_count",
        measured: option_text(most),
        needed: format!("{needed}"),
        why: "rings, stacks, heaps and receive blocks of each shard are maps of memory; at the limit no more memory \
              can be had",
    };
    match most {
        None => check.unknown("/proc/sys/vm/max_map_count"),
        Some(most) if most < needed => {
            // No failure: maps that lie side by side are one for the kernel, so fewer may do.
            check.warn(format!("run `sysctl vm.max_map_count={needed}`"))
        }
        Some(_) => check.pass(),
    }
}

/// Locked memory that a shard's ring counts for, bytes: 1,024 submissions of 64 bytes and 8,192 completions
/// of 16 are 48 pages, the rest is for what stands beside them and the ring of receive blocks.
///
/// Source: seen on Linux 6.18 with relays of a user without `CAP_IPC_LOCK`: one shard starts with 280 KiB and
/// does not with 270, two start with 496 and most times not with 492. `io_create_region` in
/// `io_uring/memmap.c`.
const RING_LOCKED_BYTES: u64 = 54 * PAGE_BYTES;

/// Locked memory of the small rings that a relay tries the kernel with at its start, bytes; the kernel gives
/// them back a moment after they were closed.
const TRIAL_LOCKED_BYTES: u64 = 16 * PAGE_BYTES;

/// A kernel that was seen to count rings; some before it do not.
const KERNEL_COUNTS_RINGS: (u32, u32) = (6, 18);

/// Maps of a process before its first shard: program, libraries, heap, runtime. Some 100 on Linux 6.18.
const MAPS_FIXED: u64 = 512;

/// Maps that a shard may have: each of its at most 1,024 receive blocks one, and its threads, ring and heaps.
const MAPS_PER_SHARD: u64 = 1_088;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::machine::tests::assert_verdict;
    use crate::finding::Verdict;

    fn feature(name: &'static str, is_present: bool, is_required: bool) -> Feature {
        Feature {
            name,
            since: "6.12",
            without: "less",
            is_present,
            is_required,
        }
    }

    #[test]
    fn missing_features_are_named_with_what_they_cost() {
        assert_verdict("ring", Verdict::Pass, |m| {
            m.features = vec![feature("a", true, true), feature("b", true, false)];
        });
        let found = assert_verdict("ring", Verdict::Warn, |m| {
            m.features = vec![feature("a", true, true), feature("b", false, false)];
        });
        assert_eq!(found.measured, "1 of 2 features missing");
        assert!(
            found.fix.ends_with(": b (Linux 6.12), without it less"),
            "{found:?}"
        );
        let found = assert_verdict("ring", Verdict::Fail, |m| {
            m.features = vec![feature("a", true, true), feature("b", false, true)];
        });
        assert!(found.fix.starts_with("boot a newer kernel: b"), "{found:?}");
        let found = assert_verdict("ring", Verdict::Fail, |m| {
            m.features = vec![feature("a", false, true), feature("b", false, false)];
        });
        assert!(found.fix.contains("io_uring and memlock"), "{found:?}");
        assert_verdict("ring", Verdict::Warn, |m| m.features.clear());
    }

    #[test]
    fn features_that_could_not_be_tried_are_not_called_missing_for_good() {
        let found = assert_verdict("ring", Verdict::Warn, |m| {
            m.features = vec![feature("a", true, true), feature("b", false, false)];
            m.is_loopback_up = false;
        });
        assert!(found.fix.contains("ip link set lo up"), "{found:?}");
    }

    #[test]
    fn locked_memory_is_enough_for_all_rings() {
        let locked = |soft| Some(Limit { soft, hard: None });
        // The target has eight shards.
        let needed = (8 * 54 + 16) * 4_096;
        for (soft, kernel, verdict) in [
            (None, (6, 18), Verdict::Pass),
            (Some(needed), (6, 18), Verdict::Pass),
            (Some(needed - 1), (6, 18), Verdict::Fail),
            (Some(needed - 1), (6, 12), Verdict::Warn),
        ] {
            let found = assert_verdict("memlock", verdict, |m| {
                m.process.kernel = Some(kernel);
                m.process.locked = locked(soft);
            });
            let says = found.fix.contains("LimitMEMLOCK=1792K");
            assert_eq!(says, verdict != Verdict::Pass, "{found:?}");
        }
        assert_verdict("memlock", Verdict::Pass, |m| {
            m.process.locked = locked(Some(0));
            m.process.is_lock_free = true;
        });
        assert_verdict("memlock", Verdict::Warn, |m| m.process.locked = None);
    }

    #[test]
    fn maps_are_enough_for_all_shards() {
        assert_verdict("max_map_count", Verdict::Pass, |m| {
            m.process.maps_max = Some(9_216);
        });
        let found = assert_verdict("max_map_count", Verdict::Warn, |m| {
            m.process.maps_max = Some(9_215);
        });
        assert!(found.fix.contains("vm.max_map_count=9216"), "{found:?}");
    }
}
