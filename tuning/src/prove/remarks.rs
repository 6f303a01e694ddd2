//! What the numbers of one run mean.
//!
//! Here: from a result to verdicts in words. Not here: two results (`compare`).
//!
//! Bad is only what does not depend on how busy the host is: it was full, or something stayed behind.

use super::THROTTLED;
use super::report::{Metric, Remark, Report};

/// Returns what is worth saying, the bad first.
pub(super) fn remarks(report: &Report) -> Vec<Remark> {
    [
        queue(report),
        exhausted(report),
        left(report),
        smaller(report),
        throttled(report),
        late(report),
        uneven_pings(report),
        spread(report),
        counted(report),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn queue(report: &Report) -> Option<Remark> {
    let storm = &report.storm;
    if storm.unanswered == 0 {
        return None;
    }
    let somaxconn = report.settings.get("net.core.somaxconn").cloned().flatten();
    let most = somaxconn.as_ref().and_then(|text| text.parse::<u64>().ok());
    let (held, asked) = (storm.held, storm.asked);
    let is_small = most.is_some_and(|most| most < asked);
    let fix = if is_small {
        format!("run `sysctl net.core.somaxconn={asked}`, or accept that storms are this small")
    } else {
        "see `ringway-tune watch` for ListenDrops and memory, and the firewall for limits on new connections".to_owned()
    };
    let ceiling = somaxconn.unwrap_or_else(|| "unknown".to_owned());
    Some(bad(
        format!(
            "the queue of a listener held {held} of the {asked} connections it was asked for (net.core.somaxconn = \
             {ceiling}): in a reconnect storm the others wait 1 s or longer"
        ),
        fix,
    ))
}

fn exhausted(report: &Report) -> Option<Remark> {
    let ports = &report.ports;
    let usable = number(ports.usable);
    ports.is_exhausted.then(|| {
        bad(
            format!(
                "there was no port for connection {} to one destination, of {usable} in the range: others hold them",
                ports.taken + 1
            ),
            "see `ringway-tune watch` for ports and ports_held, or widen net.ipv4.ip_local_port_range".to_owned(),
        )
    })
}

fn left(report: &Report) -> Option<Remark> {
    match report.left_behind {
        Some(0) => None,
        Some(count) => Some(bad(
            format!(
                "{count} sockets of the self test are still there, although all of them were reset"
            ),
            "see `ss -tan` for their state: a firewall on the loopback may drop resets".to_owned(),
        )),
        None => Some(note(
            "whether sockets stayed behind is unknown: /proc/net/tcp could not be read".to_owned(),
            "",
        )),
    }
}

fn smaller(report: &Report) -> Option<Remark> {
    let storm = &report.storm;
    if storm.unanswered > 0 || storm.tried >= storm.asked {
        return None;
    }
    let (tried, asked) = (storm.tried, storm.asked);
    let reason = match storm.limited_by.as_str() {
        _ if storm.is_cut_by_time => "its time was up, a longer --duration has more",
        "" => "the run ended early",
        limit => limit,
    };
    Some(note(
        format!(
            "the storm had {tried} connections, not {asked}: {reason}; whether the queue holds more was not tried"
        ),
        "",
    ))
}

fn throttled(report: &Report) -> Option<Remark> {
    let count = report.counters.get(THROTTLED).copied().flatten()?;
    (count > 0).then(|| {
        note(
            format!(
                "the container was stopped {count} times for using its share of processors up: times are the limit's, \
                 not the host's"
            ),
            "raise the container's processor limit (cpu.max)",
        )
    })
}

fn late(report: &Report) -> Option<Remark> {
    let metric = find(report, "wake_p99")?;
    (metric.median() > WAKE_LATE_US).then(|| {
        note(
            format!(
                "one wake-up in a hundred is {:.0} us late: cores in deep sleep, a container at its limit, or others \
                 at work on them",
                metric.median()
            ),
            "see `ringway-tune check` for governor and throttling, and `top` for who else runs",
        )
    })
}

fn uneven_pings(report: &Report) -> Option<Remark> {
    let (half, rare) = (find(report, "ping_p50")?, find(report, "ping_p999")?);
    let times = rare.median() / half.median().max(f64::MIN_POSITIVE);
    (times > PING_UNEVEN).then(|| {
        note(
            format!(
                "one round trip in a thousand takes {times:.0} times as long as the usual one ({:.0} us): the two \
                 threads had to wait for a core",
                rare.median()
            ),
            "run it again when the host is at rest, or bind other programs to other cores",
        )
    })
}

/// What the kernel counted meanwhile belongs to all programs of the namespace, so it is said and not judged.
fn counted(report: &Report) -> Option<Remark> {
    let told = report
        .counters
        .iter()
        .filter(|(name, _)| name.as_str() != THROTTLED);
    let words: Vec<String> = told
        .filter(|(_, count)| **count != Some(0))
        .map(|(name, count)| format!("{name} {}", number(*count)))
        .collect();
    (!words.is_empty()).then(|| {
        note(
            format!(
                "meanwhile the kernel counted, for all programs: {}",
                words.join(", ")
            ),
            "",
        )
    })
}

/// Tells which numbers are far apart between the rounds.
fn spread(report: &Report) -> Option<Remark> {
    let is_wide = |metric: &&Metric| {
        let (low, high) = metric.range();
        // The rarest values are far apart by nature.
        let is_rare = metric.name.contains("p99");
        !is_rare && high - low > metric.median() * SPREAD_WIDE
    };
    let wide = report.metrics.iter().filter(is_wide);
    let names: Vec<&str> = wide.map(|metric| metric.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        note(
            format!(
                "the rounds are more than {:.0} % apart in {}: something else was at work, and only large differences \
                 to another run mean something",
                SPREAD_WIDE * 100.0,
                names.join(", ")
            ),
            "run it again when the host is at rest, or with a longer --duration",
        )
    })
}

fn find<'a>(report: &'a Report, name: &str) -> Option<&'a Metric> {
    report.metrics.iter().find(|metric| metric.name == name)
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

const fn bad(says: String, fix: String) -> Remark {
    Remark {
        is_bad: true,
        says,
        fix,
    }
}

fn note(says: String, fix: &str) -> Remark {
    Remark {
        is_bad: false,
        says,
        fix: fix.to_owned(),
    }
}

/// Lateness of one wake-up in a hundred that is worth saying: a relay flushes and keeps time in turns of 1
/// ms.
const WAKE_LATE_US: f64 = 1_000.0;

/// How many times as long as the usual round trip the rare one may take; a loopback at rest has about five.
const PING_UNEVEN: f64 = 20.0;

/// Spread over the rounds, as a share of the median, that is worth saying.
const SPREAD_WIDE: f64 = 0.5;
