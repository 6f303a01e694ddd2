//! How the relay fails: peers that die, freeze, lie, say nothing or come in crowds, on real sockets.
//!
//! Here: one module for each kind of failure, each against a relay in this process. Not here: transfers
//! (`tests/transfer.rs`), the binary (`tests/cli`), limits of ports and descriptors.
//!
//! Invariant: each test ends with the relay shut down, its audit at zero, its descriptors closed as
//! often as opened, its counter laws unbroken and no socket of its port left in the kernel.
//! Bound: every wait ends at `relay::DEADLINE`, which is a failure and not a pace.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failure in a helper of a test fails the test"
)]

mod closes;
mod deaths;
mod dials;
mod frozen;
mod handshakes;
mod kills;
mod raw;
mod refusals;
mod relay;
mod sessions;
mod sockets;
