//! How much one turn asks of the kernel.
//!
//! Here: the number of sends and connects a turn may submit. Not here: which ones (`output`, `setup`).
//!
//! The kernel works on a send or a connect before the turn is over, over loopback with the receiver's
//! half of it: some 8 us for a send, 40 us for a connect. When a server stops for a millisecond, then
//! answers everybody at once, 64 sends would keep the thread from its clock for half a millisecond, and
//! what was due meanwhile would count as late although the generator had time for it. So whoever has a
//! clock looks at it between a few requests; without a clock large turns are cheaper.

/// What a turn with a clock may ask for.
const COST_MAX: u32 = 2;

/// What the kernel works on before the turn is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Send,
    Connect,
}

impl Request {
    const fn cost(self) -> u32 {
        match self {
            Self::Send => 1,
            Self::Connect => COST_MAX,
        }
    }
}

/// What a turn may still ask for.
#[derive(Debug, Default)]
pub(super) struct Quantum {
    left: u32,
    is_short: bool,
}

impl Quantum {
    /// Begins a turn.
    pub(super) const fn start(&mut self, has_clock: bool) {
        self.left = if has_clock { COST_MAX } else { u32::MAX };
        self.is_short = false;
    }

    /// Returns whether nothing more may be asked for. Ask only with a request in hand: it is then known
    /// that the next turn must not sleep.
    pub(super) const fn is_spent(&mut self) -> bool {
        self.is_short |= self.left == 0;
        self.is_short
    }

    /// Notes a request.
    pub(super) const fn spend(&mut self, request: Request) {
        self.left = self.left.saturating_sub(request.cost());
    }

    /// Returns whether a request had to wait for the next turn.
    pub(super) const fn is_short(&self) -> bool {
        self.is_short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_with_a_clock_is_short_once_something_is_left_over() {
        for (request, fits) in [(Request::Send, 2), (Request::Connect, 1)] {
            let mut quantum = Quantum::default();
            quantum.start(true);
            for _ in 0..fits {
                assert!(!quantum.is_spent());
                quantum.spend(request);
            }
            assert!(!quantum.is_short());
            assert!(quantum.is_spent() && quantum.is_short());
            quantum.start(true);
            assert!(!quantum.is_short() && !quantum.is_spent());
        }
    }

    #[test]
    fn a_connect_behind_a_send_still_fits() {
        let mut quantum = Quantum::default();
        quantum.start(true);
        quantum.spend(Request::Send);
        assert!(!quantum.is_spent());
        quantum.spend(Request::Connect);
        assert!(quantum.is_spent());
    }

    #[test]
    fn without_a_clock_a_turn_takes_everything() {
        let mut quantum = Quantum::default();
        quantum.start(false);
        for _ in 0..100_000 {
            assert!(!quantum.is_spent());
            quantum.spend(Request::Connect);
        }
        assert!(!quantum.is_short());
    }
}
