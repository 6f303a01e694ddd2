//! Model test: the replay window against a set of every nonce ever marked.
//!
//! Here: steps that keep to the edges (of the window, of its words, of u64), checks that are followed by no
//! mark, as for an object that did not open, and the sealed objects themselves: only what opened is marked.
//! Not here: single cases (`nonce.rs`).
//!
//! Bound: the window is 17 words, whatever it has seen.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use ringway_proto::limits::NONCE_WINDOW_BITS;
use ringway_proto::nonce::{NonceError, NonceWindow};
use ringway_proto::sealed::{Opener, Sealer};

/// What the window should do, in memory without bound.
#[derive(Default)]
struct Model {
    seen: BTreeSet<u64>,
}

impl Model {
    fn check(&self, nonce: u64) -> Result<(), NonceError> {
        let top = self.seen.last().copied();
        if nonce == u64::MAX {
            Err(NonceError::PeerReserved)
        } else if top.is_some_and(|top| top >= nonce && top - nonce >= NONCE_WINDOW_BITS) {
            Err(NonceError::PeerTooOld)
        } else if self.seen.contains(&nonce) {
            Err(NonceError::PeerSeen)
        } else {
            Ok(())
        }
    }
}

/// A step relative to the highest nonce so far, so that the window's edges are hit often.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ahead(u64),
    Behind(u64),
    Exactly(u64),
    /// As `Ahead`, and the object turns out not to be authentic: checked, never marked.
    Forged(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1_u64..4).prop_map(Step::Ahead),
        4 => (0_u64..1_100).prop_map(Step::Behind),
        2 => (60_u64..70).prop_map(Step::Ahead),
        2 => (1_000_u64..1_100).prop_map(Step::Ahead),
        2 => (1_000_u64..5_000).prop_map(Step::Ahead),
        2 => (1_020_u64..1_030).prop_map(Step::Behind),
        3 => (0_u64..3_000).prop_map(Step::Forged),
        1 => any::<u64>().prop_map(Step::Forged),
        1 => any::<u64>().prop_map(Step::Exactly),
        1 => (u64::MAX - 3..=u64::MAX).prop_map(Step::Exactly),
    ]
}

/// Anywhere near the start, or so near the end that the window reaches the last nonce.
fn start() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0_u64..65_536,
        1 => u64::MAX - 3_000..u64::MAX,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_window_does_what_the_set_does(start in start(), steps in vec(step(), 1..400)) {
        let mut window = NonceWindow::new();
        let mut model = Model::default();
        let mut top = start;
        for step in steps {
            let nonce = match step {
                Step::Ahead(by) | Step::Forged(by) => top.saturating_add(by),
                Step::Behind(by) => top.saturating_sub(by),
                Step::Exactly(nonce) => nonce,
            };
            let expected = model.check(nonce);
            prop_assert_eq!(window.check(nonce), expected, "{:?} at {}", step, top);
            if expected.is_ok() && !matches!(step, Step::Forged(_)) {
                window.mark(nonce);
                model.seen.insert(nonce);
                top = top.max(nonce);
            }
        }
        // Every nonce of the window, and its neighbours, at the end.
        for nonce in top.saturating_sub(NONCE_WINDOW_BITS + 2)..=top.saturating_add(2) {
            prop_assert_eq!(window.check(nonce), model.check(nonce), "{} at the end", nonce);
        }
    }

    #[test]
    fn an_object_that_did_not_open_uses_up_no_nonce(
        deliveries in vec((0_usize..1_200, any::<bool>()), 1..200),
    ) {
        let mut sealer = Sealer::new([7; 32]);
        let objects: Vec<Vec<u8>> = (0..1_200)
            .map(|_| {
                let mut out = Vec::new();
                sealer.seal(b"x", &mut out).expect("one byte seals");
                out.split_off(2)
            })
            .collect();
        let mut opener = Opener::new([7; 32]);
        let mut model = Model::default();
        for (index, is_forged) in deliveries {
            let mut object = objects[index].clone();
            if is_forged {
                let last = object.len() - 1;
                object[last] ^= 1;
            }
            let nonce = index as u64;
            let is_wanted = !is_forged && model.check(nonce).is_ok();
            prop_assert_eq!(opener.open(&mut object).is_ok(), is_wanted, "object {}", index);
            if is_wanted {
                model.seen.insert(nonce);
            }
        }
    }
}

#[test]
fn the_window_is_seventeen_words() {
    assert_eq!(size_of::<NonceWindow>(), 8 + 1_024 / 8);
    assert_eq!(NONCE_WINDOW_BITS, 1_024);
}
