//! Go's `net/rpc` as far as route setup of Skywire uses it.
