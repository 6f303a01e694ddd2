//! Mailboxes: what one shard tells another, and how a sleeping shard learns of it.
//!
//! Here: one bounded queue for each ordered pair of shards, the sleep flag and its protocol. Not here:
//! what the messages mean (`core`), the system call that wakes (`ring`).
//!
//! ```text
//!   sender                               receiver
//!   1. puts messages                     1. flag = asleep
//!   2. fence                             2. fence
//!   3. if the flag says asleep:          3. looks into every queue once more
//!      flag = awake, wakes               4. blocks if all are empty, else flag = awake
//! ```
//!
//! The fences put the four accesses in one order: either the sender sees the flag or the receiver sees
//! the message (loom checks it below). A wake too many is harmless, a wake too few impossible.
//!
//! Invariant: FIFO for each ordered pair; no message is lost while both shards live.
//! Bound: a queue holds [`MAILBOX_MESSAGES`]. What finds it full waits in the sender's outbox. Every
//! message there either refers to received bytes or answers one event of the sender's own turn: the
//! former are bounded by the ring's memory (`blocks_max`), which takes in nothing more once it is all
//! held; the latter by the streams of the shard, each of which has at most an open, an answer, a finish
//! or reset, and grants for bytes that were sent.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};

pub use self::pairs::{MAILBOX_MESSAGES, Mailboxes, mailboxes};

// loom does not look into rtrb, which knows nothing of it: a queue with the same steps takes its place.
// The paths are given since `.ci/loom` takes this file by itself.
#[cfg(loom)]
#[path = "mailbox/model_queue.rs"]
mod model_queue;

/// Says whether a shard's data thread is about to block, or blocks.
#[derive(Debug)]
pub struct SleepFlag(AtomicBool);

impl Default for SleepFlag {
    fn default() -> Self {
        Self(AtomicBool::new(false))
    }
}

impl SleepFlag {
    /// The receiver wants to block. It must look into all its queues after this and before it does.
    pub fn lie_down(&self) {
        self.set(true);
        fence(Ordering::SeqCst);
    }

    /// The receiver does not block, or not any more.
    pub fn get_up(&self) {
        self.set(false);
    }

    /// Sets the flag. A swap rather than a store: C11 orders a store that follows another of its thread
    /// after every swap that has read the earlier one, but loom does not know that and would report a
    /// lost wake that cannot happen. It costs some 20 cycles before a sleep of thousands.
    fn set(&self, is_asleep: bool) {
        self.0.swap(is_asleep, Ordering::Relaxed);
    }

    /// The sender has put something into a queue: returns whether it must wake the receiver. Of several
    /// senders one is told to.
    #[must_use]
    pub fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

mod pairs {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use crossbeam::utils::CachePadded;
    #[cfg(not(loom))]
    use rtrb::{Consumer, Producer, PushError, RingBuffer};

    use super::SleepFlag;
    #[cfg(loom)]
    use super::model_queue::{Consumer, Producer, PushError, RingBuffer};

    /// Messages a queue between two shards holds.
    ///
    /// A turn produces at most a few hundred; 256 of some 64 bytes are 16 KiB a pair, 64 MiB for the
    /// 4,032 pairs of 64 shards. Under loom the second message must find the queue full.
    pub const MAILBOX_MESSAGES: usize = if cfg!(loom) { 1 } else { 256 };

    /// One shard's ends of all its mailboxes.
    #[derive(Debug)]
    pub struct Mailboxes<T> {
        /// By target; nothing for the shard itself.
        out: Vec<Option<Outgoing<T>>>,
        /// By source; nothing for the shard itself.
        inbound: Vec<Option<Consumer<T>>>,
        sleep: Arc<CachePadded<SleepFlag>>,
    }

    #[derive(Debug)]
    struct Outgoing<T> {
        queue: Producer<T>,
        /// What found the queue full, in order.
        outbox: VecDeque<T>,
        sleep: Arc<CachePadded<SleepFlag>>,
        /// Something was put into the queue since the last flush.
        is_dirty: bool,
    }

