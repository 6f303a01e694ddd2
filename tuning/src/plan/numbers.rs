//! Numbers as people read and write them.
//!
//! Here: sizes, rates, counts, shares, both ways. Not here: which number it is.
//!
//! Invariant: what `read_*` refuses it refuses with what was expected.

/// Returns bytes with a binary unit: `1.5 GiB`.
pub(crate) fn bytes(value: f64) -> String {
    scaled(value, 1_024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// Returns bytes a second as bits a second: `1.5 Gbit/s`.
pub(crate) fn bits(bytes: f64) -> String {
    let units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
    scaled(bytes * 8.0, 1_000.0, &units)
}

/// Returns a count: `950`, `12.5 k`, `1 M`.
pub(crate) fn count(value: f64) -> String {
    scaled(value, 1_000.0, &["", "k", "M", "G", "T"])
}

/// Returns a number with three digits.
#[must_use]
pub fn short(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.001 || size == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.1e}"),
    };
    match text.contains('.') && !text.contains('e') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter().peekable();
    let mut unit = *units.next().unwrap_or(&"");
    // What would be shown as 1000 is one of the next unit.
    while value.abs() >= step - 0.5 {
        let Some(next) = units.next() else { break };
        value /= step;
        unit = next;
    }
    let text = short(value);
    match unit.is_empty() {
        true => text,
        false => format!("{text} {unit}"),
    }
}

/// Reads a number with `k`, `M` or `G` behind it.
///
/// # Errors
/// When it is none, or outside of `least` to `most`.
pub fn read_number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let units = [("k", 1e3), ("K", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)];
    read_scaled(text, &units, least, most).ok_or_else(|| {
        format!(
            "expected a number from {} to {}, such as 20000, 250k or 1.5M",
            count(least).replace(' ', ""),
            count(most).replace(' ', "")
        )
    })
}

/// Reads a size in bytes: a number with `KiB`, `MiB`, `GiB`, `TiB`, or none for bytes.
///
/// # Errors
/// When it is none, or outside of `least` to `most`.
pub fn read_bytes(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let units = [
        ("KiB", 1_024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
    ];
    read_scaled(text, &units, least, most).ok_or_else(|| {
        format!(
            "expected a size from {} to {}, such as 1024, 64KiB or 24GiB",
            bytes(least).replace(' ', ""),
            bytes(most).replace(' ', "")
        )
    })
}

/// Reads a number with one of the units behind it, or none.
fn read_scaled(text: &str, units: &[(&str, f64)], least: f64, most: f64) -> Option<f64> {
    let found = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (digits, factor) = found.unwrap_or((text, 1.0));
    let value = digits.trim().parse::<f64>().ok()? * factor;
    // The words `inf` and `nan` are numbers to Rust.
    (value.is_finite() && (least..=most).contains(&value)).then_some(value)
}

/// Reads a share: `25%`.
///
/// # Errors
/// When it is none from 0 to 100 %.
pub fn read_share(text: &str) -> Result<f64, String> {
    let value = text
        .strip_suffix('%')
        .and_then(|digits| digits.trim().parse::<f64>().ok());
    value
        .filter(|value| (0.0..=100.0).contains(value))
        .map(|value| value / 100.0)
        .ok_or_else(|| "expected a share from 0% to 100%, such as 25%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (value, text) in [
            (0.0, "0 B"),
            (1_023.0, "1023 B"),
            (1_023.9, "1 KiB"),
            (1_536.0, "1.5 KiB"),
            (5e9, "4.66 GiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(bits(1.25e9), "10 Gbit/s");
        assert_eq!(count(950.0), "950");
        assert_eq!(count(12_500.0), "12.5 k");
        assert_eq!(count(999_999.0), "1 M");
        assert_eq!(short(0.000_01), "1.0e-5");
        assert_eq!(short(0.0), "0");
    }

    #[test]
    fn numbers_are_read_with_their_units() {
        assert_eq!(read_number("1.5M", 0.0, 1e9), Ok(1.5e6));
        assert_eq!(read_number("20000", 0.0, 1e9), Ok(20_000.0));
        assert_eq!(read_bytes("64KiB", 0.0, 1e9), Ok(65_536.0));
        assert_eq!(read_share("2.5%"), Ok(0.025));
    }

    #[test]
    fn what_is_no_number_is_told_what_was_expected() {
        for text in ["", "x", "-1", "nan", "inf", "1e300", "2G", "1 2", "k"] {
            let error = read_number(text, 0.0, 1e9).unwrap_err();
            assert!(error.contains("from 0 to 1G"), "{text}: {error}");
        }
        for text in ["", "1KB", "5TiB", "-1MiB", "GiB"] {
            let error = read_bytes(text, 1.0, 1_073_741_824.0).unwrap_err();
            assert!(error.contains("from 1B to 1GiB"), "{text}: {error}");
        }
        for text in ["", "5", "101%", "-1%", "nan%", "%"] {
            let error = read_share(text).unwrap_err();
            assert!(error.contains("such as 25%"), "{text}: {error}");
        }
    }
}
