//! Verdicts on network cards, and on what stands between them and the peers.
//!
//! Here: queues, interrupts, losses, sizes of packets, filters on the way. Not here: what the cores drop
//! (`softnet` in the module above).
//!
//! A host without a card that it shows, as most containers, passes and says so.

use super::{Check, option_text, unknown};
use crate::check::Target;
use crate::finding::Finding;
use crate::machine::{Card, Machine};

pub(super) fn queues(machine: &Machine, target: &Target) -> Finding {
    let shards = u64::from(target.shards);
    let check = Check {
        name: "queues",
        measured: each(machine, |card| {
            format!(
                "{} receive and {} send queues, RPS {}, XPS {}",
                card.receive_queues,
                card.send_queues,
                on_or_off(card.is_spread),
                on_or_off(card.is_send_mapped)
            )
        }),
        needed: format!("{shards} receive queues, or RPS"),
        why: "one queue is one core that takes all packets of the card in, however many shards wait for them",
    };
    let is_short = |card: &&Card| shards > 1 && card.receive_queues < shards && !card.is_spread;
    match first(machine, is_short) {
        None => check.unknown("/sys/class/net"),
        Some(None) => check.pass(),
        Some(Some(Card { name, .. })) => check.warn(format!(
            "run `ethtool -L {name} combined {shards}`; where the card has no more, `echo {} > \
             /sys/class/net/{name}/queues/rx-0/rps_cpus`",
            mask(shards)
        )),
    }
}

pub(super) fn interrupts(machine: &Machine, target: &Target) -> Finding {
    let balancer = match machine
        .process
        .daemons
        .iter()
        .any(|name| name == "irqbalance")
    {
        true => "irqbalance runs",
        false => "no irqbalance to be seen",
    };
    let check = Check {
        name: "irqs",
        measured: format!(
            "{}; {balancer}",
            each(machine, |card| match card.interrupts.as_deref() {
                None => "unknown".to_owned(),
                Some([]) => "no interrupt raised".to_owned(),
                Some(cores) => format!("interrupts on cores {}", cores.join(", ")),
            })
        ),
        needed: "interrupts of a card on more than one core".to_owned(),
        why: "the core that takes all interrupts of a card has the kernel's work for all sessions, and its shard is \
              slow",
    };
    let is_on_one_core = |card: &&Card| match card.interrupts.as_deref() {
        Some([one, rest @ ..]) => {
            let is_one = one.bytes().all(|byte| byte.is_ascii_digit());
            !rest.is_empty() && is_one && rest.iter().all(|other| other == one)
        }
        _ => false,
    };
    let is_bad = |card: &&Card| target.shards > 1 && !card.is_spread && is_on_one_core(card);
    match first(machine, is_bad) {
        None => check.unknown("/sys/class/net"),
        Some(Some(Card { name, .. })) => check.warn(format!(
            "start irqbalance, or give each interrupt that `grep . /sys/class/net/{name}/device/msi_irqs/*` or \
             /proc/interrupts names a core of its own: `echo CORE > /proc/irq/NUMBER/smp_affinity_list`"
        )),
        Some(None) => match first(machine, |card| card.interrupts.is_none()) {
            Some(Some(_)) => check.unknown("/proc/interrupts and /proc/irq"),
            _ => check.pass(),
        },
    }
}

pub(super) fn losses(machine: &Machine) -> Finding {
    let check = Check {
        name: "card_drops",
        measured: each(machine, |card| {
            format!(
                "{} missed, {} dropped",
                option_text(card.missed),
                option_text(card.dropped)
            )
        }),
        needed: "0 missed".to_owned(),
        why: "a card that finds no room for a packet loses it, and its sender waits for a timer; what is dropped may \
              be of protocols that nobody here speaks",
    };
    match first(machine, |card| card.missed.is_some_and(|count| count > 0)) {
        None => check.unknown("/sys/class/net"),
        Some(Some(Card { name, .. })) => check.warn(format!(
            "see with `ethtool -g {name}` how long its rings may be, and run `ethtool -G {name} rx MOST`; offloads are \
             in `ethtool -k {name}`"
        )),
        Some(None) => match first(machine, |card| card.missed.is_none()) {
            Some(Some(_)) => check.unknown("/sys/class/net/*/statistics/rx_missed_errors"),
            _ => check.pass(),
        },
    }
}

pub(super) fn mtu(machine: &Machine) -> Finding {
    let check = Check {
        name: "mtu",
        measured: each(machine, |card| format!("{} bytes", option_text(card.mtu))),
        needed: format!("{MTU_MIN} bytes"),
        why: "IPv6 needs as much, and smaller packets cost the same each and carry less",
    };
    let is_small = |card: &&Card| card.mtu.is_some_and(|mtu| mtu < MTU_MIN);
    match first(machine, is_small) {
        None => check.unknown("/sys/class/net"),
        Some(Some(Card { name, .. })) => check.warn(format!(
            "run `ip link set {name} mtu 1500` if the network carries it"
        )),
        Some(None) => match first(machine, |card| card.mtu.is_none()) {
            Some(Some(_)) => check.unknown("/sys/class/net/*/mtu"),
            _ => check.pass(),
        },
    }
}

