//! Values with units, as text.
//!
//! Here: durations, sizes, addresses and counts, each with an error that says what is accepted. Not here:
//! which key takes which.

use std::net::SocketAddr;
use std::time::Duration;

/// Reads a duration with a unit, such as `5s` or `1m 30s`.
///
/// # Errors
///
/// A sentence for people; a bare number is refused because nobody can tell its unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.parse::<f64>().is_ok() {
        return Err(format!(
            "{text:?} has no unit; write for example \"{}s\"",
            text.trim()
        ));
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is no duration ({error}); write for example \"5s\""))
}

/// Reads a size with a unit, such as `32MiB`, in bytes.
///
/// Units are powers of two and nothing else: with `MB` beside `MiB` nobody could tell which was meant.
///
/// # Errors
///
/// A sentence for people; a bare number is refused because nobody can tell its unit.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        _ if number.is_empty() => {
            return Err(format!("{text:?} is no size; write for example \"32MiB\""));
        }
        "" => {
            return Err(format!(
                "{text:?} has no unit; write for example \"{text}MiB\""
            ));
        }
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        other => {
            return Err(format!(
                "{text:?} has the unit {other:?}; the units are B, KiB, MiB and GiB, so write for \
                 example \"{number}MiB\""
            ));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("{text:?} is more bytes than a number can say"))
}

/// Returns a size as [`parse_size`] reads it, in the largest unit that says it whole.
pub(crate) fn size_text(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    units
        .into_iter()
        .find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit))
        .map_or_else(
            || format!("{bytes}B"),
            |(unit, name)| format!("{}{name}", bytes / unit),
        )
}

/// Reads an address of this host with its port, such as `127.0.0.1:7100` or `[::1]:7100`.
///
/// # Errors
///
/// A sentence for people that names the missing part.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let hint = if text.parse::<std::net::IpAddr>().is_ok() {
        "the port is missing; write for example \"127.0.0.1:7100\""
    } else if text.parse::<u16>().is_ok() || text.starts_with(':') {
        "the IP address is missing; write for example \"127.0.0.1:7100\""
    } else {
        "write an IP address and a port, for example \"127.0.0.1:7100\""
    };
    Err(format!("{text:?} is no address: {hint}"))
}

/// Reads a range of ports, both ends included, such as `20000-59999`.
///
/// # Errors
///
/// A sentence for people. Ports below 1024 are for services, and privileged.
pub(crate) fn parse_port_range(text: &str) -> Result<(u16, u16), String> {
    let Some((first, last)) = text.split_once('-') else {
        return Err(format!(
            "{text:?} is not the first and the last port; write for example \"20000-59999\""
        ));
    };
    let port = |text: &str| -> Result<u16, String> {
        let port = text.trim();
        port.parse().map_err(|_| format!("{port:?} is no port"))
    };
    let (first, last) = (port(first)?, port(last)?);
    if first < 1_024 {
        return Err(format!(
            "{first} is below 1024, where services have their ports"
        ));
    }
    if last < first {
        return Err(format!("{text:?} ends before it begins"));
    }
    Ok((first, last))
}

/// Checks that `number` lies within the bounds.
///
/// # Errors
///
/// A sentence that says on which side it lies outside.
pub(crate) fn within(number: i64, min: u32, max: u32) -> Result<u32, String> {
    match u32::try_from(number) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        Ok(value) if value > max => Err(format!("{number} is too large")),
        Err(_) if number > 0 => Err(format!("{number} is too large")),
        Ok(_) | Err(_) => Err(format!("{number} is too small")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_needs_a_unit() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("20us"), Ok(Duration::from_micros(20)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for bare in ["5", "0", "1.5"] {
            assert!(parse_duration(bare).unwrap_err().contains("has no unit"));
        }
        assert!(parse_duration("soon").unwrap_err().contains("no duration"));
    }

    #[test]
    fn size_needs_a_binary_unit() {
        for (text, bytes) in [
            ("0B", 0),
            ("7B", 7),
            ("256KiB", 262_144),
            ("32MiB", 33_554_432),
            ("1 GiB", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, part) in [
            ("32", "has no unit; write for example \"32MiB\""),
            ("32MB", "the units are B, KiB, MiB and GiB"),
            ("1.5GiB", "the unit \".5GiB\""),
            ("MiB", "is no size"),
            ("-1MiB", "is no size"),
            ("", "is no size"),
            ("99999999999GiB", "more bytes than"),
            ("99999999999999999999999B", "more bytes than"),
        ] {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn size_text_reads_back() {
        for bytes in [
            0,
            1,
            1_023,
            1_024,
            33_554_432,
            1 << 30,
            (1 << 30) + 1,
            u64::MAX,
        ] {
            assert_eq!(parse_size(&size_text(bytes)), Ok(bytes));
        }
        assert_eq!(size_text(33_554_432), "32MiB");
        assert_eq!(size_text(1_536), "1536B");
    }

    #[test]
    fn address_error_names_the_missing_part() {
        assert!(
            parse_address("127.0.0.1")
                .unwrap_err()
                .contains("port is missing")
        );
        assert!(
            parse_address("7100")
                .unwrap_err()
                .contains("IP address is missing")
        );
        assert!(
            parse_address("localhost:1")
                .unwrap_err()
                .contains("IP address and a port")
        );
        assert!(parse_address("[::1]:7100").is_ok());
    }

    #[test]
    fn bounds_are_inclusive() {
        assert_eq!(within(1, 1, 2), Ok(1));
        assert_eq!(within(2, 1, 2), Ok(2));
        assert!(within(0, 1, 2).unwrap_err().contains("too small"));
        assert!(within(-1, 0, 2).unwrap_err().contains("too small"));
        assert!(within(3, 1, 2).unwrap_err().contains("too large"));
        assert!(
            within(i64::MAX, 1, u32::MAX)
                .unwrap_err()
                .contains("too large")
        );
    }
}