    /// Returns each shard's ends of the mailboxes between `shards_count` shards.
    #[must_use]
    pub fn mailboxes<T>(shards_count: usize) -> Vec<Mailboxes<T>> {
        let mut shards: Vec<_> = (0..shards_count)
            .map(|_| Mailboxes {
                out: (0..shards_count).map(|_| None).collect(),
                inbound: (0..shards_count).map(|_| None).collect(),
                sleep: Arc::new(CachePadded::new(SleepFlag::default())),
            })
            .collect();
        for source in 0..shards_count {
            for target in (0..shards_count).filter(|target| *target != source) {
                let (queue, consumer) = RingBuffer::new(MAILBOX_MESSAGES);
                shards[target].inbound[source] = Some(consumer);
                let sleep = Arc::clone(&shards[target].sleep);
                shards[source].out[target] = Some(Outgoing {
                    queue,
                    outbox: VecDeque::new(),
                    sleep,
                    is_dirty: false,
                });
            }
        }
        shards
    }

    impl<T> Mailboxes<T> {
        /// Puts a message for `target`; [`Mailboxes::flush`] makes sure it is seen.
        ///
        /// # Panics
        /// When `target` is the shard itself or does not exist.
        pub fn send(&mut self, target: usize, message: T) {
            let Some(Some(out)) = self.out.get_mut(target) else {
                unknown_target()
            };
            out.is_dirty = true;
            if !out.outbox.is_empty() {
                out.outbox.push_back(message);
            } else if let Err(PushError::Full(message)) = out.queue.push(message) {
                out.outbox.push_back(message);
            }
        }

        /// Moves what waits in the outboxes, and calls `wake` for each target that sleeps on a message.
        pub fn flush(&mut self, mut wake: impl FnMut(usize)) {
            for (target, out) in self.out.iter_mut().enumerate() {
                let Some(out) = out.as_mut().filter(|out| out.is_dirty) else {
                    continue;
                };
                out.move_outbox();
                out.is_dirty = !out.outbox.is_empty();
                if out.sleep.must_wake() {
                    wake(target);
                }
            }
        }

        /// Takes up to `count_max` messages of each source, in order, and hands them to `handle`; returns
        /// how many.
        pub fn receive(&mut self, count_max: u32, mut handle: impl FnMut(usize, T)) -> u32 {
            let mut count = 0;
            for (source, queue) in self.inbound.iter_mut().enumerate() {
                let Some(queue) = queue else { continue };
                for _ in 0..count_max {
                    let Ok(message) = queue.pop() else { break };
                    handle(source, message);
                    count += 1;
                }
            }
            count
        }

        /// Returns whether a message has arrived.
        #[must_use]
        pub fn has_mail(&self) -> bool {
            self.inbound.iter().flatten().any(|queue| !queue.is_empty())
        }

        /// Returns the messages that have arrived and were not taken yet.
        #[must_use]
        pub fn inbound_len(&self) -> usize {
            self.inbound.iter().flatten().map(Consumer::slots).sum()
        }

        /// Returns the messages in outboxes: their targets have not kept up.
        #[must_use]
        pub fn outbox_len(&self) -> usize {
            self.out.iter().flatten().map(|out| out.outbox.len()).sum()
        }

        /// Returns this shard's sleep flag.
        #[must_use]
        pub fn sleep_flag(&self) -> Arc<CachePadded<SleepFlag>> {
            Arc::clone(&self.sleep)
        }
    }

    impl<T> Outgoing<T> {
        fn move_outbox(&mut self) {
            if self.queue.is_abandoned() {
                // The shard has ended; so do its messages, and the leases in them.
                self.outbox.clear();
            }
            while let Some(message) = self.outbox.pop_front() {
                if let Err(PushError::Full(message)) = self.queue.push(message) {
                    self.outbox.push_front(message);
                    return;
                }
            }
        }
    }

