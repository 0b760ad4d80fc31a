//! What an operator wants to know, counted without locks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets of times, in seconds.
pub const BUCKETS: [f64; 10] = [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// A number that grows, or is set.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn set(&self, n: usize) {
        self.0.store(n as u64, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Times, by how long they were.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [Count; BUCKETS.len()],
    all: Count,
    microseconds: Count,
}

impl Histogram {
    pub(super) fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        for (end, count) in BUCKETS.iter().zip(&self.counts) {
            if seconds <= *end {
                count.add(1);
            }
        }
        self.all.add(1);
        self.microseconds.add(time.as_micros() as usize);
    }

    /// How many were at most as long as each of [`BUCKETS`].
    pub fn counts(&self) -> [u64; BUCKETS.len()] {
        std::array::from_fn(|i| self.counts[i].get())
    }

    /// How many there were.
    pub fn all(&self) -> u64 {
        self.all.get()
    }

    /// How long they were together, in seconds.
    pub fn seconds(&self) -> f64 {
        self.microseconds.get() as f64 / 1e6
    }
}

/// The scheduler's figures.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests taken.
    pub accepted: Count,
    /// Requests refused because the queue was full.
    pub refused: Count,
    /// Requests done.
    pub finished: Count,
    /// Requests whose client went away.
    pub cancelled: Count,
    /// Requests that ended in an error, running out of time among them.
    pub failed: Count,
    /// Tokens of prompts, computed or not.
    pub prompt_tokens: Count,
    /// Tokens of prompts that were computed before.
    pub reused_tokens: Count,
    /// Tokens of answers.
    pub answer_tokens: Count,
    /// Passes of the engine.
    pub passes: Count,
    /// Requests waiting now.
    pub waiting: Count,
    /// Requests being worked on now.
    pub running: Count,
    /// Pages that running requests have reserved now, beside those that are kept.
    pub reserved_pages: Count,
    /// Pages kept for reuse now.
    pub kept_pages: Count,
    /// Pages that there may be.
    pub pages: Count,
    /// From the request to the first token.
    pub first_token: Histogram,
    /// From one token of an answer to the next.
    pub next_token: Histogram,
}
