//! How the rate of a run goes over time.
//!
//! Here: the shapes, their text on the command line and in scenarios, and the line through time that a
//! shape becomes for a run of a given length. Not here: when a single message is due (`schedule`).
//!
//! | text | rate |
//! |---|---|
//! | `5000` | the same all the time |
//! | `ramp:1000..50000` | rises or falls evenly from the first to the last moment that counts |
//! | `step:1000..50000/10` | ten levels of equal length |
//! | `burst:1000,20000,10s,500ms` | 1,000, and every 10 s for half a second 20,000 |
//! | `trace:FILE` | lines `SECONDS RATE`: from that second on, that rate |
//!
//! What lies before the time that counts (the warm-up) has the first rate, what lies behind it the last.
//!
//! Units: per second over all threads; times from the start of the load.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::RATE_MAX;
use crate::report::float;

/// Segments of a run's line: a burst every millisecond for some minutes.
const SEGMENTS_MAX: usize = 1_000_000;
/// Bytes of a trace file.
const TRACE_BYTES_MAX: u64 = 64 << 20;

/// How the rate of a run goes over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// The same all the time.
    Constant(u64),
    /// Evenly from one rate to another.
    Ramp {
        /// At the first moment that counts.
        from: u64,
        /// At the last.
        to: u64,
    },
    /// Levels of equal length.
    Step {
        /// The first level.
        from: u64,
        /// The last.
        to: u64,
        /// How many.
        levels: u32,
    },
    /// One rate, and another again and again for a short time.
    Burst {
        /// Between the bursts.
        base: u64,
        /// Within them.
        peak: u64,
        /// From the start of one burst to that of the next; the first one begins after a whole period.
        every: Duration,
        /// How long one is.
        length: Duration,
    },
    /// Rates from a file.
    Trace {
        /// The file.
        file: PathBuf,
        /// Its points: from when on, in nanoseconds, and the rate.
        points: Vec<(u64, u64)>,
    },
}

impl Shape {
    /// Returns the greatest rate of the shape.
    #[must_use]
    pub fn rate_max(&self) -> u64 {
        match self {
            Self::Constant(rate) => *rate,
            Self::Ramp { from, to } | Self::Step { from, to, .. } => *from.max(to),
            Self::Burst { base, peak, .. } => *base.max(peak),
            Self::Trace { points, .. } => points.iter().map(|point| point.1).max().unwrap_or(0),
        }
    }

    /// Returns the line that the shape is in a run: `warmup`, then `duration`.
    ///
    /// # Errors
    /// A sentence when the run would have too many segments.
    pub fn line(&self, warmup: Duration, duration: Duration) -> Result<RateLine, String> {
        let (start, length) = (nanos(warmup), nanos(duration).max(1));
        let mut line = RateLine::default();
        match self {
            Self::Constant(rate) => line.level(0, *rate),
            Self::Ramp { from, to } => {
                line.level(0, *from);
                line.slope(start, start.saturating_add(length), *from, *to);
                line.level(start.saturating_add(length), *to);
            }
            Self::Step { from, to, levels } => {
                line.level(0, *from);
                let levels = u64::from((*levels).max(1));
                for level in 0..levels {
                    let at = start + mul_div(length, level, levels);
                    line.level(at, between(*from, *to, level, levels));
                }
            }
            Self::Burst {
                base,
                peak,
                every,
                length: burst,
            } => {
                line.level(0, *base);
                let every = nanos(*every).max(1);
                let count = usize::try_from(length / every).unwrap_or(usize::MAX);
                if count > SEGMENTS_MAX / 2 {
                    return Err(format!(
                        "{count} bursts in one run: have at most {}; a longer period makes fewer",
                        SEGMENTS_MAX / 2
                    ));
                }
                for number in 1..=length / every {
                    let at = start + number * every;
                    line.level(at, *peak);
                    line.level(at + nanos(*burst), *base);
                }
            }
            Self::Trace { points, .. } => {
                line.level(0, points.first().map_or(0, |point| point.1));
                for (at, rate) in points {
                    line.level(start.saturating_add(*at), *rate);
                }
            }
        }
        Ok(line)
    }
}

