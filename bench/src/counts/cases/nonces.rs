//! The replay window of sealed objects.
//!
//! Here: nonces checked and marked. Not here: the objects they come with (`opens`).

use std::hint::black_box;

use ringway_proto::nonce::NonceWindow;

use super::{Meter, Work};

struct Nonces {
    window: NonceWindow,
    next: u64,
    /// The order within a group, as differences to its first.
    order: Vec<u64>,
}

/// Each nonce is one above the last.
pub(super) fn in_order() -> Box<dyn Work> {
    Box::new(Nonces::new((0..64).collect()))
}

/// The second half of a group comes first.
pub(super) fn out_of_order() -> Box<dyn Work> {
    Box::new(Nonces::new((32..64).chain(0..32).collect()))
}

impl Nonces {
    fn new(order: Vec<u64>) -> Self {
        Self {
            window: NonceWindow::new(),
            next: 0,
            order,
        }
    }
}

impl Work for Nonces {
    fn round(&mut self, meter: Meter) -> Result<u64, String> {
        let Self {
            window,
            next,
            order,
        } = self;
        let mut refused = 0_u64;
        meter.run(|| {
            for _ in 0..GROUPS {
                for offset in &*order {
                    let nonce = black_box(*next + offset);
                    match window.check(nonce) {
                        Ok(()) => window.mark(nonce),
                        Err(_) => refused += 1,
                    }
                }
                *next += 64;
            }
        });
        if refused == 0 {
            Ok(GROUPS * 64)
        } else {
            Err(format!("{refused} nonces were refused"))
        }
    }
}

/// Groups of a round.
const GROUPS: u64 = 64;
