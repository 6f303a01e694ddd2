//! A stand-in for the queue between two shards that loom can look into.
//!
//! Here: what `mailbox` uses of `rtrb`, with the same steps and the same orderings of the two positions and
//! of the flag that one end is gone: the producer releases its position, the consumer acquires it, and the
//! other way round; each end remembers the other's last one. Not here: the memory of the slots, which rtrb
//! manages with unsafe code; Miri runs the tests of `mailbox` over the real one, and upstream's own.
//!
//! Source: rtrb 0.4.1, `src/lib.rs`: `push`, `pop`, `is_empty`, `slots`, `is_abandoned`, `Drop` of both ends.

use std::cell::Cell;
use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What both ends share.
#[derive(Debug)]
pub(super) struct RingBuffer<T> {
    /// A lock of std, not of loom: it holds the value and orders nothing that loom knows of, so a message
    /// whose content is not released with the position shows as a stale load.
    slots: Vec<std::sync::Mutex<Option<T>>>,
    head: AtomicUsize,
    tail: AtomicUsize,
    is_abandoned: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Producer<T> {
    buffer: Arc<RingBuffer<T>>,
    cached_head: Cell<usize>,
    tail: usize,
}

#[derive(Debug)]
pub(super) struct Consumer<T> {
    buffer: Arc<RingBuffer<T>>,
    cached_tail: Cell<usize>,
    head: usize,
}

#[derive(Debug)]
pub(super) enum PushError<T> {
    Full(T),
}

impl<T> RingBuffer<T> {
    #[expect(clippy::new_ret_no_self, reason = "the two ends, as rtrb returns them")]
    pub(super) fn new(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let buffer = Arc::new(Self {
            slots: (0..capacity).map(|_| std::sync::Mutex::new(None)).collect(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            is_abandoned: AtomicBool::new(false),
        });
        let producer = Producer {
            buffer: Arc::clone(&buffer),
            cached_head: Cell::new(0),
            tail: 0,
        };
        let consumer = Consumer {
            buffer,
            cached_tail: Cell::new(0),
            head: 0,
        };
        (producer, consumer)
    }

    fn swap(&self, position: usize, value: Option<T>) -> Option<T> {
        let slot = &self.slots[position % self.slots.len()];
        let mut slot = slot.lock().expect("no thread panics while it holds this");
        std::mem::replace(&mut *slot, value)
    }
}

impl<T> Producer<T> {
    pub(super) fn push(&mut self, value: T) -> Result<(), PushError<T>> {
        let capacity = self.buffer.slots.len();
        if self.tail - self.cached_head.get() == capacity {
            self.cached_head
                .set(self.buffer.head.load(Ordering::Acquire));
            if self.tail - self.cached_head.get() == capacity {
                return Err(PushError::Full(value));
            }
        }
        let older = self.buffer.swap(self.tail, Some(value));
        assert!(older.is_none(), "a message was written over");
        self.tail += 1;
        self.buffer.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.buffer.is_abandoned.load(Ordering::Acquire)
    }
}

impl<T> Consumer<T> {
    pub(super) fn pop(&mut self) -> Result<T, ()> {
        if self.is_empty() {
            return Err(());
        }
        let value = self.buffer.swap(self.head, None);
        self.head += 1;
        self.buffer.head.store(self.head, Ordering::Release);
        value.ok_or(())
    }

    pub(super) fn is_empty(&self) -> bool {
        if self.head == self.cached_tail.get() {
            self.cached_tail
                .set(self.buffer.tail.load(Ordering::Acquire));
        }
        self.head == self.cached_tail.get()
    }

    /// Unlike [`Self::is_empty`] this always looks at the producer's position: the whole count is wanted.
    pub(super) fn slots(&self) -> usize {
        let tail = self.buffer.tail.load(Ordering::Acquire);
        self.cached_tail.set(tail);
        tail - self.head
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.buffer.is_abandoned.swap(true, Ordering::AcqRel);
    }
}
