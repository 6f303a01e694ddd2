//! The mailbox of the shards, model-checked: every interleaving of a sender and a receiver up to a bound
//! of preemptions. The tests stand beside the file itself.

#![forbid(unsafe_code)]

#[path = "../../shards/src/mailbox.rs"]
pub mod mailbox;
