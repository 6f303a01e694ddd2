//! Services that a relay offers to peers and to its operator beside the data plane.
//!
//! Here: `finder` finds paths of peers for routes; `debug` makes the pages on which a running relay is
//! looked into. Not here: the network that questions and answers travel over.

pub(crate) mod debug;
pub(crate) mod finder;
