//! The `ringway` command as its users meet it: the real binary, real sockets on loopback, free ports.
//!
//! Helpers are under `cfg(test)` so that the lints know them as tests.
//!
//! Nothing waits by the clock: every step waits for a line that the program prints, for its end, or for
//! what a relay says about itself.

#[cfg(test)]
mod capacity;
mod configuration;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod dmsg;
#[cfg(test)]
mod dmsg_discovery;
#[cfg(test)]
mod dmsg_peers;
mod help;
mod keys;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod lan;
#[cfg(test)]
mod mesh;
#[cfg(test)]
#[expect(dead_code, reason = "what is only for tests of ports is not used here")]
#[path = "../support/namespace.rs"]
mod namespace;
#[cfg(test)]
mod preflight;
#[cfg(test)]
mod proxied;
#[cfg(test)]
mod registry;
mod relay;
#[cfg(test)]
mod route;
#[cfg(test)]
mod services;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tunnel;
