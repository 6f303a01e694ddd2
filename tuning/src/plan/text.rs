//! A plan as text.
//!
//! Here: tables for a terminal. Not here: figures (`load`, `fleet`), the page (`page`).

use std::fmt::{self, Write};

use super::Plan;
use super::limits::{Limit, Resource};
use super::load::{self, Sum, Term};
use super::numbers::{bits, bytes, count, short};

/// Returns the plan as text, with every term of every sum.
///
/// # Errors
/// Never: a text takes all that is written to it.
pub fn text(plan: &Plan) -> Result<String, fmt::Error> {
    let mut out = String::new();
    for (name, value) in summary(plan) {
        writeln!(out, "{name:<18} {value}")?;
    }
    writeln!(out, "\nlimits of the fullest relay")?;
    for limit in &plan.limits {
        limit_line(&mut out, limit)?;
    }
    for sum in Sum::ALL {
        let total = load::total(&plan.terms, sum);
        writeln!(out, "\n{} {}", sum.label(), amount(sum, total))?;
        for term in plan.terms.iter().filter(|term| term.sum == sum) {
            term_line(&mut out, term)?;
        }
    }
    let settings = plan.fleet.settings(&plan.room);
    if !settings.is_empty() {
        writeln!(out, "\nsettings of each relay")?;
        for (key, value, why) in settings {
            writeln!(out, "  {key} = {value}  # {why}")?;
        }
    }
    writeln!(out, "\nassumptions")?;
    for assumption in assumptions(plan) {
        writeln!(out, "  - {assumption}")?;
    }
    Ok(out)
}

/// Returns what the plan comes to, name by name.
pub(crate) fn summary(plan: &Plan) -> Vec<(&'static str, String)> {
    let (fleet, load) = (&plan.fleet, &plan.fleet.load);
    let total = |sum| load::total(&plan.terms, sum);
    let storm = &fleet.storm;
    let mut rows = vec![
        ("relays", relays(plan)),
        (
            "each relay",
            format!(
                "{} sessions on {} shards",
                count(load.sessions),
                short(fleet.shards)
            ),
        ),
        (
            "cores",
            format!(
                "{} busy of {} ({})",
                short(total(Sum::Processor)),
                short(plan.room.cores),
                percent(total(Sum::Processor) / plan.room.cores)
            ),
        ),
        (
            "memory",
            format!(
                "{}: process {}, kernel {}",
                bytes(total(Sum::ProcessMemory) + total(Sum::KernelMemory)),
                bytes(total(Sum::ProcessMemory)),
                bytes(total(Sum::KernelMemory))
            ),
        ),
        (
            "open files",
            format!(
                "{} at least, the size of a shard's table of sockets",
                short(total(Sum::Slots).ceil())
            ),
        ),
        (
            "local ports",
            format!("{} of the relay itself", short(total(Sum::Ports))),
        ),
        ("peers' addresses", addresses(plan)),
        ("network", bits(total(Sum::Network))),
        (
            "all come back",
            format!(
                "{} sessions in {} s: {} handshakes a second and shard, {} s at least, backlog {}",
                count(storm.sessions),
                short(storm.wanted),
                count(storm.rate),
                short(storm.least),
                short(storm.backlog)
            ),
        ),
    ];
    rows.extend(between(plan));
    rows
}

fn relays(plan: &Plan) -> String {
    let (relays, spare) = (plan.fleet.relays, plan.demand.spare);
    match spare {
        0 => format!("{relays}"),
        _ => format!(
            "{relays}: {} carry everything, {spare} may be away",
            relays.saturating_sub(spare)
        ),
    }
}

/// Returns from how many addresses the peers of a relay have to come.
fn addresses(plan: &Plan) -> String {
    format!(
        "{} at least behind NAT or in a load test, with {} ports each; none rests after its session, which the relay \
         ends with a reset",
        count((plan.fleet.load.sessions / plan.room.ports).ceil().max(1.0)),
        short(plan.room.ports)
    )
}

