//! Each verdict on cards.

use super::*;
use crate::check::machine::judge_machine;
use crate::check::machine::tests::{assert_verdict, good};
use crate::check::tests::{assert_among, target};
use crate::finding::Verdict;

/// Asserts what becomes of the good host's card when it is changed.
fn assert_card(check: &str, verdict: Verdict, change: impl Fn(&mut Card)) -> Finding {
    assert_verdict(check, verdict, |machine| {
        change(&mut machine.cards.as_mut().unwrap()[0]);
    })
}

fn cores(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(ToString::to_string).collect())
}

#[test]
fn no_card_is_no_fault() {
    for check in ["queues", "irqs", "card_drops", "mtu", "rp_filter"] {
        let found = assert_verdict(check, Verdict::Pass, |m| m.cards = Some(Vec::new()));
        assert!(
            found.measured.starts_with("no card to be seen"),
            "{found:?}"
        );
        assert_verdict(check, Verdict::Warn, |m| m.cards = None);
    }
}

#[test]
fn each_shard_has_a_queue_or_the_kernel_spreads() {
    // The target has eight shards.
    assert_card("queues", Verdict::Pass, |card| card.receive_queues = 8);
    let found = assert_card("queues", Verdict::Warn, |card| card.receive_queues = 7);
    assert!(
        found.fix.contains("ethtool -L eth0 combined 8"),
        "{found:?}"
    );
    assert!(found.fix.contains("echo ff > /sys"), "{found:?}");
    assert_card("queues", Verdict::Pass, |card| {
        (card.receive_queues, card.is_spread) = (1, true);
    });
    let mut machine = good();
    machine.cards.as_mut().unwrap()[0].receive_queues = 1;
    let single = Target {
        shards: 1,
        ..target()
    };
    assert_among(judge_machine(&machine, &single), "queues", Verdict::Pass);
}

#[test]
fn masks_have_a_group_for_32_cores() {
    assert_eq!(mask(2), "3");
    assert_eq!(mask(32), "ffffffff");
    assert_eq!(mask(68), "f,ffffffff,ffffffff");
}

#[test]
fn interrupts_are_spread() {
    assert_card("irqs", Verdict::Pass, |card| {
        card.interrupts = cores(&["0", "1"]);
    });
    // One interrupt, or several that may go to several cores, are no matter of their places.
    assert_card("irqs", Verdict::Pass, |card| {
        card.interrupts = cores(&["0"]);
    });
    assert_card("irqs", Verdict::Pass, |card| {
        card.interrupts = cores(&["0-3", "0-3"]);
    });
    assert_card("irqs", Verdict::Pass, |card| card.interrupts = cores(&[]));
    let found = assert_card("irqs", Verdict::Warn, |card| {
        card.interrupts = cores(&["3", "3"]);
    });
    assert!(
        found.measured.contains("cores 3, 3; no irqbalance"),
        "{found:?}"
    );
    assert_card("irqs", Verdict::Pass, |card| {
        (card.interrupts, card.is_spread) = (cores(&["3", "3"]), true);
    });
    let found = assert_card("irqs", Verdict::Warn, |card| card.interrupts = None);
    assert!(found.fix.contains("could not be read"), "{found:?}");
    let found = assert_verdict("irqs", Verdict::Pass, |m| {
        m.process.daemons.push("irqbalance".to_owned());
    });
    assert!(found.measured.ends_with("irqbalance runs"), "{found:?}");
}

#[test]
fn cards_lose_nothing() {
    assert_card("card_drops", Verdict::Pass, |card| card.dropped = Some(9));
    let found = assert_card("card_drops", Verdict::Warn, |card| card.missed = Some(4));
    assert_eq!(found.measured, "eth0: 4 missed, 0 dropped");
    let found = assert_card("card_drops", Verdict::Warn, |card| card.missed = None);
    assert!(found.fix.contains("could not be read"), "{found:?}");
}

#[test]
fn packets_are_large_enough() {
    assert_card("mtu", Verdict::Pass, |card| card.mtu = Some(1_280));
    assert_card("mtu", Verdict::Warn, |card| card.mtu = Some(1_279));
    let found = assert_card("mtu", Verdict::Warn, |card| card.mtu = None);
    assert!(found.fix.contains("could not be read"), "{found:?}");
}

#[test]
fn strict_filters_matter_with_two_cards() {
    assert_card("rp_filter", Verdict::Pass, |card| {
        card.reverse_path = Some(1);
    });
    let second = |m: &mut Machine, value| {
        let cards = m.cards.as_mut().unwrap();
        let card = Card {
            name: "eth1".to_owned(),
            reverse_path: value,
            ..cards[0].clone()
        };
        cards.push(card);
    };
    assert_verdict("rp_filter", Verdict::Pass, |m| second(m, Some(2)));
    let found = assert_verdict("rp_filter", Verdict::Warn, |m| second(m, Some(1)));
    assert!(found.fix.contains("conf.eth1.rp_filter=2"), "{found:?}");
    let found = assert_verdict("rp_filter", Verdict::Warn, |m| second(m, None));
    assert!(found.fix.contains("could not be read"), "{found:?}");
}

#[test]
fn filters_are_named_and_their_rules_are_not_known() {
    let modules = |names: &[&str]| cores(names);
    for (names, says) in [
        (modules(&["xfs"]), "no packet filter"),
        (
            modules(&["nf_tables", "xfs"]),
            "nf_tables loaded; only root",
        ),
        (None, "unknown"),
    ] {
        let found = assert_verdict("firewall", Verdict::Pass, |m| {
            m.stack.modules = names.clone();
        });
        assert!(found.measured.starts_with(says), "{found:?}");
    }
}

#[test]
fn tracking_outlives_the_silence_between_pings() {
    assert_verdict("keepalive", Verdict::Pass, |m| {
        m.stack.tracking_timeout_s = Some(61);
    });
    assert_verdict("keepalive", Verdict::Warn, |m| {
        m.stack.tracking_timeout_s = Some(60);
    });
    let found = assert_verdict("keepalive", Verdict::Pass, |m| {
        m.stack.tracking_timeout_s = None;
    });
    assert!(found.measured.starts_with("no tracking"), "{found:?}");
}