/// Rate `level` of `levels` between two.
fn between(from: u64, to: u64, level: u64, levels: u64) -> u64 {
    let steps = (levels - 1).max(1);
    if to >= from {
        from + mul_div(to - from, level, steps)
    } else {
        from - mul_div(from - to, level, steps)
    }
}

fn mul_div(value: u64, times: u64, by: u64) -> u64 {
    let wide = u128::from(value) * u128::from(times) / u128::from(by);
    u64::try_from(wide).unwrap_or(u64::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A rate over time: straight pieces, the last one level and without end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RateLine {
    pieces: Vec<Piece>,
}

/// A straight piece of a [`RateLine`]. Rates are events a nanosecond.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece {
    /// From when on, nanoseconds.
    pub start_ns: f64,
    /// Events before it.
    pub before: f64,
    /// Rate at its start.
    pub rate: f64,
    /// Change of the rate in a nanosecond.
    pub slope: f64,
}

impl RateLine {
    /// Returns the pieces, by their start.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    fn level(&mut self, start_ns: u64, rate: u64) {
        self.add(start_ns, float(rate) / NANOS, 0.0);
    }

    fn slope(&mut self, start_ns: u64, end_ns: u64, from: u64, to: u64) {
        let length = float(end_ns - start_ns);
        let (from, to) = (float(from) / NANOS, float(to) / NANOS);
        self.add(start_ns, from, (to - from) / length);
    }

    fn add(&mut self, start_ns: u64, rate: f64, slope: f64) {
        let start_ns = float(start_ns);
        if self
            .pieces
            .last()
            .is_some_and(|last| last.start_ns >= start_ns)
        {
            // Nothing lies between: the later word counts.
            self.pieces.pop();
        }
        let before = self
            .pieces
            .last()
            .map_or(0.0, |last| last.count_until(start_ns));
        self.pieces.push(Piece {
            start_ns,
            before,
            rate,
            slope,
        });
    }
}

impl Piece {
    /// Returns the events until `at_ns`, which lies within the piece.
    #[must_use]
    pub fn count_until(&self, at_ns: f64) -> f64 {
        let time = at_ns - self.start_ns;
        self.before + (self.slope * time / 2.0 + self.rate) * time
    }

    /// Returns when event number `count` is, or infinity when the piece never has so many.
    #[must_use]
    pub fn time_of(&self, count: f64) -> f64 {
        let left = (count - self.before).max(0.0);
        // The root that has no difference of near numbers, which also holds without a slope.
        let root = (self.rate * self.rate + 2.0 * self.slope * left)
            .max(0.0)
            .sqrt();
        if left == 0.0 {
            self.start_ns
        } else {
            self.start_ns + 2.0 * left / (self.rate + root)
        }
    }
}

const NANOS: f64 = 1e9;

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((kind, rest)) = text.split_once(':') else {
            return rate(text).map(Self::Constant);
        };
        match kind {
            "ramp" => {
                let (from, to) = range(rest)?;
                Ok(Self::Ramp { from, to })
            }
            "step" => {
                let (rates, levels) = rest
                    .split_once('/')
                    .ok_or_else(|| format!("'{text}' has no '/': write step:FROM..TO/LEVELS"))?;
                let (from, to) = range(rates)?;
                let levels = levels
                    .parse()
                    .ok()
                    .filter(|levels| (2..=10_000).contains(levels));
                let levels = levels
                    .ok_or_else(|| format!("'{text}' has no number of levels from 2 to 10000"))?;
                Ok(Self::Step { from, to, levels })
            }
            "burst" => burst(rest),
            "trace" => trace(rest),
            _ => Err(format!(
                "'{kind}' is no shape: constant rates are a number, others ramp, step, burst, trace"
            )),
        }
    }
}

fn rate(text: &str) -> Result<u64, String> {
    let digits: String = text.trim().chars().filter(|c| *c != '_').collect();
    match digits.parse() {
        Ok(rate) if rate <= RATE_MAX => Ok(rate),
        _ => Err(format!("'{text}' is no rate from 0 to {RATE_MAX} a second")),
    }
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text
        .split_once("..")
        .ok_or_else(|| format!("'{text}' has no '..': write FROM..TO"))?;
    Ok((rate(from)?, rate(to)?))
}

