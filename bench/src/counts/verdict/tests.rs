//! Comparisons: the bounds, what is missing, how they read.

use std::collections::BTreeMap;

use super::*;

fn tools() -> Tools {
    Tools {
        rustc: "rustc 1".to_owned(),
        valgrind: "valgrind-3".to_owned(),
        libc: "glibc 2".to_owned(),
        processor: "x86_64".to_owned(),
    }
}

fn baseline(cases: &[(&str, f64)]) -> Baseline {
    let cases = cases
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count));
    Baseline {
        tools: tools(),
        instructions: cases.collect::<BTreeMap<_, _>>(),
    }
}

fn verdict(before: f64, now: f64) -> Verdict {
    let row = Row {
        name: "a",
        operation: "one",
        before: Some(before),
        now,
    };
    row.verdict(3.0)
}

#[test]
fn three_per_cent_either_way_are_the_same_and_more_is_not() {
    for before in [1.0, 33.33, 100.0, 6_547.21, 70_000.0] {
        assert_eq!(verdict(before, before), Verdict::Same);
    }
    assert_eq!(verdict(100.0, 103.0), Verdict::Same);
    assert_eq!(verdict(100.0, 103.01), Verdict::Worse);
    assert_eq!(verdict(100.0, 97.0), Verdict::Same);
    assert_eq!(verdict(100.0, 96.99), Verdict::Better);
    assert_eq!(verdict(7_000.0, 7_210.0), Verdict::Same);
    assert_eq!(verdict(7_000.0, 7_210.01), Verdict::Worse);
    assert_eq!(verdict(100.0, 1e9), Verdict::Worse);
}

#[test]
fn one_worse_case_among_good_ones_fails() {
    let known = baseline(&[("a", 100.0), ("b", 100.0)]);
    let good = [("a", "one", 100.0), ("b", "one", 103.0)];
    let comparison = Comparison::new(Some(&known), &good, true, 3.0);
    assert!(comparison.has_passed());
    assert!(comparison.advice().is_empty());
    let bad = [("a", "one", 100.0), ("b", "one", 104.0)];
    let comparison = Comparison::new(Some(&known), &bad, true, 3.0);
    assert!(!comparison.has_passed());
    let advice = comparison.advice();
    assert!(
        advice.len() == 1 && advice[0].starts_with("worse by more than 3 %: b;"),
        "{advice:?}"
    );
    assert!(
        Comparison::new(Some(&known), &bad, true, 4.0).has_passed(),
        "tolerance"
    );
}

#[test]
fn better_case_passes_and_asks_for_a_new_baseline() {
    let known = baseline(&[("a", 100.0)]);
    let comparison = Comparison::new(Some(&known), &[("a", "one", 50.0)], true, 3.0);
    assert!(comparison.has_passed());
    let advice = comparison.advice();
    assert!(
        advice.len() == 1 && advice[0].contains("--bless"),
        "{advice:?}"
    );
}

#[test]
fn case_without_a_baseline_fails() {
    let known = baseline(&[("a", 100.0)]);
    let counted = [("a", "one", 100.0), ("b", "one", 1.0)];
    for known in [Some(&known), None] {
        let comparison = Comparison::new(known, &counted, true, 3.0);
        assert!(!comparison.has_passed());
        let advice = comparison.advice().join("\n");
        assert!(
            advice.contains("without a baseline") && advice.contains('b'),
            "{advice}"
        );
    }
}

#[test]
fn baseline_without_its_case_fails_only_when_all_were_counted() {
    let known = baseline(&[("a", 100.0), ("old", 1.0)]);
    let counted = [("a", "one", 100.0)];
    let comparison = Comparison::new(Some(&known), &counted, true, 3.0);
    assert!(!comparison.has_passed());
    let advice = comparison.advice();
    assert!(advice.len() == 1 && advice[0].contains("old"), "{advice:?}");
    assert!(Comparison::new(Some(&known), &counted, false, 3.0).has_passed());
}

#[test]
fn table_shows_both_counts_and_the_change() {
    let known = baseline(&[("a", 100.0), ("b", 20_000.0)]);
    let counted = [
        ("a", "one", 101.5),
        ("b", "two", 10_000.0),
        ("c", "three", 7.0),
    ];
    let table = Comparison::new(Some(&known), &counted, true, 3.0).to_string();
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(
        rows,
        [
            "| `a` | one | 100.00 | 101.50 | +1.50 % |  |",
            "| `b` | two | 20000 | 10000 | -50.00 % | better |",
            "| `c` | three | - | 7.00 | - | new |",
        ]
    );
}

#[test]
fn other_tools_are_named() {
    assert_eq!(other_tools(&tools(), &tools()), None);
    let newer = Tools {
        rustc: "rustc 2".to_owned(),
        libc: "glibc 3".to_owned(),
        ..tools()
    };
    let text = other_tools(&tools(), &newer).unwrap();
    assert!(
        text.ends_with("'rustc 2' for 'rustc 1', 'glibc 3' for 'glibc 2'"),
        "{text}"
    );
}
