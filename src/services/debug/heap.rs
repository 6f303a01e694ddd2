//! Memory of the process.
//!
//! Here: the numbers of the kernel. Not here: a profile by stack, which an allocator that samples would be
//! needed for; why there is none stands in docs/decisions.md.
//!
//! Source: `proc_pid_status(5)`, whose numbers are KiB.

use serde::Serialize;

/// What the page of the profile says.
pub(super) const NO_PROFILE: &str = "the allocator of this build takes no samples, so there is no heap profile: \
     /debug/heap has the numbers of the process, /debug/shards what each shard holds";

/// Name and version of the document; fields may be added, none changes its meaning or leaves.
const SCHEMA: &str = "ringway-heap/1";

/// The document of `/debug/heap`. What the kernel does not say is null.
#[derive(Debug, Serialize)]
pub(super) struct Heap {
    schema: &'static str,
    /// In memory now.
    rss_bytes: Option<u64>,
    /// The most that was.
    rss_bytes_peak: Option<u64>,
    /// Of what is in memory, that which no file stands behind: heap, stacks, receive memory.
    anonymous_bytes: Option<u64>,
    /// Address space.
    virtual_bytes: Option<u64>,
}

/// Returns the numbers of `/proc/self/status`.
pub(super) fn document(status: &str) -> Heap {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib: u64 = line?
            .strip_prefix(':')?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()?;
        kib.checked_mul(1_024)
    };
    Heap {
        schema: SCHEMA,
        rss_bytes: bytes("VmRSS"),
        rss_bytes_peak: bytes("VmHWM"),
        anonymous_bytes: bytes("RssAnon"),
        virtual_bytes: bytes("VmSize"),
    }
}
