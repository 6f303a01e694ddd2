//! Model test: the replay window against a set of every nonce ever marked.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use ringway_proto::limits::NONCE_WINDOW_BITS;
use ringway_proto::nonce::{NonceError, NonceWindow};

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
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1_u64..4).prop_map(Step::Ahead),
        4 => (0_u64..1_100).prop_map(Step::Behind),
        2 => (60_u64..70).prop_map(Step::Ahead),
        2 => (1_000_u64..1_100).prop_map(Step::Ahead),
        2 => (1_020_u64..1_030).prop_map(Step::Behind),
        1 => any::<u64>().prop_map(Step::Exactly),
        1 => (u64::MAX - 3..=u64::MAX).prop_map(Step::Exactly),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_window_does_what_the_set_does(start in any::<u16>(), steps in vec(step(), 1..400)) {
        let mut window = NonceWindow::new();
        let mut model = Model::default();
        let mut top = u64::from(start);
        for step in steps {
            let nonce = match step {
                Step::Ahead(by) => top.saturating_add(by),
                Step::Behind(by) => top.saturating_sub(by),
                Step::Exactly(nonce) => nonce,
            };
            let expected = model.check(nonce);
            prop_assert_eq!(window.check(nonce), expected, "{:?} at {}", step, top);
            if expected.is_ok() {
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
}
