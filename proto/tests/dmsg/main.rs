//! The dmsg dialect against what Go makes of the same values.
//!
//! Here: gob, the two open objects and the calls of route setup, read and written, and what lies, is cut or
//! is changed. Not here: keys, handshakes, records.

mod gob;
mod open;
mod rpc;
mod vectors;
