//! Interval logs of `HdrHistogram`, read back.
//!
//! Here: the lines of a log and their histograms, checked before anything is allocated for them. Not
//! here: writing (`recording`), what the histograms are compared with (`diff`).
//!
//! A line is `Tag=NAME,START,LENGTH,MAXIMUM,HISTOGRAM`; the tag may be absent. The histogram is base64 of
//! a zlib stream of format V2: a head of 40 bytes that names the range, then counts of variable length.
//! Whoever wrote the file may have claimed anything: the `hdrhistogram` crate allocates what a head asks
//! for, so heads are checked here and only then handed to it.
//! Bound: one line of [`LINE_BYTES_MAX`], one inflated histogram of [`INNER_BYTES_MAX`], one histogram of
//! less than 1 MiB; files of any length are read line by line.
//! Source: log format 1.3 and histogram format V2 of `HdrHistogram`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

/// Why a file is no interval log.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub(crate) struct LogError {
    /// The file.
    pub(crate) file: PathBuf,
    /// A sentence; with the line, if it is about one.
    pub(crate) why: String,
}

/// One histogram of a log.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its tag; empty if it has none.
    pub(crate) tag: String,
    /// When its interval began, from the start of the log.
    pub(crate) start: Duration,
    /// Its values.
    pub(crate) histogram: Histogram<u64>,
}

/// A log that is being read: its entries in the order of the file, up to the first error.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    reader: BufReader<File>,
    line: u64,
    has_failed: bool,
}

impl Log {
    /// Opens a log.
    ///
    /// # Errors
    /// [`LogError`] when it is no file that can be read.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        let bad = |why: String| LogError {
            file: path.to_owned(),
            why,
        };
        let complain = |error: io::Error| bad(format!("it cannot be read: {error}"));
        if !fs::metadata(path).map_err(complain)?.is_file() {
            return Err(bad("it is no file".into()));
        }
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::new(File::open(path).map_err(complain)?),
            line: 0,
            has_failed: false,
        })
    }

    /// Reads up to the next entry.
    fn advance(&mut self) -> Result<Option<Entry>, String> {
        let mut line = Vec::new();
        loop {
            line.clear();
            self.line += 1;
            let read = (&mut self.reader)
                .take(LINE_BYTES_MAX + 1)
                .read_until(b'\n', &mut line)
                .map_err(|error| format!("it cannot be read: {error}"))?;
            if read == 0 {
                return Ok(None);
            }
            if u64::try_from(read).unwrap_or(u64::MAX) > LINE_BYTES_MAX {
                return Err(format!("it is longer than {LINE_BYTES_MAX} bytes"));
            }
            let text = std::str::from_utf8(&line).map_err(|_| NO_LINE)?.trim();
            // Comments, and the legend that is for other programs.
            if !text.is_empty() && !text.starts_with(['#', '"']) {
                return entry(text).map(Some);
            }
        }
    }
}

impl Iterator for Log {
    type Item = Result<Entry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let result = self.advance().map_err(|why| LogError {
            file: self.path.clone(),
            why: format!("line {}: {why}", self.line),
        });
        self.has_failed = result.is_err();
        result.transpose()
    }
}

fn entry(line: &str) -> Result<Entry, String> {
    let (tag, rest) = match line.strip_prefix("Tag=") {
        Some(rest) => rest.split_once(',').ok_or(NO_LINE)?,
        None => ("", line),
    };
    let fields: Vec<&str> = rest.split(',').collect();
    let [start, length, maximum, histogram] = fields[..] else {
        return Err(NO_LINE.into());
    };
    let start = seconds(start)?;
    seconds(length)?;
    number(maximum)?;
    let bytes = STANDARD
        .decode(histogram)
        .map_err(|error| format!("its histogram is no base64, or cut short: {error}"))?;
    Ok(Entry {
        tag: tag.to_owned(),
        start,
        histogram: unpack(&bytes)
            .map_err(|why| format!("its histogram does not open, or is cut short: {why}"))?,
    })
}

fn number(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim().parse().ok();
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| format!("'{}' is no number", shortened(text)))
}

fn seconds(text: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number(text)?)
        .map_err(|_| format!("'{}' is no time in seconds", shortened(text)))
}

/// The beginning of a text that may be of any length.
fn shortened(text: &str) -> String {
    text.chars().take(20).collect()
}

/// Opens a histogram after checking what it claims.
///
/// # Errors
/// A phrase on what is wrong with it.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Histogram<u64>, String> {
    let inner = inflate(bytes)?;
    check(&inner)?;
    Deserializer::new()
        .deserialize(&mut inner.as_slice())
        .map_err(|error| error.to_string())
}