/// Returns what goes on between relays.
fn between(plan: &Plan) -> Vec<(&'static str, String)> {
    let fleet = &plan.fleet;
    if fleet.relays == 1 {
        return Vec::new();
    }
    let mut rows = vec![
        (
            "links",
            format!(
                "{} in all, {} of each shard",
                count(fleet.links),
                short(fleet.load.links)
            ),
        ),
        (
            "between relays",
            format!(
                "{} in all, {} from one to another",
                bits(fleet.forwarded),
                bits(fleet.forwarded_pair)
            ),
        ),
    ];
    if fleet.is_announced {
        let told = format!("{} of peers that come and go", bits(fleet.announcements));
        rows.push(("announcements", told));
    }
    if let Some(registry) = &fleet.registry {
        rows.push((
            "registry",
            format!(
                "{} places, {}; {} changes, {} questions and {} commands of leases a second: {} cores, {} Redis",
                count(registry.places),
                bytes(registry.memory),
                count(registry.changes),
                count(registry.questions),
                count(registry.leases),
                short(registry.cores),
                short(registry.nodes)
            ),
        ));
    }
    rows
}

fn limit_line(out: &mut String, limit: &Limit) -> fmt::Result {
    let verdict = match limit.is_exceeded() {
        true => "SHORT",
        false => "fits ",
    };
    let show = |value| match limit.resource {
        Resource::Memory => bytes(value),
        Resource::Network => bits(value),
        _ => count(value),
    };
    let end = limit.sessions.map_or_else(
        || "whatever the sessions".to_owned(),
        |sessions| format!("used up at {} sessions", count(sessions)),
    );
    writeln!(
        out,
        "  {verdict} {:<29} {:>12} of {:<12} {end}",
        limit.resource.label(),
        show(limit.needed),
        show(limit.available)
    )
}

fn term_line(out: &mut String, term: &Term) -> fmt::Result {
    let each = match term.sum {
        Sum::ProcessMemory | Sum::KernelMemory => bytes(term.each),
        Sum::Processor => format!("{} us", short(term.each * 1e6)),
        _ => short(term.each),
    };
    writeln!(
        out,
        "  {:>12} = {:>9} x {each:<10} {} ({})",
        amount(term.sum, term.total()),
        count(term.count),
        term.name,
        term.source
    )
}

/// Returns an amount in the unit of its sum.
pub(crate) fn amount(sum: Sum, value: f64) -> String {
    match sum {
        Sum::ProcessMemory | Sum::KernelMemory => bytes(value),
        Sum::Processor => format!("{} cores", short(value)),
        Sum::Slots | Sum::Ports => count(value),
        Sum::Network => bits(value),
    }
}

/// Returns what the plan takes for granted.
pub(crate) fn assumptions(plan: &Plan) -> Vec<String> {
    let (demand, room) = (&plan.demand, &plan.room);
    let mut list = vec![
        format!(
            "costs: measured on {}, relay {}; 'ringway-tune plan calibrate' measures this host",
            plan.costs.machine, plan.costs.relay
        ),
        format!(
            "at most {} of cores, memory and network are used: the rest is for bursts, the page cache and what else runs",
            percent(room.share)
        ),
        format!(
            "messages have {}; a wake-up of the relay serves {} of them: one that comes alone costs the most",
            bytes(f64::from(demand.message)),
            short(demand.together)
        ),
        format!(
            "{} of the peers do not read, a window of 256 KiB waits for each",
            percent(demand.slow)
        ),
        format!(
            "sessions that say nothing show a sign of life each 30 s; round trips take {} ms",
            short(demand.round_trip.as_secs_f64() * 1_000.0)
        ),
        "sessions are spread evenly over relays and shards".to_owned(),
    ];
    if plan.fleet.relays > 1 {
        list.push(format!(
            "{} of the streams have their peers on different relays, one link apart",
            percent(plan.fleet.load.forwarded)
        ));
        list.push("every relay has links with every other one, shard by shard".to_owned());
    }
    list
}

fn percent(share: f64) -> String {
    format!("{} %", short(share * 100.0))
}
