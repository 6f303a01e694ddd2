//! Where addresses are on earth, from a database file.
//!
//! Here: reading the file at the start, and looking addresses up in it. Not here: who asks (the shards'
//! executors), the wire (`ringway_proto::dmsg::open`), the layout of the file (the crate `maxminddb`).
//!
//! Invariant: whatever the file holds, a lookup ends in a place or in none.
//! Bound: [`FILE_BYTES_MAX`], all of it in memory: an executor must not wait for a disk, and a mapped file
//! that is cut short later would end the process.
//! Source: `MaxMind`, "DB File Format Specification" 2.0; the fields are those of its databases of cities.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use maxminddb::{MaxMindDbError, PathElement, Reader, WithinOptions, path};
use ringway_proto::dialect::place::{Locator, Place};

use crate::failure::Failure;

/// An open database.
pub(crate) struct Database {
    reader: Reader<Vec<u8>>,
}

impl Database {
    /// Reads a database of places.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] with the path, what is wrong, and what to do about it.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let bytes = read(path).map_err(|error| {
            let what = format!(
                "cannot read {name}, the database of places: name another one with \
                 --set dmsg.geo_database=FILE, or leave that out"
            );
            Failure::host(what, error)
        })?;
        Self::of_bytes(bytes).map_err(|error| {
            let what = format!(
                "{name} is no database of places: dmsg.geo_database takes one of cities or of countries in \
                 MaxMind's format (.mmdb), unpacked and whole"
            );
            Failure::host(what, error)
        })
    }

    fn of_bytes(bytes: Vec<u8>) -> Result<Self, DatabaseError> {
        let database = Self {
            reader: Reader::from_source(bytes)?,
        };
        database.sample()?;
        Ok(database)
    }

    /// Looks whether some of the first networks have a place: databases of other things have the same format.
    fn sample(&self) -> Result<(), DatabaseError> {
        // Without those that have no data a tree of no data at all would never end.
        let options = WithinOptions::default().include_networks_without_data();
        let mut damage = None;
        for network in self.reader.networks(options)?.take(SAMPLE_NETWORKS) {
            match network.and_then(|network| place_of(&network)) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => {}
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        let kind = self.reader.metadata().database_type.clone();
        Err(damage.map_or(DatabaseError::NoPlaces { kind }, DatabaseError::Format))
    }
}

impl Locator for Database {
    fn locate(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        if !is_public(address) {
            return None;
        }
        // What is damaged, or of the other version of IP, is unknown.
        place_of(&self.reader.lookup(address).ok()?).ok()?
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metadata = self.reader.metadata();
        f.debug_struct("Database")
            .field("kind", &metadata.database_type)
            .field("build_epoch", &metadata.build_epoch)
            .finish_non_exhaustive()
    }
}

/// Why bytes are no database of places.
#[derive(Debug, thiserror::Error)]
enum DatabaseError {
    /// Not the format, or damaged.
    #[error(transparent)]
    Format(#[from] MaxMindDbError),
    /// A database of something else.
    #[error("its kind is {kind:?}, and its first networks have no place")]
    NoPlaces {
        /// What it says that it is.
        kind: String,
    },
}

/// Reads a file of at most [`FILE_BYTES_MAX`] bytes.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let too_long = || io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes"));
    if found.len() > FILE_BYTES_MAX {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(found.len()).unwrap_or(0))?;
    // It may grow meanwhile.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_long());
    }
    Ok(bytes)
}

type Found<'a> = maxminddb::LookupResult<'a, Vec<u8>>;

/// Returns the place that a record names, if it names any.
fn place_of(found: &Found<'_>) -> Result<Option<Place>, MaxMindDbError> {
    let latitude = degrees(found, &path!["location", "latitude"], 90.0)?;
    let longitude = degrees(found, &path!["location", "longitude"], 180.0)?;
    // One without the other is no place.
    let (latitude, longitude) = latitude.zip(longitude).unwrap_or_default();
    let place = Place {
        country: code(found, &path!["country", "iso_code"], COUNTRY_LEN_MAX)?,
        region: code(found, &path!["subdivisions", 0, "iso_code"], REGION_LEN_MAX)?,
        latitude,
        longitude,
    };
    Ok((place != Place::default()).then_some(place))
}

/// Reads a code of letters and digits; one that is longer than any is left out.
fn code(
    found: &Found<'_>,
    path: &[PathElement<'_>],
    len_max: usize,
) -> Result<String, MaxMindDbError> {
    let code: Option<&str> = found.decode_path(path)?;
    let is_one = |code: &&str| {
        code.len() <= len_max && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    Ok(code.filter(is_one).unwrap_or_default().to_owned())
}

/// Reads degrees; more than there are, of either sign, and what is no number are left out.
fn degrees(
    found: &Found<'_>,
    path: &[PathElement<'_>],
    most: f64,
) -> Result<Option<f64>, MaxMindDbError> {
    let degrees: Result<Option<f64>, _> = found.decode_path(path);
    let degrees = match degrees {
        Ok(degrees) => degrees,
        // Some databases have them in single precision.
        Err(_) => found.decode_path::<f32>(path)?.map(f64::from),
    };
    Ok(degrees.filter(|degrees| degrees.abs() <= most))
}

/// Returns whether an address is one that the whole internet knows by the same name.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_unspecified()
                || address.is_broadcast()
                || is_shared(address))
        }
        IpAddr::V6(address) => {
            !(address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local())
        }
    }
}

/// Returns whether an address is one between a provider and its customers.
/// Source: RFC 6598, 100.64.0.0/10.
const fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && second & 0xc0 == 64
}

/// Largest file that is read.
///
/// Databases of cities have 30 to 130 MB, those with more to say of each network four times as much. The
/// relay holds it as long as it runs.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// Networks of which one at least must have a place, those that are nobody's among them.
///
/// The first networks of IPv4 or IPv6 are nobody's, a hundred at most; behind them each has a place.
const SAMPLE_NETWORKS: usize = 4_096;

/// Longest code of a country.
/// Source: ISO 3166-1.
const COUNTRY_LEN_MAX: usize = 2;

/// Longest code of a part of a country, behind the country's.
/// Source: ISO 3166-2.
const REGION_LEN_MAX: usize = 3;

#[cfg(test)]
mod tests;