/// Returns a histogram of format V2, inflated if need be.
fn inflate(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut head = bytes;
    match word(&mut head)? {
        PLAIN => return Ok(bytes.to_vec()),
        DEFLATED => {}
        other => return Err(format!("{other:#010x} is no sign of format V2")),
    }
    let claimed = word(&mut head)?;
    if usize::try_from(claimed) != Ok(head.len()) {
        return Err(format!("it claims {claimed} bytes and has {}", head.len()));
    }
    let mut inner = Vec::new();
    ZlibDecoder::new(head)
        .take(INNER_BYTES_MAX + 1)
        .read_to_end(&mut inner)
        .map_err(|error| error.to_string())?;
    if u64::try_from(inner.len()).unwrap_or(u64::MAX) > INNER_BYTES_MAX {
        return Err(format!("it inflates to more than {INNER_BYTES_MAX} bytes"));
    }
    Ok(inner)
}

/// Checks the head and the counts of a plain histogram.
fn check(inner: &[u8]) -> Result<(), String> {
    let mut rest = inner;
    if word(&mut rest)? != PLAIN {
        return Err("what was deflated is no format V2".into());
    }
    let claimed = word(&mut rest)?;
    let offset = word(&mut rest)?;
    let digits = word(&mut rest)?;
    let low = long(&mut rest)?;
    let high = long(&mut rest)?;
    let ratio = f64::from_bits(long(&mut rest)?);
    if usize::try_from(claimed) != Ok(rest.len()) {
        return Err(format!(
            "it claims {claimed} bytes of counts and has {}",
            rest.len()
        ));
    }
    if offset != 0 || ratio.to_bits() != 1.0_f64.to_bits() {
        return Err("its values are shifted or scaled, which is not supported".into());
    }
    if !(1..=DIGITS_MAX).contains(&digits) {
        return Err(format!(
            "{digits} significant digits: 1 to {DIGITS_MAX} are supported"
        ));
    }
    if low == 0 || high > RANGE_MAX || high / 2 < low {
        return Err(format!(
            "its range is {low} to {high}: 1 to {RANGE_MAX} (a day in nanoseconds) is supported"
        ));
    }
    check_counts(rest)
}

/// Checks that the counts end where the bytes do, and add up.
///
/// A positive number is the count of the next place, a negative one says how many places are empty. The
/// smallest number there is has no opposite, and would be negated.
fn check_counts(mut rest: &[u8]) -> Result<(), String> {
    let (mut places, mut sum) = (0_u64, 0_u64);
    while !rest.is_empty() {
        let code = varint(&mut rest)?;
        let number = code >> 1;
        // Zigzag: odd codes are negative.
        let more = if code & 1 == 1 {
            number.saturating_add(1)
        } else {
            sum = sum.checked_add(number).ok_or("its counts do not add up")?;
            1
        };
        places = places.saturating_add(more);
        if places > PLACES_MAX {
            return Err("it has more counts than its range has places".into());
        }
    }
    Ok(())
}

/// Takes a number of 7 bits a byte, the lowest first; a ninth byte is whole.
fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0;
    for place in 0..9 {
        let [byte] = take(rest)?;
        let bits = if place < 8 { byte & 0x7f } else { byte };
        number |= u64::from(bits) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    Ok(number)
}

fn word(rest: &mut &[u8]) -> Result<u32, String> {
    take(rest).map(u32::from_be_bytes)
}

fn long(rest: &mut &[u8]) -> Result<u64, String> {
    take(rest).map(u64::from_be_bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, tail) = rest
        .split_first_chunk::<N>()
        .ok_or("it ends within a number")?;
    *rest = tail;
    Ok(*head)
}

/// What every line that is no comment must be.
const NO_LINE: &str =
    "it is no line 'Tag=NAME,START,LENGTH,MAXIMUM,HISTOGRAM' of an interval log, or cut short";

/// Sign of a plain histogram.
const PLAIN: u32 = 0x1c84_9313;
/// Sign of a deflated one.
const DEFLATED: u32 = 0x1c84_9314;

/// Longest line: base64 of the largest histogram, with room.
pub(crate) const LINE_BYTES_MAX: u64 = 1 << 20;
/// Largest histogram: each of 40,000 places with a count of 9 bytes, with room.
pub(crate) const INNER_BYTES_MAX: u64 = 512 << 10;
/// Largest value that a histogram may be made for: a day in nanoseconds. With 3 digits it then has some
/// 40,000 places of 8 bytes; a range of 64 bits with 5 digits would have 6 million.
const RANGE_MAX: u64 = 86_400_000_000_000;
/// Significant digits; this program writes 3, and more make a histogram ten times as large each.
const DIGITS_MAX: u32 = 3;
/// More places than the largest range has.
const PLACES_MAX: u64 = 1 << 17;

#[cfg(test)]
mod tests;