fn burst(text: &str) -> Result<Shape, String> {
    let parts: Vec<&str> = text.split(',').collect();
    let [base, peak, every, length] = parts.as_slice() else {
        return Err(format!(
            "'burst:{text}': write burst:BASE,PEAK,EVERY,LENGTH"
        ));
    };
    let time = |text: &str| {
        humantime::parse_duration(text.trim()).map_err(|error| format!("'{text}': {error}"))
    };
    let (every, length) = (time(every)?, time(length)?);
    if length.is_zero() || length >= every {
        return Err(format!(
            "'burst:{text}': a burst must be shorter than its period, and longer than 0"
        ));
    }
    Ok(Shape::Burst {
        base: rate(base)?,
        peak: rate(peak)?,
        every,
        length,
    })
}

fn trace(text: &str) -> Result<Shape, String> {
    let file = PathBuf::from(text);
    let complain = |error: std::io::Error| format!("cannot read {text}: {error}");
    let facts = fs::metadata(&file).map_err(complain)?;
    if !facts.is_file() || facts.len() > TRACE_BYTES_MAX {
        return Err(format!(
            "{text} is no file of at most {TRACE_BYTES_MAX} bytes"
        ));
    }
    let points = points(&fs::read_to_string(&file).map_err(complain)?)
        .map_err(|(line, why)| format!("{text}, line {line}: {why}"))?;
    Ok(Shape::Trace { file, points })
}

/// Reads the lines of a trace.
fn points(text: &str) -> Result<Vec<(u64, u64)>, (usize, String)> {
    let mut points: Vec<(u64, u64)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let point = point(line).map_err(|why| (number, why))?;
        if points.last().is_some_and(|last| last.0 >= point.0) {
            return Err((
                number,
                "its time is not after that of the line before".into(),
            ));
        }
        if points.len() == SEGMENTS_MAX {
            return Err((number, format!("more than {SEGMENTS_MAX} points")));
        }
        points.push(point);
    }
    if points.is_empty() {
        return Err((1, "no point: write lines 'SECONDS RATE'".into()));
    }
    Ok(points)
}