    #[expect(clippy::panic, reason = "a bug of the core; the message would be lost")]
    fn unknown_target() -> ! {
        panic!("a message for a shard that does not exist, or for the sender itself")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn messages_keep_their_order_through_a_full_queue() {
        let mut ends = mailboxes::<usize>(2);
        let (mut second, mut first) = (ends.pop().unwrap(), ends.pop().unwrap());
        let count = 3 * MAILBOX_MESSAGES;
        for message in 0..count {
            first.send(1, message);
        }
        assert_eq!(first.outbox_len(), count - MAILBOX_MESSAGES);
        assert_eq!(second.inbound_len(), MAILBOX_MESSAGES);
        let mut seen = Vec::new();
        while seen.len() < count {
            first.flush(|_| {});
            second.receive(100, |source, message| {
                assert_eq!(source, 0);
                seen.push(message);
            });
        }
        assert!(seen.into_iter().eq(0..count));
        assert_eq!((first.outbox_len(), second.inbound_len()), (0, 0));
        assert!(!second.has_mail());
    }

    #[test]
    fn only_a_sleeping_target_is_woken_and_only_once() {
        let mut ends = mailboxes::<u8>(3);
        let flag = ends[2].sleep_flag();
        let mut woken = Vec::new();
        ends[0].send(2, 1);
        ends[0].flush(|target| woken.push(target));
        assert!(woken.is_empty(), "awake");
        flag.lie_down();
        assert!(
            ends[2].has_mail(),
            "the receiver looks again before it blocks"
        );
        ends[0].flush(|target| woken.push(target));
        assert!(woken.is_empty(), "nothing new");
        ends[0].send(2, 2);
        ends[1].send(2, 3);
        ends[0].flush(|target| woken.push(target));
        ends[1].flush(|target| woken.push(target));
        assert_eq!(woken, [2]);
    }

    #[test]
    fn outbox_of_a_dead_shard_is_emptied() {
        let mut ends = mailboxes::<Arc<()>>(2);
        let second = ends.pop().unwrap();
        let mut first = ends.pop().unwrap();
        let token = Arc::new(());
        for _ in 0..2 * MAILBOX_MESSAGES {
            first.send(1, Arc::clone(&token));
        }
        drop(second);
        first.flush(|_| {});
        assert_eq!(first.outbox_len(), 0);
        drop(first);
        assert_eq!(Arc::strong_count(&token), 1);
    }

    #[test]
    fn two_threads_exchange_without_losing_a_wake() {
        let mut ends = mailboxes::<u32>(2);
        let (mut receiver, mut sender) = (ends.pop().unwrap(), ends.pop().unwrap());
        let wakes = Arc::new(AtomicU32::new(0));
        // Miri takes a millisecond for each message.
        let count = if cfg!(miri) { 300 } else { 200_000 };
        let thread = {
            let (wakes, me) = (Arc::clone(&wakes), thread::current());
            thread::spawn(move || {
                for message in 0..count {
                    sender.send(1, message);
                    sender.flush(|_| {
                        wakes.fetch_add(1, Ordering::Relaxed);
                        me.unpark();
                    });
                }
                while sender.outbox_len() > 0 {
                    sender.send(1, count);
                    sender.flush(|_| me.unpark());
                    thread::yield_now();
                }
            })
        };
        let flag = receiver.sleep_flag();
        let mut expected = 0;
        while expected < count {
            receiver.receive(1_000, |_, message| {
                assert_eq!(message, expected.min(count));
                expected += 1;
            });
            flag.lie_down();
            if expected < count && !receiver.has_mail() {
                thread::park();
            }
            flag.get_up();
        }
        drop(receiver);
        thread.join().unwrap();
    }
}

#[cfg(all(test, loom))]
#[path = "mailbox/loom_tests.rs"]
mod loom_tests;
