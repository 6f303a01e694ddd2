//! What the running kernel can do, one line for each thing the data plane asks of it.
//!
//! Here: trying each feature. Not here: limits of the host (the tuning crate), what to do about a
//! missing feature beyond naming it.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use io_uring::IoUring;
use io_uring::Probe;
use io_uring::opcode;

use crate::ring::Completion;
use crate::ring::ConnectOptions;
use crate::ring::ListenOptions;
use crate::ring::Listener;
use crate::ring::Ring;
use crate::ring::RingConfig;
use crate::ring::Wait;

/// One feature of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// What it is called.
    pub name: &'static str,
    /// First version of Linux with it.
    pub since: &'static str,
    /// What the relay does without it.
    pub without: &'static str,
    /// Whether this kernel has it.
    pub is_present: bool,
    /// Whether the relay cannot run without it.
    pub is_required: bool,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            since,
            without,
            ..
        } = self;
        match (self.is_present, self.is_required) {
            (true, _) => write!(f, "present  {name} (Linux {since})"),
            (false, true) => write!(f, "MISSING  {name} (Linux {since}): {without}"),
            (false, false) => write!(f, "missing  {name} (Linux {since}): {without}"),
        }
    }
}

/// Tries every feature.
///
/// When `io_uring` itself is switched off, every feature is reported missing; [`Ring::new`] then says
/// why.
#[must_use]
pub fn features() -> Vec<Feature> {
    let setup = |ring: std::io::Result<IoUring>| ring.is_ok();
    let is_on = setup(IoUring::new(8));
    let is_deferred = setup(
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .build(8),
    );
    let operations = operations();
    let required = |name, since, is_present| Feature {
        name,
        since,
        without: "the relay does not start",
        is_present,
        is_required: true,
    };
    let has = |code| {
        operations
            .as_ref()
            .is_some_and(|probe| probe.is_supported(code))
    };
    let mut features = vec![
        required("io_uring, not disabled by sysctl or seccomp", "5.1", is_on),
        required(
            "SINGLE_ISSUER and DEFER_TASKRUN: one thread a ring",
            "6.1",
            is_deferred,
        ),
        required("SENDMSG: gather send", "5.3", has(opcode::SendMsg::CODE)),
        required(
            "ACCEPT into the file table",
            "5.19",
            has(opcode::AcceptMulti::CODE),
        ),
        required(
            "RECV, many from one request",
            "6.0",
            has(opcode::RecvMulti::CODE),
        ),
        required(
            "ASYNC_CANCEL and CLOSE of table entries",
            "5.19",
            has(opcode::AsyncCancel2::CODE),
        ),
        required(
            "MSG_RING: one ring wakes another",
            "5.18",
            has(opcode::MsgRingData::CODE),
        ),
    ];
    features.extend(optional_features(is_on));
    features
}

/// Tries what the relay can do without.
fn optional_features(is_on: bool) -> [Feature; 5] {
    let optional = |name, since, without, is_present| Feature {
        name,
        since,
        without,
        is_present,
        is_required: false,
    };
    let ring = Ring::new(&small());
    let is_incremental = ring.is_ok_and(|mut ring| ring.numbers().buffers.is_incremental);
    [
        optional(
            "IOU_PBUF_RING_INC: receive buffers filled piece by piece",
            "6.12",
            "64 KiB buffers instead, some 13 % more processor time for bulk",
            is_incremental,
        ),
        optional(
            "SOCKET_URING_OP_GETSOCKOPT: where a connection comes from",
            "6.7",
            "limits.handshakes_source_max has no effect",
            is_on && tells_addresses(),
        ),
        optional(
            "MSG_RING with a descriptor: a connection changes rings",
            "6.0",
            "placement = \"balanced\" does as \"reuseport\"",
            is_on && can_hand_over(),
        ),
        optional(
            "SENDMSG_ZC: gather send without a copy",
            "6.1",
            "tcp.zero_copy cannot be switched on",
            starts_with(RingConfig {
                zero_copy_min: Some(0),
                ..small()
            }),
        ),
        optional(
            "IORING_REGISTER_NAPI: polling of network cards",
            "6.9",
            "poll.napi cannot be switched on",
            starts_with(RingConfig {
                napi: Some(Duration::from_micros(1)),
                ..small()
            }),
        ),
    ]
}