fn point(line: &str) -> Result<(u64, u64), String> {
    let mut words = line.split_ascii_whitespace();
    let (Some(time), Some(per_second), None) = (words.next(), words.next(), words.next()) else {
        return Err("write 'SECONDS RATE'".into());
    };
    let seconds: f64 = time
        .parse()
        .map_err(|_| format!("'{time}' is no number of seconds"))?;
    let time =
        Duration::try_from_secs_f64(seconds).map_err(|error| format!("'{time}': {error}"))?;
    Ok((nanos(time), rate(per_second)?))
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(rate) => write!(f, "{rate}"),
            Self::Ramp { from, to } => write!(f, "ramp:{from}..{to}"),
            Self::Step { from, to, levels } => write!(f, "step:{from}..{to}/{levels}"),
            Self::Burst {
                base,
                peak,
                every,
                length,
            } => {
                let (every, length) = (
                    humantime::format_duration(*every),
                    humantime::format_duration(*length),
                );
                write!(f, "burst:{base},{peak},{every},{length}")
            }
            Self::Trace { file, .. } => write!(f, "trace:{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn count(line: &RateLine, seconds: f64) -> f64 {
        let at = seconds * NANOS;
        let piece = line
            .pieces()
            .iter()
            .rev()
            .find(|piece| piece.start_ns <= at);
        piece.unwrap().count_until(at)
    }

    fn near(value: f64, wanted: f64) {
        assert!(
            (value - wanted).abs() <= wanted.abs() * 1e-9 + 1e-6,
            "{value}, not {wanted}"
        );
    }

    #[test]
    fn shapes_are_read_and_written_alike() {
        for text in [
            "5000",
            "ramp:1000..50000",
            "step:10..100/10",
            "burst:1000,20000,10s,500ms",
        ] {
            let shape: Shape = text.parse().unwrap();
            assert_eq!(shape.to_string(), text);
        }
        assert_eq!("1_000".parse(), Ok(Shape::Constant(1_000)));
    }

    #[test]
    fn nonsense_is_named() {
        for (text, word) in [
            ("fast", "rate"),
            ("-1", "rate"),
            ("100000001", "rate"),
            ("ramp:5", ".."),
            ("step:1..2", "LEVELS"),
            ("step:1..2/1", "levels"),
            ("burst:1,2,3s", "EVERY"),
            ("burst:1,2,1s,1s", "shorter"),
            ("burst:1,2,soon,1s", "soon"),
            ("wave:3", "wave"),
            ("trace:/nowhere/at/all", "/nowhere/at/all"),
            ("trace:/dev/zero", "no file"),
        ] {
            let error = text.parse::<Shape>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_ramp_has_the_area_below_its_line() {
        let shape: Shape = "ramp:100..300".parse().unwrap();
        let line = shape.line(SECOND, 10 * SECOND).unwrap();
        near(count(&line, 1.0), 100.0);
        near(count(&line, 6.0), 100.0 + 5.0 * 150.0);
        near(count(&line, 11.0), 100.0 + 10.0 * 200.0);
        near(count(&line, 12.0), 100.0 + 10.0 * 200.0 + 300.0);
    }

    #[test]
    fn steps_have_equal_length() {
        let shape: Shape = "step:100..300/3".parse().unwrap();
        let line = shape.line(Duration::ZERO, 3 * SECOND).unwrap();
        near(count(&line, 1.0), 100.0);
        near(count(&line, 2.0), 300.0);
        near(count(&line, 3.0), 600.0);
        let down: Shape = "step:300..100/3".parse().unwrap();
        let line = down.line(Duration::ZERO, 3 * SECOND).unwrap();
        near(count(&line, 2.0), 500.0);
    }

    #[test]
    fn bursts_come_again_and_again() {
        let shape: Shape = "burst:10,1000,1s,100ms".parse().unwrap();
        let line = shape
            .line(Duration::ZERO, Duration::from_millis(3_500))
            .unwrap();
        near(count(&line, 1.0), 10.0);
        near(count(&line, 1.1), 110.0);
        near(count(&line, 3.1), 10.0 * 2.8 + 300.0);
        let endless: Shape = "burst:1,2,2ns,1ns".parse().unwrap();
        assert!(
            endless
                .line(Duration::ZERO, SECOND)
                .unwrap_err()
                .contains("bursts")
        );
    }

    #[test]
    fn a_trace_is_followed_from_point_to_point() {
        let points = points("# two minutes of a night\n0 10\n0.5 100 # here\n\n2 0\n").unwrap();
        assert_eq!(points, [(0, 10), (500_000_000, 100), (2_000_000_000, 0)]);
        let shape = Shape::Trace {
            file: PathBuf::from("t"),
            points,
        };
        let line = shape.line(SECOND, 10 * SECOND).unwrap();
        near(count(&line, 1.5), 15.0);
        near(count(&line, 3.0), 165.0);
        near(count(&line, 9.0), 165.0);
        for (text, line, word) in [
            ("", 1, "no point"),
            ("1 2\n1 3", 2, "after"),
            ("x 2", 1, "seconds"),
            ("1 2 3", 1, "SECONDS"),
            ("-1 2", 1, "-1"),
        ] {
            let (at, why) = super::points(text).unwrap_err();
            assert_eq!(at, line);
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn the_time_of_an_event_is_where_the_count_says() {
        for text in ["7", "ramp:10..1000", "ramp:1000..0", "ramp:0..1000"] {
            let shape: Shape = text.parse().unwrap();
            let line = shape.line(Duration::ZERO, 10 * SECOND).unwrap();
            let piece = line.pieces()[line.pieces().len().saturating_sub(2)];
            for number in 0..60 {
                let wanted = f64::from(number) + piece.before;
                let at = piece.time_of(wanted);
                near(piece.count_until(at), wanted);
            }
        }
        let nothing: Shape = "0".parse().unwrap();
        let line = nothing.line(Duration::ZERO, SECOND).unwrap();
        assert_eq!(line.pieces()[0].time_of(1.0), f64::INFINITY);
    }
}
