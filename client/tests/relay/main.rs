//! The client against a relay of the tests' own, over real sockets.

mod mini_relay;
mod peers;
mod sessions;
mod streams;
