//! Ring tests with real sockets on loopback.
