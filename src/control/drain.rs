//! How a relay ends.
//!
//! Here: the order of a drain and its bound. Not here: what each shard does with it.
//!
//! ```text
//! running --signal--> draining --nothing left-------> ended (clean)
//!                        |------deadline------------> ended (cut)
//!                        `------second signal-------> ended (at once)
//! ```

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, interval, sleep_until};

use super::ShardView;

/// How a drain ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// A second signal asked for it.
    AtOnce,
    /// Everything had ended by itself.
    Clean,
    /// The deadline passed with this left.
    Cut(String),
}

/// Waits until nothing is left, the deadline passes or `hurry` resolves.
///
/// `view` is asked every 20 ms: a drain is rare, and its last moment is not worth a notification.
pub(crate) async fn wait(
    view: impl AsyncFn() -> Vec<ShardView>,
    timeout: Duration,
    hurry: impl Future<Output = ()>,
) -> End {
    let watch = async {
        let mut ticks = interval(ASK_INTERVAL);
        loop {
            ticks.tick().await;
            if view().await.iter().all(|shard| shard.audit.is_zero()) {
                return;
            }
        }
    };
    tokio::select! {
        () = watch => End::Clean,
        () = hurry => End::AtOnce,
        () = sleep_until(Instant::now() + timeout) => End::Cut(left(&view().await)),
    }
}

/// Returns what is left, for people.
fn left(shards: &[ShardView]) -> String {
    let sum = |pick: fn(&ShardView) -> u64| shards.iter().map(pick).sum::<u64>();
    let sessions = sum(|shard| shard.audit.core.sessions);
    let streams = sum(|shard| shard.audit.core.streams);
    let sockets = sum(|shard| shard.audit.descriptors);
    format!("{sessions} sessions, {streams} stream legs and {sockets} sockets left")
}

/// Time between two looks at the shards.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};

    use super::*;

    fn shard(sessions: u64) -> ShardView {
        let mut view = ShardView::quiet(0);
        view.audit.core.sessions = sessions;
        view
    }

    fn run(future: impl Future<Output = End>) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn ends_when_nothing_is_left() {
        let asked = Cell::new(3);
        let view = async || {
            asked.set(asked.get() - 1);
            vec![shard(asked.get())]
        };
        let end = run(wait(view, Duration::from_secs(60), pending()));
        assert_eq!((end, asked.get()), (End::Clean, 0));
    }

    #[test]
    fn what_only_the_ring_holds_keeps_a_drain_open() {
        let mut left = ShardView::quiet(0);
        left.audit.sends_in_flight = 1;
        let end = run(wait(async || vec![left.clone()], Duration::ZERO, pending()));
        assert!(matches!(end, End::Cut(_)), "{end:?}");
    }

    #[test]
    fn second_signal_ends_it_at_once() {
        let end = run(wait(
            async || vec![shard(1)],
            Duration::from_secs(60),
            ready(()),
        ));
        assert_eq!(end, End::AtOnce);
    }

    #[test]
    fn deadline_says_what_is_left() {
        let end = run(wait(async || vec![shard(2)], Duration::ZERO, pending()));
        let End::Cut(left) = end else {
            panic!("{end:?}")
        };
        assert!(left.starts_with("2 sessions"), "{left}");
    }
}
