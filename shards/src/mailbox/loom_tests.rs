//! The mailbox and its wake-up under all interleavings, up to a bound of preemptions.
//!
//! Here: the wake protocol by itself, with a counter for the queue, so that more threads fit; then the
//! whole mailbox: queue, outbox, flag. `loom::sync::Notify` stands for the system call that wakes; loom
//! reports a deadlock when a receiver sleeps for ever. Not here: the queue's memory (see `model_queue`).
//!
//! Bound: [`PREEMPTIONS_MAX`].

use loom::sync::Arc;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::{MAILBOX_MESSAGES, SleepFlag, mailboxes};

struct Shared {
    flag: SleepFlag,
    queues: Vec<AtomicUsize>,
    wake: Notify,
}

fn run(senders_count: usize, messages_count: usize) {
    model().check(move || {
        let shared = Arc::new(Shared {
            flag: SleepFlag::default(),
            queues: (0..senders_count).map(|_| AtomicUsize::new(0)).collect(),
            wake: Notify::new(),
        });
        let senders: Vec<_> = (0..senders_count)
            .map(|sender| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for message in 1..=messages_count {
                        shared.queues[sender].store(message, Ordering::Release);
                        if shared.flag.must_wake() {
                            shared.wake.notify();
                        }
                    }
                })
            })
            .collect();
        let all_arrived = || {
            let arrived = |queue: &AtomicUsize| queue.load(Ordering::Acquire) == messages_count;
            shared.queues.iter().all(arrived)
        };
        let total = || -> usize {
            shared
                .queues
                .iter()
                .map(|queue| queue.load(Ordering::Acquire))
                .sum()
        };
        let mut seen = total();
        while !all_arrived() {
            shared.flag.lie_down();
            if total() == seen {
                shared.wake.wait();
            }
            shared.flag.get_up();
            seen = total();
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// Without a bound one sender takes minutes, and passes. Within this one loom finds the lost wake of
/// a protocol without the fence or without the second look.
const PREEMPTIONS_MAX: usize = 3;

#[test]
fn mailbox_wake_is_never_lost_with_one_sender() {
    run(1, 2);
}

#[test]
fn mailbox_wake_is_never_lost_with_two_senders() {
    run(2, 1);
}

/// Messages of a model of the whole mailbox: one more than the queue holds under loom, so that the last
/// one takes the way through the outbox.
const MESSAGES: usize = MAILBOX_MESSAGES + 1;

#[test]
fn mailbox_messages_arrive_in_order_with_their_content() {
    model().check(|| {
        let mut ends = mailboxes::<usize>(2);
        let (mut receiver, mut sender) = (ends.pop().unwrap(), ends.pop().unwrap());
        // What a message refers to, written and read without any order of its own: only the mailbox can
        // make sure that the receiver sees it.
        let contents: Arc<Vec<AtomicUsize>> =
            Arc::new((0..MESSAGES).map(|_| AtomicUsize::new(0)).collect());
        let wake = Arc::new(Notify::new());
        let thread = {
            let (contents, wake) = (Arc::clone(&contents), Arc::clone(&wake));
            thread::spawn(move || {
                for message in 0..MESSAGES {
                    contents[message].store(message + 7, Ordering::Relaxed);
                    sender.send(1, message);
                    sender.flush(|_| wake.notify());
                }
                while sender.outbox_len() > 0 {
                    thread::yield_now();
                    sender.flush(|_| wake.notify());
                }
            })
        };
        let flag = receiver.sleep_flag();
        let mut expected = 0;
        loop {
            receiver.receive(1, |source, message| {
                assert_eq!((source, message), (0, expected), "out of order");
                let content = contents[message].load(Ordering::Relaxed);
                assert_eq!(content, message + 7, "a message without its content");
                expected += 1;
            });
            if expected == MESSAGES {
                break;
            }
            flag.lie_down();
            if !receiver.has_mail() {
                wake.wait();
            }
            flag.get_up();
        }
        thread.join().unwrap();
    });
}

#[test]
fn mailbox_of_a_shard_that_ends_gives_its_messages_back() {
    model().check(|| {
        let mut ends = mailboxes::<std::sync::Arc<()>>(2);
        let (receiver, mut sender) = (ends.pop().unwrap(), ends.pop().unwrap());
        let lease = std::sync::Arc::new(());
        let thread = thread::spawn(move || drop(receiver));
        for _ in 0..MESSAGES {
            sender.send(1, std::sync::Arc::clone(&lease));
            sender.flush(|_| {});
        }
        thread.join().unwrap();
        sender.flush(|_| {});
        assert_eq!(sender.outbox_len(), 0, "kept for a shard that is gone");
        drop(sender);
        assert_eq!(std::sync::Arc::strong_count(&lease), 1, "a lease is lost");
    });
}

fn model() -> loom::model::Builder {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model
}
