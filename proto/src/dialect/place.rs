//! Where on earth an address is, for peers that ask.
//!
//! Here: the question and its answer. Not here: the database that knows.

use alloc::string::String;
use core::fmt::Debug;
use core::net::IpAddr;

/// Knows where addresses are.
pub trait Locator: Debug + Send + Sync {
    /// Returns where an address is, as far as is known. Called on the service executor; it may take
    /// microseconds, but does not wait for anything.
    fn locate(&self, address: IpAddr) -> Option<Place>;
}

/// A place on earth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// Country by its two letters (ISO 3166-1).
    pub country: String,
    /// Part of the country by its code (ISO 3166-2), without the country's.
    pub region: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}