pub(super) fn reverse_path(machine: &Machine) -> Finding {
    let check = Check {
        name: "rp_filter",
        measured: each(machine, |card| option_text(card.reverse_path)),
        needed: "0 or 2 with more than one card".to_owned(),
        why: "with 1 packets that come in by another card than answers would leave by are dropped without a word",
    };
    let cards = machine.cards.as_deref().map_or(0, <[Card]>::len);
    let is_strict = |card: &&Card| card.reverse_path == Some(1) && cards > 1;
    match first(machine, is_strict) {
        None => check.unknown("/sys/class/net"),
        Some(Some(Card { name, .. })) => check.warn(format!(
            "run `sysctl net.ipv4.conf.{name}.rp_filter=2` if peers may come in by more than one card"
        )),
        Some(None) => match first(machine, |card| card.reverse_path.is_none()) {
            Some(Some(_)) => check.unknown("/proc/sys/net/ipv4/conf/*/rp_filter"),
            _ => check.pass(),
        },
    }
}

/// What filters there are can be seen without root, their rules cannot: so this never warns, and says what it
/// does not know.
pub(super) fn firewall(machine: &Machine) -> Finding {
    let modules = machine.stack.modules.as_deref();
    let is_filter = |name: &&String| FILTERS.contains(&name.as_str());
    let check = Check {
        name: "firewall",
        measured: modules.map_or_else(
            || "unknown: there is no /proc/modules to read".to_owned(),
            |modules| {
                let loaded: Vec<&str> = modules
                    .iter()
                    .filter(is_filter)
                    .map(String::as_str)
                    .collect();
                match loaded.is_empty() {
                    true => "no packet filter is loaded as a module".to_owned(),
                    false => format!(
                        "{} loaded; only root may read the rules (`nft list ruleset`)",
                        loaded.join(", ")
                    ),
                }
            },
        ),
        needed: "no rule that drops resets".to_owned(),
        why: "the relay closes with resets: a peer that gets none takes a session for alive until its pings fail",
    };
    check.pass()
}

pub(super) fn keepalive(machine: &Machine) -> Finding {
    let tracking = machine.stack.tracking_timeout_s;
    let kernel = machine.stack.keepalive_s;
    let check = Check {
        name: "keepalive",
        measured: format!(
            "{}; TCP's own after {} s is not used",
            tracking.map_or_else(
                || "no tracking to be seen".to_owned(),
                |seconds| format!("tracking that forgets a quiet connection after {seconds} s"),
            ),
            option_text(kernel)
        ),
        needed: format!("more than {SILENCE_MAX_S} s"),
        why: "relay and peers ping after 30 s of silence, which NATs of 60 s and more outlive; a table that forgets \
              sooner cuts sessions that are quiet",
    };
    match tracking {
        Some(seconds) if seconds <= SILENCE_MAX_S => check.warn(
            "run `sysctl net.netfilter.nf_conntrack_tcp_timeout_established=7440`, or exempt the relay's port from \
             tracking (NOTRACK)",
        ),
        _ => check.pass(),
    }
}

/// Says something of each card, or that there is none.
fn each(machine: &Machine, say: impl Fn(&Card) -> String) -> String {
    let Some(cards) = &machine.cards else {
        return unknown();
    };
    let texts: Vec<String> = cards
        .iter()
        .map(|card| format!("{}: {}", card.name, say(card)))
        .collect();
    match texts.is_empty() {
        true => "no card to be seen".to_owned(),
        false => texts.join("; "),
    }
}

/// Returns the first card of which it is so, if there is one; `None` when cards are unknown.
fn first(machine: &Machine, is_so: impl Fn(&&Card) -> bool) -> Option<Option<&Card>> {
    let cards = machine.cards.as_ref()?;
    Some(cards.iter().find(|card| is_so(card)))
}

const fn on_or_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

/// Returns the first so many cores as a mask, 32 of them a group.
fn mask(cores: u64) -> String {
    let mut groups = Vec::new();
    let mut left = cores;
    while left > 0 {
        let bits = left.min(32);
        groups.push(format!("{:x}", (1_u64 << bits) - 1));
        left -= bits;
    }
    groups.reverse();
    groups.join(",")
}

/// Least packet that every path of IPv6 carries, bytes.
///
/// Source: RFC 8200 section 5.
const MTU_MIN: u64 = 1_280;

/// Longest silence on a session, s, and as much again for a ping that was lost.
///
/// Source: `KEEPALIVE_INTERVAL` in docs/limits.md.
const SILENCE_MAX_S: u64 = 60;

/// Modules that filter packets.
const FILTERS: [&str; 3] = ["ip6_tables", "ip_tables", "nf_tables"];

#[cfg(test)]
mod tests;
