//! The client against a relay of the tests' own, over real sockets.

mod dials;
mod mini_relay;
mod nearest;
mod peers;
mod sessions;
mod streams;