/// Returns whether the kernel makes such a ring.
fn starts_with(config: RingConfig) -> bool {
    Ring::new(&config).is_ok()
}

/// Returns whether a connection of one ring can be handed over to another: tries it.
#[must_use]
pub fn can_hand_over() -> bool {
    hand_over().is_some_and(|has_arrived| has_arrived)
}

/// Accepts a connection in one ring and hands it to another; returns whether it got there.
fn hand_over() -> Option<bool> {
    let mut from = Ring::new(&small()).ok()?;
    let mut to = Ring::new(&small()).ok()?;
    let listener = listener()?;
    let target = listener.address();
    from.listen_with_choice(listener);
    from.connect(target, &ConnectOptions::default(), 0).ok()?;
    let mut completions = Vec::new();
    for _ in 0..50 {
        from.turn(Wait::For(Duration::from_millis(5)), &mut completions)
            .ok()?;
        to.turn(Wait::No, &mut completions).ok()?;
        for completion in completions.drain(..) {
            match completion {
                Completion::Arrived { slot } => from.hand_over(slot, &to.handle()),
                Completion::HandedIn { .. } => return Some(true),
                Completion::HandOverFailed { .. } => return Some(false),
                _ => {}
            }
        }
    }
    Some(false)
}

/// A listener of one's own on a free port of the loopback.
fn listener() -> Option<Listener> {
    Listener::bind(&ListenOptions {
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        backlog: 1,
        congestion: None,
        closes_with_fin: false,
    })
    .ok()
}

/// Connects a ring to itself and returns whether it is told where the connection comes from.
fn tells_addresses() -> bool {
    let Ok(mut ring) = Ring::new(&small()) else {
        return false;
    };
    let Some(listener) = listener() else {
        return false;
    };
    let target = listener.address();
    ring.listen(listener);
    if ring.connect(target, &ConnectOptions::default(), 0).is_err() {
        return false;
    }
    let mut completions = Vec::new();
    // Over loopback it takes two turns; half a second covers a host that is busy.
    for _ in 0..50 {
        let turned = ring.turn(Wait::For(Duration::from_millis(10)), &mut completions);
        if turned.is_err() {
            return false;
        }
        for completion in completions.drain(..) {
            if let Completion::Accepted { address, .. } = completion {
                return address.is_some();
            }
        }
    }
    false
}

/// The smallest ring.
const fn small() -> RingConfig {
    RingConfig {
        entries: 8,
        sockets_max: 8,
        blocks: 2,
        blocks_max: 2,
        block_bytes: 4_096,
        block_bytes_plain: 4_096,
        incremental: true,
        zero_copy_min: None,
        napi: None,
    }
}

/// Returns what the kernel says about its operations.
fn operations() -> Option<Probe> {
    let ring = IoUring::new(8).ok()?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).ok()?;
    Some(probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_that_runs_the_ring_has_all_that_is_required() {
        let features = features();
        for feature in &features {
            println!("{feature}");
        }
        assert!(
            features
                .iter()
                .all(|feature| feature.is_present || !feature.is_required)
        );
        for feature in features.iter().filter(|feature| !feature.is_required) {
            let mut numbers = feature.since.split('.').map(|part| part.parse().unwrap());
            let since: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
            assert!(feature.is_present || version() < since, "{feature}");
        }
    }

    /// Major and minor version of the running kernel.
    fn version() -> (u32, u32) {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy();
        let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    #[test]
    fn missing_feature_is_one_line_with_the_version_and_the_consequence() {
        let feature = Feature {
            name: "X",
            since: "6.1",
            without: "the relay does not start",
            is_present: false,
            is_required: true,
        };
        assert_eq!(
            feature.to_string(),
            "MISSING  X (Linux 6.1): the relay does not start"
        );
    }
}
