//! A plan as a page: one HTML file that needs no other.
//!
//! Here: its parts. Not here: figures (`load`, `fleet`), words of the summary (`text`), drawing (`chart`).
//!
//! Invariant: the page follows from the plan alone: the same plan makes the same page, byte by byte.

mod chart;

use std::fmt::{self, Write};

use super::limits::{self, Limit, Resource};
use super::load::{self, Load, Sum};
use super::numbers::{bits, bytes, count, short};
use super::text::{amount, assumptions, summary};
use super::{Plan, whole};
use chart::{Chart, Line};

/// Returns the page.
///
/// # Errors
/// Never: a text takes all that is written to it.
pub fn page(plan: &Plan) -> Result<String, fmt::Error> {
    let mut out = String::new();
    let title = format!("Plan for {} sessions", count(whole(plan.demand.sessions)));
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>{title} - ringway-tune</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    )?;
    verdict(&mut out, plan)?;
    out.push_str("<h2>What it takes</h2>\n<table>\n");
    for (name, value) in summary(plan) {
        writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value))?;
    }
    out.push_str("</table>\n<h2>How each resource grows</h2>\n");
    writeln!(
        out,
        "<p>One relay, as its sessions grow and with them streams, traffic and connects. Blue is what they need, the \
         dashed line what there is, reserves taken off; the mark is the plan.</p>\n<div class=\"charts\">"
    )?;
    for limit in &plan.limits {
        figure(&mut out, plan, limit)?;
    }
    out.push_str("</div>\n<h2>Term by term</h2>\n");
    for sum in Sum::ALL {
        terms(&mut out, plan, sum)?;
    }
    settings(&mut out, plan)?;
    out.push_str("<h2>Assumptions</h2>\n<ul>\n");
    for assumption in assumptions(plan) {
        writeln!(out, "<li>{}</li>", escape(&assumption))?;
    }
    out.push_str("</ul>\n<h2>Constants</h2>\n<table>\n<thead><tr><th>each</th><td>median</td><td>least</td><td>most</td></tr></thead>\n");
    for (name, cost) in plan.costs.named() {
        writeln!(
            out,
            "<tr><th>{name}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            short(cost.median),
            short(cost.least),
            short(cost.most)
        )?;
    }
    out.push_str("</table>\n</main>\n</body>\n</html>\n");
    Ok(out)
}

fn verdict(out: &mut String, plan: &Plan) -> fmt::Result {
    let fullest = plan
        .limits
        .iter()
        .max_by(|a, b| (a.needed / a.available).total_cmp(&(b.needed / b.available)));
    let next = plan
        .limits
        .iter()
        .filter_map(|limit| Some((limit.sessions?, limit.resource)))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    let (class, word) = match plan.is_short() {
        true => ("bad", "Something is short"),
        false => ("good", "It fits"),
    };
    write!(out, "<p class=\"verdict {class}\"><b>{word}</b>")?;
    if let Some(limit) = fullest {
        write!(
            out,
            "Fullest is {}: {} % of what there is. ",
            limit.resource.label(),
            short(100.0 * limit.needed / limit.available)
        )?;
    }
    if let Some((sessions, resource)) = next {
        write!(
            out,
            "The next limit is {} at {} sessions of a relay; the plan has {}.",
            resource.label(),
            count(sessions),
            count(plan.fleet.load.sessions)
        )?;
    }
    writeln!(out, "</p>")
}

/// Writes how the need of one resource grows.
fn figure(out: &mut String, plan: &Plan, limit: &Limit) -> fmt::Result {
    let load = &plan.fleet.load;
    // As far as the limit and a little more, but the plan is not to vanish in a corner.
    let end = limit.sessions.unwrap_or(load.sessions) * 1.25;
    let end = end.clamp(load.sessions * 1.5, load.sessions * 12.0);
    let points = (0..=POINTS).map(|point| {
        let sessions = end * f64::from(point) / f64::from(POINTS);
        (sessions, need(plan, load, limit.resource, sessions))
    });
    let line = Line {
        points: points.collect(),
        limit: limit.available,
        mark: (load.sessions, limit.needed),
    };
    let (unit, scale): (fn(f64) -> String, f64) = match limit.resource {
        Resource::Memory if limit.needed < GIBIBYTE => (bytes, GIBIBYTE / 1_024.0),
        Resource::Memory => (bytes, GIBIBYTE),
        Resource::Network => (bits, GIGABIT),
        _ => (count, 1.0),
    };
    writeln!(
        out,
        "<figure><figcaption>{}: {} of {}</figcaption>\n{}</figure>",
        limit.resource.label(),
        unit(limit.needed),
        unit(limit.available),
        Chart { line, unit, scale }.svg()
    )
}

fn need(plan: &Plan, load: &Load, resource: Resource, sessions: f64) -> f64 {
    let load = limits::scaled(load, sessions / load.sessions);
    limits::needed(resource, &load, &load::terms(&load, &plan.costs))
}

fn terms(out: &mut String, plan: &Plan, sum: Sum) -> fmt::Result {
    let total = load::total(&plan.terms, sum);
    writeln!(
        out,
        "<h3>{}: {}</h3>\n<table class=\"terms\">\n<thead><tr><th>what</th><td>count</td><td>together</td><td>source</td></tr></thead>",
        sum.label(),
        amount(sum, total)
    )?;
    for term in plan.terms.iter().filter(|term| term.sum == sum) {
        writeln!(
            out,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            term.name,
            count(term.count),
            amount(sum, term.total()),
            term.source
        )?;
    }
    writeln!(out, "</table>")
}

fn settings(out: &mut String, plan: &Plan) -> fmt::Result {
    let settings = plan.fleet.settings(&plan.room);
    if settings.is_empty() {
        return Ok(());
    }
    out.push_str("<h2>Settings of each relay</h2>\n<table>\n");
    for (key, value, why) in settings {
        writeln!(
            out,
            "<tr><th><code>{key} = {}</code></th><td>{why}</td></tr>",
            escape(&value)
        )?;
    }
    writeln!(out, "</table>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const STYLE: &str = include_str!("page/style.css");

/// Points of a line: needs are straight but for rounding, so few would do.
const POINTS: u32 = 24;

/// Steps of axes, in bytes.
const GIBIBYTE: f64 = 1_073_741_824.0;
const GIGABIT: f64 = 125_000_000.0;
