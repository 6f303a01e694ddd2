//! Numbers and texts for people, as the page and the live view write them.
//!
//! Here: units, digits, and the escape that every text from a file goes through. Not here: where they
//! stand.

/// Most characters of a text from a file.
const TEXT_CHARS_MAX: usize = 300;
/// Units of time with their length in nanoseconds.
const TIMES: [(f64, &str); 3] = [(1e9, "s"), (1e6, "ms"), (1e3, "\u{b5}s")];
const SIZES: [(f64, &str); 4] = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
const COUNTS: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e3, "k")];

/// Returns a text that means itself in HTML, cut if it is long.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (place, c) in text.chars().enumerate() {
        if place == TEXT_CHARS_MAX {
            out.push_str("...");
            break;
        }
        escape_char(&mut out, c);
    }
    out
}

/// Appends a character that means itself in HTML.
pub(crate) fn escape_char(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        '\n' | '\t' => out.push(c),
        c if c.is_control() => out.push('\u{fffd}'),
        c => out.push(c),
    }
}

/// Returns a time with three digits and its unit.
pub(crate) fn nanos(value: f64) -> String {
    scaled(value, &TIMES, "ns")
}

/// Returns a number of bytes with three digits and its unit.
pub(crate) fn bytes(value: f64) -> String {
    scaled(value, &SIZES, "B")
}

/// Returns a count with three digits.
pub(crate) fn short(value: f64) -> String {
    let text = scaled(value, &COUNTS, "");
    text.replace(' ', "")
}

/// Returns a whole number with its thousands apart.
pub(crate) fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns a length of time in the units that people use.
pub(crate) fn seconds(value: f64) -> String {
    if value < 1.0 {
        return nanos(value * 1e9);
    }
    if value < 120.0 {
        return format!("{} s", plain(value));
    }
    let (hours, minutes) = ((value / 3_600.0).floor(), (value % 3_600.0 / 60.0).floor());
    let rest = (value % 60.0).floor();
    if hours > 0.0 {
        format!("{hours:.0} h {minutes:.0} min")
    } else {
        format!("{minutes:.0} min {rest:.0} s")
    }
}

/// Returns a number with three digits and no zeros at its end.
pub(crate) fn plain(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 || value == 0.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else if value.abs() >= 1.0 {
        2
    } else {
        3
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn scaled(value: f64, units: &[(f64, &str)], rest: &str) -> String {
    // What would be shown as 1000 of a unit is one of the next.
    let unit = units.iter().find(|(size, _)| value >= size * 0.999_5);
    match unit {
        Some((size, name)) => format!("{} {name}", plain(value / size)),
        None if rest.is_empty() => plain(value),
        None => format!("{} {rest}", plain(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(nanos(1_234_000.0), "1.23 ms");
        assert_eq!(nanos(100_000.0), "100 \u{b5}s");
        assert_eq!(nanos(999_999.0), "1 ms");
        assert_eq!(nanos(7.0), "7 ns");
        assert_eq!(bytes(2.5e9), "2.5 GB");
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(short(12_300.0), "12.3k");
        assert_eq!(short(0.25), "0.25");
        assert_eq!(whole(1_234_567), "1,234,567");
        assert_eq!(whole(12), "12");
        assert_eq!(seconds(90_061.0), "25 h 1 min");
        assert_eq!(seconds(150.0), "2 min 30 s");
        assert_eq!(seconds(10.0), "10 s");
    }

    #[test]
    fn texts_mean_themselves() {
        assert_eq!(
            escape("<script a='b'>&\"\u{1b}"),
            "&lt;script a=&#39;b&#39;&gt;&amp;&quot;\u{fffd}"
        );
        assert!(escape(&"x".repeat(10_000)).len() < 310);
    }
}
